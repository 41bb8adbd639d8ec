package llmproxy

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
)

// The other paths of a site keep their handlers, and no request that is meant for the API gets an empty answer with status 200.
func TestPathsBesideTheAPI(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/v1", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "models", "v1/docs.html"} {
		if err := os.WriteFile(dir+"/"+name, []byte("a file"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		file  = "a file"
		page  = "a page"
		found = `"choices"`
		none  = "" // status 404 without a body
	)
	type want struct {
		status int
		says   string
	}
	const proxy = "\tllm_proxy {\n\t\tupstream u openai URL\n\t\tmodel m u\n\t}\n"
	for _, test := range []struct {
		name, inside string
		requests     map[string]want // by method, path and, optionally, Accept
	}{
		{"nothing beside", proxy, map[string]want{
			"POST /v1/chat/completions":    {200, found},
			"POST /v1//chat/completions":   {200, found},
			"POST //v1/chat/completions":   {200, found},
			"POST /v1/chat/completions/":   {200, found},
			"POST /V1/chat/completions":    {200, found},
			"POST /v1/v1/chat/completions": {404, "use /v1/chat/completions;"},
			"POST /chat/completions":       {404, "use /v1/chat/completions;"},
			"POST /responses":              {404, "use /v1/responses;"},
			"GET /models":                  {404, "use /v1/models;"},
			"GET /v1/v1/models":            {404, "use /v1/models;"},
			"GET /openai/v1/models":        {404, "use /v1/models;"},
			"POST /api/v1/embeddings":      {404, "use /v1/embeddings;"},
			"POST /v1/chat/completion":     {404, "you probably mean /v1/chat/completions"},
			"GET /v1":                      {404, "not a path of the API"},
			"HEAD /":                       {200, ""},
			"GET /":                        {200, "Ollama is running"},
			"POST /":                       {200, ""},
			"GET /ollama/api/tags":         {404, "use /api/tags;"},
			"GET /favicon.ico":             {200, ""},
		}},
		{"files beside", proxy + "\troot " + dir + "\n\tfile_server\n", map[string]want{
			"POST /v1/chat/completions": {200, found},
			"GET /":                     {200, file},
			"GET /models":               {200, file},
			"GET /v1/docs.html":         {200, file},
			"GET /none":                 {404, none},
			"GET /v1/none":              {404, "not a path of the API"},
			"GET /openai/v1/models":     {404, "use /v1/models;"},
			"GET /openai/v1/models text/html,application/xhtml+xml": {404, none},
			"POST /responses":        {404, "use /v1/responses;"}, // file_server says 405
			"POST /chat/completions": {404, "use /v1/chat/completions;"},
		}},
		{"a web UI beside", "\troute {\n" + proxy + "\trespond \"a page\"\n\t}\n", map[string]want{
			"GET /":                       {200, page},
			"GET /models":                 {200, page},
			"POST /responses":             {200, page},
			"GET /api/v1/models":          {200, page},
			"GET /v1/unknown":             {200, page},
			"POST /chat/completions":      {404, "use /v1/chat/completions;"},
			"GET /chat/completions":       {200, page},
			"GET /v1/v1/models":           {404, "use /v1/models;"},
			"POST /v1//chat/completions/": {200, found},
		}},
		{"an empty answer beside", "\troute {\n" + proxy + "\trespond 204\n\t}\n", map[string]want{
			"GET /models":     {204, ""},
			"GET /v1/unknown": {204, ""},
		}},
		{"a handler that fails beside", "\troute {\n" + proxy + "\terror /v1/* 503\n\terror 404\n\t}\n", map[string]want{
			"GET /v1/unknown":       {503, ""},
			"GET /models":           {404, "use /v1/models;"},
			"GET /models text/html": {404, ""},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := run(t, strings.Replace(test.inside, "URL", fake.URL(), 1))
			for request, want := range test.requests {
				method, rest, _ := strings.Cut(request, " ")
				path, accept, _ := strings.Cut(rest, " ")
				body := ""
				if method == http.MethodPost {
					body = question("m", "hi")
				}
				req := newRequest(t, method, url+path, body)
				if accept != "" {
					req.Header.Set("Accept", accept)
				}
				res := send(t, req)
				got := text(t, res)
				if res.StatusCode != want.status || !strings.Contains(got, want.says) || want.says == "" && got != "" {
					t.Errorf("%s: status %d, %q; want %d, %q", request, res.StatusCode, got, want.status, want.says)
				}
				if strings.HasPrefix(got, "{") != (res.Header.Get("Content-Type") == "application/json") || res.StatusCode == 404 && res.Header.Get("Allow") != "" {
					t.Errorf("%s: header %v", request, res.Header)
				}
			}
		})
	}
}

// A matcher that protects /v1/* protects every path that is served.
func TestNoPathGetsRoundAMatcher(t *testing.T) {
	fake := fakellm.Start(t, "openai")
	url := run(t, "\t@api path /v1/*\n\trespond @api \"protected\" 403\n\tllm_proxy {\n\t\tupstream u openai "+fake.URL()+"\n\t\tmodel m u\n\t}\n")
	for _, path := range []string{
		"/v1/chat/completions", "/v1//chat/completions", "//v1/chat/completions", "/V1/chat/completions", "/v1/chat/completions/", "/v1/chat/completions%20", "/v1/./chat/completions",
		"/x/../v1/chat/completions", "/%76%31/chat/completions", "/v1%2Fchat/completions", "/chat/completions", "/openai/v1/chat/completions", "/api/v1/chat/completions", "/v1/v1/chat/completions",
		"/chat/../v1/chat/completions", "///v1/chat///completions//",
	} {
		if res, body := post(t, url+path, question("m", "hi")); res.StatusCode == http.StatusOK {
			t.Errorf("%s: status %d, %s", path, res.StatusCode, body)
		}
	}
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

package openai

import (
	"strings"
	"testing"
)

func TestSamePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/v1//chat/completions": "/v1/chat/completions", "//v1/chat/completions": "/v1/chat/completions", "/v1/chat//completions": "/v1/chat/completions",
		"///v1///chat///completions///": "/v1/chat/completions", "/v1/chat/completions/": "/v1/chat/completions", "/v1/./chat/completions": "/v1/chat/completions",
		"/V1/Chat/Completions": "/v1/chat/completions", "/v1/chat/completions ": "/v1/chat/completions", "/v1/chat/completions\n": "/v1/chat/completions",
		"/v1/embeddings/": "/v1/embeddings", "/v1//audio//speech": "/v1/audio/speech", "/v1/responses/compact/": "/v1/responses/compact",
		"/v1//models": "/v1/models", "//v1/models/": "/v1/models", "/v1//models/Org/Model:Q4": "/v1/models/Org/Model:Q4", "/V1/Models/Org/Model": "/v1/models/Org/Model",
		"/v1//files": "/v1/files", "//api/pull": "/api/pull", "//api/chat": "/api/chat", "/API/Tags/": "/api/tags", "/v1//responses/resp_1": "/v1/responses/resp_1",

		// These are not the same for Caddy's matchers, so a matcher that protects /v1/* would not see them.
		"/chat/completions": "/chat/completions", "/v1/v1/chat/completions": "/v1/v1/chat/completions", "/openai/v1/models": "/openai/v1/models",
		"/v1/chat": "/v1/chat", "/v10/models": "/v10/models", "/v1/modelsx": "/v1/modelsx", "/": "/", "": "", "/v1": "/v1", "*": "*", "/x//y": "/x//y",
	} {
		if got := SamePath(path); got != want {
			t.Errorf("%q is %q, want %q", path, got, want)
		}
	}
}

func TestMistakenPath(t *testing.T) {
	t.Parallel()
	const nothing = "nothing"
	for _, tt := range []struct {
		path, says string // nothing if it is not meant for the API
		clear      bool
	}{
		{"/v1/v1/chat/completions", "use /v1/chat/completions;", true},
		{"/v1//v1/chat/completions", "use /v1/chat/completions;", true},
		{"/v1/v1/v1/embeddings", "use /v1/embeddings;", true},
		{"/v1/v1/models", "use /v1/models;", true},
		{"/v1/v1/models/org/m", "use /v1/models/org/m;", true},
		{"/v1/v1/files", "it names no model", true},
		{"/v1/openai/chat/completions", "use /v1/chat/completions;", true},
		{"/v1/api/chat", "use /api/chat; the base URL of a client of Ollama's API is that of the site", true},
		{"/v1/api/tags", "use /api/tags;", true},
		{"/api/api/version", "use /api/version;", false},
		{"/ollama/api/show", "use /api/show;", false},
		{"/blog/api/version", nothing, false},
		{"/v1/chat/completions/chat/completions", "use /v1/chat/completions;", true}, // an endpoint as the base URL
		{"/v1/chat/completions/v1/chat/completions", "use /v1/chat/completions;", true},
		{"/v1/chat/completions/models", "use /v1/models;", true},
		{"/v1/responses/responses", "use /v1/responses;", true},
		{"/v1/embeddings/embeddings", "use /v1/embeddings;", true},
		{"/v1/engines/x/chat/completions", "use /v1/chat/completions;", true},

		{"/chat/completions", "use /v1/chat/completions;", true},
		{"//chat/completions/", "use /v1/chat/completions;", true},
		{"/audio/transcriptions", "use /v1/audio/transcriptions;", true},
		{"/images/generations", "use /v1/images/generations;", true},
		{"/responses/compact", "use /v1/responses/compact;", true},
		{"/embeddings", "use /v1/embeddings;", false},
		{"/responses", "use /v1/responses;", false},
		{"/completions", "use /v1/completions;", false},
		{"/models", "use /v1/models;", false},
		{"/Models/", "use /v1/models;", false},
		{"/models/org/m", "use /v1/models/org/m;", false},
		{"/files", "it names no model", false},
		{"/messages", "use /v1/messages", false},

		{"/openai/v1/chat/completions", "use /v1/chat/completions;", false},
		{"/openai/chat/completions", "use /v1/chat/completions;", false},
		{"/openai/models", "use /v1/models;", false},
		{"/api/v1/chat/completions", "use /v1/chat/completions;", false},
		{"/api/v1/models", "use /v1/models;", false},
		{"/api/v1/files", "it names no model", false},
		{"/api/chat/completions", "use /v1/chat/completions;", false},
		{"/api/openai/v1/embeddings", "use /v1/embeddings;", false},
		{"/llm/v1/chat/completions", "use /v1/chat/completions;", false},
		{"/proxy/v1/models", "use /v1/models;", false},
		{"/v2/chat/completions", "use /v1/chat/completions;", false},
		{"/openai/deployments/gpt-4o/chat/completions", "the name of the deployment", false},
		{"/v1beta/models/gemini:generateContent", "this gateway supports OpenAI's", false},
		{"/v1beta/openai/chat/completions", "use /v1/chat/completions;", false},

		{"/v1/chat", "you probably mean /v1/chat/completions", false},
		{"/v1/chat/completion", "you probably mean /v1/chat/completions", false},
		{"/v1/chats/completions", "you probably mean /v1/chat/completions", false},
		{"/v1/completion", "you probably mean /v1/completions", false},
		{"/v1/embedding", "you probably mean /v1/embeddings", false},
		{"/v1/model", "you probably mean /v1/models", false},
		{"/v1/audio", "you probably mean /v1/audio/transcriptions", false},
		{"/v1/image/generations", "you probably mean /v1/images/generations", false},
		{"/v1/realtime", "it is not a path of the API", false},
		{"/v1/filesystem", "it is not a path of the API", false},
		{"/v1", "it is not a path of the API", false},
		{"/v1/" + strings.Repeat("x", 9000), "it is not a path of the API", false},

		{"/", nothing, false},
		{"", nothing, false},
		{"/index.html", nothing, false},
		{"/favicon.ico", nothing, false},
		{"/health", nothing, false},
		{"/blog/models", nothing, false},
		{"/static/responses", nothing, false},
		{"/shop/models/t-shirt", nothing, false},
		{"/models.html", nothing, false},
		{"/modelsx", nothing, false},
		{"/chat", nothing, false},
		{"/api", nothing, false},
		{"/api/users", nothing, false},
		{"/openai", nothing, false},
		{"/v10/chat", nothing, false},
		{"/users/1/messages", nothing, false},
	} {
		got, ok := MistakenPath(tt.path)
		switch {
		case tt.says == nothing && ok:
			t.Errorf("%.60s: %q, want nothing", tt.path, got.Why)
		case tt.says != nothing && (!ok || !strings.HasPrefix(got.Why, tt.says) && !strings.Contains(got.Why, tt.says) || got.Clear != tt.clear):
			t.Errorf("%.60s: %t, %q, clear %t; want %q, clear %t", tt.path, ok, got.Why, got.Clear, tt.says, tt.clear)
		}
	}
}

func TestClosedPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/v1/files": true, "/v1/files/": true, "/v1/files/f/content": true, "/v1/filesystem": false, "/v1/responses/resp_1": true, "/v1/responses/resp_1/input_items": true,
		"/v1/responses": false, "/v1/responses/": false, "/v1/chat/completions/": false, "/v1/chat/completions/c_1": true, "/v1/chat/completions/c_1/messages": true, "/v1/chat/completions/chat/completions": false, "/v1/responses/responses": false,
		"/api/pull": true, "/api/blobs/sha256:0": true, "/api/embeddings": false, "/api/embed": false, "/api/embedding": false, "/": false,
	} {
		if _, closed := ClosedPath(path); closed != want {
			t.Errorf("%s: %t", path, closed)
		}
	}
}

// FuzzPath checks that only paths are served which Caddy's matchers take for one of the API.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/v1//models/A", "//v1/./chat/completions/", "/v1/v1/models", "/chat/completions", "\x00", "/v1/../v1/files", "/é/v1/models"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		same := SamePath(path)
		if same != path && SamePath(same) != same {
			t.Errorf("%q is the same as %q, which is the same as %q", path, same, SamePath(same))
		}
		if m, ok := MistakenPath(path); ok && m.Why == "" {
			t.Errorf("%q is mistaken without a reason", path)
		}
	})
}

package upstream

import (
	"net/url"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// refusals of stream_options, in the words of services and servers.
var optionRefusals = []struct {
	name   string
	status int
	body   string
}{
	{"openai, old", 400, `{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}`},
	{"openai", 400, `{"error":{"message":"Unknown parameter: 'stream_options'.","type":"invalid_request_error","param":"stream_options","code":"unknown_parameter"}}`},
	{"openai, inner member", 400, `{"error":{"message":"Unknown parameter: 'stream_options.include_usage'.","param":"stream_options.include_usage","code":"unknown_parameter"}}`},
	{"openai, unsupported", 400, `{"error":{"message":"Unsupported parameter: 'stream_options' is not supported with this model.","param":"stream_options","code":"unsupported_parameter"}}`},
	{"azure", 400, `{"error":{"code":"BadRequest","message":"stream_options is not supported for this api version"}}`},
	{"azure, only its code", 400, `{"error":{"code":"unknown_parameter","message":"The request has an unknown parameter"}}`},
	{"mistral", 422, `{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted","input":{"include_usage":true}}]}`},
	{"mistral, as one error", 422, `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]},"type":"invalid_request_error"}`},
	{"pydantic 1", 422, `{"detail":[{"loc":["body","stream_options"],"msg":"extra fields not permitted","type":"value_error.extra"}]}`},
	{"pydantic, without the place", 400, `{"message":"Extra inputs are not permitted"}`},
	{"python", 500, `{"error":"create() got an unexpected keyword argument 'stream_options'"}`},
	{"serde", 422, "Failed to deserialize the JSON body into the target type: unknown field `stream_options`, expected one of `model`, `messages` at line 1 column 80"},
	{"gemini", 400, `[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"stream_options\": Cannot find field.","status":"INVALID_ARGUMENT"}}]`},
	{"ajv", 400, `{"error":{"message":"must NOT have additional properties"}}`},
	{"camel case", 400, `{"error":{"message":"streamOptions: not supported"}}`},
	{"prose", 400, `{"error":"include_usage is not available on this endpoint"}`},
	{"inside a 200", 0, `{"message":"Unrecognized request argument supplied: stream_options","code":400}`},
}

func TestRefusedAddition(t *testing.T) {
	t.Parallel()
	for _, tt := range optionRefusals {
		if !usageMember.refusedBy(tt.status, []byte(tt.body)) {
			t.Errorf("%s: not seen", tt.name)
		}
	}
	for name, tt := range map[string]struct {
		status int
		body   string
	}{
		"another parameter":           {400, `{"error":{"message":"Unknown parameter: 'foo'.","param":"foo","code":"unknown_parameter"}}`},
		"another parameter, in prose": {400, `{"error":{"message":"Unrecognized request argument supplied: foo","type":"invalid_request_error","param":null,"code":null}}`},
		"temperature":                 {400, `{"error":{"message":"temperature too hot","type":"invalid_request_error","param":"temperature"}}`},
		"too long":                    {400, `{"error":{"message":"This model's maximum context length is 4096 tokens.","code":"context_length_exceeded"}}`},
		"API key":                     {401, `{"error":{"message":"stream_options needs another plan"}}`},
		"rate limit":                  {429, `{"error":{"message":"too many requests with stream_options"}}`},
		"missing model":               {404, `{"error":{"message":"unknown field"}}`},
		"overload":                    {503, `{"error":{"message":"unrecognized"}}`},
		"nothing":                     {400, ``},
	} {
		if usageMember.refusedBy(tt.status, []byte(tt.body)) {
			t.Errorf("%s: taken for a refusal", name)
		}
	}
}

// The members that the client sent stay as they are, whatever the gateway adds.
func TestWhoseOptionIsRefused(t *testing.T) {
	t.Parallel()
	const messages = `{"model":"m","messages":[],"stream":true`
	for _, tt := range []struct {
		name, request string
		drop          []string
		error         string
		want          router.Verdict
		again         string // the request after the adjustment
	}{
		{"the gateway's", messages + `}`, nil, `{"error":{"message":"unknown: stream_options"}}`, router.Adjustable, messages + `}`},
		{"the client's", messages + `,"stream_options":{"include_usage":true}}`, nil, `{"error":{"message":"unknown: stream_options"}}`, router.ClientError, ""},
		{"the client's, to which one was added", messages + `,"stream_options":{"include_obfuscation":false}}`, nil, `{"error":{"message":"unknown: stream_options"}}`, router.ClientError, ""},
		{"the gateway's among the client's", messages + `,"stream_options":{"include_obfuscation":false}}`, nil, `{"error":{"message":"unknown: include_usage"}}`, router.Adjustable,
			messages + `,"stream_options":{"include_obfuscation":false}}`},
		{"dropped", messages + `}`, []string{"stream_options"}, `{"error":{"message":"unknown: stream_options"}}`, router.ClientError, ""},
		{"no stream", `{"model":"m","messages":[]}`, nil, `{"error":{"message":"unknown: stream_options"}}`, router.ClientError, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			base, err := OpenAI.ParseAddress("http://u")
			if err != nil {
				t.Fatal(err)
			}
			u := New(Config{Name: "u", Kind: OpenAI, Bases: []*url.URL{base}, Drop: tt.drop})
			template := templateOf(t, "/v1/chat/completions", tt.request)
			u.NewRequest(t.Context(), template, u.Replicas[0], "m")
			f := u.ClassifyAnswer(template, 400, nil, []byte(tt.error))
			if f.Verdict != tt.want {
				t.Fatalf("verdict %s, want %s", f.Verdict, tt.want)
			}
			if tt.want != router.Adjustable {
				return
			}
			template.Adjust(f)
			if got := sent(t, u.NewRequest(t.Context(), template, u.Replicas[0], "m")); got != tt.again {
				t.Errorf("then it sends %s, want %s", got, tt.again)
			}
			if f := u.ClassifyAnswer(template, 400, nil, []byte(tt.error)); f.Verdict != router.ClientError {
				t.Errorf("without it, the error is %s", f.Verdict)
			}
			u.LearnRefused("m", template)
			if got := sent(t, u.NewRequest(t.Context(), templateOf(t, "/v1/chat/completions", tt.request), u.Replicas[0], "m")); got != tt.again {
				t.Errorf("the next request is %s, want %s", got, tt.again)
			}
		})
	}
}

func FuzzRefusedAddition(f *testing.F) {
	for _, tt := range optionRefusals {
		f.Add(tt.status, []byte(tt.body))
	}
	f.Fuzz(func(_ *testing.T, status int, body []byte) { usageMember.refusedBy(status, body) })
}

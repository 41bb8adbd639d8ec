package upstream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

func redactor(t testing.TB, request string) *Redactor {
	t.Helper()
	r := &Redactor{Secrets: SecretsIn(http.Header{"Authorization": {"Bearer upstream-secret"}, "X-Tenant": {"tenant-key"}, "Content-Type": {"application/json"}}), Model: "meta-llama/Llama-3.1-8B-Instruct"}
	if request != "" {
		r.Request = new(openai.Request)
		if err := r.Request.Parse([]byte(request)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// The client gets a short form of what an upstream says, without secrets and addresses.
func TestReason(t *testing.T) {
	t.Parallel()
	message := func(text string) string { return `{"error":{"message":"` + text + `"}}` }
	for _, tt := range []struct{ name, body, want string }{
		{"a message", message("CUDA out of memory"), "CUDA out of memory"},
		{"a string", `{"error":"model runner has unexpectedly stopped, this may be due to resource limitations"}`, "model runner has unexpectedly stopped, this may be due to resource limitations"},
		{"FastAPI", `{"detail":"Not Found"}`, "Not Found"},
		{"a problem", `{"type":"about:blank","title":"Too Many Requests","status":429}`, "Too Many Requests"},
		{"a code alone", `{"error":{"code":"server_error"}}`, "server_error"},
		{"a page of nginx", "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx/1.25 at 10.0.0.3</body></html>", "502 Bad Gateway"},
		{"a text", "upstream connect error or disconnect/reset before headers. reset reason: connection failure\n", "upstream connect error or disconnect/reset before headers. reset reason: connection failure"},
		{"Go's text", "Internal Server Error\n", "Internal Server Error"},
		{"a traceback", "Traceback (most recent call last):\n  File \"/srv/vllm/engine.py\", line 3\nRuntimeError: x", `File "…", line 3`},
		{"the model stays", message("The model `meta-llama/Llama-3.1-8B-Instruct` does not exist."), "The model `meta-llama/Llama-3.1-8B-Instruct` does not exist"},
		{"Ollama's model stays", message("model 'llama3.1:8b' not found"), "model 'llama3.1:8b' not found"},
		{"a limit", message("Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29900. Please try again in 6s."), "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29900. Please try again in 6s"},
		{"only the first line", message(`one\ntwo`), "one"},
		{"control characters", message(`a\u0000b\u001b[31m c`), "a b [31m c"},

		{"nothing", "", ""},
		{"an empty object", "{}", ""},
		{"bytes", "\xff\xfe\x00", ""},
		{"a page without a title", "<p>10.0.0.3</p>", ""},
		{"only an address", message("http://10.0.0.3/x"), ""},

		{"the key", message("Incorrect API key provided: upstream-secret. You can find it at https://platform.openai.com/account/api-keys."), "Incorrect API key provided: …. You can find it at …"},
		{"the value of another header", message("tenant-key is blocked"), "… is blocked"},
		{"a masked key", message("Incorrect API key provided: sk-pr****************abcd"), "Incorrect API key provided: …"},
		{"a key", message("key sk-proj-AbC123_x9 is disabled"), "key … is disabled"},
		{"an unknown key", message("invalid credential 0123456789abcdef0123456789abcdef"), "invalid credential …"},
		{"a bearer token", message("got Authorization: Bearer abc.def.ghi here"), "got Authorization: … … here"},
		{"a password", message("cannot log in with password=hunter2 now"), "cannot log in with password=… now"},
		{"an organization", message("You exceeded your quota in organization org-AbCdEf123456"), "You exceeded your quota in organization …"},
		{"an address", message("dial tcp 10.0.0.3:8000: connect: connection refused"), "dial tcp …: connect: connection refused"},
		{"an IPv6 address", message("dial tcp [fd00::3]:8000: i/o timeout"), "dial tcp …: i/o timeout"},
		{"a bare IPv6 address", message("no route to fd00:1:2:3::4 now"), "no route to … now"},
		{"a URL", message("proxy error: http://vllm:8000/v1/chat/completions gave 500"), "proxy error: … gave 500"},
		{"a host", message("cannot resolve gpu-1.internal here"), "cannot resolve … here"},
		{"a host and its port", message("worker gpu-1:8000 died"), "worker … died"},
		{"a service of Kubernetes", message("vllm.default.svc.cluster.local:8000 is down"), "… is down"},
		{"this machine", message("localhost:11434 refused"), "… refused"},
		{"an e-mail address", message("ask ops@example.com for access"), "ask … for access"},
		{"a file", message("cannot open /var/lib/models/secret/weights.bin today"), "cannot open … today"},
		{"a path of the API", message("no such path /v1/chat/completions"), "no such path /v1/chat/completions"},

		{"the prompt in quotes", message("cannot parse 'my private prompt'"), "cannot parse '…'"},
		{"the prompt in double quotes", message(`cannot parse \"my private prompt\"`), `cannot parse "…"`},
		{"a part of it in quotes", message("unexpected word `private`"), "unexpected word `…`"},
		{"the prompt alone", message("my private prompt"), ""},
		{"the prompt without quotes", message("failed at: my private prompt (line 1)"), "failed at: … (line 1)"},
		{"words of an earlier message", message("bad text the quick brown fox jumps over the lazy dog in it"), "bad text … in it"},
		{"a quote that was cut", message("cannot parse 'my private pro"), "cannot parse '…"},
		{"the request as Python shows it", message("invalid: [{'role': 'user', 'content': 'my private prompt'}]"), "invalid: [{'role': '…', 'content': '…'}]"},
		{"a member's name", message("'messages' must not be empty"), "'messages' must not be empty"},
		{"a word that is not of the request", message("'temperature' is too high"), "'temperature' is too high"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := redactor(t, `{"model":"m","messages":[{"role":"system","content":"the quick brown fox jumps over the lazy dog"},{"role":"user","content":"my private prompt"}]}`)
			if got := r.Reason([]byte(tt.body)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	if got := redactor(t, "").Reason([]byte(message(strings.Repeat("many words ", 100)))); len(got) > longestReason+len(removed) || !strings.HasSuffix(got, "words…") && !strings.HasSuffix(got, "many…") {
		t.Errorf("a long reason is %q", got)
	}
}

// FuzzReason checks that nothing secret remains, whatever stands around it.
func FuzzReason(f *testing.F) {
	f.Add("key ", " is wrong")
	f.Add("http://", "@10.0.0.3")
	f.Add(`'`, `"`)
	f.Fuzz(func(t *testing.T, before, after string) {
		r := redactor(t, `{"model":"m","messages":[{"role":"user","content":"my private prompt"}]}`)
		for _, secret := range []string{"upstream-secret", "my private prompt"} {
			if got := r.Reason([]byte(before + secret + after)); strings.Contains(got, secret) {
				t.Errorf("%q", got)
			}
		}
	})
}

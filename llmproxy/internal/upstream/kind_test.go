package upstream

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, want, err string }{
		{"localhost:11434", "http://localhost:11434/v1", ""},
		{"http://127.0.0.1:8000", "http://127.0.0.1:8000/v1", ""},
		{"http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1", ""},
		{"http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1", ""},
		{"https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1", ""},
		{"https://example.com/a%2Fb", "https://example.com/a/b", ""},
		{"[::1]:8080", "http://[::1]:8080/v1", ""},
		{"gpu", "http://gpu/v1", ""},
		{"", "", "has no host"},
		{"http://", "", "has no host"},
		{"http://:8080", "", "has no host"},
		{"ftp://example.com", "", `unknown scheme "ftp"; use http or https`},
		{"http://gpu:0", "", "invalid port 0; use 1 to 65535"},
		{"http://gpu:65536", "", "invalid port 65536; use 1 to 65535"},
		{"http://gpu:", "http://gpu:/v1", ""},
		{"unix//run/llm.sock", "", "Unix sockets are not supported"},
		{"unix+h2c//run/llm.sock", "", "Unix sockets are not supported"},
		{"unix:///run/llm.sock", "", `unknown scheme "unix"; use http or https`},
		{"https://user:secret@example.com", "", "contains a password; use api_key or header_up"},
		{"https://example.com?key=secret", "", "a base URL has no query and no fragment"},
		{"https://example.com#x", "", "a base URL has no query and no fragment"},
		{"http://a b", "", "invalid character"},
	} {
		t.Run(tt.address, func(t *testing.T) {
			t.Parallel()
			u, err := OpenAI.ParseAddress(tt.address)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, %v; want an error with %q", u, err, tt.err)
				}
				if strings.Contains(tt.address, "user:secret") && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error contains the password: %v", err)
				}
				return
			}
			if err != nil || u.String() != tt.want {
				t.Errorf("got %v, %v; want %s", u, err, tt.want)
			}
		})
	}
}

func TestKindNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ollama", "vllm", "llamacpp", "openai", "echo", "auto"} {
		if k, err := KindNamed(name); err != nil || k.Name != name {
			t.Errorf("%s: got %+v, %v", name, k, err)
		}
	}
	if _, err := KindNamed("olama"); err == nil || !strings.Contains(err.Error(), `unknown kind of upstream "olama": use one of ollama, vllm`) {
		t.Errorf("got %v", err)
	}
}

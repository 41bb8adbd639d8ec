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
		{"key-server:8000", "http://key-server:8000/v1", ""},
		{"sk-gpu.lan", "http://sk-gpu.lan/v1", ""},
		{"my-very-long-container-name-1:8000", "http://my-very-long-container-name-1:8000/v1", ""},
		{"http://gpu:", "http://gpu:/v1", ""},
		{"https://gpu.example.com/api", "https://gpu.example.com/api", ""}, // Open WebUI
		{"http://gpu.example.com/proxy/api/v1", "http://gpu.example.com/proxy/api/v1", ""},

		// Known services and port 443 are https.
		{"api.openai.com", "https://api.openai.com/v1", ""},
		{"api.openai.com:443", "https://api.openai.com/v1", ""},
		{"http://api.openai.com", "https://api.openai.com/v1", ""},
		{"http://api.openai.com:80/v1", "https://api.openai.com/v1", ""},
		{"http://api.openai.com:443", "https://api.openai.com/v1", ""},
		{"API.OpenAI.com", "https://API.OpenAI.com/v1", ""},
		{"api.groq.com", "https://api.groq.com/openai/v1", ""},
		{"openrouter.ai", "https://openrouter.ai/api/v1", ""},
		{"openrouter.ai/api/v1", "https://openrouter.ai/api/v1", ""},
		{"generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com/v1beta/openai", ""},
		{"me.openai.azure.com", "https://me.openai.azure.com/openai/v1", ""},
		{"gpu.example.com:443", "https://gpu.example.com/v1", ""},
		{"http://10.0.0.5:443/v1", "https://10.0.0.5/v1", ""},
		{"[2001:db8::1]:443", "https://[2001:db8::1]/v1", ""},
		{"gpu:8443", "http://gpu:8443/v1", ""},
		{"notapi.openai.com.example.com", "http://notapi.openai.com.example.com/v1", ""},

		{"", "", "the address is empty"},
		{"http://", "", "has no host"},
		{"http://:8080", "", "is only a port; write the host, too, such as 127.0.0.1:8080"},
		{":11434", "", `address ":11434" is only a port; write the host, too, such as 127.0.0.1:11434`},
		{"11434", "", "such as 127.0.0.1:11434"},
		{":11434/v1", "", "such as 127.0.0.1:11434"},
		{"ftp://example.com", "", `unknown scheme "ftp"; use http or https`},
		{"htpp://example.com", "", `unknown scheme "htpp"; use http or https`},
		{"http:/gpu:8000", "", "write http://gpu:8000"},
		{"https:gpu", "", "write https://gpu"},
		{"http://http://gpu", "", "has two schemes"},
		{"http://gpu:0", "", "invalid port 0; use 1 to 65535"},
		{"http://gpu:65536", "", "invalid port 65536; use 1 to 65535"},
		{"http://gpu:port", "", `invalid port ":port"`},
		{"unix//run/llm.sock", "", "Unix sockets are not supported"},
		{"unix+h2c//run/llm.sock", "", "Unix sockets are not supported"},
		{"unix:///run/llm.sock", "", "Unix sockets are not supported"},
		{"https://user:secret@example.com", "", "contains a password; use api_key or header_up"},
		{"user:secret@example.com,gpu", "", "contains a password; use api_key or header_up"},
		{"https://example.com?key=secret", "", "a base URL has no query and no fragment"},
		{"https://example.com#x", "", "a base URL has no query and no fragment"},
		{"http://a b", "", "contains white space"},
		{"http://a:8000,http://b:8000", "", "contains a comma; separate addresses with spaces only"},
		{"http://a:8000,", "", "contains a comma"},
		{"::1", "", "write an IPv6 address in brackets, such as http://[::1]"},
		{"::1:11434", "", "such as http://[::1]:11434"},
		{"http://fd00::5:8000/v1", "", "such as http://[fd00::5]:8000/v1"},
		{"2001:db8::1", "", "such as http://[2001:db8::1]"},
		{"sk-secret123", "", "an API key where an address is expected"},
		{"gsk_secret123", "", "an API key where an address is expected"},
		{"Bearer sk-secret123", "", "an API key where an address is expected"},
		{"http://sk-secret123", "", "an API key where an address is expected"},
		{"secret1234567890ABCDEFGHIJKLMN", "", "an API key where an address is expected"},
		{"$OLLAMA_URL", "", "write the environment variable as {env.OLLAMA_URL}"},
		{"${OLLAMA_URL}", "", "write the environment variable as {env.OLLAMA_URL}"},
		{"os.environ/OLLAMA_URL", "", "write the environment variable as {env.OLLAMA_URL}"},
		{"{OLLAMA_URL}", "", "unknown placeholder"},
		{"{}", "", "unknown placeholder"},
		{"https://api.openai.com/v1/chat/completions", "", "write the base URL, https://api.openai.com/v1"},
		{"https://api.openai.com/chat/completions", "", "write the base URL, https://api.openai.com/v1"},
		{"http://gpu:8000/v1/models", "", "write the base URL, http://gpu:8000/v1"},
		{"http://gpu:8000/v1/embeddings/", "", "write the base URL, http://gpu:8000/v1"},
		{"http://gpu:11434/api/chat", "", "write the base URL, http://gpu:11434"},
		{"http://gpu:11434/api", "", "is not a base URL; write http://gpu:11434"},
		{"openrouter.ai/api", "", "write https://openrouter.ai/api/v1"},
	} {
		t.Run(tt.address, func(t *testing.T) {
			t.Parallel()
			u, err := OpenAI.ParseAddress(tt.address)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, %v; want an error with %q", u, err, tt.err)
				}
				if strings.Contains(tt.address, "secret") && !strings.Contains(tt.address, "?key=") && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error contains the secret: %v", err)
				}
				return
			}
			if err != nil || u.String() != tt.want {
				t.Errorf("got %v, %v; want %s", u, err, tt.want)
			}
		})
	}
	for _, k := range []*Kind{Ollama, Auto, VLLM} {
		if _, err := k.ParseAddress("http://gpu/api/"); err == nil || !strings.Contains(err.Error(), "write http://gpu") {
			t.Errorf("%s: got %v", k.Name, err)
		}
	}
}

func TestIsPrivate(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "gpu": true, "127.0.0.1": true, "::1": true, "10.1.2.3": true, "172.16.0.1": true, "192.168.0.1": true, "169.254.1.1": true,
		"fd00::1": true, "fe80::1": true, "100.100.1.2": true, "::ffff:10.0.0.1": true, "0.0.0.0": true, "gpu.local": true, "gpu.lan": true,
		"host.docker.internal": true, "vllm.default.svc.cluster.local": true, "vllm.default.svc": true, "gpu.home.arpa": true, "gpu.tail1.ts.net": true,
		"GPU.LAN.": true,
		"8.8.8.8":  false, "172.32.0.1": false, "2001:db8::1": false, "example.com": false, "gpu.example.com": false, "local.example.com": false, "mylan.com": false,
	} {
		if got := IsPrivate(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"http://gpu:8000/v1", "::1:80", "a,b", "$X", "https://u:p@h", "{}", "api.openai.com:443"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		u, err := OpenAI.ParseAddress(address)
		if err != nil {
			return
		}
		again, err := OpenAI.ParseAddress(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q becomes %q, which becomes %v, %v", address, u, again, err)
		}
	})
}

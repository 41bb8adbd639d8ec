package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// keysGateway starts a Caddy with two sites, one without keys and one with, and returns the URL of the latter.
func keysGateway(t *testing.T) (g *gateway, guarded string) {
	t.Helper()
	port, admin := twoPorts(t)
	second, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	open := caddyfile(port, admin, "\tllm_proxy {\n\t\tupstream u echo\n\t\tmodel m u\n\t}")
	return startCaddy(t, port, admin, open+fill(`
:SECOND {
	log {
		format filter {
			request>headers>X-Api-Key delete
			request>headers>Api-Key delete
		}
	}
	# Azure's clients put the model into the path, unless their base_url contains "deployments".
	@azure path /azure/deployments/*
	uri @azure strip_prefix /azure/deployments
	llm_proxy {
		upstream box echo
		model local box/x
		model other box/y
		model priced box/z
		price box/z 1000 1000

		key all sk-all
		key few sk-few {
			models local
		}
		key once sk-once {
			rate 1/h
		}
		key brisk sk-brisk {
			rate 1/2s
		}
		key poor sk-poor {
			budget $0.000001/month
		}
		key metered sk-metered {
			rate 100/h
			tokens 10k/h
		}
	}
}
`, "SECOND", second)), fmt.Sprintf("http://127.0.0.1:%d", second)
}

// Keys and limits as seen by the official SDKs.
func TestSDKWithKeys(t *testing.T) {
	for _, k := range sdks() {
		t.Run(k.name, func(t *testing.T) {
			g, url := keysGateway(t)
			k.check(t, url+"/v1", 8, "keys")
			if strings.Contains(string(g.log.since(0)), "sk-") {
				t.Error("the log contains a secret")
			}
		})
	}
}

// Keys created, rotated and revoked at the command line take effect before the command returns.
func TestKeyCommands(t *testing.T) {
	g, url := keysGateway(t)
	llmKey := func(args ...string) string {
		t.Helper()
		output, err := exec.Command(installed.caddy, append(append([]string{"llm-key"}, args...), "--address", g.admin)...).Output()
		if err != nil {
			t.Fatalf("caddy llm-key %s: %v\n%s", args, err, output)
		}
		return strings.TrimSpace(string(output))
	}
	expect := func(when, secret string, status int) {
		t.Helper()
		body := `{"model":"local","messages":[{"role":"user","content":"hi"}]}`
		if got := do(t, http.MethodPost, url+"/v1/chat/completions", body, "Authorization", "Bearer "+secret); got.status != status {
			t.Errorf("%s: status %d, want %d: %s", when, got.status, status, got.body)
		}
	}
	first := llmKey("create", "dave", "--rate", "100/h", "--priority", "high", "--running")
	expect("a new key", first, http.StatusOK)
	second := llmKey("rotate", "dave")
	expect("the old secret", first, http.StatusUnauthorized)
	expect("the new secret", second, http.StatusOK)
	if list := llmKey("list"); !strings.Contains(list, "dave") || !strings.Contains(list, "100/h") || !strings.Contains(list, "high") {
		t.Errorf("the list is %s", list)
	}
	if used := llmKey("usage", "--by", "key"); !strings.Contains(used, "dave") {
		t.Errorf("the usage is %s", used)
	}
	g.kill()
	g.run(t)
	expect("after Caddy was killed", second, http.StatusOK)
	llmKey("revoke", "dave")
	expect("a revoked key", second, http.StatusUnauthorized)
	if log := string(g.log.since(0)); strings.Contains(log, first) || strings.Contains(log, second) {
		t.Error("the log contains a secret")
	}
}

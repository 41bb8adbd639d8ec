package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// Over each version of HTTP: a stream comes word by word, a client that leaves stops the server although its connection
// may live on, and a server that dies in mid-stream is told as an error event and a clean end.
func TestProtocols(t *testing.T) {
	for name, transport := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			slow := startLlama(t, "slow")
			client := &http.Client{Transport: transport}
			base := startTLS(t, directive(`
			llm_proxy {
				upstream slow llamacpp SLOW
				model m slow/slow
			}`, "SLOW", slow.url()))
			long := `{"model":"m","stream":true,"messages":[{"role":"user","content":"LONG"}]`

			whole := chatStreamBy(t, t.Context(), client, base, long+`,"max_tokens":10}`)
			if whole.Proto != name {
				t.Fatalf("the answer came over %s", whole.Proto)
			}
			headers(t, whole.Header, "slow/slow", "1", "m")
			mark := slow.log.mark()
			whole.content(t, 3)
			if log := string(slow.log.since(mark)); strings.Contains(log, "stop processing") {
				t.Errorf("the third piece came when the server had finished:\n%s", log)
			}
			whole.rest(t).wholly(t, numbers, "length")

			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			chatStreamBy(t, ctx, client, base, long+`}`).content(t, 2)
			mark = slow.log.mark()
			leave()
			slow.log.await(t, mark, "cancel task", soon)

			doomed := chatStreamBy(t, t.Context(), client, base, long+`}`)
			doomed.content(t, 2)
			slow.kill()
			doomed.rest(t).cut(t, "upstream_error")
		})
	}
}

// protocols are transports that speak one version of HTTP each, by the version's name.
func protocols(t *testing.T) map[string]http.RoundTripper {
	t.Helper()
	trusting := &tls.Config{InsecureSkipVerify: true} // of a site whose certificate is its own
	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	h1 := &http.Transport{TLSClientConfig: trusting.Clone(), Protocols: one}
	h2 := &http.Transport{TLSClientConfig: trusting.Clone(), Protocols: two}
	h3 := &http3.Transport{TLSClientConfig: trusting.Clone()}
	t.Cleanup(func() {
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		_ = h3.Close()
	})
	return map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": h2, "HTTP/3.0": h3}
}

// startTLS runs Caddy with this directive in a site with a certificate of its own, and gives the site's URL.
func startTLS(t *testing.T, directive string) string {
	t.Helper()
	port, admin := twoPorts(t)
	secure, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	startCaddy(t, port, admin, fmt.Sprintf(`{
	admin %s
	skip_install_trust
	auto_https disable_redirects
	grace_period 4s
}

http://127.0.0.1:%d {
%s
}

https://localhost:%d {
	tls internal
%[3]s
}
`, admin, port, directive, secure))
	eventually(t, time.Minute, "the site's certificate", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", secure), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			err = conn.Close()
		}
		return err == nil
	})
	return fmt.Sprintf("https://localhost:%d", secure)
}

package upstream

import (
	"context"
	"net/http"
	"strings"
	"testing"
)

func TestProbeAnswerIsBounded(t *testing.T) {
	t.Parallel()
	u := upstreamAt(t, Config{Name: "u", Kind: OpenAI, Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat(" ", 2*maxProbeAnswer)), nil
	})}, "gpu")
	p := &probe{ctx: context.Background(), u: u, base: u.Bases[0]}
	if _, body, _ := p.get("/x"); len(body) != maxProbeAnswer {
		t.Errorf("read %d bytes", len(body))
	}
}

package upstream

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// Work asks a replica how much it has done since it started; what is done now shows as a difference. It tells nothing where the
// kind has no such counters, or where they are switched off.
func (u *Upstream) Work(ctx context.Context, r *router.Replica) (done float64, ok bool) {
	counters := u.Speaks().work
	if counters == nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := &prober{ctx: ctx, u: u, base: u.base(r)}
	status, body := p.get("/metrics")
	if status != http.StatusOK {
		return 0, false
	}
	return sumOf(body, counters)
}

// sumOf adds up some counters of a page in Prometheus' text format, over all their labels; false if none of them is there.
func sumOf(page []byte, counters []string) (sum float64, ok bool) {
	for line := range bytes.Lines(page) {
		name, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if at := strings.IndexByte(name, '{'); at >= 0 {
			name = name[:at]
			rest = string(line[bytes.LastIndexByte(line, '}')+1:]) // a label's value may have spaces
		}
		if !slices.Contains(counters, name) {
			continue
		}
		value, _, _ := strings.Cut(strings.TrimSpace(rest), " ") // a time may follow
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sum, ok = sum+n, true
		}
	}
	return sum, ok
}

// Prefill is how long a prompt of so many bytes may take to be read, at the slowest.
func (u *Upstream) Prefill(bytes int64) time.Duration {
	const bytesPerToken = 4
	rate := max(u.Speaks().prefill, slowestPrefill)
	return time.Duration(bytes) * time.Second / time.Duration(bytesPerToken*rate)
}

// slowestPrefill is how many tokens of a prompt are read in a second where a model runs on a CPU.
const slowestPrefill = 50

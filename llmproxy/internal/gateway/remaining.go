package gateway

import (
	"strconv"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// The headers that tell what is left, in the spelling of http.Header.
const (
	limitRequests     = "X-Ratelimit-Limit-Requests"
	remainingRequests = "X-Ratelimit-Remaining-Requests"
	resetRequests     = "X-Ratelimit-Reset-Requests"
	limitTokens       = "X-Ratelimit-Limit-Tokens"
	remainingTokens   = "X-Ratelimit-Remaining-Tokens"
	resetTokens       = "X-Ratelimit-Reset-Tokens"
)

// announce sets the headers, from the limit of each unit of which the least is left.
func (m *meter) announce(h map[string][]string) {
	var least [2]int
	for i, l := range m.take.Limits {
		if u := l.Rule.Unit; u <= ratelimit.Tokens && (least[u] == 0 || m.take.Left[i].Left < m.take.Left[least[u]-1].Left) {
			least[u] = i + 1
		}
	}
	var buffer [160]byte
	var ends [6]int
	text := buffer[:0]
	for u, at := range least {
		if at == 0 {
			continue
		}
		left := m.take.Left[at-1]
		text = strconv.AppendInt(text, m.take.Limits[at-1].Rule.Limit, 10)
		ends[3*u] = len(text)
		text = strconv.AppendInt(text, left.Left, 10)
		ends[3*u+1] = len(text)
		text = appendReset(text, left.Reset)
		ends[3*u+2] = len(text)
	}
	all, start := string(text), 0
	for i, name := range [...]string{limitRequests, remainingRequests, resetRequests, limitTokens, remainingTokens, resetTokens} {
		if least[i/3] == 0 {
			continue
		}
		m.values[i] = all[start:ends[i]]
		start = ends[i]
		h[name] = m.values[i : i+1 : i+1]
	}
}

// appendReset writes a duration as OpenAI does, and as Go reads it: 12ms, 1s, 6m0s; rounded up.
func appendReset(b []byte, d time.Duration) []byte {
	if d < time.Second {
		return append(strconv.AppendInt(b, int64((d+time.Millisecond-1)/time.Millisecond), 10), "ms"...)
	}
	s := int64((d + time.Second - 1) / time.Second)
	if s >= 3600 {
		b = append(strconv.AppendInt(b, s/3600, 10), 'h')
	}
	if s >= 60 {
		b = append(strconv.AppendInt(b, s/60%60, 10), 'm')
	}
	return append(strconv.AppendInt(b, s%60, 10), 's')
}

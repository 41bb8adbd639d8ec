package delivery

import (
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

func TestRetryAfterOfTheQueue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		waited   time.Duration
		forecast admission.Forecast
		want     time.Duration
	}{
		{"the forecast", 20 * time.Second, admission.Forecast{Known: true, Wait: 12 * time.Second}, 12 * time.Second},
		{"a short forecast", 0, admission.Forecast{Known: true, Wait: time.Millisecond}, time.Second},
		{"a long forecast, which SDKs would ignore", 0, admission.Forecast{Known: true, Wait: time.Hour}, time.Minute},
		{"a quarter of the wait", 20 * time.Second, admission.Forecast{Position: 3}, 5 * time.Second},
		{"a full queue, and nothing is known", 0, admission.Forecast{Position: 3}, time.Second},
		{"a long wait", 5 * time.Minute, admission.Forecast{}, 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := retryAfterQueue(test.waited, test.forecast); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestPlaceInQueue(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]admission.Forecast{
		"queued position=3 wait=12s":  {Known: true, Position: 3, Wait: 12300 * time.Millisecond},
		"queued position=1 wait=100s": {Known: true, Position: 1, Wait: 100 * time.Second},
		"queued position=7":           {Position: 7},
	} {
		if got := placeInQueue(f); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

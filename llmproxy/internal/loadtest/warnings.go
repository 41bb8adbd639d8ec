package loadtest

import (
	"fmt"
	"time"
)

// lateFor is how late requests may be sent, and how long goroutines may wait for a CPU, before this machine counts as a limit: so much, and
// so large a share of the time to first token, or of the latency without streams.
const (
	lateFor   = 5 * time.Millisecond
	lateShare = .05
)

// Warnings returns what may make the figures of a run mislead, each with what to do about it.
func (r *Result) Warnings() (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if r.Interrupted {
		add("The run was interrupted. %d requests in flight were canceled and do not count.", r.Canceled)
	}
	measured := r.FirstToken
	if measured.Count() == 0 {
		measured = r.Latency
	}
	tolerable := max(lateFor, time.Duration(lateShare*float64(measured.Percentile(50))))
	if late := r.SendDelay.Percentile(99); late > tolerable {
		add("This machine was a limit: requests were sent up to %v late (99th percentile). Use a larger machine, or lower --rate or --concurrency.", late.Round(time.Millisecond))
	} else if r.SchedulerLag > tolerable {
		add("This machine was a limit: goroutines waited up to %v for a CPU (99th percentile). Use a larger machine, or lower --rate or --concurrency.", r.SchedulerLag.Round(time.Millisecond))
	}
	if r.Waited > 0 {
		add("%d requests were sent late because %d were in flight already, the limit of --concurrency. Their waits count as latency. The server did not keep up with the rate, or the limit is too low.",
			r.Waited, r.Options.Concurrency)
	}
	if r.Estimated > 0 {
		add("The server did not count the output tokens of %d answers. They are estimated: one for each event with content, or for four bytes of an answer that is not a stream.", r.Estimated)
	}
	if r.FromCache > 0 {
		add("%d answers came from the gateway's response cache. Use prompts that differ, or a model without a cache, to measure the server behind it.", r.FromCache)
	}
	if r.CachedTokens > 0 && r.CachedTokens*2 > r.InputTokens {
		add("The server had %.0f%% of the input tokens in its prompt cache, so the time to first token is that of repeated prompts.", 100*float64(r.CachedTokens)/float64(r.InputTokens))
	}
	return list
}

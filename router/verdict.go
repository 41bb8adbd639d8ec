package router

// A Verdict is what the end of an attempt means: whether the next target may be tried, and whose fault it was.
// docs/failover in the reference of the directive lists which answers of which server lead to which verdict.
type Verdict uint8

// The verdicts. Only OK, Caller and Gone end a request before every target was tried.
const (
	OK            Verdict = iota // the upstream answered
	NotUp                        // refused, name not found, TLS failed, or the server is still loading its model
	Busy                         // 429, 503 overload, 529: works, but not now
	FitsElsewhere                // this target cannot take this request (context too long), another one may
	Config                       // our key or the model's name is wrong there
	Caller                       // the request itself is wrong; no other target would like it better
	Slow                         // silence before the first content, or between events
	Broken                       // 5xx, reset, cut before the finish, an answer that is not JSON
	Gone                         // the client left
)

var verdictNames = [...]string{"ok", "not_up", "busy", "fits_elsewhere", "config", "caller", "slow", "broken", "gone"}

// String gives the verdict's name as it stands in logs and in X-LLM-Route.
func (v Verdict) String() string { return verdictNames[v] }

// TryNext tells whether another target may answer after an attempt that ended so.
func (v Verdict) TryNext() bool {
	switch v {
	case OK, Caller, Gone:
		return false
	}
	return true
}

package ratelimit

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Unit is what a rule counts.
type Unit uint8

// The units. Spend is counted in billionths of a US dollar, so that one token of the cheapest model is not rounded to zero.
const (
	Requests Unit = iota
	Tokens
	Concurrent // requests running at the same time
	Spend
)

// Dollar is one US dollar in the unit of Spend.
const Dollar = 1_000_000_000

var unitNames = [...]string{"requests", "tokens", "concurrent", "budget"}

// String returns the unit's name.
func (u Unit) String() string { return unitNames[u] }

// A Calendar is a period of the calendar, in UTC so that all machines agree on it.
type Calendar uint8

// The calendar periods.
const (
	NoCalendar Calendar = iota // a sliding window
	Day
	Month
)

// A Rule allows so much of a unit in a window.
type Rule struct {
	Unit  Unit
	Limit int64
	// Window is the length of a sliding window; zero for Concurrent and for calendar periods.
	Window   time.Duration
	Calendar Calendar
}

// A Limit is a rule for a subject.
type Limit struct {
	// ID identifies the counter. It does not contain the number, so that usage is kept when the limit changes.
	ID string
	// Address identifies the counter instead of an ID, for a rule that counts requests. The counters of addresses are kept in a
	// table of bounded size.
	Address netip.Addr
	Rule    Rule
}

// New returns the limits of a subject, such as "key/alice".
func New(subject string, rules []Rule) []*Limit {
	var limits []*Limit
	for _, r := range rules {
		limits = append(limits, &Limit{ID: subject + "/" + r.Unit.String() + "/" + r.Per(), Rule: r})
	}
	return limits
}

// Distinct returns an error if two rules count the same unit in the same window: they would share a counter, and count each
// request twice.
func Distinct(rules []Rule) error {
	seen := make(map[Rule]Rule, len(rules))
	for _, r := range rules {
		same := r
		same.Limit = 0
		if other, ok := seen[same]; ok {
			return fmt.Errorf("%s and %s have the same window: keep one", other, r)
		}
		seen[same] = r
	}
	return nil
}

// Per returns the rule's window as users write it, such as "m", "30d" or "month", and "" for Concurrent.
func (r Rule) Per() string {
	switch {
	case r.Calendar == Day:
		return "day"
	case r.Calendar == Month:
		return "month"
	case r.Unit == Concurrent:
		return ""
	}
	for _, u := range windowUnits {
		if r.Window%u.length == 0 {
			if n := r.Window / u.length; n > 1 {
				return strconv.FormatInt(int64(n), 10) + u.name
			}
			return u.name
		}
	}
	return r.Window.String()
}

// String returns the rule as users write it.
func (r Rule) String() string {
	switch r.Unit {
	case Concurrent:
		return strconv.FormatInt(r.Limit, 10)
	case Spend:
		return "$" + strconv.FormatFloat(float64(r.Limit)/Dollar, 'f', -1, 64) + "/" + r.Per()
	}
	return strconv.FormatInt(r.Limit, 10) + "/" + r.Per()
}

// windowUnits lists the units of windows, the longest first.
var windowUnits = []struct {
	name   string
	length time.Duration
}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// The longest window, and the shortest of a budget.
const (
	longestWindow  = 400 * 24 * time.Hour
	shortestBudget = time.Hour
)

// maxLimit keeps numbers exact in floating point, in which Redis scripts calculate.
const maxLimit = 1 << 52

// ParseRate parses a rate of requests or tokens, such as 60/m, 100k/m or 5M/30d.
func ParseRate(unit Unit, text string) (Rule, error) {
	number, per, ok := strings.Cut(text, "/")
	if !ok {
		return Rule{}, fmt.Errorf("invalid rate %q: write it as 60/m, with a window of s, m, h or d", text)
	}
	limit, err := parseCount(number)
	if err != nil {
		return Rule{}, fmt.Errorf("invalid rate %q: %w", text, err)
	}
	window, err := parseWindow(per)
	if err != nil {
		return Rule{}, fmt.Errorf("invalid rate %q: %w", text, err)
	}
	return Rule{Unit: unit, Limit: limit, Window: window}, nil
}

// ParseBudget parses a budget: $20/30d is a sliding window; $20/month and $1/day are calendar periods in UTC.
func ParseBudget(text string) (Rule, error) {
	number, per, ok := strings.Cut(strings.TrimPrefix(text, "$"), "/")
	dollars, err := strconv.ParseFloat(number, 64)
	limit := dollars * Dollar
	if !ok || err != nil || !(limit >= 1 && limit <= maxLimit) {
		return Rule{}, fmt.Errorf("invalid budget %q: write it as $20/30d, or $20/month for calendar months", text)
	}
	rule := Rule{Unit: Spend, Limit: int64(limit + 0.5)}
	switch per {
	case "day":
		rule.Calendar = Day
		return rule, nil
	case "month":
		rule.Calendar = Month
		return rule, nil
	}
	if rule.Window, err = parseWindow(per); err != nil {
		return Rule{}, fmt.Errorf("invalid budget %q: %w; day and month follow the calendar", text, err)
	}
	if rule.Window < shortestBudget {
		return Rule{}, fmt.Errorf("invalid budget %q: the window is shorter than an hour; write a month as /month or /30d", text)
	}
	return rule, nil
}

// ParseConcurrent returns the rule that allows n requests at the same time.
func ParseConcurrent(n int64) (Rule, error) {
	if n < 1 || n > maxLimit {
		return Rule{}, fmt.Errorf("invalid limit of %d concurrent requests: use at least 1", n)
	}
	return Rule{Unit: Concurrent, Limit: n}, nil
}

func parseCount(text string) (int64, error) {
	factor := 1.0
	for suffix, f := range map[string]float64{"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, factor = rest, f
			break
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	n *= factor
	if err != nil || !(n >= 1 && n <= maxLimit) || n != float64(int64(n)) {
		return 0, errors.New("expected a whole number before the slash, optionally followed by k, M or G")
	}
	return int64(n), nil
}

// windowWords are other spellings of the units.
var windowWords = map[string]string{"second": "s", "minute": "m", "hour": "h", "day": "d"}

// otherWindows are windows without a unit of their own, and how to write them.
var otherWindows = map[string]string{"week": "7d", "month": "30d", "year": "365d", "min": "m", "sec": "s", "hr": "h", "w": "7d", "y": "365d"}

func parseWindow(text string) (time.Duration, error) {
	if unit, ok := windowWords[text]; ok {
		text = unit
	}
	if correct, ok := otherWindows[text]; ok {
		return 0, fmt.Errorf("invalid window %q: write it as %s", text, correct)
	}
	for _, u := range windowUnits {
		number, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		if number == "" {
			return u.length, nil
		}
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || n == 0 || time.Duration(n) > longestWindow/u.length {
			break
		}
		return time.Duration(n) * u.length, nil
	}
	return 0, fmt.Errorf("invalid window %q: use s, m, h or d, optionally after a number, up to 400d", text)
}

package ratelimit

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// A Unit is what a rule counts.
type Unit uint8

// The units. Spend is counted in billionths of a US dollar, so that one token of the cheapest model is not nothing.
const (
	Requests Unit = iota
	Tokens
	Concurrent // requests at the same time
	Spend
)

// Dollar is one US dollar in the unit of Spend.
const Dollar = 1_000_000_000

var unitNames = [...]string{"requests", "tokens", "concurrent", "budget"}

// String gives the unit's name.
func (u Unit) String() string { return unitNames[u] }

// A Calendar is a period that begins by the calendar, in UTC, so that all machines agree on it.
type Calendar uint8

// The periods of calendars.
const (
	NoCalendar Calendar = iota // the window slides
	Day
	Month
)

// A Rule is how much of a unit a window takes.
type Rule struct {
	Unit  Unit
	Limit int64
	// Window is the length of a sliding window; zero for Concurrent and for calendars.
	Window   time.Duration
	Calendar Calendar
}

// A Limit is a rule for somebody.
type Limit struct {
	// ID is what the facts are kept under. It does not hold the number, so that a changed limit finds what was used.
	ID string
	// Address is whom the rule is for, instead of an ID: the facts of addresses are kept in a table of bounded size.
	Address netip.Addr
	Rule    Rule
}

// New makes the limits of a subject, such as "key/alice".
func New(subject string, rules []Rule) []*Limit {
	var limits []*Limit
	for _, r := range rules {
		limits = append(limits, &Limit{ID: subject + "/" + r.Unit.String() + "/" + r.Per(), Rule: r})
	}
	return limits
}

// Distinct fails where two rules count the same in the same window. They would share their facts, and take each request twice.
func Distinct(rules []Rule) error {
	seen := make(map[Rule]Rule, len(rules))
	for _, r := range rules {
		same := r
		same.Limit = 0
		if other, ok := seen[same]; ok {
			return fmt.Errorf("%s and %s have the same window: keep one of them", other, r)
		}
		seen[same] = r
	}
	return nil
}

// Per gives the rule's window as it is written: "m", "30d", "month"; empty for Concurrent.
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

// String gives the rule as it is written.
func (r Rule) String() string {
	switch r.Unit {
	case Concurrent:
		return strconv.FormatInt(r.Limit, 10)
	case Spend:
		return "$" + strconv.FormatFloat(float64(r.Limit)/Dollar, 'f', -1, 64) + "/" + r.Per()
	}
	return strconv.FormatInt(r.Limit, 10) + "/" + r.Per()
}

package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// windowUnits are the units of windows, the longest first.
var windowUnits = []struct {
	name   string
	length time.Duration
}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// The longest window, and the shortest of a budget.
const (
	longestWindow  = 400 * 24 * time.Hour
	shortestBudget = time.Hour
)

// maxLimit keeps numbers exact in the floating point that Redis scripts calculate with.
const maxLimit = 1 << 52

// ParseRate reads a rate of requests or tokens, such as 60/m, 100k/m, 5M/30d.
func ParseRate(unit Unit, text string) (Rule, error) {
	number, per, ok := strings.Cut(text, "/")
	if !ok {
		return Rule{}, fmt.Errorf("%q is not a rate: write it as 60/m, with s, m, h or d for the window", text)
	}
	limit, err := parseCount(number)
	if err != nil {
		return Rule{}, fmt.Errorf("%q is not a rate: %w", text, err)
	}
	window, err := parseWindow(per)
	if err != nil {
		return Rule{}, fmt.Errorf("%q is not a rate: %w", text, err)
	}
	return Rule{Unit: unit, Limit: limit, Window: window}, nil
}

// ParseBudget reads a budget: $20/30d slides, $20/month and $1/day follow the calendar, in UTC.
func ParseBudget(text string) (Rule, error) {
	number, per, ok := strings.Cut(strings.TrimPrefix(text, "$"), "/")
	dollars, err := strconv.ParseFloat(number, 64)
	limit := dollars * Dollar
	if !ok || err != nil || !(limit >= 1 && limit <= maxLimit) {
		return Rule{}, fmt.Errorf("%q is not a budget: write it as $20/30d, or $20/month for calendar months", text)
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
		return Rule{}, fmt.Errorf("%q is not a budget: %w; day and month are those of the calendar", text, err)
	}
	if rule.Window < shortestBudget {
		return Rule{}, fmt.Errorf("%q is not a budget: its window is shorter than an hour; a month is written /month or /30d", text)
	}
	return rule, nil
}

// ParseConcurrent makes the rule of n requests at the same time.
func ParseConcurrent(n int64) (Rule, error) {
	if n < 1 || n > maxLimit {
		return Rule{}, fmt.Errorf("%d requests at the same time are not a limit: at least 1 is needed", n)
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
		return 0, errors.New("before the slash a whole number is expected, which may end in k, M or G")
	}
	return int64(n), nil
}

func parseWindow(text string) (time.Duration, error) {
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
	return 0, fmt.Errorf("the window is %q, but expected is s, m, h or d, which may have a number before it, up to 400d", text)
}

package ratelimit

import (
	"testing"
	"time"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for text, want := range map[string]Rule{
		"60/m":    {Unit: Tokens, Limit: 60, Window: time.Minute},
		"1/s":     {Unit: Tokens, Limit: 1, Window: time.Second},
		"100k/m":  {Unit: Tokens, Limit: 100_000, Window: time.Minute},
		"1.5M/h":  {Unit: Tokens, Limit: 1_500_000, Window: time.Hour},
		"10/30d":  {Unit: Tokens, Limit: 10, Window: 30 * day},
		"10/90s":  {Unit: Tokens, Limit: 10, Window: 90 * time.Second},
		"10/400d": {Unit: Tokens, Limit: 10, Window: 400 * day},

		"10/second": {Unit: Tokens, Limit: 10, Window: time.Second},
		"10/minute": {Unit: Tokens, Limit: 10, Window: time.Minute},
		"10/hour":   {Unit: Tokens, Limit: 10, Window: time.Hour},
		"10/day":    {Unit: Tokens, Limit: 10, Window: day},
	} {
		got, err := ParseRate(Tokens, text)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseRate(Tokens, got.String()); err != nil || again != got {
			t.Errorf("%q becomes %q, which parses as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "60", "60/", "/m", "0/m", "-1/m", "1.5/m", "60/w", "60/week", "60/month", "60/minutes", "60/2minute", "60/0m", "60/401d", "60/-1m", "60/m/m", "x/m", "9e99/m", "NaN/m", "10/99999999999d"} {
		if got, err := ParseRate(Requests, text); err == nil {
			t.Errorf("ParseRate(%q) = %+v, want an error", text, got)
		}
	}
}

func TestParseBudget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rule{
		"$20/30d":    {Unit: Spend, Limit: 20 * Dollar, Window: 30 * 24 * time.Hour},
		"20/30d":     {Unit: Spend, Limit: 20 * Dollar, Window: 30 * 24 * time.Hour},
		"$0.5/hour":  {Unit: Spend, Limit: Dollar / 2, Window: time.Hour},
		"$0.5/h":     {Unit: Spend, Limit: Dollar / 2, Window: time.Hour},
		"$20/month":  {Unit: Spend, Limit: 20 * Dollar, Calendar: Month},
		"$1/day":     {Unit: Spend, Limit: Dollar, Calendar: Day},
		"$0.0001/7d": {Unit: Spend, Limit: 100_000, Window: 7 * 24 * time.Hour},
	} {
		got, err := ParseBudget(text)
		if err != nil || got != want {
			t.Errorf("ParseBudget(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseBudget(got.String()); err != nil || again != got {
			t.Errorf("%q becomes %q, which parses as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "$20", "$/30d", "$0/30d", "$-1/30d", "$20/m", "$20/59m", "$20/year", "$20/week", "€20/30d", "$1e30/30d", "$NaN/d", "$Inf/d"} {
		if got, err := ParseBudget(text); err == nil {
			t.Errorf("ParseBudget(%q) = %+v, want an error", text, got)
		}
	}
}

func TestDistinct(t *testing.T) {
	t.Parallel()
	rules := func(texts ...string) (list []Rule) {
		for _, text := range texts {
			rule, err := ParseBudget(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, rule)
		}
		return list
	}
	for name, test := range map[string]struct {
		rules []Rule
		ok    bool
	}{
		"no rules":            {nil, true},
		"same window":         {rules("$1/d", "$5/30d", "$5/720h"), false},
		"different windows":   {rules("$1/d", "$5/30d"), true},
		"24 hours and a day":  {rules("$1/d", "$1/day", "$9/month"), true},
		"same calendar month": {rules("$1/month", "$2/month"), false},
		"different units":     {append(rules("$1/d"), Rule{Unit: Requests, Limit: 1, Window: longestWindow / 400}), true},
	} {
		if err := Distinct(test.rules); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package screen

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/dustin/go-humanize"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// The sections, from top to bottom.
const (
	upstreamsSection = iota
	progressSection
	spendSection
	requestsSection
)

var (
	sectionNames = [...]string{"Upstreams", "In progress and waiting", "Spend today (UTC)", "Latest requests"}
	// turns is the order in which the sections get room. Some have more than one turn.
	turns = [...]int{upstreamsSection, requestsSection, progressSection, spendSection, upstreamsSection, requestsSection}
)

func (p *picture) sections() []section {
	return []section{p.upstreams(), p.progress(), p.spend(), p.requests()}
}

// upstreams is the section of all replicas.
func (p *picture) upstreams() section {
	s := section{title: sectionNames[upstreamsSection], empty: "No handler llm_proxy is running.", columns: []column{
		{title: "UPSTREAM", elastic: true}, {title: "KIND", breadth: wide}, {title: "STATE", elastic: true}, {title: "SLOTS"}, {title: "WAITING", right: true, breadth: normal},
		{title: "TOKENS/S", right: true, breadth: normal}, {title: "TTFT", right: true, breadth: normal}, {title: "IN MEMORY", breadth: wide, elastic: true},
	}}
	troubled := 0
	for _, u := range p.Upstreams {
		for _, r := range u.Replicas {
			if r.State != "up" {
				troubled++
			}
			name := Printable(u.Name)
			if len(u.Replicas) > 1 || p.has(wide) {
				name += " " + Printable(host(r.Address))
			}
			state, style := p.state(&r)
			s.rows = append(s.rows, []cell{
				{name, usual}, {Printable(u.Kind), faint}, {state, style}, {p.slots(&r), usual}, {count(int64(r.Waiting)), usual},
				{count(int64(r.TokensPerSecond + .5)), usual}, {optional(r.TTFT), usual}, {Printable(strings.Join(r.Models, " ")), faint},
			})
		}
	}
	if troubled > 0 {
		s.warning = fmt.Sprintf("%d not up", troubled)
	}
	return s
}

// host returns the host and port of an address.
func host(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

// state returns the state of a replica, how long it has been in it, and why.
func (p *picture) state(r *overview.Replica) (string, lipgloss.Style) {
	style := bad
	switch r.State {
	case "up":
		return r.State, good
	case "loading", "half_open":
		style = middle
	}
	text := Printable(r.State)
	if r.Since != nil {
		text += " " + seconds(p.At.Sub(*r.Since).Seconds())
	}
	if r.Verdict != "" {
		text += ", " + Printable(r.Verdict)
	}
	return text, style
}

// slots draws the slots of a replica: those in use, those that other clients of the server use, and those that are free.
func (p *picture) slots(r *overview.Replica) string {
	busy := r.InUse + r.Foreign
	if r.Slots == 0 {
		return strconv.Itoa(busy) + " in use"
	}
	cells := min(r.Slots, 8)
	if p.has(wide) {
		cells = min(r.Slots, 16)
	}
	used := min((r.InUse*cells+r.Slots-1)/r.Slots, cells) // a slot in use is never drawn as free
	foreign := min((busy*cells+r.Slots-1)/r.Slots, cells) - used
	return strings.Repeat("■", used) + strings.Repeat("▦", max(0, foreign)) + strings.Repeat("□", cells-used-max(0, foreign)) + fmt.Sprintf(" %d/%d", busy, r.Slots)
}

// progress is the section of the requests that have a slot, or wait for one.
func (p *picture) progress() section {
	s := section{title: sectionNames[progressSection], empty: "None.", columns: []column{
		{title: "KEY", elastic: true}, {title: "MODEL", elastic: true}, {title: "UPSTREAM", breadth: normal, elastic: true}, {title: "STATE"}, {title: "FOR", right: true}, {title: "EXPECTED", right: true, breadth: normal}, {title: "ID", breadth: wide, elastic: true},
	}}
	for _, u := range p.Upstreams {
		for _, r := range u.Replicas {
			for _, a := range r.Active {
				state := cell{"in progress", good}
				if a.GivenUp {
					state = cell{"given up", middle}
				}
				s.rows = append(s.rows, []cell{{caller(a.Key), usual}, {Printable(a.Model), usual}, {Printable(u.Name), usual}, state, {seconds(a.For), usual}, {}, {Printable(a.ID), faint}})
			}
		}
	}
	for _, u := range p.Upstreams {
		for _, r := range u.Replicas {
			for _, q := range slices.SortedFunc(slices.Values(r.Queue), func(a, b overview.Waiting) int { return cmp.Compare(a.Position, b.Position) }) {
				state := fmt.Sprintf("waiting #%d", q.Position)
				if q.Priority != "" && q.Priority != "normal" {
					state += ", " + Printable(q.Priority)
				}
				s.rows = append(s.rows, []cell{{caller(q.Key), usual}, {Printable(q.Model), usual}, {Printable(u.Name), usual}, {state, middle}, {seconds(q.Waited), usual}, {optional(q.Wait), usual}, {Printable(q.ID), faint}})
			}
		}
	}
	return s
}

// spend is the section of what each key has used today.
func (p *picture) spend() section {
	s := section{title: sectionNames[spendSection], empty: "Nothing yet.", columns: []column{
		{title: "KEY", elastic: true}, {title: "COST", right: true}, {title: "REQUESTS", right: true}, {title: "INPUT", right: true, breadth: normal}, {title: "OUTPUT", right: true, breadth: normal},
	}}
	for _, k := range p.Spend {
		cost := dollars(k.USD)
		switch {
		case k.Unpriced == k.Requests:
			cost = "unknown"
		case k.Unpriced > 0:
			cost += fmt.Sprintf(" and %d unknown", k.Unpriced)
		}
		s.rows = append(s.rows, []cell{{caller(k.Key), usual}, {cost, usual}, {number(float64(k.Requests)), usual}, {number(float64(k.Input)), usual}, {number(float64(k.Output)), usual}})
	}
	return s
}

// requests is the section of the requests that are over.
func (p *picture) requests() section {
	s := section{title: sectionNames[requestsSection], empty: "None yet.", columns: []column{
		{title: "AT"}, {title: "KEY", breadth: normal, elastic: true}, {title: "MODEL", elastic: true}, {title: "ANSWERED BY", breadth: normal, elastic: true}, {title: "STATUS", elastic: true}, {title: "CACHE", breadth: wide},
		{title: "QUEUE", right: true, breadth: wide}, {title: "TTFT", right: true, breadth: wide}, {title: "TOTAL", right: true}, {title: "INPUT", right: true, breadth: wide},
		{title: "OUTPUT", right: true, breadth: normal}, {title: "COST", right: true, breadth: wide},
	}}
	for i := range p.Requests {
		r := &p.Requests[i]
		status, style := outcome(r)
		cost := ""
		if r.USD != nil {
			cost = dollars(*r.USD)
		}
		s.rows = append(s.rows, []cell{
			{r.Started.Local().Format(time.TimeOnly), faint}, {caller(r.Key), usual}, {Printable(r.Model), usual}, {p.way(r), usual}, {status, style},
			{Printable(r.Cache), usual}, {elapsed(r.Queue), usual}, {elapsed(r.TTFT), usual}, {seconds(r.Duration), usual}, {count(r.Input), usual}, {count(r.Output), usual}, {cost, usual},
		})
	}
	return s
}

// outcome returns how a request ended.
func outcome(r *overview.Request) (string, lipgloss.Style) {
	text, style := strconv.Itoa(r.Status), usual
	if why := cmp.Or(r.Error, r.Verdict); why != "ok" {
		text += " " + Printable(why)
	}
	switch {
	case r.Status >= 500:
		style = bad
	case r.Status >= 400:
		style = middle
	}
	return text, style
}

// way returns which targets were tried, and why the request went on from each but the last. A narrow picture shows only the upstream of the last one.
func (p *picture) way(r *overview.Request) string {
	var before string
	last := r.Target
	for i, a := range r.Attempts {
		if last = a.Target; i == len(r.Attempts)-1 {
			break
		}
		if !p.has(wide) {
			last, _, _ = strings.Cut(last, "/")
		}
		before += Printable(last) + " " + Printable(a.Verdict) + " → "
	}
	return before + Printable(last)
}

// caller returns the name of a key, or what stands for none.
func caller(key string) string { return Printable(cmp.Or(key, "(no key)")) }

// Printable returns a text without control characters, which a terminal would obey. Clients make up the names of models.
func Printable(text string) string {
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// seconds returns a duration in a few characters.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case s < 9.995:
		return fmt.Sprintf("%.2f s", s)
	case s < 99.5:
		return fmt.Sprintf("%.0f s", s)
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// elapsed returns a duration, or nothing if it is zero.
func elapsed(s float64) string {
	if s == 0 {
		return ""
	}
	return seconds(s)
}

// optional returns a duration, or nothing if it is unknown.
func optional(s *float64) string {
	if s == nil {
		return ""
	}
	return seconds(*s)
}

// count returns a number, or nothing if it is zero.
func count(n int64) string {
	if n == 0 {
		return ""
	}
	return number(float64(n))
}

// number returns a number with three digits or so: 0.52, 87, 12.3k.
func number(n float64) string {
	switch {
	case n < 10 && n != float64(int64(n)):
		return fmt.Sprintf("%.2f", n)
	case n < 10_000:
		return fmt.Sprintf("%.0f", n)
	}
	return strings.ReplaceAll(humanize.SIWithDigits(n, 1, ""), " ", "")
}

func dollars(usd float64) string { return "$" + strconv.FormatFloat(usd, 'f', 4, 64) }

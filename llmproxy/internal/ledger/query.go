package ledger

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Query asks for sums.
type Query struct {
	// From and To are the first and the last day, those of these times in UTC; zero for the first and the last there is.
	From, To time.Time
	// By is what rows are told apart by: any of "day", "key", "model" and "target". Without any there is one row for all.
	By []string
	// Key, if it is not empty, leaves out what others used.
	Key string
}

// A Row is an answer to a query. What the query does not tell rows apart by is empty.
type Row struct {
	Day    string `json:"day,omitempty"` // 2006-01-02, UTC
	Key    string `json:"key,omitempty"` // empty for requests without one, too
	Model  string `json:"model,omitempty"`
	Target string `json:"target,omitempty"`
	Sums
}

// Dimensions are what a query can tell rows apart by.
func Dimensions() []string { return []string{"day", "key", "model", "target"} }

// pages are what is written in a ledger, day by day.
type pages interface {
	Flush() error
	days(first, last day) ([]day, error)
	rows(d day, each func(rowID, Sums)) error
}

// ask sums up, one day after the other, so that no write waits for all of them.
func (q Query) ask(p pages) ([]Row, error) {
	for _, by := range q.By {
		if !slices.Contains(Dimensions(), by) {
			return nil, fmt.Errorf("%q: rows are told apart by %s", by, strings.Join(Dimensions(), ", "))
		}
	}
	if err := p.Flush(); err != nil {
		return nil, err
	}
	first, last := dayOf(q.From), day(math.MaxUint32)
	if !q.To.IsZero() {
		last = dayOf(q.To)
	}
	days, err := p.days(first, last)
	if err != nil {
		return nil, err
	}
	groups := map[rowID]*Sums{}
	sum := q.by(groups)
	for _, day := range days {
		if err := p.rows(day, sum); err != nil {
			return nil, fmt.Errorf("the usage of %s: %w", day, err)
		}
	}
	return rowsOf(groups, slices.Contains(q.By, "day")), nil
}

// by sums rows into groups.
func (q Query) by(groups map[rowID]*Sums) func(rowID, Sums) {
	byDay, byKey, byModel, byTarget := slices.Contains(q.By, "day"), slices.Contains(q.By, "key"), slices.Contains(q.By, "model"), slices.Contains(q.By, "target")
	return func(id rowID, s Sums) {
		if q.Key != "" && id.key != q.Key {
			return
		}
		var group rowID
		if byDay {
			group.day = id.day
		}
		if byKey {
			group.key = id.key
		}
		if byModel {
			group.model = id.model
		}
		if byTarget {
			group.target = id.target
		}
		if groups[group] == nil {
			groups[group] = new(Sums)
		}
		groups[group].add(s)
	}
}

func rowsOf(groups map[rowID]*Sums, byDay bool) []Row {
	rows := make([]Row, 0, len(groups))
	for id, s := range groups {
		row := Row{Key: id.key, Model: id.model, Target: id.target, Sums: *s}
		if byDay {
			row.Day = id.day.String()
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, compare)
	return rows
}

func compare(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Target, b.Target))
}

// Merge sums up the answers of several ledgers to the same query.
func Merge(answers ...[]Row) []Row {
	rows := slices.Concat(answers...)
	slices.SortFunc(rows, compare)
	merged := make([]Row, 0, len(rows))
	for _, row := range rows {
		if n := len(merged); n > 0 && compare(merged[n-1], row) == 0 {
			merged[n-1].add(row.Sums)
			continue
		}
		merged = append(merged, row)
	}
	return merged
}

// Name gives what the row has in a dimension.
func (r *Row) Name(dimension string) string {
	switch dimension {
	case "day":
		return r.Day
	case "key":
		return r.Key
	case "model":
		return r.Model
	case "target":
		return r.Target
	}
	return ""
}

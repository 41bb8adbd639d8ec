package ratelimit

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// sharedPrefix begins the server's keys; the braces put all of them on one node of a cluster, so that one script may take
// from several limits.
const sharedPrefix = "llm_proxy:{limits}:"

// sharedKey is where the server keeps the facts of a limit.
func sharedKey(l *Limit) string {
	if l.Address.IsValid() {
		return sharedPrefix + "address/" + l.Address.String() + "/" + l.Rule.Unit.String() + "/" + l.Rule.Per()
	}
	return sharedPrefix + l.ID
}

// appendRule appends what a script knows of a rule: its kind, its number, and its window or the width of a slot in microseconds.
func appendRule(args []any, r Rule) []any {
	switch {
	case r.Unit == Concurrent:
		return append(args, "c", r.Limit, 0)
	case r.Unit == Tokens:
		return append(args, "t", r.Limit, r.Window.Microseconds())
	case r.Unit != Spend:
		return append(args, "b", r.Limit, r.Window.Microseconds())
	case r.Calendar == Day:
		return append(args, "d", r.Limit, 0)
	case r.Calendar == Month:
		return append(args, "m", r.Limit, 0)
	}
	return append(args, "s", r.Limit, strconv.FormatFloat(float64(width(r))/1e3, 'f', -1, 64))
}

var errSharedFacts = errors.New("the shared state gives facts of a limit that cannot be read")

// parseCell reads the facts as the scripts give them.
func parseCell(text string, r Rule) (cell, error) {
	var f [slots + 4]float64
	n := 0
	for number := range strings.FieldsSeq(text) {
		value, err := strconv.ParseFloat(number, 64)
		if err != nil || n == len(f) || math.Abs(value) > 1<<62 || value != value {
			return nil, errSharedFacts
		}
		f[n] = value
		n++
	}
	c := newCell(r)
	want := 0
	switch c := c.(type) {
	case *places:
		want, c.held = 1, int64(f[0])
	case *bucket:
		want, c.used, c.at = 2, f[0], int64(f[1])*int64(time.Microsecond)
	case *metered:
		want, c.used, c.at, c.reserved = 3, f[0], int64(f[1])*int64(time.Microsecond), reserved(f[2])
	case *period:
		want, c.number, c.level, c.spent, c.reserved = 4, int64(f[0]), uint8(f[1]), int64(f[2]), reserved(f[3])
	case *spending:
		want, c.head, c.level, c.reserved = len(f), int64(f[0]), uint8(f[1]), reserved(f[len(f)-1])
		for i := range c.spent {
			c.spent[i] = int64(f[2+i])
		}
	}
	if n != want {
		return nil, errSharedFacts
	}
	return c, nil
}

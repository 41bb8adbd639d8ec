package state

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The order is reversed, and what requests need is closed after the last one.
func TestCloser(t *testing.T) {
	t.Parallel()
	var c Closer
	var got []string
	note := func(what string) func() { return func() { got = append(got, what) } }
	c.Add(note("a"))
	c.AddLasting(note("client"))
	c.Add(note("b"))
	c.AddLasting(note("limits"))
	c.Enter()
	if c.Close() {
		t.Error("everything is closed while a request is active")
	}
	if diff := cmp.Diff([]string{"b", "a"}, got); diff != "" {
		t.Error(diff)
	}
	c.Leave()
	if diff := cmp.Diff([]string{"b", "a", "limits", "client"}, got); diff != "" {
		t.Error(diff)
	}
	if !c.Close() || len(got) != 4 {
		t.Errorf("a second Close: %v", got)
	}
}

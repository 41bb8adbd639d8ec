package delivery

import (
	"fmt"
	"testing"
)

func TestLengths(t *testing.T) {
	t.Parallel()
	var l lengths
	if n := l.nearlyAll("u/m"); n != 0 {
		t.Errorf("%d tokens are known of nothing", n)
	}
	for i := range int64(enoughAnswers - 1) {
		l.learn("u/m", 100+i)
	}
	if n := l.nearlyAll("u/m"); n != 0 {
		t.Errorf("%d tokens are known of too few answers", n)
	}
	l.learn("u/m", 100)
	if n := l.nearlyAll("u/m"); n < 149 || n > 149*5/4 {
		t.Errorf("answers of up to 149 tokens: %d", n)
	}
	for range 950 { // one in a thousand is much longer
		l.learn("u/m", 120)
	}
	l.learn("u/m", 100_000)
	if n := l.nearlyAll("u/m"); n < 149 || n > 200 {
		t.Errorf("one long answer among a thousand: %d", n)
	}
	for range 3 * keptAnswers { // the model now answers at length
		l.learn("u/m", 5000)
	}
	if n := l.nearlyAll("u/m"); n < 5000 || n > 6250 {
		t.Errorf("after a change to 5000 tokens: %d", n)
	}
	l.learn("u/m", 1<<40)
	for i := range 2 * maxLengths {
		l.learn(fmt.Sprint("u/", i), 5)
	}
	if len(l.targets) > maxLengths {
		t.Errorf("%d targets are kept", len(l.targets))
	}
}

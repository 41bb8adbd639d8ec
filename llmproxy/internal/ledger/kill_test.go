package ledger

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// childVariable is set for the process that is to be killed: the path of its file.
const childVariable = "LEDGER_TEST_CHILD"

// child writes until it is killed, and says on stdout what it wrote: "used N MS" after each use, where N counts them;
// "saved KEY MS" when SaveNow has returned, and is called again. MS is its own clock.
func child(path string) {
	l := New(Config{Path: path, Report: func(err error) { fmt.Println("error", err) }})
	out, start := make(chan string), time.Now()
	go func() {
		for i := 0; ; i++ {
			key := fmt.Sprintf("%d-%d", os.Getpid(), i)
			if err := l.SaveNow("keys", key, []byte(key)); err != nil {
				out <- fmt.Sprint("error ", err)
			}
			out <- fmt.Sprint("saved ", key, " ", time.Since(start).Milliseconds())
		}
	}()
	go func() {
		for i := 1; ; i++ {
			l.Add(Usage{Key: "k" + strconv.Itoa(i%20), Model: "m", Target: "t", At: noon("2026-11-01"), Sums: Sums{Requests: 1}})
			out <- fmt.Sprint("used ", i, " ", time.Since(start).Milliseconds())
		}
	}()
	for line := range out {
		fmt.Println(line)
	}
}

// A life is what a child said before it was killed.
type life struct {
	used    []int // by use: when, in milliseconds
	saved   []string
	slowest int // commit, in milliseconds, the one included that was under way at the end
	errors  []string
}

// kill starts a child and kills it after a while.
func kill(t *testing.T, path string, after time.Duration) (l life) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(after, func() { cmd.Process.Kill() })
	l.listen(pipe)
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return l
}

func (l *life) listen(pipe io.Reader) {
	lines, last := bufio.NewReader(pipe), 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return // and a line that has no end was not said
		}
		fields := strings.Fields(line)
		ms, _ := strconv.Atoi(fields[len(fields)-1])
		switch fields[0] {
		case "used":
			l.used = append(l.used, ms)
			l.slowest = max(l.slowest, ms-last)
		case "saved":
			l.saved = append(l.saved, fields[1])
			l.slowest, last = max(l.slowest, ms-last), ms
		default:
			l.errors = append(l.errors, line)
		}
	}
}

// safe is how many of the uses must have survived: those that were a second old by the child's clock, or, where the disk
// took longer than half a second for a commit, that much older.
func (l *life) safe() int64 {
	if len(l.used) == 0 {
		return 0
	}
	allowed := max(1000, 500+2*l.slowest)
	n := 0
	for n < len(l.used) && l.used[n] < l.used[len(l.used)-1]-allowed {
		n++
	}
	return int64(n)
}

// Ten processes, one after the other, are killed while they write one file; five files at once.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	for i := range 5 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			keys := map[string]bool{}
			before, total := int64(0), int64(0)
			for kills := range 10 {
				after := time.Duration(rand.IntN(1500)) * time.Millisecond
				if kills == 0 {
					after /= 50 // while the file is made
				}
				l := kill(t, path, after)
				for _, key := range l.saved {
					keys[key] = true
				}
				before, total = examine(t, path, &l, keys, before), total+int64(len(l.used))
			}
			t.Logf("%d of %d uses and all of %d keys survived", before, total, len(keys))
			if before == 0 || len(keys) == 0 {
				t.Error("no child lived long enough to show anything")
			}
		})
	}
}

// examine opens what a child left behind, and gives how many requests it holds.
func examine(t *testing.T, path string, l *life, keys map[string]bool, before int64) int64 {
	t.Helper()
	if len(l.errors) > 0 {
		t.Fatalf("the child said: %s", l.errors)
	}
	left := open(t, path)
	got := requests(t, left)
	const unsaid = 2 // a use whose line was not written yet, and the next one
	if want := before + l.safe(); got < want || got > before+int64(len(l.used))+unsaid {
		t.Errorf("%d requests were left, %d were safe, %d of %d are new", got, want, len(l.used)-int(l.safe()), len(l.used))
	}
	there := saved(t, left, "keys")
	for key := range keys {
		if there[key] != key {
			t.Errorf("key %s is lost", key)
		}
	}
	err := left.read(func(tx *bbolt.Tx) {
		for err := range tx.Check() {
			t.Errorf("the file is corrupt: %v", err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	if err := left.Close(); err != nil {
		t.Error(err)
	}
	return got
}

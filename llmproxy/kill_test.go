package llmproxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/ledger"
	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
)

// What the process that is to be killed is told: where it keeps things, and which: limits, saved keys, or a file of keys.
const (
	childFolder = "LLM_PROXY_TEST_CHILD"
	childKeeps  = "LLM_PROXY_TEST_KEEPS"
)

// killedLimit is taken by one with each use.
var killedLimit = ratelimit.New("key/alice", []ratelimit.Rule{{Unit: ratelimit.Spend, Limit: 1 << 50, Window: 30 * 24 * time.Hour}})

func documentIn(folder, kept string, book *ledger.Ledger) document {
	if kept == "file" {
		return &keysFile{path: filepath.Join(folder, "keys.json")}
	}
	return &savedKeys{ledger: book}
}

// child uses a budget or makes keys until it is killed, and says so: "used N MS" and "saved NAME MS", by its own clock.
func child(folder, kept string) {
	fail := func(err error) { fmt.Println("error", err) }
	book := ledger.New(ledger.Config{Path: filepath.Join(folder, "ledger.db"), Report: fail})
	start := time.Now()
	if kept == "limits" {
		l := newLocalLimits(book)
		go l.keep()
		i := 0
		for range time.Tick(time.Millisecond) {
			i++
			take := &ratelimit.Take{Limits: killedLimit, Spend: 2}
			if err := l.Take(context.Background(), take); err != nil {
				fail(err)
			}
			l.Settle(take, 0, 1)
			fmt.Println("used", i, time.Since(start).Milliseconds())
		}
	}
	v := newVault(kept, documentIn(folder, kept, book))
	for i := 0; ; i++ {
		e := &keys.Entry{Name: fmt.Sprintf("%d-%d", os.Getpid(), i), Secret: keys.Digest(keys.NewSecret())}
		if err := v.change(func(list []*keys.Entry) ([]*keys.Entry, error) { return append(list, e), nil }); err != nil {
			fail(err)
		}
		fmt.Println("saved", e.Name, time.Since(start).Milliseconds())
	}
}

// kill lets a child live for a while, and gives what it said.
func kill(t *testing.T, folder, kept string, after time.Duration) (used []int, saved []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+folder, childKeeps+"="+kept)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(after, func() { cmd.Process.Kill() })
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // a line that has no end was not said
		} else if err != nil {
			t.Fatal(err)
		}
		switch fields := strings.Fields(line); fields[0] {
		case "used":
			ms, err := strconv.Atoi(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			used = append(used, ms)
		case "saved":
			saved = append(saved, fields[1])
		default:
			t.Errorf("the child said: %s", line)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return used, saved
}

// Fifty processes are killed while they use a budget or make keys: no key is lost, and at most a second of what was used.
func TestKilledWhileKeeping(t *testing.T) {
	for kept, kills := range map[string]int{"limits": 10, "saved": 20, "file": 20} {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			longest := 700
			if kept == "limits" {
				longest = 2000
			}
			folder := t.TempDir()
			said, spent := map[string]bool{}, int64(0)
			for range kills {
				used, saved := kill(t, folder, kept, time.Duration(200+rand.IntN(longest-200))*time.Millisecond)
				for _, name := range saved {
					said[name] = true
				}
				spent = examine(t, folder, kept, used, said, spent)
			}
			t.Logf("%d uses and all of %d keys survived", spent, len(said))
			if spent == 0 && len(said) == 0 {
				t.Error("no child lived long enough to show anything")
			}
		})
	}
}

// examine opens what a child left behind, and gives how much of the budget is spent.
func examine(t *testing.T, folder, kept string, used []int, said map[string]bool, before int64) (spent int64) {
	t.Helper()
	book := ledger.New(ledger.Config{Path: filepath.Join(folder, "ledger.db"), Report: func(err error) { t.Error(err) }})
	defer book.Close()
	if kept != "limits" {
		v := newVault(kept, documentIn(folder, kept, book))
		if _, err := v.load(); err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{}
		for _, e := range v.entries() {
			there[e.Name] = true
		}
		for name := range said {
			if !there[name] {
				t.Errorf("key %s is lost", name)
			}
		}
		return 0
	}
	l := newLocalLimits(book)
	if !l.restore() {
		t.Fatal("the limits cannot be read")
	}
	peek := &ratelimit.Take{Limits: killedLimit}
	if err := l.Memory.Peek(t.Context(), peek); err != nil {
		t.Fatal(err)
	}
	spent = killedLimit[0].Rule.Limit - peek.Left[0].Left
	const unsaid = 3 // a use whose line was not written, and the reservation of another
	safe := int64(0)
	for int(safe) < len(used) && used[safe] < used[len(used)-1]-1000 {
		safe++
	}
	if spent < before+safe || spent > before+int64(len(used))+unsaid {
		t.Errorf("%d is spent, of which %d before; %d of %d new uses were a second old", spent, before, safe, len(used))
	}
	return spent
}

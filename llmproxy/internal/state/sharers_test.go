package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// How many share a state is remembered: more at once, fewer when it has been so for a while.
func TestSharersAreRemembered(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	of := func(address string) *sharers {
		return newSharers(Remembered("sharers", address))
	}
	const address = "redis://:hunter2@10.0.0.3:6379/1"
	synctest.Test(t, func(t *testing.T) {
		s := of(address)
		for _, step := range []struct {
			after       time.Duration
			heard, kept int64
		}{
			{0, 1, 1}, {0, 3, 3}, {time.Second, 2, 3}, {time.Minute, 1, 3}, {time.Minute, 3, 3},
			{0, 2, 3}, {9 * time.Minute, 2, 3}, {time.Minute, 2, 2}, {0, 5, 5},
		} {
			time.Sleep(step.after)
			s.heard(step.heard)
			synctest.Wait()
			if got := of(address).kept; got != step.kept {
				t.Errorf("after %d were heard, %d are remembered, want %d", step.heard, got, step.kept)
			}
		}
	})
	for other, want := range map[string]int64{"redis://me:changed@10.0.0.3:6379/1": 5, "redis://10.0.0.3:6379/2": 0, "redis://10.0.0.4:6379/1": 0} {
		if got := of(other).kept; got != want {
			t.Errorf("%s: %d are remembered, want %d", other, got, want)
		}
	}
	files, err := filepath.Glob(filepath.Join(caddy.AppDataDir(), "llm_proxy", "*"))
	if err != nil || len(files) != 1 || strings.Contains(files[0], "hunter2") {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte("-7"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := of(address).kept; got != 0 {
		t.Errorf("%d are remembered of a file that makes no sense", got)
	}
}

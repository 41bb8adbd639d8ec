package state

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A higher number of instances is saved at once, a lower one after a while.
func TestInstanceCountIsSaved(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	of := func(address string) *instanceCount {
		return newInstanceCount(SnapshotOf("instances", address))
	}
	const address = "redis://:hunter2@10.0.0.3:6379/1"
	synctest.Test(t, func(t *testing.T) {
		c := of(address)
		for _, step := range []struct {
			after       time.Duration
			heard, want int64
		}{
			{0, 1, 1}, {0, 3, 3}, {time.Second, 2, 3}, {time.Minute, 1, 3}, {time.Minute, 3, 3},
			{0, 2, 3}, {9 * time.Minute, 2, 3}, {time.Minute, 2, 2}, {0, 5, 5},
		} {
			time.Sleep(step.after)
			c.update(step.heard)
			synctest.Wait()
			if got := of(address).saved; got != step.want {
				t.Errorf("after update(%d): %d are saved, want %d", step.heard, got, step.want)
			}
		}
	})
	for other, want := range map[string]int64{"redis://me:changed@10.0.0.3:6379/1": 5, "redis://10.0.0.3:6379/2": 0, "redis://10.0.0.4:6379/1": 0} {
		if got := of(other).saved; got != want {
			t.Errorf("%s: %d are saved, want %d", other, got, want)
		}
	}
	files, err := filepath.Glob(filepath.Join(caddy.AppDataDir(), "llm_proxy", "*"))
	if err != nil || len(files) != 1 || strings.Contains(files[0], "hunter2") {
		t.Fatal(files, err)
	}
	if err := Snapshot(files[0]).Write([]byte("-7")); err != nil {
		t.Fatal(err)
	}
	if got := of(address).saved; got != 0 {
		t.Errorf("an invalid file counts as %d", got)
	}
}

package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// A child that has ended has no memory until its parent has waited for it, and none afterwards.
func TestMemoryWithEndedChild(t *testing.T) {
	t.Parallel()
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait() //nolint:errcheck // it does nothing that could fail
	for ended := false; !ended; {
		status, err := os.ReadFile(procFile(child.Process.Pid, "status"))
		if err != nil {
			t.Fatal(err)
		}
		ended = bytes.Contains(status, []byte("State:\tZ"))
	}

	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: &exec.Cmd{Process: self}}
	if rss, err := p.memory("VmRSS"); err != nil || rss == 0 {
		t.Errorf("%v bytes, %v", rss, err)
	}
}

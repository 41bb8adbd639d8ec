package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An open stream goes on over a reload, whatever the new configuration says, while new requests follow the new one.
func TestReloadInMidStream(t *testing.T) {
	slow := servers(t).slow
	before := directive(`
	llm_proxy {
		upstream slow llamacpp SLOW
		model before slow/slow
	}`, "SLOW", slow.url())
	for name, after := range map[string]string{
		"another name": strings.Replace(before, "model before", "model after", 1),
		"no upstream":  "\tllm_proxy {\n\t\tupstream echo echo\n\t\tmodel after echo\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, before)
			stream := chatStream(t, t.Context(), g.url, `{"model":"before","stream":true,"max_tokens":40,"messages":[{"role":"user","content":"LONG"}]}`)
			stream.content(t, 2)
			g.reload(t, after)
			if ids := configuredIDs(t, g.url); !slices.Contains(ids, "after") {
				t.Errorf("after the reload the models are %q", ids)
			}
			stream.rest(t).wholly(t, strings.Repeat(numbers, 4), "length")
		})
	}
}

func configuredIDs(t *testing.T, base string) (ids []string) {
	t.Helper()
	var list struct{ Data []struct{ ID string } }
	call(t, "GET", base+"/v1/models", "").into(t, &list)
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids
}

// When Caddy ends, an open stream says so long before the grace period (a minute here) is over.
func TestExitInMidStream(t *testing.T) {
	g := fleetGateway(t)
	log := servers(t).slow.log
	stream := chatStream(t, t.Context(), g.url, `{"model":"llama-slow","stream":true,"messages":[{"role":"user","content":"LONG"}]}`)
	stream.content(t, 2)
	mark, started := log.mark(), time.Now()
	g.signal(syscall.SIGTERM)

	story := stream.rest(t)
	if took := time.Since(started); took > soon {
		t.Errorf("the stream's end took %v", took)
	}
	if story.failure == nil || story.done || story.finish != "" || story.err != nil {
		t.Errorf("the stream told %+v with the error %+v", story, story.failure)
	}
	log.await(t, mark, "stop processing", soon)
	select {
	case <-g.done:
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(soon):
		t.Error("Caddy is still there")
	}
}

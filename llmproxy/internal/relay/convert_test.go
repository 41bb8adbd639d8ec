package relay

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// After a ping an answer that came whole continues the stream.
func TestSplitAfterPing(t *testing.T) {
	t.Parallel()
	to := newClient()
	res, _ := respond("application/json", strings.NewReader(`{"choices":[{"text":"Hi","finish_reason":"stop"}]}`))
	answer, err := Hold(res, Expect{Endpoint: endpoint(t, "/v1/completions"), Stream: true, Choices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	if !answer.Streams() {
		t.Error("it is no stream")
	}
	if err := answer.Send(to, true); err != nil {
		t.Fatal(err)
	}
	want := `data: {"choices":[{"index":0,"text":"Hi","finish_reason":null}]}` + "\n\n" + `data: {"choices":[{"index":0,"text":"","finish_reason":"stop"}]}` + "\n\n" + done
	if diff := cmp.Diff(want, to.body.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	to.room = to.body.Len() + 1
	var left *ClientError
	if err := answer.Send(to, true); !errors.As(err, &left) {
		t.Errorf("got %v of a client that left", err)
	}
}

// The client gets the usage of a converted answer only if it asked for it.
func TestUsageOfConverted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		hide     bool
		want     string
		events   int
	}{
		{"asked for", chatWhole, false, chatMade, 4},
		{"not asked for", chatWhole, true, strings.Replace(chatMade, chatUsage, "", 1), 3},
		{"not asked for, a whole in an event", "data: " + chatWhole + "\n\n" + done, true, strings.Replace(chatMade, chatUsage, "", 1), 3},
		{"not asked for, in an event of its own", "data: " + strings.Replace(chatWhole, `"usage":{"prompt_tokens":3,"completion_tokens":2}`, `"usage":null`, 1) + "\n\n" + chatUsage + done, true, strings.Replace(chatMade, chatUsage, "", 1), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := pass(t, "application/json", strings.NewReader(tt.in), Expect{Endpoint: endpoint(t, "/v1/chat/completions"), Stream: true, HideUsage: tt.hide, Choices: 1}, newClient())
			if diff := cmp.Diff(result{Body: tt.want, Usage: used, HasUsage: true, Events: tt.events}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

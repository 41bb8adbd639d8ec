package sse

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCutRaw(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, batch, event, rest string }{
		{"nothing", "", "", ""},
		{"one", "data: a\n\n", "data: a\n\n", ""},
		{"two", "data: a\n\ndata: b\n\n", "data: a\n\n", "data: b\n\n"},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\n\r\n", "data: b\r\n\r\n"},
		{"CR", "data: a\r\rdata: b\r\r", "data: a\r\r", "data: b\r\r"},
		{"LF after CR is the same line end", "data: a\r\r\ndata: b\r\r", "data: a\r\r\n", "data: b\r\r"},
		{"leading blank line", "\r\ndata: a\n\n", "\r\n", "data: a\n\n"},
		{"no end", "data: a\n", "data: a\n", ""},
		{"no line end", "data: a", "data: a", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			event, rest := Cut([]byte(tt.batch))
			if string(event.Raw) != tt.event || string(rest) != tt.rest {
				t.Errorf("got %q and %q, want %q and %q", event.Raw, rest, tt.event, tt.rest)
			}
		})
	}
}

func TestCutFields(t *testing.T) {
	t.Parallel()
	b := func(s string) []byte { return []byte(s) }
	tests := []struct {
		name, event string
		want        Event
	}{
		{"nothing", "", Event{OnlyComments: true}},
		{"blank", "\n", Event{OnlyComments: true}},
		{"data", "data: a\n\n", Event{Data: b("a"), HasData: true}},
		{"data without space", "data:a\n\n", Event{Data: b("a"), HasData: true}},
		{"only one space is removed", "data:  a \n\n", Event{Data: b(" a "), HasData: true}},
		{"colon in the data", "data: a: b\n\n", Event{Data: b("a: b"), HasData: true}},
		{"empty data", "data:\n\n", Event{Data: b(""), HasData: true}},
		{"no colon", "data\n\n", Event{HasData: true}},
		{"lines joined", "data: a\r\ndata: b\rdata:c\n\n", Event{Data: b("a\nb\nc"), HasData: true}},
		{"empty lines joined", "data\ndata\n\n", Event{Data: b("\n"), HasData: true}},
		{"name", "event: x\ndata: a\n\n", Event{Name: b("x"), Data: b("a"), HasData: true}},
		{"last name", "event: x\nevent: y\n\n", Event{Name: b("y")}},
		{"comments", ": a\n:b\n\n", Event{OnlyComments: true}},
		{"fields that are ignored", "id: 1\nretry: 2\n\n", Event{}},
		{"error of old llama.cpp", "error: {\"code\":400}\n\n", Event{ErrorField: b(`{"code":400}`)}},
		{"no end", "data: [DONE]", Event{Data: b("[DONE]"), HasData: true}},
		{"half an end", "data: [DONE]\r", Event{Data: b("[DONE]"), HasData: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			event := []byte(tt.event)
			tt.want.Raw = []byte(tt.event)
			got, _ := Cut(event)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if string(event) != tt.event {
				t.Errorf("Cut changed the event to %q", event)
			}
		})
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, event, data, want string }{
		{"data", "", "{}", "data: {}\n\n"},
		{"empty", "", "", "data: \n\n"},
		{"named", "error", "{}", "event: error\ndata: {}\n\n"},
		{"lines", "", "a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"blank line in the data", "", "a\n\nevent: x", "data: a\ndata: \ndata: event: x\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := AppendData([]byte("before"), []byte(tt.data))
			if tt.event != "" {
				got = AppendEvent([]byte("before"), tt.event, []byte(tt.data))
			}
			if string(got) != "before"+tt.want {
				t.Errorf("got %q, want %q", got, "before"+tt.want)
			}
		})
	}
}

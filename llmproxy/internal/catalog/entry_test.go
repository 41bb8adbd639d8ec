package catalog

import (
	"encoding/json"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// The features that are known correct what a server states, in whatever form it does.
func TestFeaturesOfAnEntry(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, capabilities, architecture string
		has, lacks                       router.Feature
		want                             string // after owned_by
	}{
		{"nothing known", `["completion"]`, ``, 0, 0, `,"capabilities":["completion"]`},
		{"known only", ``, ``, router.Tools | router.JSONSchema, router.Images, `,"architecture":{"input_modalities":["text"]},"capabilities":["tools","json_schema"]`},
		{"lacks only", ``, ``, 0, router.Tools, ``},
		{"stated already", `["completion","tool_use","vision"]`, `{"input_modalities":["text","image"]}`, router.Tools | router.Images, 0, `,"architecture":{"input_modalities":["text","image"]},"capabilities":["completion","tool_use","vision"]`},
		{"stated wrongly", `["completion","function_calling","vision"]`, `{"input_modalities":["image","text"],"tokenizer":"x"}`, 0, router.Tools | router.Images, `,"architecture":{"input_modalities":["text"],"tokenizer":"x"},"capabilities":["completion"]`},
		{"stated otherwise", `{"vision":1,"x":[1]}`, `{"input_modalities":["text"]}`, router.Images, 0, `,"architecture":{"input_modalities":["text","image"]},"capabilities":{"vision":true,"x":[1]}`},
		{"a form that is not known", `"all"`, `"transformer"`, router.Images, 0, `,"architecture":"transformer","capabilities":"all"`},
		{"modalities in a form that is not known", ``, `{"input_modalities":"text+image"}`, router.Audio, 0, `,"architecture":{"input_modalities":"text+image"},"capabilities":["audio"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := &modelEntry{Model: upstream.Model{ID: "m", Owner: "o"}, has: tt.has, lacks: tt.lacks}
			for name, value := range map[string]string{"capabilities": tt.capabilities, "architecture": tt.architecture} {
				if value != "" {
					e.Details = append(e.Details, upstream.ModelDetail{Name: name, Value: json.RawMessage(value)})
				}
			}
			got, err := json.Marshal(e)
			if want := `{"id":"m","object":"model","created":0,"owned_by":"o"` + tt.want + `}`; string(got) != want || err != nil {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
			}
		})
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(`["completion","vision"]`, `{"input_modalities":["text"]}`, uint8(2), uint8(1))
	f.Add(`null`, `null`, uint8(2), uint8(0))
	f.Add(`{"vision":true}`, `[]`, uint8(1), uint8(6))
	f.Fuzz(func(t *testing.T, capabilities, architecture string, has, lacks uint8) {
		if !json.Valid([]byte(capabilities)) || !json.Valid([]byte(architecture)) {
			return
		}
		e := &modelEntry{Model: upstream.Model{ID: capabilities, Owner: architecture, ContextWindow: 1, MaxOutput: 1}, has: router.Feature(has), lacks: router.Feature(lacks)}
		e.Details = []upstream.ModelDetail{{Name: "capabilities", Value: json.RawMessage(capabilities)}, {Name: "architecture", Value: json.RawMessage(architecture)}}
		var back map[string]any
		if b, err := json.Marshal(e); err != nil || json.Unmarshal(b, &back) != nil {
			t.Errorf("%v: %s", err, b)
		}
	})
}

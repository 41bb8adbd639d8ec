package catalog

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// The facts about a model are described as Ollama does.
func TestOllamaEntry(t *testing.T) {
	t.Parallel()
	const empty = `{"parent_model":"","format":"","family":"","families":[],"parameter_size":"","quantization_level":""}`
	for _, tt := range []struct {
		name                         string
		model, capabilities, details string
		digest                       string
		has, lacks                   router.Feature
		want                         []string // capabilities
		wantDetails                  string
	}{
		{"nothing known", "m", ``, ``, "", 0, 0, []string{"completion", "tools"}, empty},
		{"no tools", "m", ``, ``, "", router.Images, router.Tools, []string{"completion", "vision"}, empty},
		{"Ollama's", "m", `["completion","thinking"]`, `{"format":"gguf","family":"qwen3","families":["qwen3"],"parameter_size":"8B","quantization_level":"Q4_K_M","context_length":4096}`, "d", 0, 0, []string{"completion", "thinking"}, `{"parent_model":"","format":"gguf","family":"qwen3","families":["qwen3"],"parameter_size":"8B","quantization_level":"Q4_K_M"}`},
		{"Ollama's, corrected", "m", `["completion","vision","tools"]`, `null`, "d", router.Audio, router.Images, []string{"completion", "tools", "audio"}, empty},
		{"Ollama's, for embeddings", "m", `["embedding"]`, `{"families":null}`, "d", 0, 0, []string{"embedding"}, empty},
		{"embeddings, by the name", "text-Embedding-3", ``, ``, "", 0, 0, []string{"embedding"}, empty},
		{"in a form that is not known", "m", `{"vision":true}`, `"x"`, "", router.Tools, 0, []string{"completion", "tools"}, empty},
		{"in the words of others", "m", `["chat","reasoning","vision"]`, `["x"]`, "", 0, 0, []string{"completion", "tools", "vision", "thinking"}, empty},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := &modelEntry{Model: upstream.Model{ID: tt.model, Digest: tt.digest}, has: tt.has, lacks: tt.lacks}
			for name, value := range map[string]string{"capabilities": tt.capabilities, "details": tt.details} {
				if value != "" {
					e.Details = append(e.Details, upstream.ModelDetail{Name: name, Value: json.RawMessage(value)})
				}
			}
			got := e.ollama()
			details, err := json.Marshal(got.Details)
			if diff := cmp.Diff(tt.want, got.Capabilities); diff != "" || string(details) != tt.wantDetails || err != nil {
				t.Errorf("%s\ndetails %s, %v", diff, details, err)
			}
			if tt.digest != "" && got.Digest != tt.digest || tt.digest == "" && len(got.Digest) != 64 {
				t.Errorf("the digest is %q", got.Digest)
			}
		})
	}
}

func FuzzOllamaEntry(f *testing.F) {
	f.Add("m", `["completion"]`, `{"families":["x"]}`, uint8(1))
	f.Add("embed", `{}`, `{"families":null,"family":1}`, uint8(6))
	f.Fuzz(func(t *testing.T, model, capabilities, details string, has uint8) {
		if !json.Valid([]byte(capabilities)) || !json.Valid([]byte(details)) {
			return
		}
		e := &modelEntry{Model: upstream.Model{ID: model}, has: router.Feature(has)}
		e.Details = []upstream.ModelDetail{{Name: "capabilities", Value: json.RawMessage(capabilities)}, {Name: "details", Value: json.RawMessage(details)}}
		m := e.ollama()
		if b, err := json.Marshal(m); err != nil || m.Details.Families == nil || len(m.Capabilities) == 0 || m.Digest == "" {
			t.Errorf("%v: %s", err, b)
		}
	})
}

func TestOtherTag(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]string{
		"m": "m:latest", "m:latest": "m", "m:8b": "", "org/m": "org/m:latest", "host:5000/org/m": "host:5000/org/m:latest", "host:5000/org/m:8b": "", "host:5000/m:latest": "host:5000/m", "": ":latest",
	} {
		got, ok := otherTag(model)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t", model, got, ok)
		}
	}
}

// A client of Ollama's API may name a model with or without ":latest". The name that is served counts, and the one that the key has.
func TestTaggedName(t *testing.T) {
	t.Parallel()
	u := upstream.New(upstream.Config{Name: "u", Kind: upstream.Echo})
	table, err := router.Compile([]*router.Upstream{u.Route}, []router.Model{
		{Name: "m", Pools: []router.PoolConfig{{Targets: []string{"u/x"}, Policy: router.First}}},
		{Name: "n:latest", Pools: []router.PoolConfig{{Targets: []string{"u/x"}, Policy: router.First}}},
		{Name: "gpt-*", Pools: []router.PoolConfig{{Targets: []string{"u"}, Policy: router.First}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &Catalog{Upstreams: []*upstream.Upstream{u}, Models: table}
	all := func(string) bool { return true }
	for _, tt := range []struct {
		name, model string
		may         func(string) bool
		want        string
	}{
		{"configured", "m", all, "m"},
		{"with a tag", "m:latest", all, "m"},
		{"configured with a tag", "n", all, "n:latest"},
		{"as configured", "n:latest", all, "n:latest"},
		{"another tag", "m:8b", all, "m:8b"},
		{"unknown", "other:latest", all, "other:latest"},
		{"by a pattern", "gpt-4o", all, "gpt-4o"},
		{"the key's name", "gpt-4o", func(m string) bool { return m == "gpt-4o:latest" }, "gpt-4o:latest"},
		{"not the key's", "m:latest", func(string) bool { return false }, "m"},
	} {
		if got := c.TaggedName(t.Context(), tt.model, tt.may); got != tt.want {
			t.Errorf("%s: %q is %q, want %q", tt.name, tt.model, got, tt.want)
		}
	}
}

func TestParameterCount(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]int64{"8.0B": 8e9, "270M": 270e6, "1.5K": 1500, "1T": 1e12, "": 0, "B": 0, "8": 0, "-1B": 0, "NaNB": 0, "1e300B": 0, "unknown": 0} {
		if got := parameterCount(size); got != want {
			t.Errorf("%q is %d, want %d", size, got, want)
		}
	}
}

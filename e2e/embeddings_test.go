package e2e

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"testing"
)

// The gateway gives what the server gives, as numbers or as base64; Ollama 0.11.4 itself knows numbers only.
func TestEmbeddings(t *testing.T) {
	g := fleetGateway(t)
	f := servers(t)
	for _, test := range []struct {
		name, model   string
		direct, there string // the server behind it, and the model's name there
	}{
		{"ollama", "ollama-embed", f.ollama.url(), "tiny-embed:latest"},
		{"llamacpp", "llama-embed", f.embed.url(), "tiny-embed"},
	} {
		direct := embed(t, test.direct, test.there, "float")
		for _, format := range []string{"float", "base64"} {
			t.Run(test.name+", "+format, func(t *testing.T) {
				through := embed(t, g.url, test.model, format)
				if len(through) != 2 || !slices.EqualFunc(through, direct, slices.Equal) {
					t.Errorf("through the gateway\n%v, without it\n%v", through, direct)
				}
			})
		}
	}
}

// embed gives the vectors of two texts.
func embed(t *testing.T, base, model, format string) (vectors [][]float32) {
	t.Helper()
	answer := call(t, http.MethodPost, base+"/v1/embeddings", `{"model":"`+model+`","input":["one","another"],"encoding_format":"`+format+`"}`)
	var list struct {
		Data []struct{ Embedding json.RawMessage }
	}
	answer.into(t, &list)
	for _, d := range list.Data {
		var vector []float32
		var packed []byte
		read := any(&vector)
		if format == "base64" {
			read = &packed // which is how encoding/json reads bytes
		}
		if err := json.Unmarshal(d.Embedding, read); err != nil {
			t.Fatalf("status %d, embedding %s: %v", answer.status, d.Embedding, err)
		}
		for ; len(packed) >= 4; packed = packed[4:] {
			vector = append(vector, math.Float32frombits(binary.LittleEndian.Uint32(packed)))
		}
		if len(vector) != 64 {
			t.Errorf("%d dimensions in %s", len(vector), d.Embedding)
		}
		vectors = append(vectors, vector)
	}
	return vectors
}

package openai

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEmbeddingEncoder(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, answer, want string }{
		{"one number", `{"embedding":[1]}`, `{"embedding":"AACAPw=="}`},
		{"three", `{"embedding":[1,-2.5,3e-2]}`, `{"embedding":"AACAPwAAIMCPwvU8"}`},
		{"answer of Ollama", `{"object":"list","data":[{"object":"embedding","embedding":[0.5,1],"index":0},{"object":"embedding","embedding":[1],"index":1}],"model":"m","usage":{"prompt_tokens":8}}` + "\n",
			`{"object":"list","data":[{"object":"embedding","embedding":"AAAAPwAAgD8=","index":0},{"object":"embedding","embedding":"AACAPw==","index":1}],"model":"m","usage":{"prompt_tokens":8}}` + "\n"},
		{"white space", "{ \"embedding\" : [\n 1 ,\n\t2 ] }", `{ "embedding" : "AACAPwAAAEA=" }`},
		{"base64 already", `{"object":"embedding","embedding":"AACAPw=="}`, ""},
		{"empty list", `{"embedding":[]}`, ""},
		{"lists in a list", `{"embedding":[[1,2],[3]]}`, ""},
		{"another type", `{"embedding":{"embedding":null}}`, ""},
		{"in a string", `{"text":"\"embedding\":[1]","embedding"  `, ""},
		{"as a value", `["embedding","embedding",[1]]`, ""},
		{"another key", `{"embeddings":[1],"xembedding":[2],"Embedding":[3]}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want := test.want
			if want == "" {
				want = test.answer
			}
			for size := 1; size <= len(test.answer); size++ {
				if got := inPieces(t, test.answer, size); got != want {
					t.Fatalf("in pieces of %d: %s\nwant %s", size, got, want)
				}
			}
		})
	}
}

func inPieces(t *testing.T, answer string, size int) string {
	t.Helper()
	var v EmbeddingEncoder
	var got []byte
	for len(answer) > 0 {
		n := min(size, len(answer))
		var err error
		if got, err = v.Append(got, []byte(answer[:n])); err != nil {
			t.Fatal(err)
		}
		answer = answer[n:]
	}
	return string(got)
}

func TestEmbeddingEncoderRejects(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		`{"embedding":[1,null]}`, `{"embedding":[1,"2"]}`, `{"embedding":[1,]}`, `{"embedding":[1e99]}`,
		`{"embedding":[1.000000000000000000000000000000000000000000000000000000000000000001]}`,
	} {
		var v EmbeddingEncoder
		if got, err := v.Append(nil, []byte(answer)); !errors.Is(err, ErrInvalidEmbedding) {
			t.Errorf("%s: got %s, %v; want %v", answer, got, err, ErrInvalidEmbedding)
		}
	}
}

func TestWantsBase64(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"model":"m","encoding_format":"base64"}`: true,
		`{"model":"m","encoding_format":"float"}`:  false,
		`{"model":"m","encoding_format":null}`:     false,
		`{"model":"m"}`:                            false,
	} {
		if got := parseRequest(t, body).WantsBase64(); got != want {
			t.Errorf("WantsBase64 = %v for %s", got, body)
		}
	}
}

// FuzzEmbeddingEncoder checks that the result does not depend on the pieces of the answer, and that base64 holds the same numbers.
func FuzzEmbeddingEncoder(f *testing.F) {
	f.Add([]byte(`{"data":[{"object":"embedding","embedding":[0.5,-1e-3,7]}]}`), 3)
	f.Add([]byte(`{"data":[{"embedding":"AACAPw=="}]}`), 5)
	f.Add([]byte(`{"embedding" : [ [1] ]}`), 1)
	f.Fuzz(func(t *testing.T, answer []byte, size int) {
		size = max(1, size%64)
		var whole, pieces EmbeddingEncoder
		want, wantErr := whole.Append(nil, answer)
		var got []byte
		var err error
		for i := 0; i < len(answer) && err == nil; i += size {
			got, err = pieces.Append(got, answer[i:min(i+size, len(answer))])
		}
		if string(got) != string(want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("in pieces %q, %v\nwhole     %q, %v", got, err, want, wantErr)
		}
		var before struct{ Embedding []float32 }
		if err != nil || json.Unmarshal(answer, &before) != nil || len(before.Embedding) == 0 {
			return
		}
		var after struct{ Embedding string }
		if json.Unmarshal(got, &after) != nil {
			return // the key is spelled differently, so that it was not converted
		}
		raw, err := base64.StdEncoding.DecodeString(after.Embedding)
		if err != nil || len(raw) != 4*len(before.Embedding) {
			t.Fatalf("%q became %q, %v", answer, got, err)
		}
		for i, number := range before.Embedding {
			if got := binary.LittleEndian.Uint32(raw[4*i:]); got != math.Float32bits(number) {
				t.Fatalf("number %d of %q became %x", i, answer, got)
			}
		}
	})
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		input string
		items []string
	}{
		{`"a"`, []string{`"a"`}},
		{`["a", "b"]`, []string{`"a"`, `"b"`}},
		{`[1,2]`, []string{`[1,2]`}},
		{`[[1],[2,3]]`, []string{`[1]`, `[2,3]`}},
		{`[]`, nil}, {`[1,"a"]`, nil}, {`[{"text":"a"}]`, nil}, {`{}`, nil}, {`7`, nil}, {`[null]`, nil},
	} {
		items, ok := EmbeddingInputs([]byte(test.input))
		var got []string
		for _, i := range items {
			got = append(got, string(i))
		}
		if diff := cmp.Diff(test.items, got); diff != "" || ok != (test.items != nil) {
			t.Errorf("EmbeddingInputs(%s) = %v, items (-want +got):\n%s", test.input, ok, diff)
		}
	}
	const body = `{"object":"list","data":[{"object":"embedding","index":1,"embedding":"AA=="},{"index":0,"embedding":[0.10]}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}`
	e, ok := ParseEmbeddings([]byte(body), 2)
	if !ok {
		t.Fatal("ParseEmbeddings rejected a valid answer")
	}
	const want = `{"object":"list","model":"m","data":[{"index":0,"embedding":[0.10]},{"index":1,"object":"embedding","embedding":"AA=="}],"usage":{"prompt_tokens":3,"total_tokens":3}}`
	if got := string(e.AppendJSON(nil)); got != want {
		t.Error(got)
	}
	for name, body := range map[string]string{
		"too few items": `{"data":[{"index":0,"embedding":[1]}]}`, "a repeated index": `{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}`,
		"no index": `{"data":[{"embedding":[1]},{"index":0,"embedding":[1]}]}`, "an index out of range": `{"data":[{"index":2,"embedding":[1]},{"index":0,"embedding":[1]}]}`,
		"an empty embedding": `{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[1]}]}`, "an error": `{"error":"x","data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1]}]}`,
	} {
		if _, ok := ParseEmbeddings([]byte(body), 2); ok {
			t.Errorf("ParseEmbeddings accepted an answer with: %s", name)
		}
	}
}

// FuzzEmbeddings checks that an answer that was split and joined again is JSON with the same items.
func FuzzEmbeddings(f *testing.F) {
	f.Add([]byte(`{"object":"list","data":[{"index":1,"embedding":"AA=="},{"embedding":[0.1],"x":1,"index":0}],"usage":{"prompt_tokens":3}}`), 2)
	f.Add([]byte(`{"data":[{"index":0,"embedding":[[1]]}],"error":null,"data":[]}`), 1)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		_, _ = EmbeddingInputs(body)
		n = max(0, n%16)
		e, ok := ParseEmbeddings(body, n)
		if !ok {
			return
		}
		joined := e.AppendJSON(nil)
		again, ok := ParseEmbeddings(joined, n)
		if !json.Valid(joined) || !ok {
			t.Fatalf("%q became %q", body, joined)
		}
		if diff := cmp.Diff(e.Items, again.Items); diff != "" {
			t.Fatalf("the items of %q changed (-before +after):\n%s", body, diff)
		}
	})
}

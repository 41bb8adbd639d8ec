package upstream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// Whatever cannot be read costs nothing else: not the list, not the model, not its neighbors.
func TestParseModels(t *testing.T) {
	t.Parallel()
	a, b := Model{ID: "a"}, Model{ID: "b"}
	for _, tt := range []struct {
		name, body string
		want       []Model
	}{
		{"as usual", `{"object":"list","data":[{"id":"a"},{"id":"b"}]}`, []Model{a, b}},
		{"members in another order", `{"data":[{"id":"a"},{"id":"b"}],"object":"list","has_more":false}`, []Model{a, b}},
		{"no models", `{"object":"list","data":[]}`, nil},
		{"null", `{"data":null}`, nil},

		// What surrounds the list.
		{"an array, as Together sends", `[{"id":"a","object":"model","created":0},{"id":"b"}]`, []Model{a, b}},
		{"an array with space and a byte order mark", "\ufeff \n [ {\"id\" : \"a\"} , {\"id\":\"b\"} ] \n", []Model{a, b}},
		{"an empty array", `[]`, nil},
		{"models", `{"models":[{"id":"a"},{"name":"b"}]}`, []Model{a, b}},
		{"result", `{"success":true,"result":[{"id":"a"},{"id":"b"}]}`, []Model{a, b}},
		{"items", `{"items":[{"id":"a"},{"id":"b"}]}`, []Model{a, b}},
		{"nested", `{"data":{"object":"list","data":[{"id":"a"},{"id":"b"}]}}`, []Model{a, b}},
		{"nested twice", `{"result":{"data":{"models":[{"id":"a"},{"id":"b"}]}}}`, []Model{a, b}},
		{"an object by name", `{"data":{"a":{"object":"model"},"b":{"id":"b"},"note":"x"}}`, []Model{a, b}},
		{"other case", `{"Data":[{"ID":"a"},{"Id":"b"}]}`, []Model{a, b}},
		{"text after the list", `{"data":[{"id":"a"},{"id":"b"}]} trailing`, []Model{a, b}},

		// Entries.
		{"texts", `["a","b"]`, []Model{a, b}},
		{"texts among objects", `{"data":["a",{"id":"b"}]}`, []Model{a, b}},
		{"no entries at all", `{"data":[null,1,true,[],{},[{"id":"x"}],{"id":"a"},"",{"id":"b"}]}`, []Model{a, b}},
		{"without ids", `{"data":[{},{"id":""},{"id":null},{"object":"model"}]}`, nil},
		{"ids that are no text", `{"data":[{"id":1},{"id":["x"]},{"id":{"a":1}},{"id":"a"},{"id":null,"name":"x"},{"id":"b"}]}`, []Model{a, b}},
		{"ids that no client can send", `{"data":[{"id":"` + strings.Repeat("x", 257) + `"},{"id":"a"},{"id":"x\ny"},{"id":" "},{"id":"b"}]}`, []Model{a, b}},
		{"escapes", `{"data":[{"id":"\u0061"},{"id":"b","name":"\"]},{"}]}`, []Model{a, {ID: "b", Details: []ModelDetail{{"name", json.RawMessage(`"\"]},{"`)}}}}},
		{"Ollama's own list", `{"models":[{"name":"A","model":"a"},{"name":"b"}]}`, []Model{{ID: "a", Details: []ModelDetail{{"name", json.RawMessage(`"A"`)}}}, b}},

		// What is not JSON.
		{"NaN", `{"data":[{"id":"a","max_model_len":NaN,"meta":{"n_ctx":Infinity}},{"id":"b"}]}`, []Model{a, b}},
		{"None", `{"data":[{"max_model_len":None,"id":"a"},{"id":"b"}]}`, []Model{a, b}},
		{"commas too many", `{"data":[,{"id":"a",},,{"id":"b"},]}`, []Model{a, b}},
		{"a comma too few", `{"data":[{"id":"x" "created":1},{"id":"a"},{"id":"b"}]}`, []Model{a, b}},
		{"a value too few", `{"data":[{"created":,"id":"a"},{"id":"b","created":}]}`, []Model{a, b}},
		{"a brace too many", `{"data":[{"id":"a"}},{"id":"b"}]}`, []Model{a, b}},
		{"a brace too few", `{"data":[{"id":"a","meta":{"n_ctx":1},{"id":"b"}],"object":"list"}`, []Model{{ID: "a", ContextWindow: 1, Details: []ModelDetail{{"meta", json.RawMessage(`{"n_ctx":1}`)}}}}},
		{"a line break in a text", "{\"data\":[{\"id\":\"a\",\"name\":\"x\ny\"},{\"id\":\"b\"}]}", []Model{a, b}},
		{"invalid UTF-8", "{\"data\":[{\"id\":\"a\",\"root\":\"\xff\"},{\"id\":\"b\"}]}", []Model{{ID: "a", Details: []ModelDetail{{"root", json.RawMessage("\"\uFFFD\"")}}}, b}},
		{"cut off between entries", `{"data":[{"id":"a"},{"id":"b"},`, []Model{a, b}},
		{"cut off in an entry", `{"data":[{"id":"a"},{"id":"b","created":1`, []Model{a, {ID: "b", Created: 1}}},
		{"cut off in an id", `{"data":[{"id":"a"},{"id":"b"},{"id":"c`, []Model{a, b}},
		{"cut off in an escape", `{"data":[{"id":"a"},{"id":"b"},{"id":"c\`, []Model{a, b}},
		{"the same key twice", `{"data":[{"id":"x","id":"a"},{"id":"b"}]}`, []Model{a, b}},

		// Duplicates complete each other.
		{"duplicates", `{"data":[{"id":"a"},{"id":"a","created":5,"owned_by":"o","max_model_len":10},{"id":"b"},{"id":"a","created":6,"owned_by":"p","max_model_len":8}]}`, []Model{{ID: "a", Created: 5, Owner: "o", ContextWindow: 8}, b}},
		{"a second list, as llama.cpp's", `{"models":[{"name":"a","capabilities":["completion"],"details":{}},{"name":"other"}],"object":"list","data":[{"id":"a","owned_by":"llamacpp","meta":{"n_ctx":2048}}]}`,
			[]Model{{ID: "a", Owner: "llamacpp", ContextWindow: 2048, Details: []ModelDetail{{"meta", json.RawMessage(`{"n_ctx":2048}`)}, {"capabilities", json.RawMessage(`["completion"]`)}}}}},
		{"a second list beside an empty one", `{"data":[],"models":[{"model":"a"},{"model":"b"}]}`, []Model{a, b}},

		// What servers tell.
		{"vLLM", `{"data":[{"id":"a","object":"model","created":1700000000,"owned_by":"vllm","root":"org/a","parent":null,"max_model_len":131072,"permission":[{"id":"x"}]},{"id":"b","root":"/lora","parent":"a","max_model_len":null}]}`,
			[]Model{{ID: "a", Created: 1700000000, Owner: "vllm", ContextWindow: 131072, Details: []ModelDetail{{"root", json.RawMessage(`"org/a"`)}}}, {ID: "b", Parent: "a", ContextWindow: 131072, Details: []ModelDetail{{"parent", json.RawMessage(`"a"`)}}}}},
		{"an adapter before its model, one with a window of its own, one of a model that is not there", `{"data":[{"id":"x","root":"./x","parent":"a"},{"id":"a","max_model_len":8192,"max_output_tokens":1024},{"id":"y","parent":"a","max_model_len":4096},{"id":"z","parent":"c"},{"id":"s","parent":"s"}]}`,
			[]Model{
				{ID: "x", Parent: "a", ContextWindow: 8192, MaxOutput: 1024, Details: []ModelDetail{{"parent", json.RawMessage(`"a"`)}}}, {ID: "a", ContextWindow: 8192, MaxOutput: 1024},
				{ID: "y", Parent: "a", ContextWindow: 4096, MaxOutput: 1024, Details: []ModelDetail{{"parent", json.RawMessage(`"a"`)}}}, {ID: "z", Parent: "c", Details: []ModelDetail{{"parent", json.RawMessage(`"c"`)}}},
				{ID: "s", Parent: "s", Details: []ModelDetail{{"parent", json.RawMessage(`"s"`)}}},
			}},
		{"llama.cpp's command line stays here", `{"data":[{"id":"a","status":{"value":"loaded","args":["--api-key","secret"],"preset":"secret"}}]}`, []Model{a}},
		{"prices stay here", `{"data":[{"id":"a","pricing":{"prompt":"0.1"}}]}`, []Model{a}},
		{"a detail that is too long", `{"data":[{"id":"a","description":"` + strings.Repeat("x", maxModelDetail) + `"}]}`, []Model{a}},
		{"Anthropic", `{"data":[{"type":"model","id":"a","display_name":"A","created_at":"2025-02-19T00:00:00Z","max_input_tokens":200000,"max_tokens":64000}],"has_more":false}`,
			[]Model{{ID: "a", Created: 1739923200, ContextWindow: 200000, MaxOutput: 64000, Details: []ModelDetail{{"display_name", json.RawMessage(`"A"`)}, {"type", json.RawMessage(`"model"`)}}}}},
		{"OpenRouter", `{"data":[{"id":"a","created":1,"context_length":128000,"top_provider":{"context_length":64000,"max_completion_tokens":8192}}]}`,
			[]Model{{ID: "a", Created: 1, ContextWindow: 128000, MaxOutput: 8192, Details: []ModelDetail{{"top_provider", json.RawMessage(`{"context_length":64000,"max_completion_tokens":8192}`)}}}}},
		{"LM Studio", `{"data":[{"id":"a","type":"vlm","publisher":"p","arch":"qwen2_vl","quantization":"4bit","state":"loaded","max_context_length":32768,"loaded_context_length":4096}]}`,
			[]Model{{ID: "a", Owner: "p", ContextWindow: 4096, Details: []ModelDetail{{"type", json.RawMessage(`"vlm"`)}, {"publisher", json.RawMessage(`"p"`)}, {"arch", json.RawMessage(`"qwen2_vl"`)}, {"quantization", json.RawMessage(`"4bit"`)}, {"max_context_length", json.RawMessage("32768")}, {"state", json.RawMessage(`"loaded"`)}}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseModels([]byte(tt.body))
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	for _, body := range []string{"", " ", "<html>", `"a"`, "1", "null", "{}", `{"error":{"message":"x"}}`, `{"object":"list"}`, `{"data":"a"}`, `{"data":1}`, "OK", "{", "\ufeff"} {
		if got, err := parseModels([]byte(body)); err == nil || got != nil {
			t.Errorf("%s: %v, %v; want an error", body, got, err)
		}
	}
}

// A context window is found wherever servers write it, however they spell it.
func TestContextWindowsInLists(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{
		`131072`: 131072, `131072.0`: 131072, `1.31072e5`: 131072, `"32768"`: 32768, `"32768.0"`: 32768, `"131,072"`: 131072, `"131_072"`: 131072, `"128k"`: 128000, `"1M"`: 1000000, `" 4096 "`: 4096,
		`0`: 0, `-1`: 0, `null`: 0, `""`: 0, `"unknown"`: 0, `true`: 0, `[4096]`: 0, `{"a":1}`: 0, `1e30`: 0, `1000000000000000019884624838656`: 0, `NaN`: 0, `"inf"`: 0, `"NaN"`: 0, `Infinity`: 0, `0.5`: 0, `"k"`: 0, `1e999`: 0,
	} {
		models, err := parseModels(fmt.Appendf(nil, `{"data":[{"max_model_len":%s,"id":"a"},{"id":"b"}]}`, value))
		if err != nil || len(models) != 2 || models[0].ContextWindow != want {
			t.Errorf("%s: %+v, %v; want %d", value, models, err, want)
		}
	}
	for _, member := range []string{
		`"max_model_len":7`, `"context_length":7`, `"context_window":7`, `"contextWindow":1,"context_window":7`, `"max_context_length":7`, `"max_context_length":9,"loaded_context_length":7`, `"meta":{"n_ctx":7,"n_ctx_train":9}`,
		`"parameters":{"max_seq_len":7}`, `"top_provider":{"context_length":7}`, `"inputTokenLimit":7`, `"limit":{"context":7,"output":3}`, `"limits":{"max_input_tokens":7}`, `"metadata":{"context_length":7}`,
		`"details":{"context_length":7}`, `"model_spec":{"availableContextTokens":7}`, `"capabilities":{"limits":{"max_context_window_tokens":7}}`, `"max_model_len":null,"context_length":7`, `"max_model_len":"many","context_length":7`,
		`"meta":null,"context_length":7`, `"meta":[1],"context_length":7`, `"top_provider":"x","context_size":7`,
	} {
		if models, err := parseModels([]byte(`[{"id":"a",` + member + `}]`)); err != nil || len(models) != 1 || models[0].ContextWindow != 7 {
			t.Errorf("%s: %+v, %v", member, models, err)
		}
	}
	// The length of the training says nothing about the server.
	if models, _ := parseModels([]byte(`[{"id":"a","meta":{"n_ctx_train":9}}]`)); models[0].ContextWindow != 0 {
		t.Errorf("got %+v", models)
	}
}

func TestTimesInLists(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int64{
		`1700000000`: 1700000000, `1700000000.7`: 1700000000, `1.7e9`: 1700000000, `"1700000000"`: 1700000000, `1700000000123`: 1700000000, `"2025-02-19T00:00:00Z"`: 1739923200,
		`null`: 0, `"yesterday"`: 0, `-5`: 0, `1e300`: 0, `{}`: 0, `true`: 0, `"0001-01-01T00:00:00Z"`: 0,
	} {
		if models, err := parseModels(fmt.Appendf(nil, `[{"id":"a","created":%s}]`, value)); err != nil || models[0].Created != want {
			t.Errorf("%s: %+v, %v; want %d", value, models, err, want)
		}
	}
}

func TestHugeLists(t *testing.T) {
	t.Parallel()
	var body strings.Builder
	body.WriteString(`{"data":[`)
	for i := range maxModels + 10 {
		fmt.Fprintf(&body, `{"id":"m%d","max_model_len":4096},`, i)
	}
	models, err := parseModels([]byte(body.String()))
	if err != nil || len(models) != maxModels || models[maxModels-1].ID != fmt.Sprintf("m%d", maxModels-1) {
		t.Errorf("%d models, %v", len(models), err)
	}
	// A long list with long texts. Its last entry is cut off.
	body.Reset()
	body.WriteString(`[`)
	for i := 0; body.Len() < maxProbeAnswer; i++ {
		fmt.Fprintf(&body, `{"id":"m%d","description":"%s"},`, i, strings.Repeat("x", 3000))
	}
	cut := body.String()[:maxProbeAnswer]
	if models, err := parseModels([]byte(cut)); err != nil || len(models) != strings.Count(cut, `"id"`) && len(models) != strings.Count(cut, `"id"`)-1 {
		t.Errorf("%d models, %v", len(models), err)
	}
	deep := strings.Repeat("[", 1<<20)
	if models, err := parseModels([]byte(`[{"id":"a","meta":` + deep + `},{"id":"b"}]`)); err != nil || len(models) != 1 {
		t.Errorf("%v, %v", models, err)
	}
	if models, err := parseModels([]byte(strings.Repeat(`{"data":`, 1<<18))); models != nil || err == nil {
		t.Errorf("%v, %v", models, err)
	}
}

func FuzzParseModels(f *testing.F) {
	f.Add([]byte(vllmModels))
	f.Add([]byte(ollamaModels))
	f.Add([]byte(llamaCppModels))
	f.Add([]byte(`[{"id":"a","max_model_len":NaN},"b",{"id":"c`))
	f.Add([]byte(`{"data":{"a":{"meta":{"n_ctx":"4k"}}},"models":[]}`))
	f.Add([]byte(`["a""`))
	f.Fuzz(func(t *testing.T, body []byte) {
		models, err := parseModels(body)
		if err != nil && models != nil {
			t.Errorf("models and an error: %v", err)
		}
		var ids []string
		for _, m := range models {
			if !validModelID(m.ID) || !utf8.ValidString(m.ID) || m.ContextWindow < 0 || m.MaxOutput < 0 || m.Created < 0 {
				t.Errorf("%+v", m)
			}
			ids = append(ids, m.ID)
			for _, d := range m.Details {
				if _, err := json.Marshal(d.Value); err != nil {
					t.Errorf("%s: %v", d.Name, err)
				}
			}
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != len(models) {
			t.Error("a model is listed twice")
		}
		// Whatever is strictly JSON must be read completely.
		var strict struct{ Data []struct{ ID string } }
		if json.Unmarshal(body, &strict) != nil || len(strict.Data) > maxModels || err != nil {
			return
		}
		for _, m := range strict.Data {
			if validModelID(m.ID) && utf8.Valid(body) && !slices.Contains(ids, m.ID) && strings.Count(strings.ToLower(string(body)), `"data"`) == 1 && strings.Count(strings.ToLower(string(body)), `"id"`) == len(strict.Data) {
				t.Errorf("%q is missing", m.ID)
			}
		}
	})
}

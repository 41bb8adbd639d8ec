package upstream

import (
	"slices"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]version{
		"0.32.0": {0, 32, 0}, "0.14.0-rc1": {0, 14, 0}, "0.25.1rc2.dev3+g1234": {0, 25, 1}, "1.2": {1, 2, 0}, "7": {7, 0, 0},
		"": {}, "dev": {}, "v1.0.0": {}, "0.x.1": {}, "99999999999999999999.0": {},
	} {
		if got := parseVersion(text); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	if !(version{0, 9, 9}).before(version{0, 14, 0}) || (version{0, 14, 0}).before(version{0, 14, 0}) {
		t.Error("versions are not compared as numbers")
	}
}

// featuresTests are parts of requests, each with one feature.
var featuresTests = map[feature]string{
	topK:             `"top_k":0`,
	stopSequences:    `"stop_sequences":["a"]`,
	thinkingOn:       `"thinking":{"type":"enabled","budget_tokens":2000}`,
	thinkingOff:      `"thinking":{"type":"disabled"}`,
	setsEffort:       `"output_config":{"effort":"low"}`,
	schema:           `"output_config":{"format":{"type":"json_schema","schema":{}}}`,
	noTool:           `"tool_choice":{"type":"none"}`,
	namedTool:        `"tool_choice":{"type":"tool","name":"f"}`,
	strictTools:      `"tools":[{"name":"f"},{"name":"g","strict":true}]`,
	deferredTools:    `"tools":[{"name":"f","defer_loading":true}]`,
	systemInside:     `"messages":[{"role":"user","content":"a"},{"role":"system","content":"b"}]`,
	severalTexts:     `"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`,
	imagesBesideText: `"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","source":{}}]}]`,
	imagesInResults:  `"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"image","source":{}}]}]}]`,
	failedResults:    `"messages":[{"role":"user","content":[{"type":"tool_result","is_error":true,"content":"no"}]}]`,
	documents:        `"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"document"}]}]}]`,
	replayedThinking: `"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"a"}]}]`,
	onlyAnthropic:    `"messages":[{"role":"assistant","content":[{"type":"server_tool_use"}]}]`,
	0: `"stop_sequences":[ ],"thinking":{"type":"adaptive"},"tool_choice":{"type":"any"},"tools":[{"name":"f","strict":false}],"system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],
		"top_k":null,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"tool_use"},{"type":"redacted_thinking"}]},{"role":"user","content":[{"type":"tool_result","is_error":false,"content":[{"type":"text","text":"a"}]}]}]`,
}

func TestFeaturesOf(t *testing.T) {
	t.Parallel()
	for want, part := range featuresTests {
		var o jsonspan.Object
		if err := o.Scan([]byte(`{"model":"m",` + part + `}`)); err != nil {
			t.Fatal(err)
		}
		if got := featuresOf(&o); got != want {
			t.Errorf("%s has %b, want %b", part, got, want)
		}
	}
}

// Features of Anthropic's API alone never go to the Messages API of another server: Ollama's would search the web with them.
func TestOnlyAnthropic(t *testing.T) {
	t.Parallel()
	for _, part := range []string{
		`"tools":[{"name":"f","type":"custom"},{"name":"web_search","type":"web_search_20250305"}]`, `"mcp_servers":[{}]`, `"container":"c"`,
		`"messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]`,
	} {
		var o jsonspan.Object
		if err := o.Scan([]byte(`{"top_k":1,` + part + `}`)); err != nil {
			t.Fatal(err)
		}
		has := featuresOf(&o)
		for _, k := range []*Kind{Ollama, VLLM, LlamaCpp} {
			if has&onlyAnthropic == 0 || losesLess(k.Name, version{99, 0, 0}, has) {
				t.Errorf("%s: %s has %b", k.Name, part, has)
			}
		}
	}
}

// Every row of the tables decides something, names a kind that has a version, and gives its reason.
func TestNativeTables(t *testing.T) {
	t.Parallel()
	for _, row := range nativeRows {
		k, err := KindNamed(row.kind)
		if err != nil || k.version == nil || row.reason == "" {
			t.Errorf("%+v: %v", row, err)
			continue
		}
		older := row.from
		for i := len(older) - 1; i >= 0; i-- {
			if older[i]--; older[i] >= 0 {
				break
			}
			older[i] = 99
		}
		if !losesLess(k.Name, row.from, row.keeps) || losesLess(k.Name, older, row.keeps) || losesLess(k.Name, row.from, 0) {
			t.Errorf("%+v decides nothing", row)
		}
	}
	for _, row := range lossRows {
		k, err := KindNamed(row.kind)
		if err != nil || row.reason == "" || (row.until != version{}) && !slices.ContainsFunc(nativeRows, func(n nativeRow) bool { return n.kind == row.kind && n.from.before(row.until) }) {
			t.Errorf("%+v: %v", row, err)
			continue
		}
		for _, n := range nativeRows {
			if n.kind == row.kind && (row.until == version{} || n.from.before(row.until)) && losesLess(k.Name, n.from, n.keeps|row.loses) {
				t.Errorf("%s loses %b for %b", k.Name, row.loses, n.keeps)
			}
		}
	}
}

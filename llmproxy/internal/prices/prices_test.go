package prices

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func table(t *testing.T, text string) Table {
	t.Helper()
	parsed, err := ParseTable([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-12 }

func TestCost(t *testing.T) {
	t.Parallel()
	long := Price{Rate: Rate{Input: 1e-6, Cached: 1e-7, Output: 1e-5}, Tiers: []Tier{{200_000, Rate{2e-6, 2e-7, 2e-5}}, {400_000, Rate{4e-6, 4e-7, 4e-5}}}}
	for _, test := range []struct {
		name   string
		price  Price
		tokens tokens.Usage
		busy   time.Duration
		want   float64
	}{
		{"input and output", long, tokens.Usage{Input: 1000, Output: 100}, time.Minute, 1000*1e-6 + 100*1e-5},
		{"cached input is cheaper", long, tokens.Usage{Input: 1000, Cached: 400}, 0, 600*1e-6 + 400*1e-7},
		{"more cached than input is all of it", long, tokens.Usage{Input: 10, Cached: 400}, 0, 10 * 1e-7},
		{"at a tier's edge", long, tokens.Usage{Input: 200_000}, 0, 0.2},
		{"over a tier's edge", long, tokens.Usage{Input: 200_001, Output: 10}, 0, 200_001*2e-6 + 10*2e-5},
		{"the last tier", long, tokens.Usage{Input: 500_000}, 0, 2},
		{"electricity", Price{PerHour: 0.12}, tokens.Usage{Input: 5, Output: 7}, 90 * time.Second, 0.003},
		{"nothing", Price{}, tokens.Usage{Input: 5, Output: 7}, time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := test.price.Cost(test.tokens, test.busy); !near(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	file := table(t, `{"sample_spec":{"input_cost_per_token":"a word"},"gpt-4o":{"litellm_provider":"openai","input_cost_per_token":7e-6,"output_cost_per_token":8e-6},
		"mine/special":{"input_cost_per_token":9e-6,"output_cost_per_token":0}}`)
	book, err := New([]Line{
		{For: "gpu/*", Price: Price{PerHour: 0.12}, InsteadOf: "openai/gpt-4o-mini"},
		{For: "o3", Price: Price{Rate: Rate{Input: 1}}},
		{For: "cheap/gpt-*", Price: Price{Rate: Rate{Input: 2}}},
	}, file, Builtin())
	if err != nil {
		t.Fatal(err)
	}
	const unknown = -1
	openai, local := Place{Service: "openai"}, Place{Local: true}
	for _, test := range []struct {
		name   string
		at     Place
		target string
		want   float64 // the price of an input token
	}{
		{"the file before the built-in table", openai, "openai/gpt-4o", 7e-6},
		{"built in", openai, "openai/gpt-4o-mini", 0.15e-6},
		{"a date is no part of the name", openai, "openai/gpt-4o-mini-2024-07-18", 0.15e-6},
		{"a date of another form", Place{Service: "anthropic"}, "claude/claude-sonnet-4-5-20250929", 3e-6},
		{"a dated model of its own price", openai, "openai/gpt-4o-2024-05-13", 5e-6},
		{"behind its service", Place{Service: "groq"}, "fast/openai/gpt-oss-20b", 0.075e-6},
		{"a bare name at another service is another model", Place{Service: "groq"}, "fast/gpt-4o-mini", unknown},
		{"a bare name where the service is not known", Place{}, "relay/gpt-4o-mini", 0.15e-6},
		{"the upstream's name in the file", Place{}, "mine/special", 9e-6},
		{"unknown is unknown", openai, "openai/gpt-99", unknown},
		{"a line for the model alone", openai, "openai/o3", 1},
		{"a line for the target", openai, "cheap/gpt-4o", 2},
		{"local is free", local, "box/gpt-4o", 0},
		{"local with a price of electricity", local, "gpu/llama3.1:8b", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := float64(unknown)
			if p := book.Find(test.at, test.target); p != nil {
				got = p.Rate.Input
			}
			if got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	gpu := book.Find(local, "gpu/llama3.1:8b")
	if got := gpu.Saved(tokens.Usage{Input: 1e6, Output: 1e6}, time.Hour); !near(got, 0.75-0.12) {
		t.Errorf("saved %v", got)
	}
	if got := book.Find(openai, "openai/o3").Saved(tokens.Usage{Input: 1}, 0); got != 0 {
		t.Errorf("saved %v where nothing is compared", got)
	}
}

func TestNilBook(t *testing.T) {
	t.Parallel()
	var b *Book
	if p := b.Find(Place{Local: true}, "gpu/m"); p == nil || p.CountsTokens() || p.Cost(tokens.Usage{Input: 1}, time.Hour) != 0 {
		t.Error("a local target is not free")
	}
	if b.Find(Place{}, "openai/gpt-4o") != nil {
		t.Error("a price was made up")
	}
}

func TestNothingToCompareWith(t *testing.T) {
	t.Parallel()
	_, err := New([]Line{{For: "gpu/*", InsteadOf: "gpt-99"}}, Builtin())
	if err == nil || !strings.Contains(err.Error(), `unknown price of "gpt-99"`) {
		t.Errorf("got %v", err)
	}
}

func TestParseTable(t *testing.T) {
	t.Parallel()
	got := table(t, `{"last_updated":"2026-01-01","fallback_generalizations":[1],
		"tiers":{"litellm_provider":"gemini","input_cost_per_token":1e-6,"input_cost_per_token_above_400k_tokens":3e-6,
			"input_cost_per_token_above_200k_tokens":2e-6,"output_cost_per_token":4e-6,"output_cost_per_token_above_200k_tokens":5e-6,
			"cache_read_input_token_cost":1e-7,"output_cost_per_image":3,"input_cost_per_token_batches":1,"input_cost_per_token_above_xk_tokens":1},
		"embed":{"mode":"embedding","input_cost_per_token":1e-6,"output_cost_per_token":null},
		"image":{"mode":"image_generation","input_cost_per_token":1e-6},
		"speech":{"mode":"audio_speech","input_cost_per_character":1e-6}}`)
	want := Table{
		"tiers": {service: "gemini", Price: Price{Rate: Rate{1e-6, 1e-7, 4e-6}, Tiers: []Tier{{200_000, Rate{2e-6, 1e-7, 5e-6}}, {400_000, Rate{3e-6, 1e-7, 4e-6}}}}},
		"embed": {Price: Price{Rate: Rate{Input: 1e-6, Cached: 1e-6}}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseTableRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"no JSON", `prices`, "not a JSON object of models"},
		{"a list", `[]`, "not a JSON object of models"},
		{"no object", `{"m":3}`, `model "m": it is not an object`},
		{"a word", `{"m":{"input_cost_per_token":"dear"}}`, `model "m": input_cost_per_token: "dear" is not a price`},
		{"below zero", `{"m":{"output_cost_per_token":-1}}`, `output_cost_per_token: -1 is not a price`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if _, err := ParseTable([]byte(test.text)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// A slip of a digit in the built-in table would bill somebody.
func TestBuiltinIsPlausible(t *testing.T) {
	t.Parallel()
	if len(Builtin()) < 80 {
		t.Errorf("%d models", len(Builtin()))
	}
	for name, e := range Builtin() {
		if e.Input > 50e-6 || e.Output > 250e-6 || e.Cached > e.Input || e.Output != 0 && e.Output < e.Input {
			t.Errorf("%s: %+v", name, e.Price)
		}
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"api.openai.com": "openai", "my.openai.azure.com": "azure", "10.0.0.5": "", "evil-api.openai.com.example": ""} {
		if got := Service(host); got != want {
			t.Errorf("%s is %q, want %q", host, got, want)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(`{"gpt-4o":{"litellm_provider":"openai","input_cost_per_token":7e-6,"output_cost_per_token_above_200k_tokens":8e-6}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := ParseTable(text)
		if err != nil {
			return
		}
		for name, e := range parsed {
			if cost := e.Cost(tokens.Usage{Input: 1000, Cached: 10, Output: 10}, 0); cost < 0 || math.IsNaN(cost) {
				t.Errorf("%q costs %v", name, cost)
			}
		}
	})
}

func TestFindAllocatesNothing(t *testing.T) {
	book, err := New([]Line{{For: "gpu/*", Price: Price{PerHour: 0.12}}}, Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { book.Find(Place{Service: "groq"}, "fast/openai/gpt-oss-20b") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFind(b *testing.B) {
	book, err := New([]Line{{For: "gpu/*", Price: Price{PerHour: 0.12}}}, Builtin())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		book.Find(Place{Service: "openai"}, "openai/gpt-4o-mini-2024-07-18").Cost(tokens.Usage{Input: 1000, Output: 100}, time.Second)
	}
}

// Figures without their date are worth nothing.
func TestBuiltinIsDated(t *testing.T) {
	t.Parallel()
	var table struct {
		Date string `json:"last_updated"`
	}
	if err := json.Unmarshal(builtin, &table); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../../docs/directive.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.DateOnly, table.Date); err != nil || !strings.Contains(string(page), "table of common models, as of "+table.Date) {
		t.Errorf("docs/directive.md does not give the table's date, %q", table.Date)
	}
}

func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	const text = `{"m":{"litellm_provider":"openai","mode":"chat","input_cost_per_token":1e-6,"output_cost_per_token":2e-6}}`
	if len(table(t, "\ufeff"+text)) != 1 {
		t.Error("the model is not in the table")
	}
	for _, wrong := range []string{"\ufeff", "\ufeff\ufeff" + text, "\xfe\xff\x00{\x00}"} {
		if _, err := ParseTable([]byte(wrong)); err == nil {
			t.Errorf("%.20q is accepted", wrong)
		}
	}
}

package prices

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
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
	long := Price{Schedule: Schedule{Rate: rate(1e-6, 1e-7, 1e-5), Tiers: []Tier{{200_000, rate(2e-6, 2e-7, 2e-5)}, {400_000, rate(4e-6, 4e-7, 4e-5)}}}}
	all := Price{Schedule: Schedule{Rate: Rate{Input: 1, Cached: 0.1, Output: 2, CacheWrite: 1.25, CacheWriteHour: 2, Reasoning: 3, AudioInput: 40, AudioOutput: 80, ImageInput: 5, ImageOutput: 10}},
		Service: map[string]*Schedule{"priority": {Rate: rate(2, 0.2, 4)}, "flex": {Rate: rate(0.5, 0.05, 1)}}}
	units := Price{Units: Units{AudioSecond: 1, Character: 2, Image: 3, Search: 4, Request: 5}}
	for _, test := range []struct {
		name  string
		price Price
		used  tokens.Usage
		busy  time.Duration
		want  float64
	}{
		{"input and output", long, tokens.Usage{Input: 1000, Output: 100}, time.Minute, 1000*1e-6 + 100*1e-5},
		{"cached input is cheaper", long, tokens.Usage{Input: 1000, Cached: 400}, 0, 600*1e-6 + 400*1e-7},
		{"more cached than input is all of it", long, tokens.Usage{Input: 10, Cached: 400}, 0, 10 * 1e-7},
		{"at a tier's edge", long, tokens.Usage{Input: 200_000}, 0, 0.2},
		{"over a tier's edge", long, tokens.Usage{Input: 200_001, Output: 10}, 0, 200_001*2e-6 + 10*2e-5},
		{"the last tier", long, tokens.Usage{Input: 500_000}, 0, 2},
		{"electricity", Price{PerHour: 0.12}, tokens.Usage{Input: 5, Output: 7}, 90 * time.Second, 0.003},
		{"each class of the input", all, tokens.Usage{Input: 1000, Cached: 100, CacheWrite: 200, CacheWriteHour: 50, AudioInput: 300, ImageInput: 10}, 0, 100*0.1 + 150*1.25 + 50*2 + 300*40 + 10*5 + 390},
		{"each class of the output", all, tokens.Usage{Output: 1000, Reasoning: 100, AudioOutput: 200, ImageOutput: 300}, 0, 100*3 + 200*80 + 300*10 + 400*2},
		{"audio that was cached", all, tokens.Usage{Input: 1000, Cached: 900, AudioInput: 1000}, 0, 900*0.1 + 100*40},
		{"more written than there was", all, tokens.Usage{Input: 10, Cached: 6, CacheWrite: 10}, 0, 6*0.1 + 4*1.25},
		{"more parts than the output has", all, tokens.Usage{Output: 10, AudioOutput: 6, ImageOutput: 6, Reasoning: 6}, 0, 6*80 + 4*10},
		{"an endpoint of images", all, tokens.Usage{Output: 10, Images: 1}, 0, 10 * 10},
		{"seconds", units, tokens.Usage{AudioMillis: 1500}, 0, 1.5 + 5},
		{"characters", units, tokens.Usage{Characters: 7}, 0, 14 + 5},
		{"images", units, tokens.Usage{Images: 2}, 0, 6 + 5},
		{"images whose tokens are not priced", units, tokens.Usage{Input: 50, Output: 4160, Images: 2}, 0, 6 + 5},
		{"images whose tokens are priced", Price{Schedule: all.Schedule, Units: Units{Image: 100}}, tokens.Usage{Output: 10, Images: 2}, 0, 100},
		{"searches", Price{Schedule: all.Schedule, Units: Units{Search: 4}}, tokens.Usage{Input: 10, Searches: 2}, 0, 18},
		{"nothing", Price{}, tokens.Usage{Input: 5, Output: 7}, time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got, known := test.price.Cost(Consumption{Usage: test.used, Busy: test.busy}); !known || !near(got, test.want) {
				t.Errorf("%v (known: %v), want %v", got, known, test.want)
			}
		})
	}
}

// rate returns the rate of a price list with three figures.
func rate(input, cached, output float64) Rate {
	return Figures{Input: &input, Cached: &cached, Output: &output}.Rate()
}

func TestServiceTiers(t *testing.T) {
	t.Parallel()
	p := Price{Schedule: Schedule{Rate: rate(1, 0.1, 2)}, Service: map[string]*Schedule{"priority": {Rate: rate(2, 0.2, 4), Tiers: []Tier{{100, rate(3, 0.3, 6)}}}, "flex": {Rate: rate(0.5, 0.05, 1)}}}
	for tier, want := range map[string]float64{"": 12, "flex": 6, "priority": 24, "batch": 12} {
		if got, known := p.Cost(Consumption{Usage: tokens.Usage{Input: 10, Output: 1}, Tier: tier}); got != want || !known {
			t.Errorf("tier %q: %v (known: %v), want %v", tier, got, known, want)
		}
	}
	if got, _ := p.Cost(Consumption{Usage: tokens.Usage{Input: 200}, Tier: "priority"}); got != 600 {
		t.Errorf("a long request: %v", got)
	}
}

// If the target charges for something that the answer did not count, the cost is unknown, not zero.
func TestUnknownCost(t *testing.T) {
	t.Parallel()
	byToken, bySecond := Price{Schedule: Schedule{Rate: rate(1, 1, 1)}}, Price{Units: Units{AudioSecond: 1}}
	for _, test := range []struct {
		name  string
		price Price
		used  tokens.Usage
		known bool
	}{
		{"no tokens", byToken, tokens.Usage{}, false},
		{"seconds of what is priced by token", byToken, tokens.Usage{AudioMillis: 5}, false},
		{"tokens of what is priced by second", bySecond, tokens.Usage{Input: 5}, false},
		{"nothing of what is priced by second", bySecond, tokens.Usage{}, false},
		{"nothing of what is free", Price{}, tokens.Usage{}, true},
		{"nothing of what is priced by the hour", Price{PerHour: 1}, tokens.Usage{}, true},
		{"a request", Price{Units: Units{Request: 1}}, tokens.Usage{}, true},
	} {
		if _, known := test.price.Cost(Consumption{Usage: test.used, Busy: time.Second}); known != test.known {
			t.Errorf("%s: known is %v", test.name, known)
		}
	}
}

// Logs and sums must not show the noise of floating point.
func TestCostIsRounded(t *testing.T) {
	t.Parallel()
	p := Price{Schedule: Schedule{Rate: rate(1e-6, 0.1e-6, 2e-6)}}
	if got, _ := p.Cost(Consumption{Usage: tokens.Usage{Input: 1200, Cached: 1024, Output: 300}}); strconv.FormatFloat(got, 'f', -1, 64) != "0.0008784" {
		t.Errorf("the cost is written %v", got)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	file := table(t, `{"sample_spec":{"input_cost_per_token":"a word"},"gpt-4o":{"litellm_provider":"openai","input_cost_per_token":7e-6,"output_cost_per_token":8e-6},
		"mine/special":{"input_cost_per_token":9e-6,"output_cost_per_token":0}}`)
	book, err := New([]Line{
		{For: "gpu/*", Price: Price{PerHour: 0.12}, InsteadOf: "openai/gpt-4o-mini"},
		{For: "o3", Price: Price{Schedule: Schedule{Rate: Rate{Input: 1}}}},
		{For: "cheap/gpt-*", Price: Price{Schedule: Schedule{Rate: Rate{Input: 2}}}},
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
	if got := gpu.Saved(Consumption{Usage: tokens.Usage{Input: 1e6, Output: 1e6}, Busy: time.Hour}); !near(got, 0.75-0.12) {
		t.Errorf("saved %v", got)
	}
	if got := book.Find(openai, "openai/o3").Saved(Consumption{Usage: tokens.Usage{Input: 1}}); got != 0 {
		t.Errorf("saved %v where nothing is compared", got)
	}
}

func TestNilBook(t *testing.T) {
	t.Parallel()
	var b *Book
	p := b.Find(Place{Local: true}, "gpu/m")
	if p == nil || !p.IsFree() {
		t.Fatal("a local target is not free")
	}
	if cost, known := p.Cost(Consumption{Usage: tokens.Usage{Input: 1}, Busy: time.Hour}); cost != 0 || !known {
		t.Errorf("it costs %v, %v", cost, known)
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
		"tiers":{"litellm_provider":"gemini","mode":"chat","max_output_tokens":8192,"input_cost_per_token":1e-6,"input_cost_per_token_above_400k_tokens":3e-6,
			"input_cost_per_token_above_200k_tokens":2e-6,"output_cost_per_token":4e-6,"output_cost_per_token_above_200k_tokens":5e-6,
			"cache_read_input_token_cost":1e-7,"output_cost_per_image":3,"input_cost_per_token_above_xk_tokens":1,"input_cost_per_token_ultrafast":9},
		"embed":{"mode":"embedding","input_cost_per_token":1e-6,"output_cost_per_token":null,"max_output_tokens":"a word"},
		"image":{"mode":"image_generation","input_cost_per_token":1e-6},
		"video":{"mode":"video_generation","output_cost_per_second":0.1}}`)
	want := Table{
		"tiers": {service: "gemini", Price: Price{MaxOutput: 8192, Schedule: Schedule{Rate: rate(1e-6, 1e-7, 4e-6), Tiers: []Tier{{200_000, rate(2e-6, 1e-7, 5e-6)}, {400_000, rate(3e-6, 1e-7, 4e-6)}}}}},
		"embed": {Price: Price{Schedule: Schedule{Rate: rate(1e-6, 1e-6, 0)}}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Error(diff)
	}
}

// TestParsePriceClasses reads one entry for each class of prices that the file has for what is served.
func TestParsePriceClasses(t *testing.T) {
	t.Parallel()
	const base = `"input_cost_per_token":1e-6,"output_cost_per_token":2e-6,`
	million := tokens.Usage{Input: 1e6}
	for _, test := range []struct {
		name, fields string
		used         tokens.Usage
		tier         string
		want         float64
	}{
		{"cache writes", base + `"cache_creation_input_token_cost":1.25e-6`, tokens.Usage{Input: 1e6, CacheWrite: 1e6}, "", 1.25},
		{"cache writes without a price", base + `"mode":"chat"`, tokens.Usage{Input: 1e6, CacheWrite: 1e6}, "", 1},
		{"cache writes for an hour", base + `"cache_creation_input_token_cost":1.25e-6,"cache_creation_input_token_cost_above_1hr":2e-6`, tokens.Usage{Input: 1e6, CacheWrite: 1e6, CacheWriteHour: 1e6}, "", 2},
		{"cache writes for an hour without a price", base + `"cache_creation_input_token_cost":1.25e-6`, tokens.Usage{Input: 1e6, CacheWrite: 1e6, CacheWriteHour: 1e6}, "", 1.25},
		{"long cache writes", base + `"cache_creation_input_token_cost":1.25e-6,"cache_creation_input_token_cost_above_200k_tokens":2.5e-6`, tokens.Usage{Input: 1e6, CacheWrite: 1e6}, "", 2.5},
		{"long cache writes for an hour", base + `"cache_creation_input_token_cost_above_1hr_above_200k_tokens":4e-6`, tokens.Usage{Input: 1e6, CacheWrite: 1e6, CacheWriteHour: 1e6}, "", 4},
		{"cache hits by their older name", base + `"input_cost_per_token_cache_hit":1e-7`, tokens.Usage{Input: 1e6, Cached: 1e6}, "", 0.1},
		{"reasoning", base + `"output_cost_per_reasoning_token":3e-6`, tokens.Usage{Output: 1e6, Reasoning: 1e6}, "", 3},
		{"audio input", base + `"input_cost_per_audio_token":4e-5`, tokens.Usage{Input: 1e6, AudioInput: 1e6}, "", 40},
		{"audio output", base + `"output_cost_per_audio_token":8e-5`, tokens.Usage{Output: 1e6, AudioOutput: 1e6}, "", 80},
		{"image input", base + `"input_cost_per_image_token":1e-5`, tokens.Usage{Input: 1e6, ImageInput: 1e6}, "", 10},
		{"image output", base + `"output_cost_per_image_token":3e-5`, tokens.Usage{Output: 1e6, ImageOutput: 1e6}, "", 30},
		{"an image model", `"mode":"image_generation","input_cost_per_token":5e-6,"output_cost_per_image_token":4e-5`, tokens.Usage{Output: 1e6, Images: 1}, "", 40},
		{"an image by the image, too", base + `"mode":"image_generation","output_cost_per_image":0.04`, tokens.Usage{Output: 1e6, Images: 1}, "", 2},
		{"priority", base + `"input_cost_per_token_priority":2e-6`, million, "priority", 2},
		{"flex", base + `"input_cost_per_token_flex":5e-7`, million, "flex", 0.5},
		{"batches", base + `"input_cost_per_token_batches":5e-7`, million, "batch", 0.5},
		{"a tier without an output price", base + `"input_cost_per_token_flex":5e-7`, tokens.Usage{Output: 1e6}, "flex", 2},
		{"a tier that has no price", base + `"input_cost_per_token_flex":5e-7`, million, "priority", 1},
		{"cached in a tier", base + `"cache_read_input_token_cost":1e-7,"cache_read_input_token_cost_priority":2e-7`, tokens.Usage{Input: 1e6, Cached: 1e6}, "priority", 0.2},
		{"a long request in a tier", base + `"input_cost_per_token_above_200k_tokens":3e-6,"input_cost_per_token_above_200k_tokens_priority":6e-6`, million, "priority", 6},
		{"a long request in a tier, the other way round", base + `"input_cost_per_token_above_200k_tokens":3e-6,"input_cost_per_token_priority_above_200k_tokens":6e-6`, million, "priority", 6},
		{"a long request in a tier with one price", base + `"input_cost_per_token_above_200k_tokens":3e-6,"input_cost_per_token_flex":5e-7`, million, "flex", 0.5},
		{"a long request in no tier", base + `"input_cost_per_token_above_200k_tokens":3e-6,"input_cost_per_token_flex":5e-7`, million, "", 3},
		{"a length without k", base + `"input_cost_per_token_above_500_tokens":3e-6`, million, "", 3},
		{"ranges", `"tiered_pricing":[{"range":[0,32000],"input_cost_per_token":1e-6,"output_cost_per_token":2e-6},{"range":[32000,128000],"input_cost_per_token":5e-6,"output_cost_per_token":6e-6}]`, million, "", 5},
		{"the first range", `"tiered_pricing":[{"range":[0,32000],"input_cost_per_token":1e-6,"output_cost_per_token":2e-6},{"range":[32000,128000],"input_cost_per_token":5e-6,"output_cost_per_token":6e-6}]`, tokens.Usage{Input: 1000}, "", 0.001},
		{"seconds", `"mode":"audio_transcription","input_cost_per_second":0.0001,"output_cost_per_second":0`, tokens.Usage{AudioMillis: 3_600_000}, "", 0.36},
		{"seconds, written twice", `"mode":"audio_transcription","input_cost_per_second":0.0001,"output_cost_per_second":0.0001`, tokens.Usage{AudioMillis: 3_600_000}, "", 0.36},
		{"seconds without a mode", `"input_cost_per_second":0.0001,"output_cost_per_second":0`, tokens.Usage{AudioMillis: 3_600_000}, "", 0.36},
		{"characters", `"mode":"audio_speech","input_cost_per_character":1.5e-5`, tokens.Usage{Characters: 1e6}, "", 15},
		{"images", `"mode":"image_generation","output_cost_per_image":0.04`, tokens.Usage{Images: 2}, "", 0.08},
		{"images by their input", `"mode":"image_generation","input_cost_per_image":0.04`, tokens.Usage{Images: 2}, "", 0.08},
		{"pixels", `"mode":"image_generation","input_cost_per_pixel":1e-6,"output_cost_per_pixel":0`, tokens.Usage{Images: 1}, "", 1.048576},
		{"queries", `"mode":"rerank","input_cost_per_query":0.002`, tokens.Usage{Searches: 3}, "", 0.006},
		{"searches of the web", base + `"search_context_cost_per_query":{"search_context_size_low":0.01,"search_context_size_medium":0.02,"search_context_size_high":0.03}`, tokens.Usage{Input: 1, Searches: 1}, "", 0.020001},
		{"requests", base + `"input_cost_per_request":0.005`, tokens.Usage{Input: 1}, "", 0.005001},
		{"a price in a string", `"input_cost_per_token":"1e-6","output_cost_per_token":"2e-6"`, million, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := table(t, `{"m":{`+test.fields+`}}`)["m"]
			if e == nil {
				t.Fatal("no price")
			}
			if got, known := e.Cost(Consumption{Usage: test.used, Tier: test.tier}); !known || !near(got, test.want) {
				t.Errorf("%v (known: %v), want %v", got, known, test.want)
			}
		})
	}
}

// Tables have entries for sizes and qualities of images.
func TestFindImage(t *testing.T) {
	t.Parallel()
	book, err := New(nil, table(t, `{"dall-e-3":{"litellm_provider":"openai","mode":"image_generation","input_cost_per_image":0.04},
		"hd/1024-x-1792/dall-e-3":{"litellm_provider":"openai","mode":"image_generation","input_cost_per_image":0.12},
		"standard/1792-x-1024/dall-e-3":{"litellm_provider":"openai","mode":"image_generation","input_cost_per_image":0.08},
		"512-x-512/dall-e-2":{"litellm_provider":"openai","mode":"image_generation","input_cost_per_pixel":1e-7},
		"azure/hd/1024-x-1024/dall-e-3":{"litellm_provider":"azure","mode":"image_generation","input_cost_per_image":0.09}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		service, model, size, quality string
		want                          float64
	}{
		{"openai", "dall-e-3", "", "", 0.04}, {"openai", "dall-e-3", "1024x1792", "hd", 0.12}, {"openai", "dall-e-3", "1792x1024", "", 0.08},
		{"openai", "dall-e-3", "1792x1024", "hd", 0.08}, {"openai", "dall-e-3", "auto", "", 0.04}, {"openai", "dall-e-2", "512x512", "", 0.0262144}, {"azure", "dall-e-3", "1024x1024", "hd", 0.09},
	} {
		p := book.Find(Place{Service: test.service, Size: test.size, Quality: test.quality}, "up/"+test.model)
		if p == nil || !near(p.Image, test.want) {
			t.Errorf("%+v: %+v", test, p)
		}
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
	f.Add([]byte(`{"m":{"tiered_pricing":[{"range":[0,5],"input_cost_per_token":1},{"range":[5,9]}],"output_cost_per_token_above_1k_tokens_flex":"2","search_context_cost_per_query":{"search_context_size_medium":1}}}`))
	f.Add([]byte(`{"gpt-4o":{"litellm_provider":"openai","input_cost_per_token":7e-6,"output_cost_per_token_above_200k_tokens":8e-6}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := ParseTable(text)
		if err != nil {
			return
		}
		for name, e := range parsed {
			for _, tier := range append([]string{""}, ServiceTiers...) {
				if cost, _ := e.Cost(Consumption{Usage: tokens.Usage{Input: 1000, Cached: 10, Output: 10, Images: 1, AudioMillis: 5, Characters: 5}, Tier: tier}); cost < 0 || math.IsNaN(cost) {
					t.Errorf("%q costs %v", name, cost)
				}
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
		book.Find(Place{Service: "openai"}, "openai/gpt-4o-mini-2024-07-18").Cost(Consumption{Usage: tokens.Usage{Input: 1000, Output: 100}, Busy: time.Second})
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

package litellm

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// convert converts YAML without includes.
func convert(t *testing.T, text string) *Result {
	t.Helper()
	r, err := Convert(Options{File: "config.yaml", Read: func(string) ([]byte, error) { return []byte(text), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The Caddyfiles of the configurations in testdata are as they were read and found good, and so are the notes.
func TestGolden(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(names) < 10 {
		t.Fatalf("%v: %d configurations", err, len(names))
	}
	for _, name := range names {
		if strings.Contains(name, "included-") {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			r, err := Convert(Options{File: name, Read: os.ReadFile})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			got.WriteString(r.Caddyfile)
			for _, n := range r.Notes {
				fmt.Fprintf(&got, "# note: %s\n", n)
			}
			for _, s := range r.Secrets {
				fmt.Fprintf(&got, "# secret: %s: %s: %s\n", s.At, s.Key, s.Name)
			}
			if strings.Contains(got.String(), "hunter2") {
				t.Error("a secret is in the Caddyfile or in a note")
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	aliases := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'h'; c++ {
		aliases += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 10), ","))
	}
	files := map[string]string{"loop.yaml": "include: [more/b.yaml]", "more/b.yaml": "x: 1\ninclude:\n  - ../loop.yaml", "self.yaml": "include: self.yaml"}
	for i := range maxFiles + 1 {
		files[fmt.Sprintf("%d.yaml", i)] = fmt.Sprintf("include: [%d.yaml]", i+1)
	}
	for _, test := range []struct{ name, text, want string }{
		{"tab", "model_list:\n\t- x: 1\n", "config.yaml:2:1: invalid YAML: found character that cannot start any token; indent with spaces, because YAML allows no tabs there"},
		{"reserved character", "a: 1\nmodel: @gpt\n", "config.yaml:2:8: invalid YAML: found character that cannot start any token"},
		{"open bracket", "a: 1\nb:\n  - [x, y\nc: 2\n", "invalid YAML: did not find expected ',' or ']'"},
		{"wrong indentation", "model_list:\n  - model_name: x\n   litellm_params: 1\n", "config.yaml:3:4: invalid YAML: "},
		{"unknown anchor", "a: *nowhere\n", "config.yaml:1:1: invalid YAML: unknown anchor 'nowhere' referenced"},
		{"no object", "- a\n- b\n", "config.yaml:1:1: this is not a configuration of LiteLLM"},
		{"key that is no name", "a: 1\n[x]: 2\n", "config.yaml:2:1: a key must be a name"},
		{"billion laughs", aliases, "has more than 200000 values"},
		{"alias in itself", "a: &a\n  b: *a\n", "an alias contains itself"},
		{"too deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "nested more than 64 levels deep"},
		{"include of a number", "include: [1]", "config.yaml:1:11: include: this is not the name of a file"},
		{"include that is missing", "a: 1\ninclude:\n  - nowhere.yaml\n", "config.yaml:3:5: file does not exist"},
		{"include of itself", "include: self.yaml", "self.yaml:1:10: self.yaml includes itself: self.yaml → self.yaml"},
		{"includes in a loop", "include: [loop.yaml]", "more/b.yaml:3:5: loop.yaml includes itself: loop.yaml → more/b.yaml → loop.yaml"},
		{"too many includes", "include: [0.yaml]", "more than 32 files are included"},
		{"too long", strings.Repeat("# comment\n", maxFile/10+1), "config.yaml:1:1: config.yaml has more than 4 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Convert(Options{File: "config.yaml", Read: func(name string) ([]byte, error) {
				if name == "config.yaml" {
					return []byte(test.text), nil
				}
				if text, ok := files[filepath.ToSlash(name)]; ok {
					return []byte(text), nil
				}
				return nil, os.ErrNotExist
			}})
			var placed *Error
			if !errors.As(err, &placed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// The remarks about single settings.
func TestNotes(t *testing.T) {
	t.Parallel()
	const model = "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/m, api_base: \"http://gpu:8000\"%s}\n"
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "general_settings: {nonsense: 1}", "config.yaml:1:20: general_settings.nonsense: not carried over: llm_proxy has no setting for this key"},
		{"unknown section", "nonsense: {a: 1}", "config.yaml:1:1: nonsense: not carried over"},
		{"key with another spelling", "general_settings: {master-key: 1}", "did you mean master_key?"},
		{"duplicate key", "general_settings: {master_key: os.environ/A, master_key: os.environ/B}", "1:20: master_key: not carried over: another value of the same name follows"},
		{"both sections have it", "router_settings: {fallbacks: []}\nlitellm_settings: {fallbacks: []}", "litellm_settings.fallbacks: not carried over: router_settings has the same key"},
		{"wrong type", "model_list: 3", "model_list: not carried over: the value is not a list"},
		{"wrong type of a number", fmt.Sprintf(model, ", timeout: soon"), "litellm_params.timeout: not carried over: the value is not a number"},
		{"number from the environment", fmt.Sprintf(model, ", rpm: os.environ/RPM"), "a number from the environment is not possible here"},
		{"variable of Caddy", fmt.Sprintf(model, ", extra_headers: {X-A: \"{$HOME}\"}"), "the value contains {$"},
		{"secret in a parameter", fmt.Sprintf(model, ", my_token: hunter2"), "my_token: not carried over: its value may be a secret"},
		{"aws", "model_list: [{model_name: b, litellm_params: {model: bedrock/x}}]", "the deployment of \"b\" is left out: llm_proxy does not sign requests for AWS"},
		{"no service", "model_list: [{model_name: b, litellm_params: {model: b}}]", "LiteLLM cannot tell its service either"},
		{"unknown service", "model_list: [{model_name: b, litellm_params: {model: newcomer/b, api_base: \"http://a/v1\"}}]", "its service is not known, so it is an upstream of the kind openai"},
		{"no address", "model_list: [{model_name: b, litellm_params: {model: hosted_vllm/b}}]", "it has no address; write its `api_base`"},
		{"a name that would be markup", "model_list: [{model_name: \"a b\\n}\", litellm_params: {model: openai/b}}]", "its name has white space, quotes or braces"},
		{"unencrypted key", "model_list: [{model_name: b, litellm_params: {model: openai/b, api_base: \"http://api.example.com/v1\", api_key: os.environ/K}}]", "the API key is sent without encryption"},
		{"address without v1", "model_list: [{model_name: b, litellm_params: {model: openai/b, api_base: \"http://gpu:8000\", api_key: none}}]", "LiteLLM asks this address without `/v1`"},
		{"fallback to nothing", fmt.Sprintf(model, "") + "router_settings: {fallbacks: [{m: [x]}]}", "router_settings.fallbacks: not carried over: there is no model \"x\""},
		{"alias of nothing", fmt.Sprintf(model, "") + "router_settings: {model_group_alias: {a: x}}", "the alias \"a\" is left out"},
		{"semantic cache", "litellm_settings: {cache: true, cache_params: {type: redis-semantic}}", "there is no semantic cache"},
		{"cache that is off", "litellm_settings: {cache_params: {type: redis}}", "the cache is off"},
		{"no master key", "model_list: []", "config.yaml:1:1: general_settings.master_key: carried over with a difference: the YAML has none, so everybody who reaches the site may use it"},
		{"short master key", "general_settings: {master_key: abc}", "it is too short for a key"},
		{"slots of one address", "model_list:\n- {model_name: a, litellm_params: {model: hosted_vllm/a, api_base: \"http://g:1\", max_parallel_requests: 2}}\n- {model_name: b, litellm_params: {model: hosted_vllm/b, api_base: \"http://g:1\"}}\n", "another deployment there has no limit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := convert(t, test.text)
			if !slices.ContainsFunc(r.Notes, func(n Note) bool { return strings.Contains(n.String(), test.want) }) {
				t.Errorf("no note has %q: %v", test.want, r.Notes)
			}
			for _, n := range r.Notes {
				if strings.Contains(n.String(), "hunter2") {
					t.Errorf("the secret is in a note: %s", n)
				}
			}
			if strings.Contains(r.Caddyfile, "hunter2") {
				t.Errorf("the secret is in the Caddyfile:\n%s", r.Caddyfile)
			}
		})
	}
}

// Lines that are made of single settings.
func TestLines(t *testing.T) {
	t.Parallel()
	deployment := func(params string) string {
		return "model_list: [{model_name: m, litellm_params: {" + params + "}}]"
	}
	for _, test := range []struct{ name, text, want string }{
		{"service by name", deployment("model: gpt-4o"), "upstream openai openai {\n\t\t\tapi_key {env.OPENAI_API_KEY}\n\t\t}\n\n\t\tmodel m openai/gpt-4o\n"},
		{"service by address", deployment("model: sonar, api_base: \"https://api.perplexity.ai\""), "upstream perplexity openai https://api.perplexity.ai {\n\t\t\tapi_key {env.PERPLEXITYAI_API_KEY}"},
		{"service apart", deployment("model: llama-3, custom_llm_provider: groq"), "upstream groq groq {\n\t\t\tapi_key {env.GROQ_API_KEY}\n\t\t}\n\n\t\tmodel m groq/llama-3\n"},
		{"slash in the model", deployment("model: together_ai/meta-llama/Llama-3"), "model m together/meta-llama/Llama-3\n"},
		{"fireworks", deployment("model: fireworks_ai/llama-v3"), "model m fireworks/accounts/fireworks/models/llama-v3\n"},
		{"responses of OpenAI", deployment("model: openai/responses/gpt-5"), "model m openai/gpt-5\n"},
		{"base of the service itself", deployment("model: openai/x, api_base: \"https://api.openai.com/v1\""), "upstream openai openai {\n"},
		{"endpoint as the address", deployment("model: openai/x, api_base: \"http://gpu:8000/v1/chat/completions\", api_key: none"), "upstream gpu openai http://gpu:8000/v1 {\n\t\t\tapi_key none\n"},
		{"address from the environment", deployment("model: ollama/x, api_base: os.environ/OLLAMA_URL"), "upstream ollama ollama {env.OLLAMA_URL}\n"},
		{"anthropic behind a proxy", deployment("model: anthropic/c, api_base: \"https://proxy.example.com/anthropic\", api_key: os.environ/K"), "upstream anthropic anthropic https://proxy.example.com/anthropic/v1 {"},
		{"azure foundry", deployment("model: azure_ai/x, api_base: \"https://r.services.ai.azure.com/models\", api_key: os.environ/K"), "upstream r azure https://r.services.ai.azure.com"},
		{"literal key", deployment("model: openai/x, api_key: sk-hunter2"), "api_key {env.OPENAI_API_KEY}\n"},
		{"part of a key", deployment("model: openai/x, api_key: \"os.environ/A\""), "api_key {env.A}\n"},
		{"timeouts", deployment("model: openai/x, timeout: 90, stream_timeout: 2.5"), "first_token_timeout 2.5s\n\t\t\tidle_timeout 2.5s\n\t\t\tanswer_timeout 1m30s\n"},
		{"timeouts of the router", deployment("model: openai/x") + "\nrouter_settings: {timeout: 3600, ttft_timeout: 20, stream_idle_timeout: 60}", "first_token_timeout 20s\n\t\t\tidle_timeout 1m\n\t\t\tanswer_timeout 1h\n"},
		{"certificates", deployment("model: openai/x, api_base: \"https://gpu.internal/v1\", api_key: os.environ/K, ssl_verify: false"), "transport http {\n\t\t\t\ttls_insecure_skip_verify\n"},
		{"parameters", deployment("model: openai/x, temperature: 0.2, stop: [a, \"b c\"], extra_body: {top_k: 5, temperature: 1}"), "params stop `[\"a\",\"b c\"]`\n\t\t\tparams temperature 1\n\t\t\tparams top_k 5\n"},
		{"price", deployment("model: openai/x, input_cost_per_token: 0.0000025, output_cost_per_token: 0.00001, cache_read_input_token_cost: 1.25e-06"), "price openai/x 2.5 10 1.25\n"},
		{"price in a block", deployment("model: openai/x, input_cost_per_token: 0.0000025, output_cost_per_audio_token: 0.00008"), "price openai/x 2.5 0 {\n\t\t\taudio_output 80\n\t\t}\n"},
		{"weights by tokens a minute", "model_list:\n- {model_name: m, litellm_params: {model: hosted_vllm/a, api_base: \"http://a\", tpm: 300000}}\n- {model_name: m, litellm_params: {model: hosted_vllm/b, api_base: \"http://b\", tpm: 100000}}\n", "weight 3 1\n"},
		{"cheapest first", "model_list:\n- {model_name: m, litellm_params: {model: hosted_vllm/a, api_base: \"http://a\", input_cost_per_token: 2e-6}}\n- {model_name: m, litellm_params: {model: hosted_vllm/b, api_base: \"http://b\", input_cost_per_token: 1e-6}}\nrouter_settings: {routing_strategy: cost-based-routing}\n", "to vllm-2/b vllm/a\n\t\t\tlb_policy first\n"},
		{"model that is called like its target", "model_list: [{model_name: openai/gpt-4o, litellm_params: {model: openai/gpt-4o}}]", "model openai/gpt-4o openai/gpt-4o\n"},
		{"model that is called like another one's target", "model_list:\n- {model_name: a, litellm_params: {model: openai/b}}\n- {model_name: openai/b, litellm_params: {model: groq/c}}\n", "model a openai-2/b\n\t\tmodel openai/b groq/c\n"},
		{"upstream that is called like a model", "model_list: [{model_name: openai, litellm_params: {model: openai/gpt-4o}}]", "upstream openai-2 openai {"},
		{"redis with a password", "litellm_settings: {cache: true, cache_params: {type: redis, host: os.environ/H, port: 6380, password: os.environ/P, ssl: true}}", "state rediss://:{env.P}@{env.H}:6380\n"},
		{"redis by URL", "litellm_settings: {cache: true, cache_params: {type: redis, url: \"redis://:hunter2@db:6379\"}}", "state {env.REDIS_URL}\n"},
		{"redis sentinels", "litellm_settings: {cache: true, cache_params: {type: redis, service_name: main, sentinel_nodes: [[a, 26379], [b, 26379]]}}", "state redis://a:26379/0?master_name=main&addr=b:26379\n"},
		{"redis cluster", "litellm_settings: {cache: true, cache_params: {type: redis, redis_startup_nodes: [{host: a, port: 7001}, {host: b, port: 7002}]}}", "state redis://a:7001?addr=b:7002\n"},
		{"month", "litellm_settings: {max_budget: 20, budget_duration: 1mo}", "budget $20/month\n"},
		{"weeks", "litellm_settings: {max_budget: 20, budget_duration: 2w}", "budget $20/14d\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if r := convert(t, test.text); !strings.Contains(r.Caddyfile, test.want) {
				t.Errorf("no %q in\n%s", test.want, r.Caddyfile)
			}
		})
	}
}

// No two secrets share a variable, and no secret gets one that has another value.
func TestSecretNames(t *testing.T) {
	t.Parallel()
	r := convert(t, `model_list:
- {model_name: a, litellm_params: {model: openai/a, api_key: sk-1}}
- {model_name: b, litellm_params: {model: openai/b, api_key: sk-2}}
- {model_name: c, litellm_params: {model: openai/c, api_key: sk-1}}
- {model_name: d, litellm_params: {model: groq/d, api_key: gsk-1}}
- {model_name: e, litellm_params: {model: groq/e}}
- {model_name: f, litellm_params: {model: xai/f, api_key: os.environ/OPENAI_API_KEY_2}}
`)
	var got []string
	for _, s := range r.Secrets {
		got = append(got, s.Name+"="+s.Value)
	}
	if diff := cmp.Diff([]string{"OPENAI_API_KEY=sk-1", "OPENAI_API_KEY_3=sk-2", "GROQ_API_KEY_2=gsk-1"}, got); diff != "" {
		t.Error(diff)
	}
}

// documented returns the keys of all sections that have a rule, with the rule, in the order of the alphabet.
func documented() (list []Key) {
	for section, known := range rules {
		for key, r := range known {
			list = append(list, Key{Key: section + "." + key, Grade: r.grade, Text: r.text})
		}
	}
	slices.SortFunc(list, func(a, b Key) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// Every key in the YAML has its entry, and none is dropped silently: what is not exact has a note.
func TestEveryKeyIsReported(t *testing.T) {
	t.Parallel()
	for _, k := range documented() {
		section, key, _ := strings.Cut(k.Key, ".")
		text, path := "", section+"."+key
		switch section {
		case "", "model", "alias", "credential", "pass_through":
			continue // their keys are those of the structure
		case "litellm_params", "model_info":
			text, path = "model_list: [{model_name: m, "+section+": {"+key+": 1}}]", "model_list[0]."+path
		case "cache_params":
			text, path = "litellm_settings: {cache: true, cache_params: {"+key+": 1}}", "litellm_settings."+path
		default:
			text = section + ": {" + key + ": 1}"
		}
		r := convert(t, text)
		i := slices.IndexFunc(r.Keys, func(k Key) bool { return k.Key == path })
		if i < 0 {
			t.Errorf("%s is not in the report", path)
			continue
		}
		if r.Keys[i].Grade != Exact && len(r.Notes) == 0 {
			t.Errorf("%s is not carried over exactly, and no note says so", path)
		}
		if r.Keys[i].Grade < k.Grade {
			t.Errorf("%s is reported as %s; its rule says %s", path, r.Keys[i].Grade, k.Grade)
		}
	}
}

// Whatever the YAML is, converting it ends, with a Caddyfile or an error with a place, and secrets stay out of both.
func FuzzConvert(f *testing.F) {
	names, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "model_list: []")
	}
	f.Add("include: [b.yaml]", "include: config.yaml")
	f.Add("a: &a [*a]", "")
	f.Add("<<: {model_list: 1}", "\x00")
	f.Fuzz(func(t *testing.T, text, included string) {
		r, err := Convert(Options{File: "config.yaml", Read: func(name string) ([]byte, error) {
			if name == "config.yaml" {
				return []byte(text), nil
			}
			return []byte(included), nil
		}})
		var placed *Error
		switch {
		case err == nil && r.Caddyfile == "":
			t.Error("neither a Caddyfile nor an error")
		case err == nil:
			for _, n := range r.Notes {
				if n.At.Line < 1 || n.At.Column < 1 {
					t.Errorf("a note without a place: %s", n)
				}
			}
		case !errors.As(err, &placed) || placed.At.Line < 1 || placed.At.Column < 1:
			t.Errorf("an error without a place: %v", err)
		}
	})
}

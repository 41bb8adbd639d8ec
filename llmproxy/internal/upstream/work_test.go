package upstream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

const (
	llamaPage = "llamacpp:n_decode_total 5\nllamacpp:prompt_tokens_total 7\nllamacpp:requests_deferred 2\n"
	slotsPage = `[{"id":0,"is_processing":true},{"id":1,"is_processing":false},{"id":2,"is_processing":true}]`
	vllmPage  = "vllm:prompt_tokens_total{engine=\"0\"} 5\nvllm:generation_tokens_total{engine=\"0\"} 7\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:num_requests_waiting{engine=\"0\"} 3\n"
)

// vllmLoadPage has two engines. One of them states the size of its cache.
const vllmLoadPage = "vllm:generation_tokens_total{engine=\"0\"} 7\n" +
	"vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\nvllm:num_requests_running{engine=\"1\",model_name=\"m\"} 1.0\n" +
	"vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 5.0\n" +
	"vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"m\",reason=\"capacity\"} 2.0\n" +
	"vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"m\",reason=\"deferred\"} 3.0\n" +
	"vllm:num_preemptions_total{engine=\"0\"} 1.0\nvllm:num_preemptions_total{engine=\"1\"} 2.0\n" +
	"vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"1000\",num_gpu_blocks_override=\"None\"} 1.0\n" +
	"vllm:cache_config_info{block_size=\"16\",engine=\"1\",kv_cache_size_tokens=\"32000\",num_gpu_blocks=\"9000\"} 1.0\n"

// What the kinds of servers say about their work, and what does not prove anything.
func TestWork(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		kind    *Kind
		answers map[string]string // by path; empty: it hangs; absent: 501
		want    Work
		ok      bool
	}{
		{"vllm", VLLM, map[string]string{"/metrics": vllmPage}, Work{Count: 12.25, Queued: 3, Conclusive: true}, true},
		{"vllm, before 0.10", VLLM, map[string]string{"/metrics": "vllm:generation_tokens_total 7\nvllm:gpu_cache_usage_perc 0.5\n"}, Work{Count: 7.5, Conclusive: true}, true},
		{"vllm without counters", VLLM, map[string]string{"/metrics": llamaPage}, Work{}, false},
		{"vllm that hangs", VLLM, map[string]string{"/metrics": ""}, Work{}, false},
		{"llama.cpp", LlamaCpp, map[string]string{"/metrics": llamaPage, "/slots": "[]"}, Work{Count: 12, Queued: 2, Conclusive: true}, true},
		{"llama.cpp, old", LlamaCpp, map[string]string{"/metrics": "llamacpp:prompt_tokens_total 7\n"}, Work{Count: 7}, true},
		{"vllm, its load", VLLM, map[string]string{"/metrics": vllmLoadPage}, Work{
			Count: 7, Queued: 5, Conclusive: true,
			Load: admission.Load{Known: true, Learns: true, Running: 4, Waiting: 2, Tokens: 3 * 16_000, Preemptions: 3},
		}, true},
		{"vllm, its load, before the reasons", VLLM, map[string]string{"/metrics": "vllm:generation_tokens_total 7\nvllm:num_requests_running 2\nvllm:num_requests_waiting 1\n"}, Work{
			Count: 7, Queued: 1, Conclusive: true, Load: admission.Load{Known: true, Learns: true, Running: 2, Waiting: 1},
		}, true},
		{"llama.cpp, its load", LlamaCpp, map[string]string{"/metrics": llamaPage + "llamacpp:requests_processing 3\n"}, Work{
			Count: 12, Queued: 2, Conclusive: true, Load: admission.Load{Known: true, Running: 3, Waiting: 2},
		}, true},
		{"llama.cpp, its slots", LlamaCpp, map[string]string{"/slots": slotsPage}, Work{
			Count: fingerprint([]byte(slotsPage)), Load: admission.Load{Known: true, Running: 2, Slots: 3},
		}, true},
		{"llama.cpp without metrics", LlamaCpp, map[string]string{"/slots": `[{"id":0}]`}, Work{Count: fingerprint([]byte(`[{"id":0}]`)), Load: admission.Load{Slots: 1}}, true},
		{"llama.cpp with neither", LlamaCpp, nil, Work{}, false},
		{"llama.cpp in a long batch", LlamaCpp, map[string]string{"/metrics": "", "/slots": ""}, Work{}, false},
		{"ollama", Ollama, map[string]string{"/api/ps": `{"models":[]}`}, Work{Count: fingerprint([]byte(`{"models":[]}`))}, true},
		{"ollama that loads", Ollama, map[string]string{"/api/ps": "", "/api/version": "{}"}, Work{Loading: true}, true},
		{"ollama that hangs", Ollama, map[string]string{"/api/ps": "", "/api/version": ""}, Work{}, false},
		{"a service", OpenAI, nil, Work{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := upstreamAt(t, Config{Name: "u", Kind: tt.kind, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
					body, known := tt.answers[req.URL.Path]
					switch {
					case !known:
						return answer(http.StatusNotImplemented, ""), nil
					case body == "":
						<-req.Context().Done()
						return nil, context.Cause(req.Context())
					}
					return answer(http.StatusOK, body), nil
				})}, "gpu")
				got, ok := u.Work(t.Context(), u.Replicas[0])
				got.At = time.Time{}
				if got != tt.want && ok || ok != tt.ok {
					t.Errorf("got %+v, %t; want %+v, %t", got, ok, tt.want, tt.ok)
				}
			})
		})
	}
}

// A llama.cpp that is asked too often does not notice clients that left, so all who ask within two seconds share an answer.
func TestWorkIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		u := upstreamAt(t, Config{Name: "u", Kind: LlamaCpp, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path != "/metrics" {
				return nil, errors.New("too busy")
			}
			asked++
			time.Sleep(time.Second / 2)
			return answer(http.StatusOK, llamaPage+strings.Repeat("llamacpp:n_decode_total 1\n", asked)), nil
		})}, "gpu")
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the client left"))
		got := make(chan Work, 3)
		for _, ctx := range []context.Context{gone, t.Context(), t.Context()} {
			go func() {
				work, _ := u.Work(ctx, u.Replicas[0])
				got <- work
			}()
			synctest.Wait() // the one who left asks first
		}
		<-got
		for range 2 {
			if work := <-got; work.Count != 13 {
				t.Errorf("%+v", work)
			}
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(WorkInterval)
		if work, ok := u.Work(t.Context(), u.Replicas[0]); work.Count != 14 || !ok || asked != 2 {
			t.Errorf("%+v after %d requests", work, asked)
		}
	})
}

// A server that was too busy to state its slots when the gateway started is asked again while it works.
func TestSlotsAreAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		u := upstreamAt(t, Config{Name: "u", Kind: LlamaCpp, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/metrics" {
				return answer(http.StatusOK, llamaPage), nil
			}
			if asked++; asked == 1 {
				return nil, errors.New("too busy")
			}
			return answer(http.StatusOK, llamaCppPage), nil
		})}, "gpu")
		for i, want := range []bool{false, true, true} {
			u.Work(t.Context(), u.Replicas[0])
			if got := u.Replicas[0].Queue().StatesSlots(); got != want {
				t.Errorf("after question %d: %v", i+1, got)
			}
			time.Sleep(WorkInterval)
		}
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// Until its rate is known, a server may take as long as one of its kind in the worst case.
func TestPrefillTime(t *testing.T) {
	t.Parallel()
	for kind, want := range map[*Kind]time.Duration{VLLM: 8 * time.Second, OpenAI: 8 * time.Second, LlamaCpp: 80 * time.Second, Ollama: 80 * time.Second} {
		if got := upstreamAt(t, Config{Name: "u", Kind: kind}, "gpu").PrefillTime("m", 4000); got != want {
			t.Errorf("%s: %v, want %v", kind.Name, got, want)
		}
	}
}

// The lowest rate of the latest requests counts, and only for its model.
func TestMeasuredPrefillTime(t *testing.T) {
	t.Parallel()
	u := upstreamAt(t, Config{Name: "u", Kind: LlamaCpp}, "gpu")
	u.LearnPrefill("m", 999, time.Millisecond) // too short to say anything
	if got := u.PrefillTime("m", 1000); got != 20*time.Second {
		t.Errorf("without a rate: %s", got)
	}
	u.LearnPrefill("m", 2000, time.Second)
	u.LearnPrefill("m", 2000, 4*time.Second)
	u.LearnPrefill("m", 2000, 2*time.Second)
	if got := u.PrefillTime("m", 1000); got != 4*time.Second {
		t.Errorf("at 500 tokens a second at least: %s, want twice 2s", got)
	}
	for range measuredRates {
		u.LearnPrefill("m", 2000, time.Second)
	}
	if got := u.PrefillTime("m", 1000); got != time.Second {
		t.Errorf("a slow request is remembered for too long: %s", got)
	}
	if got := u.PrefillTime("other", 1000); got != 20*time.Second {
		t.Errorf("another model: %s", got)
	}
}

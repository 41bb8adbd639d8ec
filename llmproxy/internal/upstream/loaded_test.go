package upstream

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

func TestPreference(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		var loaded atomic.Value // the answer of /api/ps, or nothing for none
		loaded.Store(`{"models":[{"name":"a:latest","model":"a:latest"}]}`)
		u := upstreamAt(t, Config{Name: "u", Kind: Ollama, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(10 * time.Millisecond)
			if loaded.Load() == "" {
				return nil, errors.New("refused")
			}
			return answer(200, loaded.Load().(string)), nil
		})}, "gpu")
		r := u.Replicas[0]
		check := func(when, model string, want router.Preference, wantAsked int64) {
			t.Helper()
			got := u.Preference(r, model)
			synctest.Wait()
			if got != want || asked.Load() != wantAsked {
				t.Errorf("%s: %d after %d answers, want %d after %d", when, got, asked.Load(), want, wantAsked)
			}
		}
		check("at first", "a", router.Resident, 1)
		check("another model", "b", router.Loadable, 1)
		u.Use(r, "a", false)
		check("another model, while this one is in use", "b", router.InUse, 1)
		check("the one in use", "a:latest", router.Resident, 1)

		loaded.Store(`{"models":[]}`)
		time.Sleep(residentFresh + time.Second)
		check("a few seconds later, without waiting", "a", router.Resident, 2)
		time.Sleep(time.Second)
		check("after that answer", "a", router.Loadable, 2)

		time.Sleep(residentUse)
		check("when the model is no longer in use, after an answer", "b", router.Loadable, 3)

		loaded.Store(`{"models":[{"name":"b","model":"b"}]}`)
		time.Sleep(residentStale)
		check("after an hour, after an answer", "b", router.Resident, 4)
		loaded.Store("")
		time.Sleep(residentStale)
		check("without an answer, as before", "b", router.Resident, 5)
	})
}

// A model that is loading counts as in memory, so that no other replica loads it, too. A server that does not answer keeps no request.
func TestPreferenceWhileLoading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := upstreamAt(t, Config{Name: "u", Kind: Ollama, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})}, "gpu")
		began := time.Now()
		if got := u.Preference(u.Replicas[0], "m"); got != router.Loadable || time.Since(began) != residentWait {
			t.Errorf("%d after %s", got, time.Since(began))
		}
		done, since := u.Load(u.Replicas[0], "m", false)
		if got := u.Preference(u.Replicas[0], "m"); got != router.Resident {
			t.Errorf("while it is loading: %d", got)
		}
		time.Sleep(time.Second)
		if again, at := u.Load(u.Replicas[0], "m", false); again != done || at != since {
			t.Error("it is loaded twice at once")
		}
		<-done
		time.Sleep(probeTimeout) // until the server has been asked which models it has now
	})
}

// Only in router mode does llama.cpp have models that are not in memory.
func TestResidentInLlamaCpp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, models string
		want         map[string]router.Preference
	}{
		{"router mode", `{"data":[{"id":"a","status":{"value":"loaded","args":[]}},{"id":"b","status":{"value":"unloaded"}},{"id":"c","status":{"value":"loading"}},{"id":"d","status":{"value":"sleeping"}}]}`,
			map[string]router.Preference{"a": router.Resident, "b": router.Loadable, "c": router.Resident, "d": router.Loadable, "unknown": router.Loadable}},
		{"one model", `{"models":[{"name":"x.gguf"}],"data":[{"id":"x.gguf","meta":{}}]}`, map[string]router.Preference{"any": router.Resident}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := upstreamAt(t, Config{Name: "u", Kind: LlamaCpp, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path != "/models" {
					return answer(404, ""), nil
				}
				return answer(200, test.models), nil
			})}, "gpu")
			for model, want := range test.want {
				u.residents.outdate()
				if got := u.Preference(u.Replicas[0], model); got != want {
					t.Errorf("%s: %d, want %d", model, got, want)
				}
			}
		})
	}
	if got := upstreamAt(t, Config{Name: "u", Kind: VLLM}, "gpu").Preference(nil, "m"); got != router.Resident {
		t.Errorf("vLLM: %d", got)
	}
}

// When Ollama unloads a model moves when a request for it ends. If none of the gateway's own did, another client uses the model.
func TestOtherClientsOfOllama(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var loaded atomic.Value
		says := func(a, b string) {
			loaded.Store(`{"models":[{"name":"a","expires_at":"2026-11-30T10:00:0` + a + `Z"},{"name":"b","expires_at":"2026-11-30T10:00:0` + b + `Z"}]}`)
		}
		u := upstreamAt(t, Config{Name: "u", Kind: Ollama, Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			return answer(200, loaded.Load().(string)), nil
		})}, "gpu")
		r := u.Replicas[0]
		check := func(when string, foreign int, want router.Preference) {
			t.Helper()
			time.Sleep(residentFresh + time.Second)
			u.FreshenResidents(false)
			synctest.Wait()
			if got := u.Preference(r, "c"); got != want || r.Queue().Foreign() != foreign {
				t.Errorf("%s: preference %d and %d requests of others, want %d and %d", when, got, r.Queue().Foreign(), want, foreign)
			}
		}
		says("1", "1")
		check("at first", 0, router.Loadable)
		check("nothing has changed", 0, router.Loadable)
		u.Use(r, "a", false)
		says("2", "1")
		check("after a request of the gateway", 0, router.InUse)
		time.Sleep(residentUse)
		check("later, after a long time without questions", 0, router.Loadable)
		says("3", "1")
		check("another client's request for a", 1, router.InUse)
		time.Sleep(5 * time.Second) // until that counts no longer
		says("4", "1")
		slot := new(admission.Slot)
		u.Take(0, "a", false, slot)
		check("while there is one of the gateway", 0, router.InUse)
		says("4", "2")
		check("another client's for b meanwhile", 1, router.InUse)
		slot.Release(admission.Usage{})
		time.Sleep(residentUse)
		says("5", "3")
		check("so long after the last list that it may be over", 0, router.Loadable)
	})
}

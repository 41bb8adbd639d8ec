package e2e

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func TestModels(t *testing.T) {
	g := fleetGateway(t)

	t.Run("configured and found", func(t *testing.T) {
		listed := modelIDs(t, g.url)
		for _, want := range []string{"ollama-chat", "llama-chat", "org/chat:v1", "tiny", "tiny:latest", "team/tiny:v1", "tiny-embed"} {
			if !slices.Contains(listed, want) {
				t.Errorf("%q is not in the list %q", want, listed)
			}
		}
	})

	for _, id := range []string{"llama-chat", "org/chat:v1", "team/tiny:v1"} {
		for name, path := range map[string]string{"as it is": id, "escaped": url.PathEscape(id)} {
			t.Run("by id, "+name+", "+id, func(t *testing.T) {
				answer := call(t, http.MethodGet, g.url+"/v1/models/"+path, "")
				var model struct{ ID, Object string }
				answer.into(t, &model)
				if answer.status != http.StatusOK || model.ID != id || model.Object != "model" {
					t.Errorf("got %d %s", answer.status, answer.body)
				}
			})
		}
	}

	for id, target := range map[string]string{"org/chat:v1": "llama/tiny", "team/tiny:v1": "ollama/team/tiny:v1"} {
		t.Run("chat by the id "+id, func(t *testing.T) {
			answer := chat(t, g.url, `{"model":"`+id+`","messages":[{"role":"user","content":"hi"}]}`)
			if got := answer.completion(t).Choices[0].Message.Content; got != hello {
				t.Errorf("got %q", got)
			}
			if got := answer.header.Get("X-LLM-Target"); got != target {
				t.Errorf("X-LLM-Target is %q, want %q", got, target)
			}
		})
	}

	t.Run("unknown id", func(t *testing.T) {
		answer := call(t, http.MethodGet, g.url+"/v1/models/nobody/has:this", "")
		if failure := answer.failure(t); answer.status != http.StatusNotFound || failure.Code != "model_not_found" {
			t.Errorf("got %d %s", answer.status, answer.body)
		}
	})
}

// modelIDs asks until the live lists have arrived: they are fetched in the background.
func modelIDs(t *testing.T, base string) (ids []string) {
	t.Helper()
	eventually(t, 15e9, "the servers' own models in /v1/models", func() bool {
		var list struct{ Data []struct{ ID string } }
		call(t, http.MethodGet, base+"/v1/models", "").into(t, &list)
		ids = nil
		for _, m := range list.Data {
			ids = append(ids, m.ID)
		}
		return slices.Contains(ids, "tiny") || slices.Contains(ids, "tiny:latest")
	})
	return ids
}

package fakellm

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A model that has answered is in memory, as at a real server.
func TestOllamaHasLoadedWhatItWasAskedFor(t *testing.T) {
	s := Start(t, "ollama")
	loaded := func() (names []string) {
		res, err := http.Get(s.URL() + "/api/ps")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var list struct{ Models []struct{ Name string } }
		if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		for _, m := range list.Models {
			names = append(names, m.Name)
		}
		return names
	}
	for _, model := range []string{"qwen3:4b", "tiny:latest", "qwen3:4b"} {
		res, err := http.Post(s.URL()+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"`+model+`","messages":[{"role":"user","content":"Hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if diff := cmp.Diff([]string{"tiny", "qwen3:4b"}, loaded()); diff != "" {
		t.Error(diff)
	}
}

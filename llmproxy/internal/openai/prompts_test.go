package openai

import (
	"strconv"
	"testing"
)

func TestChoices(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		want       int
	}{
		{"a text", `{"prompt":"a"}`, 1},
		{"texts", `{"prompt":["a","b","c"]}`, 3},
		{"tokens", `{"prompt":[1,2,3]}`, 1},
		{"lists of tokens", `{"prompt":[[1,2],[3]]}`, 2},
		{"several of each", `{"n":4,"prompt":["a","b"]}`, 8},
		{"none", `{"prompt":[],"n":2}`, 2},
		{"no prompt", `{}`, 1},
		{"more than can be", `{"n":` + strconv.Itoa(1<<62) + `,"prompt":["a","b"]}`, maxChoices},
	} {
		t.Run(test.name, func(t *testing.T) {
			var h Head
			if err := h.Parse([]byte(test.body)); err != nil {
				t.Fatal(err)
			}
			if h.CountPrompts(); h.Choices() != test.want {
				t.Errorf("%d choices", h.Choices())
			}
		})
	}
}

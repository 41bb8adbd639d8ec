package canonjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// A leaf is a value of a random document that can be changed.
type leaf struct{ change func() }

// A grower makes random documents, the same from the same seed.
type grower struct {
	*rand.Rand
	leaves []leaf
}

// value is anything; put sets it anew in its place.
func (g *grower) value(depth int, put func(any)) any {
	switch n := g.IntN(6); {
	case depth > 0 && n < 2:
		object := map[string]any{}
		for i := range 1 + g.IntN(5) {
			k := fmt.Sprintf("key %d %s", i, strings.Repeat("ü", g.IntN(3)))
			object[k] = g.value(depth-1, func(v any) { object[k] = v })
		}
		return object
	case depth > 0 && n == 2:
		list := make([]any, 1+g.IntN(4))
		for i := range list {
			list[i] = g.value(depth-1, func(v any) { list[i] = v })
		}
		return list
	default:
		v := g.scalar()
		g.leaves = append(g.leaves, leaf{func() {
			for {
				if other := g.scalar(); other != v {
					put(other)
					return
				}
			}
		}})
		return v
	}
}

func (g *grower) scalar() any {
	switch g.IntN(5) {
	case 0:
		return nil
	case 1:
		return g.IntN(2) == 0
	case 2:
		return float64(g.IntN(2000)-1000) / 8
	case 3:
		return strings.Repeat("long \"text\"\n", 5+g.IntN(9)) + string(rune('a'+g.IntN(26)))
	}
	return fmt.Sprint("text ", g.IntN(1000))
}

// permuted writes a document with the keys of each object in a random order, and white space between.
func (g *grower) permuted(v any) string {
	space := strings.Repeat(" \n", g.IntN(2))
	switch v := v.(type) {
	case map[string]any:
		var members []string
		for k, inner := range v { // the order of maps is a random one
			members = append(members, g.permuted(k)+space+":"+g.permuted(inner))
		}
		g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		return "{" + space + strings.Join(members, space+",") + "}"
	case []any:
		var items []string
		for _, inner := range v {
			items = append(items, g.permuted(inner))
		}
		return "[" + strings.Join(items, ","+space) + space + "]"
	}
	text, _ := json.Marshal(v) // scalars
	return string(text)
}

// The order of keys does not matter; every single value does.
func TestRandomDocuments(t *testing.T) {
	t.Parallel()
	var e Encoder
	form := func(text string) []byte {
		t.Helper()
		f, err := e.Value([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return bytes.Clone(f)
	}
	for seed := range uint64(500) {
		g := grower{Rand: rand.New(rand.NewPCG(seed, 1))}
		document := map[string]any{}
		document["root"] = g.value(4, func(v any) { document["root"] = v })
		first := g.permuted(document)
		want := form(first)
		if second := g.permuted(document); !bytes.Equal(form(second), want) {
			t.Fatalf("seed %d: these differ:\n%s\n%s", seed, first, second)
		}
		if len(g.leaves) == 0 {
			continue
		}
		g.leaves[g.IntN(len(g.leaves))].change()
		if other := g.permuted(document); bytes.Equal(form(other), want) {
			t.Fatalf("seed %d: these are the same:\n%s\n%s", seed, first, other)
		}
	}
}

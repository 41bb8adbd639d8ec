package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A pair is two questions, and whether they ask for the same.
type pair struct {
	same       bool
	why        string
	a, b       string
	similarity float64 // of their embeddings
	guarded    bool    // the gateway's guard does not let it pass
}

func pairs(t *testing.T, file string) (list []pair) {
	t.Helper()
	text, err := os.ReadFile("semantic/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 || fields[0] != "same" && fields[0] != "different" {
			t.Fatalf("no pair: %q", line)
		}
		list = append(list, pair{same: fields[0] == "same", why: fields[1], a: fields[2], b: fields[3]})
	}
	return list
}

// counted is how many pairs with the same meaning, and how many with another one, get one answer at a threshold.
func counted(list []pair, threshold float64, guard bool) (right, wrong int) {
	for _, p := range list {
		switch {
		case p.similarity < threshold || guard && p.guarded:
		case p.same:
			right++
		default:
			wrong++
		}
	}
	return right, wrong
}

// What docs/cache.md says of semantic: how often the answer to another question is given, and how often it should be. All
// pairs are asked through the gateway, with a real model for embeddings.
func TestSemanticPairs(t *testing.T) {
	minilm := startLlama(t, "minilm", "--embeddings", "--ctx", "512")
	for _, test := range []struct {
		file        string
		pairs, same int
		right       int // answers to questions in other words at the default threshold, at least
	}{{"pairs.tsv", 200, 100, 38}, {"unseen.tsv", 100, 40, 16}, {"fresh.tsv", 100, 40, 17}} {
		t.Run(test.file, func(t *testing.T) {
			list, same := pairs(t, test.file), 0
			for i, p := range list {
				list[i].similarity = cosine(embeddings(t, minilm.url(), p.a, p.b))
				if p.same {
					same++
				}
			}
			if len(list) != test.pairs || same != test.same {
				t.Fatalf("%d pairs, %d of them with the same meaning", len(list), same)
			}
			byDefault(t, minilm, list, test.right)
			byThreshold(t, minilm, list)
		})
	}
}

// byDefault asks all pairs as the gateway is without a word on the threshold.
func byDefault(t *testing.T, minilm *server, list []pair, least int) {
	usual := semanticGateway(t, minilm, "")
	var right, wrong int
	for i, p := range list {
		how, _ := asked(t, usual, i, p)
		switch {
		case how != "semantic":
		case p.same:
			right++
		default:
			wrong++
			t.Logf("%q got the answer to %q", p.b, p.a)
		}
	}
	t.Logf("at the default threshold: precision %.3f, recall %.2f", precision(right, wrong), recall(list, right))
	if precision(right, wrong) < 0.98 || right < least {
		t.Errorf("%d right and %d wrong answers: docs/cache.md says otherwise", right, wrong)
	}
}

// byThreshold finds what the guard lets pass, and counts at several thresholds, with and without it.
func byThreshold(t *testing.T, minilm *server, list []pair) {
	guardAlone := semanticGateway(t, minilm, "threshold 0.1")
	for i, p := range list {
		how, similarity := asked(t, guardAlone, i, p)
		list[i].guarded = how != "semantic"
		if how == "semantic" && math.Abs(similarity-p.similarity) > 0.002 {
			t.Errorf("%q and %q: %.3f, but the gateway says %.3f", p.a, p.b, p.similarity, similarity)
		}
	}
	for _, threshold := range []float64{0.80, 0.85, 0.90, 0.95, 0.97} {
		right, wrong := counted(list, threshold, true)
		all, bad := counted(list, threshold, false)
		t.Logf("threshold %.2f: precision %.3f, recall %.2f; without the guard %.3f, %.2f", threshold,
			precision(right, wrong), recall(list, right), precision(all, bad), recall(list, all))
		if precision(right, wrong) < 0.98 || precision(all, bad) > 0.9 {
			t.Errorf("threshold %.2f: docs/cache.md says otherwise", threshold)
		}
	}
}

func precision(right, wrong int) float64 { return float64(right) / float64(max(right+wrong, 1)) }

// recall is how many of the pairs with the same meaning these are.
func recall(list []pair, right int) float64 {
	same, _ := counted(list, -1, false)
	return float64(right) / float64(same)
}

func semanticGateway(t *testing.T, minilm *server, line string) *gateway {
	return startGateway(t, directive(`
	llm_proxy {
		upstream llama llamacpp LLAMA
		upstream minilm llamacpp MINILM
		model chat llama/tiny
		cache {
			semantic {
				embed minilm/minilm
				timeout 30s
				LINE
			}
		}
	}`, "LLAMA", servers(t).llama.url(), "MINILM", minilm.url(), "LINE", line))
}

// asked asks both questions of a pair, in a conversation of their own, and gives what the cache did with the second.
func asked(t *testing.T, g *gateway, n int, p pair) (how string, similarity float64) {
	t.Helper()
	for _, question := range []string{p.a, p.b} {
		body, err := json.Marshal(map[string]any{"model": "chat", "messages": []map[string]string{
			{"role": "system", "content": fmt.Sprint("Conversation ", n)}, {"role": "user", "content": question},
		}})
		if err != nil {
			t.Fatal(err)
		}
		answer := call(t, http.MethodPost, g.url+"/v1/chat/completions", string(body))
		if answer.status != http.StatusOK {
			t.Fatalf("%q: %d %s", question, answer.status, answer.body)
		}
		how = answer.header.Get("X-LLM-Cache")
		similarity, _ = strconv.ParseFloat(answer.header.Get("X-LLM-Cache-Similarity"), 64) // none of a miss
	}
	return how, similarity
}

// embeddings asks the server itself.
func embeddings(t *testing.T, base, a, b string) (vectors [2][]float64) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"model": "minilm", "input": []string{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Data []struct{ Embedding []float64 }
	}
	call(t, http.MethodPost, base+"/v1/embeddings", string(body)).into(t, &list)
	if len(list.Data) != 2 {
		t.Fatalf("%d vectors", len(list.Data))
	}
	return [2][]float64{list.Data[0].Embedding, list.Data[1].Embedding}
}

func cosine(v [2][]float64) float64 {
	var product, a, b float64
	for i := range v[0] {
		product += v[0][i] * v[1][i]
		a += v[0][i] * v[0][i]
		b += v[1][i] * v[1][i]
	}
	return product / math.Sqrt(a*b)
}

package upstream

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/dialect"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/thinking"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// VLLM is the kind of vLLM's server.
//
// It has no default limit of slots: it batches as many requests as fit in its memory, so holding requests back would only cost time. How
// many that are shows when it is overloaded.
// While it loads, it does not listen.
var VLLM = &Kind{
	Name: "vllm", LocalAddress: "127.0.0.1:8000", basePath: "/v1", local: true,
	chat:          dialect.ChatOptions{TopK: true, Reasoning: true},
	knob:          thinking.VLLM,
	avoids:        responses, // its own knows functions only, and old versions stream tool calls as text (vllm-project/vllm#36435), but it may store responses
	saysReasoning: true,
	counters:      []countWay{countByMessages, countByTokenize},
	tokenize:      tokenizeByVLLM,
	version:       versionAt("/version"),
	detect:        isVLLM,
	capabilities:  vllmCapabilities,
	health:        vllmHealth,
	work:          vllmMeters.read,
	statedSlots:   vllmSequences,
	settings:      vllmSettings,
	SlotsSetting:  "--max-num-seqs", ContextSetting: "--max-model-len",
	reportsLoad: true,
	learnsSlots: true,
	prefillRate: rateOfBatches,
	errors: []errorRow{
		{param: "input_tokens", is: router.Unsupported},
		{param: "input_text", is: router.Unsupported},
		{text: "requires --enable-auto-tool-choice", is: router.Unsupported},
		{text: "is not a multimodal model", is: router.Unsupported},
		{from: 400, text: "(s) may be provided in one prompt", is: router.Unsupported}, // more images than it takes
	},
	outputPatterns: []*regexp.Regexp{
		// Up to 0.17, with max_tokens as the parameter.
		regexp.MustCompile(`is too large: \d+\. This model's maximum context length is (?P<limit>\d+) tokens and your request has (?P<used>\d+) input tokens`),
		// From 0.18 on. "At least" before the number would mean that the prompt was not counted completely.
		regexp.MustCompile(`maximum context length is (?P<limit>\d+) tokens\. However, you requested \d+ output tokens and your prompt contains (?P<used>\d+) input tokens`),
		// 0.32, which itself lowers the maximum if it exceeds only what the prompt leaves.
		regexp.MustCompile(`cannot be greater than max_model_len=(?P<limit>\d+)`),
	},
}

// isVLLM reports whether a server is vLLM. Others have a /version too, but their models have other owners.
func isVLLM(p *probe, list *listing) (bool, error) {
	listed := list.owners(func(m Model) bool { return m.Owner == "vllm" })
	if len(list.models) > 0 && !listed {
		return false, nil
	}
	version, err := p.object("/version")
	if err != nil || text(version["version"]) == "" {
		return false, err
	}
	if listed {
		return true, nil
	}
	// Without a valid key, vLLM shows no list, but everything outside of /v1.
	status, page, err := p.get("/metrics")
	return status == http.StatusOK && (bytes.HasPrefix(page, []byte("vllm:")) || bytes.Contains(page, []byte("\nvllm:"))), err
}

// vllmMeters count a prompt after all of it was read. Until then, its batches fill the cache.
var vllmMeters = meters{
	progress: []string{"vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"},
	steady:   []string{"vllm:generation_tokens_total"},
	queued:   []string{"vllm:num_requests_waiting"},
	running:  []string{"vllm:num_requests_running"},
	details:  vllmLoad,
}

// vllmLoad reads what vLLM says about its load beyond the number of requests. Requests wait inside of it also for other reasons than its
// capacity, such as a grammar that is being compiled; newer versions tell these apart.
func vllmLoad(page []byte, l *admission.Load) {
	l.Learns = true
	byReason, reasons := 0.0, false
	eachMetric(page, func(name, labels string, value float64) {
		switch name {
		case "vllm:num_requests_waiting_by_reason":
			if reasons = true; labelValue(labels, "reason") == "capacity" {
				byReason += value
			}
		case "vllm:num_preemptions_total":
			l.Preemptions += value
		case "vllm:cache_config_info": // one for each engine
			l.Tokens += vllmTokens(labels)
		}
	})
	if reasons {
		l.Waiting = countOf(byReason)
	}
}

// vllmTokens returns the size of the KV cache in tokens, which newer versions state. It is not the product of blocks and their size for
// models that do not attend to everything in all layers.
func vllmTokens(labels string) int {
	number := func(label string) int {
		n, _ := strconv.ParseFloat(labelValue(labels, label), 64) // "None" is zero
		return countOf(n)
	}
	return cmp.Or(number("kv_cache_size_tokens"), countOf(float64(number("num_gpu_blocks"))*float64(number("block_size"))))
}

// vllmHealth asks /health, which fails only if the engine is dead.
func vllmHealth(p *probe) replica.State {
	if p.ok("/health") {
		return replica.Up
	}
	return replica.Down
}

// vllmCapabilities reads the context windows from the list of models.
func vllmCapabilities(p *probe, _ []string) map[string]router.Capabilities {
	list := p.list()
	if !list.answered() {
		return nil // discovery reports the error
	}
	found := make(map[string]router.Capabilities, len(list.models))
	for _, m := range list.models {
		found[m.ID] = router.Capabilities{ContextWindow: m.ContextWindow}
	}
	return found
}

// countByTokenize asks vLLM's tokenizer, which applies the template of the model.
func countByTokenize(p *probe, q *question) (int64, error) {
	var answer struct{ Count int64 }
	err := p.askCount(tokenizePath, withModel(&q.chat, q.model), &answer)
	return answer.Count, err
}

const tokenizePath = "/tokenize" // of vLLM and llama.cpp

// tokenizeByVLLM passes a request on, with vLLM's names of what llama.cpp's clients say.
func tokenizeByVLLM(p *probe, request *jsonspan.Object, model string) (*Count, error) {
	var e jsonspan.Edit
	e.Reset(request)
	e.SetString("model", model)
	if e.Has("content") {
		e.Default("add_special", []byte("false"))
		for _, names := range [][2]string{{"content", "prompt"}, {"add_special", "add_special_tokens"}, {"with_pieces", "return_token_strs"}} {
			if e.Has(names[0]) {
				e.Rename(names[0], names[1])
			}
		}
	}
	a, err := p.fetch(http.MethodPost, tokenizePath, e.Bytes())
	if err != nil {
		return nil, err
	}
	c := &Count{Status: a.status, Header: a.header, Body: a.body}
	if a.status != http.StatusOK {
		return c, nil
	}
	var answer struct{ Count *int64 }
	if err := json.Unmarshal(a.body, &answer); err != nil || answer.Count == nil {
		return nil, fmt.Errorf("the answer has no count (%w)", errors.Join(err, ErrCannotCount))
	}
	c.Tokens = *answer.Count
	return c, nil
}

// vllmSequences asks for --max-num-seqs, which vLLM says only in its development mode (VLLM_SERVER_DEV_MODE=1).
func vllmSequences(p *probe) int {
	var info struct {
		Config struct {
			Scheduler struct {
				Most int `json:"max_num_seqs"`
			} `json:"scheduler_config"`
		} `json:"vllm_config"`
	}
	_ = p.json(http.MethodGet, "/server_info?config_format=json", nil, &info) // zero without an answer
	return info.Config.Scheduler.Most
}

// vllmSettings returns the command that starts the server.
func vllmSettings(s Setup) []string {
	command := fmt.Sprintf("vllm serve %s --max-model-len %d --max-num-seqs %d --gpu-memory-utilization 0.9", s.Model, s.Context, s.Slots)
	if s.CompressCache {
		command += " --kv-cache-dtype fp8"
	}
	return []string{command}
}

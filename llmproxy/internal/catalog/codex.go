package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A codexModel is a model as Codex reads it from GET /v1/models?client_version=X. Codex refuses the whole list if an entry lacks a member
// that its version demands, or has a value that it does not know. These are the members that 0.171 demands, and those that older versions did:
// 0.120, 0.169 and 0.171 read such a list.
type codexModel struct {
	Slug                 string          `json:"slug"`
	DisplayName          string          `json:"display_name"`
	Description          *string         `json:"description"`
	Levels               []codexLevel    `json:"supported_reasoning_levels"`
	ShellType            string          `json:"shell_type"`
	Visibility           string          `json:"visibility"`
	SupportedInAPI       bool            `json:"supported_in_api"`
	Priority             int             `json:"priority"`
	Upgrade              *string         `json:"upgrade"`
	Instructions         string          `json:"base_instructions"`
	SupportsSummaries    bool            `json:"supports_reasoning_summaries"`
	SupportVerbosity     bool            `json:"support_verbosity"`
	DefaultVerbosity     *string         `json:"default_verbosity"`
	ApplyPatch           *string         `json:"apply_patch_tool_type"`
	Truncation           codexTruncation `json:"truncation_policy"`
	ParallelCalls        bool            `json:"supports_parallel_tool_calls"`
	ContextWindow        int             `json:"context_window,omitempty"`
	MaxContextWindow     int             `json:"max_context_window,omitempty"`
	ExperimentalTools    []string        `json:"experimental_supported_tools"`
	InputModalities      []string        `json:"input_modalities"`
	MinimalClientVersion [3]int          `json:"minimal_client_version"`
}

type codexLevel struct {
	Effort      string `json:"effort"`
	Description string `json:"description"`
}

// codexTruncation bounds how much of the output of a tool the model gets.
type codexTruncation struct {
	Mode  string `json:"mode"`
	Limit int    `json:"limit"`
}

// codexLevels are for models that are known to think. There is no default, so that Codex asks for none unless its user does.
var codexLevels = []codexLevel{{"low", "Thinks briefly"}, {"medium", "Thinks as long as usual"}, {"high", "Thinks long"}}

// codexInstructions are what Codex tells a model first. It has instructions of its own for models that it knows or that no list has, and
// none for the others. They are short, because the context window of a local model is.
const codexInstructions = `You are a coding agent in the Codex CLI. You work with the user in a folder on their computer, with the tools that you are given. Be precise, safe and helpful.

- Find out instead of guessing: read files and run commands before you answer. Prefer rg to grep and find.
- Work until the task is done, then stop. Do not ask for what you can find out. If something cannot be done, say what and why.
- Before a group of commands, say in one short sentence what you are about to do. For a task of several steps, keep a plan if you have a tool for that.
- Change files with apply_patch if you have that tool, otherwise with commands. Change only what the task needs, in the style of the code around it.
- An AGENTS.md holds for all files in its folder and below. The deeper one wins, and what the user says wins over all.
- Check your work: run the tests or the build if there are any. Never claim a result that you have not seen.
- Do not commit, push, delete or install anything that the user did not ask for.
- At the end, say in a few sentences what you changed, and what you did not check. Write paths as code, such as ` + "`src/main.go:12`" + `.
`

// ListCodexModels is ListModels in the format that Codex reads, with an ETag. Models for embeddings are left out, and those that cannot
// call tools are not shown in its menu.
func (c *Catalog) ListCodexModels(ctx context.Context, localOnly bool, may func(model string) bool) (list []byte, etag string, err *openai.Error) {
	models := []codexModel{}
	for _, e := range c.entries(ctx, localOnly, may) {
		capabilities := e.ollamaCapabilities()
		can := func(word string) bool { return slices.Contains(capabilities, word) }
		if !can("completion") {
			continue
		}
		m := codexModel{
			Slug: e.ID, DisplayName: e.ID, Levels: []codexLevel{}, ShellType: "default", Visibility: "list", SupportedInAPI: true, Priority: len(models) + 1,
			Instructions: codexInstructions, Truncation: codexTruncation{"bytes", 10_000}, ParallelCalls: true,
			ContextWindow: e.ContextWindow, MaxContextWindow: e.ContextWindow, ExperimentalTools: []string{}, InputModalities: []string{"text"},
		}
		if n := e.ContextWindow; n > 0 {
			m.Truncation = codexTruncation{"tokens", min(max(n/8, 1000), 10_000)}
		}
		if can("vision") {
			m.InputModalities = append(m.InputModalities, "image")
		}
		if can("thinking") {
			m.Levels, m.SupportsSummaries = codexLevels, true
		}
		if !can("tools") {
			m.Visibility = "hide"
		}
		models = append(models, m)
	}
	list, err = encode(map[string]any{"models": models})
	sum := sha256.Sum256(list)
	return list, `"` + hex.EncodeToString(sum[:8]) + `"`, err
}

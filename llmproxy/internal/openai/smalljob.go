package openai

import (
	"bytes"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// The bounds of a small job, in tokens.
const (
	maxSmallPrompt = 8000
	maxSmallAnswer = 128
)

// smallJobOpening is how far into a text the instruction of a small job is looked for, in bytes. What follows is the conversation that
// the job is about, which may quote anything.
const smallJobOpening = 2 << 10

// smallJobs are sentences of the prompts by which clients ask for titles, tags and the like, in the system prompt or in the last user
// message. The summary that replaces a conversation which has become too long is not among them: it needs the model of the conversation,
// and finds its prompt cache.
var smallJobs = [][]byte{
	// Claude Code
	[]byte("Generate a concise, sentence-case title"),
	[]byte("Please write a 5-10 word title"),
	[]byte("Analyze if this message indicates a new conversation topic"),
	[]byte("Summarize this coding conversation in under 50 characters"),
	[]byte("Extract any file paths that this command reads or modifies"),
	[]byte("Your task is to process Bash commands that an AI coding agent wants to run"),
	// opencode, Crush
	[]byte("You are a title generator. You output ONLY"),
	[]byte("Generate a title for this conversation:"),
	[]byte("You will generate a short title based on the first message"),
	// Open WebUI
	[]byte("### Task:\nGenerate a concise, 3-5 word title"),
	[]byte("### Task:\nGenerate 1-3 broad tags"),
	[]byte("### Task:\nSuggest 3-5 relevant follow-up"),
	[]byte("### Task:\nAnalyze the chat history to determine the necessity of generating search queries"),
	[]byte("### Task:\nYou are an autocompletion system"),
	[]byte("Your task is to reflect the speaker's likely facial expression through a fitting emoji"),
}

// SmallJob reports whether a small model can do what the request asks for: it has no tools, no images, audio or files, and a prompt of at
// most 8000 tokens, and either its answer is limited to 128 tokens or it is one of the background calls that clients make for titles, tags
// and the like, recognized by their prompts.
func (s *Signals) SmallJob() bool {
	switch {
	case s.Tools+s.Images+s.Audio+s.Files > 0, s.PromptTokens > maxSmallPrompt:
		return false
	case s.MaxTokens > 0 && s.MaxTokens <= maxSmallAnswer:
		return true
	}
	return s.conversation && (isSmallJob(s.system) || isSmallJob(s.user))
}

// isSmallJob reports whether the content of a message begins as that of a small job.
func isSmallJob(content []byte) bool {
	if content == nil {
		return false
	}
	text := appendText(make([]byte, 0, smallJobOpening), content, smallJobOpening)
	return slices.ContainsFunc(smallJobs, func(sentence []byte) bool { return bytes.Contains(text, sentence) })
}

// noteSystem remembers the content of the first message that instructs the model.
func (s *Signals) noteSystem(role, content []byte) {
	if s.system == nil && (jsonspan.EqualString(role, "system") || jsonspan.EqualString(role, "developer")) {
		s.system = content
	}
}

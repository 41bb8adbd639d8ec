package fakellm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Steered lets the prompt decide about the answers for which Next has none, as with the model of the end-to-end tests; see steer.
func Steered() Option {
	return func(s *Server) { s.script.steer = steer }
}

// steer returns the answer that a conversation asks for. The rules are those of e2e/testmodel/mktiny.py, so that the same test gets
// the same answer of a real server; the first one that applies decides:
//
//	STATUS 529    this status, which a real server has no word for
//	BREAK         two words, and then an error, which a real server cannot be made to send
//	KEPT          "The notes are kept safely."
//	STORE         with tools, a call that writes "kept" into KEPT.txt: of Write, or of Codex's tools
//	FETCH         with tools, a call that reads notes.txt: of Read, or of Codex's tools
//	LONG          " one two three …" without end
//	a tool result "It is 21 degrees!"
//	tools         a call of get_weather: {"city":"Paris"}
//	an image      its type and its size
//	a schema      {"ok":true}
//	THINK         reasoning, and then the usual answer
//
// A word counts anywhere in the conversation. So a result of Read that contains STORE leads to the call of Write, and its file to the
// end.
func steer(body []byte) Answer {
	var request struct {
		Messages, Input     json.RawMessage
		Tools               []json.RawMessage
		Stream              bool
		MaxTokens           int `json:"max_tokens"`
		MaxCompletionTokens int `json:"max_completion_tokens"`
		MaxOutputTokens     int `json:"max_output_tokens"`
	}
	if json.Unmarshal(body, &request) != nil {
		return Answer{} // the kind refuses it
	}
	talk, tools := string(request.Messages)+string(request.Input), len(request.Tools) > 0
	has := func(word string) bool { return strings.Contains(talk, word) }
	switch status := statusWord.FindStringSubmatch(talk); {
	case status != nil:
		code, _ := strconv.Atoi(status[1]) // has three digits
		if code == http.StatusInternalServerError {
			return InternalError()
		}
		return Status(code)
	case has("BREAK"):
		return Answer{}.ErrorEventAfter(2)
	case has("KEPT"):
		return Text("The", " notes", " are", " kept", " safely.")
	case tools && has("STORE"):
		return Text().Call(steeredTool(body, writing))
	case tools && has("FETCH"):
		return Text().Call(steeredTool(body, reading))
	case has("LONG"):
		return endless(max(request.MaxTokens, request.MaxCompletionTokens, request.MaxOutputTokens), request.Stream)
	case toolResult.MatchString(talk):
		return Text("It", " is", " 21", " degrees", "!")
	case tools:
		return Text().Call("get_weather", `{"city":"Paris"}`)
	}
	if kind, data := imageType.FindStringSubmatch(talk), imageData.FindStringSubmatch(talk); kind != nil && data != nil {
		return Text("An ", kind[1], fmt.Sprintf(" of %d characters.", len(data[1])))
	}
	if wantsSchema.Match(body) {
		return Text(`{"ok"`, `:true}`)
	}
	if has("THINK") {
		return Text(defaultTokens...).Thinking("The", " user", " wants", " a greeting", ".")
	}
	return Answer{}
}

// A steeredCall is a call of a tool, if the request has the tool.
type steeredCall struct{ tool, arguments string }

// The calls that read and write a file. A real model knows only the last ones: those of Codex, some of which depend on its version and the model, and of Claude Code. The first that
// is possible is made; the last one always is.
var (
	reading = []steeredCall{
		{"exec_command", `{"cmd":"cat notes.txt"}`}, {"shell_command", `{"command":"cat notes.txt"}`}, {"shell", `{"command":["cat","notes.txt"]}`},
		{"Read", `{"file_path":"notes.txt"}`},
	}
	writing = []steeredCall{
		{"apply_patch", "*** Begin Patch\n*** Add File: KEPT.txt\n+kept\n*** End Patch\n"},
		{"exec_command", `{"cmd":"echo kept > KEPT.txt"}`}, {"shell_command", `{"command":"echo kept > KEPT.txt"}`}, {"shell", `{"command":["sh","-c","echo kept > KEPT.txt"]}`},
		{"Write", `{"file_path":"KEPT.txt","content":"kept"}`},
	}
)

// steeredTool returns the tool and the arguments of the call. The input of a custom tool is a parameter of the function that stands for it.
func steeredTool(body []byte, calls []steeredCall) (tool, arguments string) {
	tools := requestTools(body)
	for _, call := range calls[:len(calls)-1] {
		for _, t := range tools {
			switch {
			case t.Name != call.tool || t.namespace != "":
			case call.tool == "apply_patch" && t.Type != "custom":
				return call.tool, `{"input":` + quote(call.arguments) + `}`
			default:
				return call.tool, call.arguments
			}
		}
	}
	last := calls[len(calls)-1]
	return last.tool, last.arguments
}

var (
	statusWord = regexp.MustCompile(`\bSTATUS (\d{3})\b`)
	// The format of the answer, at OpenAI's chat and Responses API, and at Anthropic's.
	wantsSchema = regexp.MustCompile(`"(?:response_format|format)": ?\{[^{}]*"type": ?"json_schema"`)
	toolResult  = regexp.MustCompile(`"role": ?"tool"|"type": ?"(?:tool_result|\w+_call_output)"`)
	// An image in OpenAI's format, or in Anthropic's.
	imageType = regexp.MustCompile(`(?:data:|"media_type": ?")(image/\w+)`)
	imageData = regexp.MustCompile(`(?:;base64,|"data": ?")([\w+/=]+)`)
)

var numbers = []string{" one", " two", " three", " four", " five", " six", " seven", " eight", " nine", " ten"}

// endless counts as far as max_tokens allows, slowly enough for a client that leaves. Without a limit it takes minutes.
func endless(limit int, stream bool) Answer {
	const (
		interval = 10 * time.Millisecond
		minutes  = 20_000
	)
	if limit <= 0 || limit > minutes {
		limit = minutes
	}
	tokens := slices.Repeat(numbers, limit/len(numbers)+1)[:limit]
	answer := Text(tokens...).Finish("length")
	if stream {
		return answer.Interval(interval)
	}
	return answer.Delay(time.Duration(limit) * interval)
}

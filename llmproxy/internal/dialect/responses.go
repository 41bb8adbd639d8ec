package dialect

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A ResponseRequest is what the translation of an answer has to know about the request of the Responses API.
type ResponseRequest struct {
	// Echo has the members of the request that every response repeats, as JSON members with commas between them: as the client sent them,
	// or OpenAI's defaults. The service tier is not one of them: the answer states it.
	Echo []byte

	tools map[string]responseTool // by the names that the model sees, if they are not functions that the client knows by the same name
}

// tool returns the tool that a model calls by a name.
func (r *ResponseRequest) tool(name string) responseTool {
	if t, ok := r.tools[name]; ok {
		return t
	}
	return responseTool{name: name}
}

// addTool returns the name under which the model gets a tool.
func (r *ResponseRequest) addTool(t responseTool) string {
	name := t.modelName()
	for base, n := name, 2; ; n++ {
		known, taken := r.tools[name]
		if !taken || known == t {
			break
		}
		suffix := "_" + strconv.Itoa(n)
		name = base[:min(len(base), longestName-len(suffix))] + suffix
	}
	if r.tools == nil {
		r.tools = map[string]responseTool{}
	}
	r.tools[name] = t
	return name
}

// nameOf returns the name under which the model knows a tool that it has called. Clients may write a name and a namespace as one.
func (r *ResponseRequest) nameOf(t responseTool) string {
	name := t.modelName()
	known, taken := r.tools[name]
	if !taken {
		return r.addTool(t)
	}
	if known != t {
		for other, known := range r.tools {
			if known == t {
				return other
			}
		}
	}
	return name
}

// A responseTool is a tool as a client of the Responses API knows it. For the model, every tool is a function.
type responseTool struct {
	kind            toolKind
	namespace, name string // the namespace is empty for most tools
}

// namespaceOf returns a namespace, or "" for the one in which all functions are: Codex may name it.
func namespaceOf(value []byte) string {
	if name := str(value); name != "functions" {
		return name
	}
	return ""
}

// modelName returns the name of the function that stands for the tool, unless another tool has it. It is how Codex itself writes a name with
// its namespace where there are no namespaces.
func (t responseTool) modelName() string {
	if t.namespace == "" {
		return shortName(t.name)
	}
	return shortName(strings.TrimRight(t.namespace, "_") + "__" + strings.TrimLeft(t.name, "_"))
}

// A toolKind is the kind of a tool that the client runs.
type toolKind uint8

const (
	functionTool toolKind = iota
	customTool            // takes any text
	localShellTool
	shellTool
	applyPatchTool
	toolSearchTool
)

// callItems are the items with which such a tool is called, and those with its output. The argument is the member of the call with the
// arguments: a string for functions and custom tools, otherwise an object. The ID of a call begins with id.
var callItems = [...]struct{ call, output, argument, id string }{
	functionTool:   {"function_call", "function_call_output", "arguments", "fc_"},
	customTool:     {"custom_tool_call", "custom_tool_call_output", "input", "ctc_"},
	localShellTool: {"local_shell_call", "local_shell_call_output", "action", "lsh_"},
	shellTool:      {"shell_call", "shell_call_output", "action", "sh_"},
	applyPatchTool: {"apply_patch_call", "apply_patch_call_output", "operation", "apc_"},
	toolSearchTool: {"tool_search_call", "tool_search_output", "arguments", "tsc_"},
}

// customInput is the only parameter of a function that stands for a custom tool. It is a string.
const customInput = "input"

// customArguments returns the arguments of that function for the input of a custom tool.
func customArguments(input string) []byte {
	return append(jsonspan.AppendString([]byte(`{"`+customInput+`":`), input), '}')
}

// reasoningMembers are the members of a chat message that have its reasoning. Some models need all of them back, unchanged, while they
// call tools. The last is a list of those tool calls that have extra_content, in which Gemini's signatures are: their id, and that member.
var reasoningMembers = []string{"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "tool_calls"}

// ownReasoning begins an encrypted_content that the gateway made.
const ownReasoning = "llm_proxy_"

var reasoningEncoding = base64.RawURLEncoding.Strict()

// encodeReasoning returns an encrypted_content for the reasoning of a chat message: some of reasoningMembers, as JSON members with commas
// between them. The client sends it back, because the gateway stores nothing.
func encodeReasoning(members []byte) string {
	return ownReasoning + reasoningEncoding.EncodeToString(members)
}

// decodeReasoning returns the members that encodeReasoning was given. It returns false for anything else, such as the encrypted_content of
// a service.
func decodeReasoning(encrypted string) (members []byte, ok bool) {
	rest, ok := strings.CutPrefix(encrypted, ownReasoning)
	if !ok {
		return nil, false
	}
	members, err := reasoningEncoding.DecodeString(rest)
	if err != nil || len(members) == 0 {
		return nil, false
	}
	var o jsonspan.Object
	if o.Scan(slices.Concat([]byte("{"), members, []byte("}"))) != nil {
		return nil, false
	}
	for _, m := range o.Members { // the client may have made it up
		if !slices.Contains(reasoningMembers, string(m.Key.Of(o.Body))) {
			return nil, false
		}
	}
	return members, true
}

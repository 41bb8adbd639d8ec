package dialect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
)

// A toolList writes the tools of a request for the Responses API as functions. It has no comma before the first.
type toolList struct {
	writer
	about   *ResponseRequest
	names   []string // of the functions
	allowed []byte   // the tools that the request allows; nil for all
	// loading means that the tools come from the input, in which the same tool may come again.
	loading bool
}

// toolTypes are the types of the tools that the client runs, by their kind.
var toolTypes = [...]string{
	functionTool: "function", customTool: "custom", localShellTool: "local_shell", shellTool: "shell", applyPatchTool: "apply_patch", toolSearchTool: "tool_search",
}

// serverTools are the tools that run at a service, apart from web_search and its variants, by what a request loses without them: nothing
// but an ability that the model may do without, or the data of the client, about which the model would make things up.
var serverTools = map[string]struct{ needed bool }{
	"image_generation": {false}, "programmatic_tool_calling": {false},
	"file_search": {true}, "mcp": {true}, "computer": {true}, "computer_use": {true}, "computer_use_preview": {true},
}

// add adds tools.
func (l *toolList) add(list []byte, place string) *openai.Error {
	return eachBlock(list, place, func(kind string, tool []byte, place string) *openai.Error {
		if kind == "namespace" {
			return l.addNamespace(tool, place)
		}
		return l.addTool(kind, tool, "", nil, place)
	})
}

// addNamespace adds the tools of a namespace. Its description is part of that of its first tool.
func (l *toolList) addNamespace(namespace []byte, place string) *openai.Error {
	var v [3][]byte
	object(namespace, []string{"name", "description", "tools"}, v[:])
	if !isText(v[0]) {
		return invalid(place+".name", "is missing")
	}
	name, description := namespaceOf(v[0]), v[1]
	return eachBlock(v[2], place+".tools", func(kind string, tool []byte, place string) *openai.Error {
		if kind != "function" && kind != "custom" {
			return invalid(place+".type", fmt.Sprintf("a tool of type %.60q cannot be part of a namespace; use function or custom", kind))
		}
		before := len(l.names)
		err := l.addTool(kind, tool, name, description, place)
		if len(l.names) > before {
			description = nil
		}
		return err
	})
}

func (l *toolList) addTool(kind string, tool []byte, namespace string, above []byte, place string) *openai.Error {
	var v [7][]byte
	object(tool, []string{"name", "description", "parameters", "strict", "format", "execution", "environment"}, v[:])
	t := responseTool{namespace: namespace}
	f := function{descriptions: [3][]byte{above, v[1]}, parameters: v[2], strict: v[3]}
	switch {
	case kind == "function", kind == "custom":
		if !isText(v[0]) {
			return invalid(place+".name", "is missing")
		}
		if t.name = str(v[0]); kind == "custom" {
			t.kind = customTool
			f.descriptions[2], f.parameters, f.strict = customDescription(v[4]), []byte(customParameters), nil
		}
	case kind == "local_shell":
		t.kind, f = localShellTool, function{descriptions: [3][]byte{[]byte(localShellDescription)}, parameters: []byte(localShellParameters)}
	case kind == "shell":
		if environment := str(get(v[6], "type")); environment != "" && environment != "local" {
			return invalid(place+".environment.type", fmt.Sprintf("%.60q is at the service; the server of this model has none, use local", environment))
		}
		t.kind, f = shellTool, function{descriptions: [3][]byte{[]byte(shellDescription)}, parameters: []byte(shellParameters)}
	case kind == "apply_patch":
		t.kind, f = applyPatchTool, function{descriptions: [3][]byte{[]byte(applyPatchDescription)}, parameters: []byte(applyPatchParameters)}
	case kind == "tool_search" && jsonspan.EqualString(v[5], "client"):
		t.kind = toolSearchTool
	case kind == "tool_search", strings.HasPrefix(kind, "web_search"): // the model gets all tools anyway
		return nil
	case kind == "code_interpreter":
		container := get(tool, "container")
		if isText(container) || get(container, "file_ids") != nil {
			return invalid(place+".container", "the server of this model has no containers and no files; leave out the tool")
		}
		return nil
	default:
		return refuseServerTool(kind, place)
	}
	if t.kind > customTool {
		t.name = kind
	}
	return l.define(t, f, place)
}

// refuseServerTool returns an error for a tool that the request needs, but that does not run at the server of the model.
func refuseServerTool(kind, place string) *openai.Error {
	switch server, known := serverTools[kind]; {
	case !known:
		return invalid(place+".type", fmt.Sprintf("a tool of type %.60q cannot be translated for this model; use function", kind))
	case server.needed:
		return invalid(place+".type", fmt.Sprintf("the tool %.60q does not run at the server of this model; leave it out, or offer the model a function", kind))
	}
	return nil
}

// A function is what the model gets to know of a tool.
type function struct {
	descriptions       [3][]byte // strings; nil if absent
	parameters, strict []byte
}

// define writes a function.
func (l *toolList) define(t responseTool, f function, place string) *openai.Error {
	if !l.allows(t) {
		return nil
	}
	name := l.about.addTool(t)
	if slices.Contains(l.names, name) {
		if l.loading {
			return nil
		}
		return invalid(place, fmt.Sprintf("there are two tools named %.80q; give each its own name", t.name))
	}
	l.names = append(l.names, name)
	if len(l.b) > 0 {
		l.raw(",")
	}
	l.raw(`{"type":"function","function":{`)
	l.text("name", name)
	written := false
	for _, d := range f.descriptions {
		switch raw, _ := jsonspan.RawString(d); {
		case len(raw) == 0:
		case written:
			l.b = append(append(append(l.b[:len(l.b)-1], `\n\n`...), raw...), '"')
		default:
			l.rawText("description", raw)
			written = true
		}
	}
	if f.parameters != nil {
		l.member("parameters", f.parameters)
	}
	if f.strict != nil {
		l.member("strict", f.strict)
	}
	l.raw("}}")
	return nil
}

// allows reports whether the request lets the model call a tool.
func (l *toolList) allows(t responseTool) (allowed bool) {
	if l.allowed == nil {
		return true
	}
	jsonspan.Elements(l.allowed, func(tool []byte) bool { // what is no list allows nothing
		var v [3][]byte
		object(tool, []string{"type", "name", "namespace"}, v[:])
		switch kind := str(v[0]); {
		case kind == "namespace":
			allowed = t.kind <= customTool && t.namespace == namespaceOf(v[1])
		default:
			allowed = kind == toolTypes[t.kind] && t.isNamed(v[1], v[2])
		}
		return !allowed
	})
	return allowed
}

// isNamed reports whether the client means a tool by a name and a namespace, which need not be there.
func (t responseTool) isNamed(name, namespace []byte) bool {
	if t.kind > customTool { // there is only one
		return true
	}
	return t.name == str(name) && (namespace == nil || t.namespace == namespaceOf(namespace))
}

// find returns the name of the function that a tool_choice names, or "".
func (l *toolList) find(kind toolKind, choice []byte) string {
	var v [2][]byte
	object(choice, []string{"name", "namespace"}, v[:])
	for _, name := range l.names {
		if t := l.about.tool(name); t.kind == kind && t.isNamed(v[0], v[1]) {
			return name
		}
	}
	return ""
}

// customDescription returns how to call a function that stands for a custom tool, as JSON. Descriptions of such tools may say that they take
// no JSON, so this comes last.
func customDescription(format []byte) []byte {
	const how = "Call it with the text of the input as the argument " + customInput + "."
	var v [3][]byte
	object(format, []string{"type", "syntax", "definition"}, v[:])
	definition := str(v[2])
	switch {
	case str(v[0]) != "grammar" || definition == "":
		return []byte(`"` + how + `"`)
	case jsonspan.EqualString(v[1], "regex"):
		return jsonspan.AppendString(nil, how+" The text must match this regular expression:\n"+definition)
	}
	return jsonspan.AppendString(nil, how+" The text must match this Lark grammar:\n"+definition)
}

// The functions that stand for tools without parameters of their own. Their arguments become the argument of the call's item.
const (
	customParameters = `{"type":"object","properties":{"` + customInput + `":{"type":"string","description":"The text of the input, as it is."}},"required":["` + customInput + `"],"additionalProperties":false}`

	localShellDescription = `"Runs a command on the user's machine, and returns its output."`
	localShellParameters  = `{"type":"object","properties":{` +
		`"command":{"type":"array","items":{"type":"string"},"description":"The program and its arguments."},` +
		`"working_directory":{"type":"string","description":"Where to run it."},` +
		`"timeout_ms":{"type":"integer","description":"When to end it, in milliseconds."},` +
		`"env":{"type":"object","additionalProperties":{"type":"string"},"description":"Environment variables to set."}},"required":["command"],"additionalProperties":false}`

	shellDescription = `"Runs shell commands on the user's machine, and returns their output."`
	shellParameters  = `{"type":"object","properties":{` +
		`"commands":{"type":"array","items":{"type":"string"},"description":"The shell commands, which run one after the other."},` +
		`"timeout_ms":{"type":"integer","description":"When to end them, in milliseconds."},` +
		`"max_output_length":{"type":"integer","description":"How many characters of output to return."}},"required":["commands"],"additionalProperties":false}`

	applyPatchDescription = `"Creates, changes or deletes one file on the user's machine."`
	applyPatchParameters  = `{"type":"object","properties":{` +
		`"type":{"type":"string","enum":["create_file","update_file","delete_file"],"description":"What to do."},` +
		`"path":{"type":"string","description":"The path of the file, relative to the root of the workspace."},` +
		`"diff":{"type":"string","description":"For create_file, all lines of the file, each after a +. For update_file, the hunks: a line with @@, then the lines around the change after a space, removed lines after a -, and added lines after a +. Without line numbers."}},` +
		`"required":["type","path"],"additionalProperties":false}`
)

// HasOtherTools reports whether a list of tools of the Responses API has others than functions, which is all that some servers know.
func HasOtherTools(tools []byte) (found bool) {
	jsonspan.Elements(tools, func(tool []byte) bool {
		found = !jsonspan.EqualString(get(tool, "type"), "function")
		return !found
	})
	return found
}

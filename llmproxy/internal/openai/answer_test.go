package openai

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-llmproxy/caddy-llmproxy/tokens"
)

func TestAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       Answer
	}{
		{"chat", `{"choices":[{"message":{"content":"usage"}}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":3}}}`,
			Answer{Usage: tokens.Usage{Input: 10, Output: 5, Cached: 8, Reasoning: 3}, HasUsage: true}},
		{"responses", `{"output":[],"error":null,"usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":11},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2}}}`,
			Answer{Usage: tokens.Usage{Input: 12, Output: 7, Cached: 11, Reasoning: 2}, HasUsage: true}},
		{"Ollama's own", `{"message":{"content":"Hi"},"done":true,"prompt_eval_count":30,"eval_count":5}`, Answer{Usage: tokens.Usage{Input: 30, Output: 5}, HasUsage: true}},
		{"no usage", `{"data":[]}`, Answer{}},
		{"usage null", `{"usage":null}`, Answer{}},
		{"usage in seconds", `{"text":"Hi","usage":{"type":"duration","seconds":3}}`, Answer{Usage: tokens.Usage{AudioMillis: 3000}, HasUsage: true}},
		{"blank lines before the object", "\n\n \r\n{\"usage\":{\"prompt_tokens\":1}}", Answer{Usage: tokens.Usage{Input: 1}, HasUsage: true}},
		{"error with status 200", `{"error":{"code":502,"message":"down"}}`, Answer{Err: []byte(`{"code":502,"message":"down"}`)}},
		{"an error that is empty", `{"data":[],"error":""}`, Answer{}},
		{"error false", `{"data":[],"error":false}`, Answer{}},
		{"error 0", `{"error":0}`, Answer{}},
		{"an error without a reason", `{"error":{}}`, Answer{Err: []byte(`{}`)}},
		{"error as a string", `{"error":"down"}`, Answer{Err: []byte(`"down"`)}},
		{"array with errors", `[{"error":{"code":429}},{"error":{"code":500}}]`, Answer{Err: []byte(`{"code":429}`)}},
		{"array", `[{"x":1},2]`, Answer{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got Answer
			if err := got.Parse([]byte(tt.body)); err != nil {
				t.Fatalf("Parse = %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswerRejects(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, body string }{
		{"nothing", ""},
		{"blank lines only", "\n\n"},
		{"HTML page", "<html>502 Bad Gateway</html>"},
		{"truncated", `{"choices":[{"message":{"content":"Hel`},
		{"two objects", `{"a":1}{"a":1}`},
		{"string", `"hello"`},
		{"truncated array", `[{"error":{}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var a Answer
			if err := a.Parse([]byte(tt.body)); err == nil {
				t.Errorf("Parse accepted it: %+v", a)
			}
		})
	}
}

func TestParseError(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       Error
		ok         bool
	}{
		{"openai", `{"error":{"message":"no \"x\"","type":"invalid_request_error","param":"model","code":"model_not_found"}}`,
			Error{Message: `no "x"`, Type: "invalid_request_error", Code: "model_not_found", Param: "model"}, true},
		{"nulls", `{"error":{"message":"m","type":"t","param":null,"code":null}}`, Error{Message: "m", Type: "t"}, true},
		{"code as a number", `{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}`, Error{Message: "Invalid API Key", Type: "authentication_error", Code: "401"}, true},
		{"string", `{"error":"model 'x' not found"}`, Error{Message: "model 'x' not found"}, true},
		{"flat", `{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}`, Error{Message: "too long", Type: "BadRequestError", Code: "400"}, true},
		{"gemini", `[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]`, Error{Message: "API key not valid.", Type: "INVALID_ARGUMENT", Code: "400"}, true},
		{"anthropic", `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, Error{Message: "Overloaded", Type: "overloaded_error"}, true},
		{"detail", `{"detail":"Not Found"}`, Error{Message: "Not Found"}, true},
		{"list of details", `{"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required"},{"msg":"x"}]}`,
			Error{Message: "Field required", Details: []byte(`,"detail":[{"type":"missing","loc":["body","model"],"msg":"Field required"},{"msg":"x"}]`)}, true},
		{"message is an object with details", `{"object":"error","message":{"detail":[{"msg":"Extra inputs are not permitted"}]}}`, Error{Message: "Extra inputs are not permitted"}, true},
		{"message is an object", `{"object":"error","message":{"detail":[]}}`, Error{Message: `{"detail":[]}`}, true},
		{"code only", `{"error":{"code":"x"}}`, Error{Code: "x"}, true},
		{"error null", `{"error":null,"message":"m"}`, Error{Message: "m"}, true},
		{"error as a number", `{"error":5}`, Error{}, false},
		{"answer", `{"choices":[]}`, Error{}, false},
		{"HTML page", `<html>`, Error{}, false},
		{"nothing", ``, Error{}, false},
		{"truncated", `{"error":{"message":"m"`, Error{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseError([]byte(tt.body))
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
				t.Errorf("ParseError returned %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestErrorJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		err        Error
		json, flat string
	}{
		{"all", Error{Status: 404, Type: "invalid_request_error", Code: "model_not_found", Param: "model", Message: "no \"x\" <&>"},
			`{"error":{"message":"no \"x\" <&>","type":"invalid_request_error","param":"model","code":"model_not_found"}}`,
			`{"error":{"message":"no \"x\" <&>","type":"invalid_request_error","param":"model","code":"model_not_found"},"type":"error","code":"model_not_found","message":"no \"x\" <&>","param":"model","sequence_number":0}`},
		{"nulls", Error{Status: 502, Type: "server_error", Code: "", Param: "", Message: "a\nb\x01\\ é\xff"},
			`{"error":{"message":"a\nb\u0001\\ é�","type":"server_error","param":null,"code":null}}`,
			`{"error":{"message":"a\nb\u0001\\ é�","type":"server_error","param":null,"code":null},"type":"error","code":null,"message":"a\nb\u0001\\ é�","param":null,"sequence_number":0}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := string(tt.err.AppendJSON(nil)); got != tt.json || !json.Valid([]byte(got)) {
				t.Errorf("AppendJSON = %s\nwant       %s", got, tt.json)
			}
			if got := string(tt.err.AppendTypedJSON(nil, 0)); got != tt.flat || !json.Valid([]byte(got)) {
				t.Errorf("AppendTypedJSON = %s\nwant            %s", got, tt.flat)
			}
			if tt.err.Error() != tt.err.Message {
				t.Errorf("Error = %q", tt.err.Error())
			}
		})
	}
}

// TestCapturedBodies parses requests, answers and errors that were captured from real servers.
func TestCapturedBodies(t *testing.T) {
	t.Parallel()
	for name, body := range captured(t, ".json") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			switch {
			case strings.HasSuffix(name, ".request.json"):
				var r Request
				if err := r.Parse(body); err != nil || r.Model != "tiny" {
					t.Errorf("Parse = %v, model %q", err, r.Model)
				}
			case strings.HasSuffix(name, ".answer.json"):
				var a Answer
				if err := a.Parse(body); err != nil || !a.HasUsage || a.Usage.Input == 0 || a.Err != nil {
					t.Errorf("Parse = %v, %+v", err, a)
				}
			default:
				if e, ok := ParseError(body); !ok || e.Message == "" || e.Type == "" {
					t.Errorf("ParseError = %+v, %v", e, ok)
				}
			}
		})
	}
}

// captured returns the files of testdata whose names end with a suffix.
func captured(tb testing.TB, suffix string) map[string][]byte {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*" + suffix)
	if err != nil || len(paths) == 0 {
		tb.Fatal("no test data", err)
	}
	files := make(map[string][]byte, len(paths))
	for _, path := range paths {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			tb.Fatal(err)
		}
	}
	return files
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	body := captured(t, ".json")["llamacpp-chat-tools.answer.json"]
	var a Answer
	if n := testing.AllocsPerRun(100, func() {
		if err := a.Parse(body); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("Parse makes %v allocations, want none", n)
	}
}

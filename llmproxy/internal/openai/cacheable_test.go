package openai

import "testing"

func TestNotCacheable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, path, body, want string }{
		{"chat", "/v1/chat/completions", `{"model":"m","messages":[],"temperature":1,"n":3}`, ""},
		{"own tools", "/v1/chat/completions", `{"model":"m","tools":[{"type":"function","function":{}},{"type":"custom"},{"name":"f","input_schema":{}}]}`, ""},
		{"no tools", "/v1/chat/completions", `{"model":"m","tools":null}`, ""},
		{"not stored", "/v1/chat/completions", `{"model":"m","store":false}`, ""},
		{"text only", "/v1/chat/completions", `{"model":"m","modalities":["text"]}`, ""},
		{"null does not count", "/v1/chat/completions", `{"model":"m","previous_response_id":null,"audio":null}`, ""},
		{"stored", "/v1/chat/completions", `{"model":"m","store":true}`, "store"},
		{"store as a string", "/v1/chat/completions", `{"model":"m","store":"yes"}`, "store"},
		{"hosted tool", "/v1/chat/completions", `{"model":"m","tools":[{"type":"function"},{"type":"web_search"}]}`, "tools"},
		{"tools as an object", "/v1/chat/completions", `{"model":"m","tools":{"a":1}}`, "tools"},
		{"web search", "/v1/chat/completions", `{"model":"m","web_search_options":{}}`, "web_search_options"},
		{"audio output", "/v1/chat/completions", `{"model":"m","modalities":["text","\u0061udio"]}`, "modalities"},
		{"voice", "/v1/chat/completions", `{"model":"m","audio":{"voice":"x"}}`, "audio"},
		{"background", "/v1/responses", `{"model":"m","store":false,"background":true}`, "background"},
		{"previous response", "/v1/responses", `{"model":"m","store":false,"previous_response_id":"r"}`, "previous_response_id"},
		{"template", "/v1/responses", `{"model":"m","store":false,"prompt":{"id":"p"}}`, "prompt"},
		{"prompt", "/v1/completions", `{"model":"m","prompt":"p"}`, ""},
		{"responses store by default", "/v1/responses", `{"model":"m","input":"x"}`, "store"},
		{"null is the default", "/v1/responses", `{"model":"m","input":"x","store":null}`, "store"},
		{"responses not stored", "/v1/responses", `{"model":"m","input":"x","store":false}`, ""},
		{"background, with an escape", "/v1/responses", `{"model":"m","store":false,"b\u0061ckground":true}`, "background"},
		{"web search, in capitals", "/v1/chat/completions", `{"model":"m","Web_Search_Options":{}}`, "web_search_options"},
		{"hosted tool, with an escape", "/v1/chat/completions", `{"model":"m","tools":[{"type":"function","typ\u0065":"web_search"}]}`, "tools"},
		{"hosted tool in the first of two types", "/v1/chat/completions", `{"model":"m","tools":[{"type":"web_search","type":"function"}]}`, "tools"},
		{"reference to a stored item", "/v1/responses", `{"model":"m","store":false,"input":[{"type":"message"},{"type":"item_reference","id":"x"}]}`, "input"},
		{"items without a reference", "/v1/responses", `{"model":"m","store":false,"input":[{"role":"user","content":"item_reference"},"x"]}`, ""},
		{"cached content", "/v1/chat/completions", `{"model":"m","cached_content":"x"}`, "cached_content"},
		{"images", "/v1/images/generations", `{"model":"m"}`, "its endpoint"},
		{"embeddings", "/v1/embeddings", `{"model":"m","input":"x"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, _ := LookupEndpoint(test.path)
			if got := parseRequest(t, test.body).NotCacheable(e); got != test.want {
				t.Errorf("NotCacheable = %q, want %q", got, test.want)
			}
		})
	}
}

// Only what is clearly a function of the client's own may be cached, however services spell their tools.
func TestHostedTools(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		member string
		hosted bool
	}{
		{`"tools":[]`, false},
		{`"tools":null`, false},
		{`"tools":[{"type":"function","function":{"name":"f","parameters":{}}}]`, false},
		{`"tools":[{"type":"function","name":"f","parameters":{},"strict":true}]`, false},
		{`"tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral"}}]`, false},
		{`"tools":[{"type":"function","function":{"name":"web_search","parameters":{}}}]`, false},
		{`"tools":[{"type":null,"function":{"name":"f"}}]`, false},
		{`"tools":[{"type":"custom","name":"f","description":"d","format":{"type":"grammar"}}]`, false},
		{`"tools":[{"type":"custom","custom":{"name":"f"}}]`, false},
		{`"tools":[{"function":{"name":"f","parameters":{}}}]`, false},
		{`"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}]`, false},
		{`"tools":[{"name":"f","parameters":{}}]`, false},
		{`"tools":[{"functionDeclarations":[{"name":"f"}]}]`, false},
		{`"tools":[{"function_declarations":[{"name":"f"}]}]`, false},
		{`"tools":[{"functionDeclarations":[{"name":"f"}],"googleSearch":null}]`, false},
		{`"use_beam_search":true`, false},
		{`"web_search_options":null`, false},
		{`"enable_search":false`, false},
		{`"functions":[{"name":"web_search"}]`, false},
		{`"extra_body":{"google":{"thinking_config":{"include_thoughts":true}}}`, false},
		{`"audio":null`, false},

		{`"tools":[{"googleSearch":{}}]`, true},
		{`"tools":[{"google_search":{}}]`, true},
		{`"tools":[{"GoogleSearch":{}}]`, true},
		{`"tools":[{"google_search_retrieval":{}}]`, true},
		{`"tools":[{"googleSearchRetrieval":{"dynamicRetrievalConfig":{}}}]`, true},
		{`"tools":[{"urlContext":{}}]`, true},
		{`"tools":[{"url_context":{}}]`, true},
		{`"tools":[{"codeExecution":{}}]`, true},
		{`"tools":[{"code_execution":{}}]`, true},
		{`"tools":[{"enterpriseWebSearch":{}}]`, true},
		{`"tools":[{"googleMaps":{}}]`, true},
		{`"tools":[{"computerUse":{}}]`, true},
		{`"tools":[{"fileSearch":{"fileSearchStoreNames":["x"]}}]`, true},
		{`"tools":[{"retrieval":{"vertexAiSearch":{}}}]`, true},
		{`"tools":[{"functionDeclarations":[{"name":"f"}],"googleSearch":{}}]`, true},
		{`"tools":[{"type":"function","function":{"name":"f"}},{"googleSearch":{}}]`, true},
		{`"tools":[{"type":"function","function":{"name":"f"},"googleSearch":{}}]`, true},
		{`"tools":[{"type":"function","function":{"name":"f"},"something_new":{}}]`, true},
		{`"tools":[{"type":"web_search"}]`, true},
		{`"tools":[{"type":"web_search_preview"}]`, true},
		{`"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":5}]`, true},
		{`"tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]`, true},
		{`"tools":[{"type":"computer_20250124","name":"computer"}]`, true},
		{`"tools":[{"type":"computer_use_preview"}]`, true},
		{`"tools":[{"type":"code_execution_20250825","name":"code_execution"}]`, true},
		{`"tools":[{"type":"bash_20250124","name":"bash"}]`, true},
		{`"tools":[{"type":"file_search","vector_store_ids":["x"]}]`, true},
		{`"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]`, true},
		{`"tools":[{"type":"image_generation"}]`, true},
		{`"tools":[{"type":"mcp","server_url":"https://x"}]`, true},
		{`"tools":[{"type":"local_shell"}]`, true},
		{`"tools":[{"type":"openrouter:web_search"}]`, true},
		{`"tools":[{"type":"browser_search"}]`, true},
		{`"tools":[{"type":"x_search"}]`, true},
		{`"tools":[{"type":"retrieval","retrieval":{"knowledge_id":"x"}}]`, true},
		{`"tools":[{"type":"builtin_function","function":{"name":"$web_search"}}]`, true},
		{`"tools":[{"type":"function","function":{"name":"$web_search"}}]`, true},
		{`"tools":[{"type":"function","function":{"name":"\u0024web_search"}}]`, true},
		{`"tools":[{"type":"Function","function":{"name":"f"}}]`, true},
		{`"tools":[{"type":1}]`, true},
		{`"tools":[{"name":"web_search"}]`, true},
		{`"tools":[{"name":"f","description":"d"}]`, true},
		{`"tools":[{"description":"d","parameters":{}}]`, true},
		{`"tools":[{}]`, true},
		{`"tools":["web_search"]`, true},
		{`"tools":[null]`, true},
		{`"tools":"auto"`, true},
		{`"tools":{"googleSearch":{}}`, true},
		{`"web_search_options":{}`, true},
		{`"webSearchOptions":{}`, true},
		{`"WEB-SEARCH":true`, true},
		{`"enable_search":true`, true},
		{`"search_parameters":{"mode":"auto"}`, true},
		{`"search_recency_filter":"day"`, true},
		{`"search_settings":{}`, true},
		{`"plugins":[{"id":"web"}]`, true},
		{`"mcp_servers":[{"url":"https://x"}]`, true},
		{`"mcpServers":[]`, true},
		{`"data_sources":[{"type":"azure_search"}]`, true},
		{`"dataSources":[]`, true},
		{`"connectors":[{"id":"web-search"}]`, true},
		{`"container":"x"`, true},
		{`"agent_id":"x"`, true},
		{`"compound_custom":{"tools":{}}`, true},
		{`"retrieval_config":{}`, true},
		{`"grounding":{}`, true},
		{`"extra_body":{"enable_search":true}`, true},
		{`"extra_body":{"google":{"tools":[{"google_search":{}}]}}`, true},
		{`"extra_body":[]`, true},
	} {
		e, _ := LookupEndpoint("/v1/chat/completions")
		if why := parseRequest(t, `{"model":"m",`+test.member+`}`).NotCacheable(e); (why != "") != test.hosted {
			t.Errorf("%s: NotCacheable = %q", test.member, why)
		}
	}
}

func TestSearchesWeb(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]bool{
		"openai/gpt-4o": false, "openai/gpt-4o:online": true, "openai/gpt-4o:Online": true, "openai/gpt-4o:free": false, "gpt-4o-search-preview-2025-03-11": true,
		"gpt-5-search-api": true, "o3-deep-research": true, "sonar": true, "perplexity/sonar-pro": true, "llama-3.1-sonar-small-128k-online": true,
		"groq/compound-mini": true, "compound-beta": true, "llama3.1:8b": false, "online": false, "research": false,
	} {
		if SearchesWeb(model) != want {
			t.Errorf("SearchesWeb(%q) = %v", model, !want)
		}
	}
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, path, body string
		want             bool
	}{
		{"zero", "/v1/chat/completions", `{"model":"m","temperature":0}`, true},
		{"zero with sign and exponent", "/v1/chat/completions", `{"model":"m","temperature":-0.00e5}`, true},
		{"above zero", "/v1/chat/completions", `{"model":"m","temperature":0.01}`, false},
		{"string", "/v1/chat/completions", `{"model":"m","temperature":"0"}`, false},
		{"no temperature", "/v1/chat/completions", `{"model":"m"}`, false},
		{"two choices", "/v1/completions", `{"model":"m","temperature":0,"n":2}`, false},
		{"embeddings", "/v1/embeddings", `{"model":"m"}`, true},
		{"rerank", "/v1/rerank", `{"model":"m"}`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, _ := LookupEndpoint(test.path)
			if got := parseRequest(t, test.body).Deterministic(e); got != test.want {
				t.Errorf("Deterministic = %v", got)
			}
		})
	}
}

func TestFinishReasons(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body string
		choices    int
		complete   bool
		truncated  bool // complete if truncated choices count
	}{
		{"stop", `{"choices":[{"finish_reason":"stop"}]}`, 1, true, true},
		{"tool calls", `{"choices":[{"finish_reason":"tool_calls"}]}`, 1, true, true},
		{"length", `{"choices":[{"finish_reason":"length"}]}`, 1, false, true},
		{"filtered", `{"choices":[{"finish_reason":"content_filter"}]}`, 1, false, false},
		{"unknown", `{"choices":[{"finish_reason":"tired"}]}`, 1, false, false},
		{"unfinished", `{"choices":[{"finish_reason":null}]}`, 1, false, false},
		{"a finish reason that names none", `{"choices":[{"finish_reason":""}]}`, 1, false, false},
		{"an empty error", `{"choices":[{"finish_reason":"stop"}],"error":""}`, 1, true, true},
		{"one of two", `{"choices":[{"finish_reason":"stop"},{}]}`, 2, false, false},
		{"an additional unfinished choice", `{"choices":[{"finish_reason":"stop"},{"finish_reason":null}]}`, 1, false, false},
		{"one of two filtered", `{"choices":[{"finish_reason":"stop"},{"finish_reason":"content_filter"}]}`, 2, false, false},
		{"embeddings", `{"object":"list","data":[{"embedding":[1]}]}`, 1, true, true},
		{"no embeddings", `{"object":"list","data":[]}`, 1, false, false},
		{"results", `{"results":[{"index":0}]}`, 1, true, true},
		{"error inside", `{"results":[{"index":0}],"error":"x"}`, 1, false, false},
		{"response", `{"object":"response","status":"completed","error":null,"incomplete_details":null}`, 1, true, true},
		{"response truncated", `{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}`, 1, false, true},
		{"response filtered", `{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}`, 1, false, false},
		{"response queued", `{"status":"queued"}`, 1, false, false},
		{"something else", `[1]`, 1, false, false},
		{"broken off in a choice", `{"choices":[{"finish_reason":"stop"`, 1, false, false},
		{"invalid text in a choice", `{"choices":[{"finish_reason":"stop","text":"` + "\xff" + `"}]}`, 1, false, false},
		{"invalid number in a choice", `{"choices":[{"finish_reason":"stop","index":01}]}`, 1, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var f FinishReasons
			f.AddWhole([]byte(test.body))
			if f.Complete(test.choices, false) != test.complete || f.Complete(test.choices, true) != test.truncated {
				t.Errorf("Complete = %v, %v with truncated choices, for %+v", f.Complete(test.choices, false), f.Complete(test.choices, true), f)
			}
		})
	}
}

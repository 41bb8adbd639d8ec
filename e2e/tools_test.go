package e2e

import "testing"

const weatherTool = `"tools":[{"type":"function","function":{"name":"get_weather","description":"The weather in a city",
	"parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]`

func TestTools(t *testing.T) {
	g := fleetGateway(t)
	for _, s := range chatServers {
		t.Run(s.name, func(t *testing.T) {
			question := `{"model":"` + s.model + `",` + weatherTool + `,"messages":[{"role":"user","content":"Weather?"}]`

			c := chat(t, g.url, question+`}`).completion(t)
			if c.Choices[0].FinishReason != "tool_calls" {
				t.Errorf("finish_reason is %q", c.Choices[0].FinishReason)
			}
			isWeather(t, c.Choices[0].Message.ToolCalls)

			story := chatStream(t, t.Context(), g.url, question+`,"stream":true}`).rest(t)
			story.wholly(t, "", "tool_calls")
			isWeather(t, story.tools)
		})
		t.Run(s.name+", the tool's answer", func(t *testing.T) {
			c := chat(t, g.url, `{"model":"`+s.model+`",`+weatherTool+`,"messages":[
				{"role":"user","content":"Weather?"},
				{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}]},
				{"role":"tool","tool_call_id":"call_1","content":"21"}]}`).completion(t)
			if got := c.Choices[0].Message.Content; got != "It is 21 degrees!" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func isWeather(t *testing.T, calls []toolCall) {
	t.Helper()
	if len(calls) != 1 || calls[0].Function.Name != "get_weather" || calls[0].ID == "" {
		t.Fatalf("tool calls: %+v", calls)
	}
	if got := calls[0].Function.Arguments; got != `{"city":"Paris"}` && got != `{"city": "Paris"}` {
		t.Errorf("arguments: %s", got)
	}
}

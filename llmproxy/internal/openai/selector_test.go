package openai

import "testing"

func TestSelector(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"model":"m"}`: "",
		`{"model":"m","messages":[{"content":"\"models\""}]}`:                  "",
		`{"model":"m","models":["expensive"]}`:                                 "models",
		`{"models":["expensive"],"model":"m"}`:                                 "models",
		`{"model":"m","models":null}`:                                          "",
		`{"model":"m","models":[ ]}`:                                           "",
		`{"model":"m","provider":{}}`:                                          "",
		`{"model":"m","route":""}`:                                             "",
		`{"model":"m","route":"fallback"}`:                                     "route",
		`{"model":"m","Route":"fallback"}`:                                     "route",
		`{"model":"m","rout\u0065":"fallback"}`:                                "route",
		`{"model":"m","provider":{"order":["x"]}}`:                             "provider",
		`{"model":"m","preset":"mine"}`:                                        "preset",
		`{"model":"m","plugins":[{"id":"auto-router"}]}`:                       "plugins",
		`{"model":"m","fallbacks":["expensive"]}`:                              "fallbacks",
		`{"model":"m","fallbacks":[{"model":"expensive"}]}`:                    "fallbacks",
		`{"model":"m","context_window_fallback_dict":{"m":"expensive"}}`:       "context_window_fallback_dict",
		`{"model":"m","api_base":"https://example.com"}`:                       "api_base",
		`{"model":"m","extra_body":{"models":["expensive"]}}`:                  "extra_body",
		`{"model":"m","providerOptions":{"gateway":{"models":["expensive"]}}}`: "providerOptions",
		`{"model":"m","provideroptions":{"gateway":{}}}`:                       "providerOptions",
		`{"model":"m","deployment_id":7}`:                                      "deployment_id",
		`{"model":"m","metadata":{"models":["x"]},"tools":[],"user":"route"}`:  "",
	} {
		var r Request
		if err := r.Parse([]byte(body)); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got := r.Selector(); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
	if got := (*Request)(nil).Selector(); got != "" {
		t.Errorf("a form: %q", got)
	}
}

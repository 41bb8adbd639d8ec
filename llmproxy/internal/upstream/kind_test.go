package upstream

import (
	"strings"
	"testing"
)

func TestKindNamed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ollama", "vllm", "llamacpp", "openai", "echo", "auto"} {
		if k, err := KindNamed(name); err != nil || k.Name != name {
			t.Errorf("%s: got %+v, %v", name, k, err)
		}
	}
	if _, err := KindNamed("olama"); err == nil || !strings.Contains(err.Error(), `unknown kind of upstream "olama": use one of ollama, vllm`) {
		t.Errorf("got %v", err)
	}
}

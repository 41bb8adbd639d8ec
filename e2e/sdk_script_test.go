package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// An sdk is one of the official ones, used by scripts.
type sdk struct {
	name   string
	checks int // in its script of that name: none may get lost
	script func(name string, args ...string) (env []string, command []string)
}

func sdks() []sdk {
	return []sdk{
		{"python", 15, func(name string, args ...string) ([]string, []string) {
			return nil, append([]string{installed.python, "sdk/python_" + name + ".py"}, args...)
		}},
		{"node", 14, func(name string, args ...string) ([]string, []string) {
			return []string{"NODE_PATH=" + installed.node}, append([]string{"node", "sdk/node_" + name + ".cjs"}, args...)
		}},
	}
}

func TestSDK(t *testing.T) {
	g := fleetGateway(t)
	for _, k := range sdks() {
		for server, models := range map[string][2]string{"ollama": {"ollama-chat", "ollama-embed"}, "llamacpp": {"llama-chat", "llama-embed"}} {
			t.Run(k.name+", "+server, func(t *testing.T) { k.check(t, g.url, k.checks, "checks", "all", models[0], models[1]) })
		}
	}
}

// check makes a test of each check that the script reports, of which there must be so many.
func (k sdk) check(t *testing.T, url string, checks int, script string, args ...string) {
	env, args := k.script(script, args...)
	command := exec.Command(args[0], args[1:]...)
	command.Env = append(append(os.Environ(), "BASE_URL="+url+"/v1"), env...)
	var complaints strings.Builder
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaints.String())
	}
	reports := strings.Split(strings.TrimSpace(string(output)), "\n")
	for _, line := range reports {
		var report struct{ Check, Error string }
		if err := json.Unmarshal([]byte(line), &report); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		t.Run(report.Check, func(t *testing.T) {
			if report.Error != "" {
				t.Error(report.Error)
			}
		})
	}
	if len(reports) != checks {
		t.Errorf("%d checks, want %d", len(reports), checks)
	}
}

// An SDK must raise when the upstream is killed in mid-stream: nothing may look like a complete answer.
func TestSDKSeesTheCut(t *testing.T) {
	for _, k := range sdks() {
		t.Run(k.name, func(t *testing.T) {
			doomed := startLlama(t, "slow")
			g := startGateway(t, directive(`
			llm_proxy {
				upstream doomed llamacpp DOOMED
				model m doomed/slow
			}`, "DOOMED", doomed.url()))
			env, args := k.script("checks", "until_error", "m")
			script, err := launch(k.name, append(env, "BASE_URL="+g.url+"/v1"), args[0], args[1:]...)
			if err != nil {
				t.Fatal(err)
			}
			script.attend(t)
			script.log.await(t, 0, " two\n", time.Minute)
			doomed.kill()
			script.log.await(t, 0, "APIError upstream_error", time.Minute)
			<-script.done
			if code := script.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

package llmproxy

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"go.yaml.in/yaml/v3"

	"github.com/caddy-llmproxy/caddy-llmproxy/internal/freeport"
)

// A composeFile is what the tests read of a compose.yaml. Everything else is the business of the linter of `make deployment`.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
}

type composeService struct {
	Build, Image, Restart string
	StopGracePeriod       string `yaml:"stop_grace_period"`
	Environment           map[string]string
	Ports, Volumes        []string
	Healthcheck           any
}

var (
	// defaulted is a variable of a compose file with its default, as in ${OPENAI_API_KEY:-unset}, and required one that must be set.
	defaulted = regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)
	required  = regexp.MustCompile(`\$\{\w+:\?\}`)
	// secretInText is a key or a password that an example does not take from the environment.
	secretInText = regexp.MustCompile(`(?m)^\s*(?:api_key|key [\w-]+) +([^\s{][^\s]*|\{\$[^\s]*)|redis://[^\s{]*:[^\s{]+@`)
)

// No example has a secret in its Caddyfile: neither one that everybody knows, nor one that Caddy would store with its configuration. Digests
// are no secrets.
func TestExamplesHaveNoSecrets(t *testing.T) {
	files, err := filepath.Glob("../examples/*/*Caddyfile")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d Caddyfiles, %v", len(files), err)
	}
	for _, file := range files {
		for _, found := range secretInText.FindAllStringSubmatch(read(t, file), -1) {
			if !strings.HasPrefix(found[1], "sha256:") {
				t.Errorf("%s: %s; write {env.NAME}", file, strings.TrimSpace(found[0]))
			}
		}
	}
}

// Every service of a compose file has a fixed version, comes back after a failure and says whether it is healthy. The gateway reads
// the variables that it is given, and answers its image's health check.
func TestComposeFiles(t *testing.T) {
	files, err := filepath.Glob("../examples/*/compose.yaml")
	if err != nil || len(files) < 7 {
		t.Fatalf("%d compose files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			var compose composeFile
			if err := yaml.Unmarshal([]byte(read(t, file)), &compose); err != nil {
				t.Fatal(err)
			}
			for name, s := range compose.Services {
				t.Run(name, func(t *testing.T) { checkService(t, filepath.Dir(file), s, compose.Volumes) })
			}
		})
	}
}

func checkService(t *testing.T, folder string, s composeService, volumes map[string]any) {
	if s.Restart != "unless-stopped" {
		t.Errorf("restart is %q", s.Restart)
	}
	switch {
	case s.Build != "":
		if _, err := os.Stat(filepath.Join(folder, s.Build, "Dockerfile")); err != nil {
			t.Error(err)
		}
	case s.Healthcheck == nil:
		t.Error("no healthcheck")
	case !regexp.MustCompile(`:.*\d`).MatchString(s.Image):
		t.Errorf("the image %q has no version", s.Image)
	}
	caddyfile := ""
	for _, volume := range s.Volumes {
		from, rest, _ := strings.Cut(volume, ":")
		if !strings.HasPrefix(from, ".") {
			if _, declared := volumes[from]; !declared {
				t.Errorf("the volume %s is not declared", from)
			}
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, from)); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(rest, "/etc/caddy/Caddyfile") {
			caddyfile = read(t, filepath.Join(folder, from))
		}
	}
	if caddyfile == "" {
		if s.Build != "" {
			t.Error("the gateway has no Caddyfile")
		}
		return
	}
	if s.StopGracePeriod != "30s" || !strings.Contains(caddyfile, "grace_period 10s") {
		t.Errorf("stop_grace_period %q is not longer than grace_period", s.StopGracePeriod)
	}
	for name, value := range s.Environment {
		used := regexp.MustCompile(`\{(\$|env\.)` + name + `[:}]`)
		inOther := func(value string) bool { return used.MatchString(value) }
		if !used.MatchString(caddyfile) && !slices.ContainsFunc(slices.Collect(maps.Values(s.Environment)), inOther) {
			t.Errorf("the Caddyfile does not use %s", name)
		}
		t.Setenv(name, required.ReplaceAllString(defaulted.ReplaceAllString(value, "$1"), "set-for-the-test"))
	}
	loadsWithoutWarning(t, caddyfile)
	if s.Build != "" {
		answersHealthCheck(t, caddyfile)
	}
}

// loadsWithoutWarning does what `caddy validate` does, and fails on warnings, too.
func loadsWithoutWarning(t *testing.T, caddyfile string) {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	c.Admin = &caddy.AdminConfig{Disabled: true}
	if err := caddy.Validate(&c); err != nil {
		t.Fatal(err)
	}
}

// A kubeObject is what the test reads of an object of the manifest. Everything else is the business of `make deployment`.
type kubeObject struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Env []struct {
						Name, Value string
						ValueFrom   any `yaml:"valueFrom"`
					}
					Readiness probe `yaml:"readinessProbe"`
					Liveness  probe `yaml:"livenessProbe"`
				}
			}
		}
	}
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

// The Caddyfile in the manifest can be loaded with the variables of the Deployment, and has the paths of its probes.
func TestKubernetesExample(t *testing.T) {
	caddyfile, probes := "", ""
	for manifest := yaml.NewDecoder(strings.NewReader(read(t, "../examples/kubernetes/gateway.yaml"))); ; {
		var object kubeObject
		if err := manifest.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch object.Kind {
		case "ConfigMap":
			caddyfile = object.Data["Caddyfile"]
		case "Deployment":
			container := object.Spec.Template.Spec.Containers[0]
			for _, variable := range container.Env {
				if variable.ValueFrom != nil {
					variable.Value = "redis://127.0.0.1:6379"
				}
				t.Setenv(variable.Name, variable.Value)
			}
			probes = container.Readiness.HTTPGet.Path + " " + container.Liveness.HTTPGet.Path
			if object.Spec.Template.Spec.Grace != 60 {
				t.Errorf("terminationGracePeriodSeconds is %d, which must be longer than preStop and grace_period together", object.Spec.Template.Spec.Grace)
			}
		}
	}
	loadsWithoutWarning(t, caddyfile)
	if !strings.Contains(caddyfile, "grace_period 30s") || !strings.Contains(caddyfile, "health /health\n") || probes != "/health /health/live" {
		t.Errorf("the probes ask for %q", probes)
	}
}

// The notes of a release are the section of its version, and a version without one cannot be released.
func TestReleaseNotes(t *testing.T) {
	t.Parallel()
	notes, err := exec.Command("bash", "../release.sh", "notes", "Unreleased").Output()
	_, section, _ := strings.Cut(read(t, "../CHANGELOG.md"), "\n## Unreleased\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if err != nil || strings.TrimSpace(string(notes)) != strings.TrimSpace(section) {
		t.Errorf("%v; the notes have %d bytes, the section %d", err, len(notes), len(section))
	}
	out, err := exec.Command("bash", "../release.sh", "notes", "v987.0.0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `no section "## 987.0.0"`) {
		t.Errorf("a version without notes: %v, %s", err, out)
	}
}

// The image answers its health check without any configuration.
func TestImageAnswersHealthCheck(t *testing.T) {
	answersHealthCheck(t, read(t, "../packaging/container/Caddyfile"))
}

// healthCheck is the URL that the image asks for.
var healthCheck = regexp.MustCompile(`HEALTH_URL=http://127\.0\.0\.1:(\d+)(\S+)`)

// answersHealthCheck runs a Caddyfile on other ports and sends the request of the image's health check.
func answersHealthCheck(t *testing.T, caddyfile string) {
	t.Helper()
	url := healthCheck.FindStringSubmatch(read(t, "../Dockerfile"))
	if url == nil {
		t.Fatal("the Dockerfile has no HEALTH_URL")
	}
	port := func() string { _, port, _ := net.SplitHostPort(freeport.Address(t)); return port }
	free := port()
	if addresses := os.Getenv("SITE_ADDRESS"); addresses != "" {
		t.Setenv("SITE_ADDRESS", strings.ReplaceAll(addresses, ":"+url[1], ":"+free))
	}
	t.Setenv("METRICS_PORT", port())
	caddyfile = regexp.MustCompile(`:`+url[1]+`(\}| \{)`).ReplaceAllString(caddyfile, ":"+free+"$1")
	options := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https disable_redirects\n\tlocal_certs\n\tskip_install_trust\n\thttp_port %s\n\thttps_port %s\n", port(), port())
	if err := load(t, strings.Replace(caddyfile, "{\n", options, 1)); err != nil {
		t.Fatal(err)
	}
	res := send(t, newRequest(t, "GET", "http://127.0.0.1:"+free+url[2], ""))
	if body := text(t, res); res.StatusCode != 200 || !strings.Contains(body, `"live"`) {
		t.Errorf("status %d: %q", res.StatusCode, body)
	}
}

// Package survey looks at a machine: which model servers answer, which models they have, and which GPUs there are. It writes what it found as a
// Caddyfile with comments.
//
// It never makes a server generate, and changes nothing. It stands on upstream, which can tell kinds of servers apart, and on draft, which
// writes Caddyfiles.
package survey

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

// A Machine is where to look.
type Machine struct {
	// Getenv returns the value of an environment variable.
	Getenv func(name string) string
	// Run runs a program and returns what it prints.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// A Server is a model server that answers.
type Server struct {
	Address string // as a URL
	Kind    string
	Models  []Model
	// Slots is how many requests the server says that it processes at once; zero if it does not say.
	Slots int
}

// A Model is a model of a server.
type Model struct {
	Name string
	// About describes the model in words.
	About string
	// Embeds reports whether it is for embeddings.
	Embeds bool
}

// A GPU is what nvidia-smi says about one.
type GPU struct {
	Name        string
	Total, Free int // memory in MiB
}

// Found is what a machine has.
type Found struct {
	Servers []Server
	GPUs    []GPU
	// Asked are the addresses at which was looked.
	Asked []string
	// Parallel is the value of OLLAMA_NUM_PARALLEL; zero if it is not set.
	Parallel int
	// Services are the variables with keys of hosted services that are set.
	Services []string
}

// otherAddresses are where servers with OpenAI's API listen that have no kind of their own: LM Studio, SGLang, KoboldCpp, text-generation-webui
// and TabbyAPI, Jan.
var otherAddresses = []string{"127.0.0.1:1234", "127.0.0.1:30000", "127.0.0.1:5001", "127.0.0.1:5000", "127.0.0.1:1337"}

// Usual returns the addresses at which model servers usually listen on this machine, as URLs.
func (m Machine) Usual() (addresses []string) {
	for _, k := range upstream.Kinds {
		switch {
		case k == upstream.Ollama:
			addresses = append(addresses, m.Ollama())
		case k.LocalAddress != "":
			addresses = append(addresses, "http://"+k.LocalAddress)
		}
	}
	for _, a := range otherAddresses {
		addresses = append(addresses, "http://"+a)
	}
	return addresses
}

// Ollama returns the address of this machine's Ollama, as OLLAMA_HOST says it.
func (m Machine) Ollama() string {
	usual := "http://" + upstream.Ollama.LocalAddress
	text := strings.TrimSpace(m.Getenv("OLLAMA_HOST"))
	if text == "" {
		return usual
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return usual
	}
	host, port := u.Hostname(), u.Port()
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() { // it listens everywhere
		host = "127.0.0.1"
	}
	if port == "" {
		port = "11434"
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port)
}

// Look asks all addresses at once, and for the GPUs. If an address has several names of one server, the first one counts.
func (m Machine) Look(ctx context.Context, addresses []string) (*Found, error) {
	f := &Found{Asked: addresses}
	servers, errs := make([]*Server, len(addresses)), make([]error, len(addresses))
	var all sync.WaitGroup
	for i, a := range addresses {
		all.Go(func() { servers[i], errs[i] = ask(ctx, a) })
	}
	all.Go(func() { f.GPUs = m.GPUs(ctx) })
	all.Wait()
	for i, s := range servers {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if s != nil {
			f.Servers = append(f.Servers, *s)
		}
	}
	f.Parallel, _ = strconv.Atoi(m.Getenv("OLLAMA_NUM_PARALLEL"))
	for _, k := range upstream.Kinds {
		if k.KeyVariable != "" && m.Getenv(k.KeyVariable) != "" {
			f.Services = append(f.Services, k.Name)
		}
	}
	return f, nil
}

// askTimeout bounds all questions to one server, which may hang while it loads a model.
const askTimeout = 5 * time.Second

// ask asks an address for its kind and its models. It returns nil if no model server answers there, and an error if the address is invalid.
func ask(ctx context.Context, address string) (*Server, error) {
	base, err := upstream.Auto.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	transport := &http.Transport{Proxy: nil, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}
	defer transport.CloseIdleConnections()
	u := upstream.New(upstream.Config{Name: "server", Kind: upstream.Auto, Bases: []*url.URL{base}, Transport: transport})
	found := u.Discover(ctx)
	kind := u.ActualKind()
	if found.Err != nil || kind == upstream.OpenAI && len(found.Models) == 0 { // any program may listen there
		return nil, nil
	}
	s := &Server{Address: strings.TrimSuffix(base.String(), "/v1"), Kind: kind.Name}
	if kind == upstream.LlamaCpp {
		s.Slots = u.Capacity(0).Slots
	}
	for _, m := range found.Models { // all of them are asked for with the last one
		u.Capabilities(m.ID)
	}
	if n := len(found.Models); n > 0 {
		u.AskCapabilities(ctx, found.Models[n-1].ID)
	}
	for _, m := range found.Models {
		described, capabilities := u.Describe(m)
		s.Models = append(s.Models, model(described, capabilities))
	}
	return s, nil
}

// model describes a model by what the server says about it.
func model(m upstream.Model, c router.Capabilities) Model {
	var about []string
	var details struct {
		ParameterSize string `json:"parameter_size"`
		Quantization  string `json:"quantization_level"`
	}
	var capabilities []string
	for _, d := range m.Details {
		switch d.Name {
		case "details":
			_ = json.Unmarshal(d.Value, &details) // without them, nothing is said
		case "capabilities":
			_ = json.Unmarshal(d.Value, &capabilities)
		}
	}
	for _, text := range []string{details.ParameterSize, details.Quantization} {
		if text != "" && text != "unknown" {
			about = append(about, text)
		}
	}
	if m.Size > 0 {
		about = append(about, humanize.Bytes(uint64(m.Size)))
	}
	if n := cmp.Or(c.ContextWindow, m.ContextWindow); n > 0 {
		about = append(about, fmt.Sprintf("context %d", n))
	}
	for i, name := range router.FeatureNames {
		if c.Has&(1<<i) != 0 {
			about = append(about, name)
		}
	}
	embeds := slices.Contains(capabilities, "embedding") && !slices.Contains(capabilities, "completion") || strings.Contains(strings.ToLower(m.ID), "embed")
	if embeds {
		about = append(about, "embeddings")
	}
	return Model{Name: m.ID, About: strings.Join(about, ", "), Embeds: embeds}
}

// OllamaParallel returns the OLLAMA_NUM_PARALLEL of this machine's Ollama, as far as it can be seen: in the environment of this process, or in
// that of the service that Ollama's installer makes. It returns zero if it is nowhere.
func (m Machine) OllamaParallel(ctx context.Context) int {
	const name = "OLLAMA_NUM_PARALLEL"
	if n, err := strconv.Atoi(m.Getenv(name)); err == nil && n > 0 {
		return n
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out, err := m.Run(ctx, "systemctl", "show", "ollama.service", "--property=Environment")
	if err != nil {
		return 0
	}
	for word := range strings.FieldsSeq(strings.NewReplacer("Environment=", "", `"`, "", "'", "").Replace(string(out))) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			n, _ := strconv.Atoi(value) // zero for what is no number
			return max(n, 0)
		}
	}
	return 0
}

// GPUs asks nvidia-smi for the GPUs. Without nvidia-smi, it returns none.
func (m Machine) GPUs(ctx context.Context) (gpus []GPU) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	out, err := m.Run(ctx, "nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(line, ",")
		if len(fields) < 3 {
			continue
		}
		n := len(fields)
		total, err := strconv.Atoi(strings.TrimSpace(fields[n-2]))
		free, _ := strconv.Atoi(strings.TrimSpace(fields[n-1])) // "[N/A]" on some
		if err == nil && len(gpus) < 64 {
			gpus = append(gpus, GPU{Name: strings.TrimSpace(strings.Join(fields[:n-2], ",")), Total: total, Free: free})
		}
	}
	return gpus
}

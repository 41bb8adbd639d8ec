package check

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// part names an upstream, with the address of one replica unless that is empty.
func (u *Upstream) part(address string) string {
	return strings.TrimSpace(part("upstream", u.Name) + " " + address)
}

func (u *Upstream) finding(severity Severity, check, address, problem, fix string) Finding {
	return Finding{severity, check, u.part(address), u.Line, problem, fix}
}

func (u *Upstream) checkReplicas() (list []Finding) {
	for _, r := range u.Replicas {
		add := func(severity Severity, check, problem, fix string) {
			list = append(list, u.finding(severity, check, r.Address, problem, fix))
		}
		switch {
		case r.Status == 0 && u.WakeUp != nil:
			add(Note, "unreachable", "It does not answer: "+reason(r.Err)+" The gateway wakes its machine when a request comes.", "Check again while it is awake.")
			continue
		case r.Status == 0:
			add(Error, "unreachable", "It does not answer: "+reason(r.Err), unreachableFix(r.Address))
			continue
		case r.KeyRefused && u.SendsKey:
			add(Error, "key-refused", fmt.Sprintf("It refuses the API key (status %d).", cmp.Or(r.Status, http.StatusUnauthorized)), "Correct `api_key`. If it comes from the environment, check the environment of the service that runs Caddy, too.")
			continue
		case r.KeyRefused:
			add(Error, "key-missing", "It wants an API key.", "Write `api_key {env.NAME}` in the block of the upstream.")
			continue
		case r.Loading:
			add(Note, "loading", "It is loading a model, and was not examined further.", "Check again in a while.")
			continue
		}
		list = append(list, u.checkKind(r)...)
		switch {
		case r.Err != nil && u.Kind.ServiceBase == "" && u.IsLocal():
			add(Error, "no-models", "It answers, but does not list its models: "+reason(r.Err), "Check that this is the address of a model server, and its path, which usually is /v1.")
		case r.Err != nil && r.Listed:
			add(Warning, "no-models", "Its list of models could not be read: "+reason(r.Err), "Check the address, and the path of the API.")
		case r.Err == nil && len(r.Models) == 0 && r.Listed:
			add(Error, "no-models", "It has no model.", u.obtain("MODEL"))
		}
	}
	return list
}

// reason returns why a request failed, without what is said elsewhere in the finding.
func reason(err error) string {
	if err == nil {
		return "it closed the connection."
	}
	text := err.Error()
	for _, known := range []string{"listing models: ", "probing "} {
		if _, after, ok := strings.Cut(text, known); ok {
			text = after
		}
	}
	if _, after, ok := strings.Cut(text, ": "); ok { // the host
		text = after
	}
	for _, common := range []struct{ in, say string }{
		{"connection refused", "connection refused; no program listens there"},
		{"no such host", "its name is unknown"},
		{"deadline exceeded", "no answer in time"},
		{"i/o timeout", "no answer in time"},
		{"certificate", "its certificate is not trusted"},
	} {
		if strings.Contains(text, common.in) {
			text = common.say
			break
		}
	}
	return text + "."
}

// unreachableFix says what to do about a server that does not answer.
func unreachableFix(address string) string {
	u, err := url.Parse(address)
	if err == nil && upstream.OwnHost(address) {
		return "Start the server, or correct its address. In a container, " + u.Hostname() + " is the container itself."
	}
	return "Start the server, or correct its address; check the firewall, and that the server listens on more than 127.0.0.1."
}

// checkKind compares the kind with what the server shows of itself.
func (u *Upstream) checkKind(r *upstream.Inspection) []Finding {
	configured := u.Kind
	switch found := r.Kind; {
	case found == nil || found == configured || configured == upstream.Auto:
		return nil
	case found == upstream.OpenAI && configured.LocalAddress != "":
		return []Finding{u.finding(Warning, "wrong-kind", r.Address, fmt.Sprintf("The server does not look like %s.", configured.Name), "Write the kind that it is; `openai` is for every server with OpenAI's API.")}
	case found != upstream.OpenAI:
		return []Finding{u.finding(Warning, "wrong-kind", r.Address, fmt.Sprintf("The server is %s, not %s: the gateway does not know its slots, and cannot see whether it is healthy.", found.Name, configured.Name), fmt.Sprintf("Write `%s` instead of `%s`.", found.Name, configured.Name))}
	}
	return nil
}

// obtain says how such a server gets a model.
func (u *Upstream) obtain(model string) string {
	if command := u.ActualKind().Obtain; command != "" {
		return fmt.Sprintf("Run `"+command+"` there, or correct the name.", model)
	}
	if u.ActualKind().ContextSetting != "" {
		return "Start it with this model, or correct the name."
	}
	return "Correct the name."
}

func (u *Upstream) checkKey() (list []Finding) {
	if u.Kind.ServiceBase == "" || u.SendsKey || u.IsLocal() {
		return nil
	}
	for _, r := range u.Replicas {
		if r.KeyRefused || r.Status == 0 { // reported with the replica
			return nil
		}
		if base, err := url.Parse(r.Address); err != nil || upstream.IsPrivate(base.Hostname()) {
			return nil
		}
	}
	fix := "Write `api_key {env.NAME}` in the block of the upstream."
	if u.Kind.KeyVariable != "" {
		fix = "Write `api_key {env." + u.Kind.KeyVariable + "}` in the block of the upstream."
	}
	return []Finding{u.finding(Error, "key-missing", "", "The upstream has no API key.", fix)}
}

// checkTimers compares timeouts that depend on each other.
func (u *Upstream) checkTimers(deadline time.Duration) (list []Finding) {
	add := func(severity Severity, check, problem, fix string) {
		list = append(list, u.finding(severity, check, "", problem, fix))
	}
	first, idle := cmp.Or(u.Timers.FirstToken, defaultFirstToken), cmp.Or(u.Timers.Idle, 5*time.Minute)
	if t := u.ResponseHeaderTimeout; t > 0 && t < first {
		add(Error, "transport-timeout", fmt.Sprintf("The transport gives up after %s without headers, before first_token_timeout (%s): some servers send no headers before the first token.", short(t), short(first)),
			"Remove `response_header_timeout` from the transport, and set `first_token_timeout`.")
	}
	if t := u.ReadTimeout; t > 0 && t < min(first, idle) {
		add(Error, "transport-timeout", fmt.Sprintf("The transport gives up after %s of silence, before first_token_timeout (%s) and idle_timeout (%s).", short(t), short(first), short(idle)),
			"Remove `read_timeout` from the transport, and set `idle_timeout`.")
	}
	if t := u.Timers.Total; t > 0 && u.Timers.FirstToken > t {
		add(Warning, "timeouts", fmt.Sprintf("first_token_timeout (%s) has no effect: timeout (%s) ends the attempt before.", short(u.Timers.FirstToken), short(t)), "Raise `timeout`, or lower `first_token_timeout`.")
	}
	if deadline > 0 && u.Timers.FirstToken > deadline {
		add(Warning, "timeouts", fmt.Sprintf("first_token_timeout (%s) has no effect: deadline (%s) ends the request before.", short(u.Timers.FirstToken), short(deadline)), "Raise `deadline`, or lower `first_token_timeout`.")
	}
	if wait := u.Config.Queue.MaxWait; deadline > 0 && wait > deadline {
		add(Warning, "timeouts", fmt.Sprintf("A request may wait for %s in the queue, but its deadline is %s.", short(wait), short(deadline)), "Raise `deadline`, or lower the longest wait of `queue`.")
	}
	return list
}

// checkSlots compares the slots with what the server can do.
func (u *Upstream) checkSlots(ollamaParallel int) (list []Finding) {
	setting := u.ActualKind().SlotsSetting
	if setting == "" {
		return nil
	}
	for _, r := range u.Replicas {
		slots, says := r.Slots, "The server says that it"
		if slots == 0 && u.ActualKind() == upstream.Ollama && upstream.OwnHost(r.Address) && ollamaParallel > 0 {
			slots, says = ollamaParallel, "Ollama's environment on this machine says that it"
		}
		switch {
		case r.Status == 0 || r.KeyRefused || r.Loading:
		case slots == 0 && u.ActualKind() == upstream.Ollama && u.MaxConcurrent > 1:
			list = append(list, u.finding(Note, "slots-unknown", r.Address, fmt.Sprintf("max_concurrent is %d, but Ollama processes one request at a time, and does not say if it was told otherwise.", u.MaxConcurrent),
				fmt.Sprintf("Make sure that Ollama runs with %s=%d.", setting, u.MaxConcurrent)))
		case slots == 0 || u.MaxConcurrent == 0:
		case u.MaxConcurrent > slots && u.ActualKind().StatesSlots():
			list = append(list, u.finding(Warning, "slots", r.Address, fmt.Sprintf("max_concurrent is %d. %s processes %d at once, so that the gateway sends it no more.", u.MaxConcurrent, says, slots),
				fmt.Sprintf("Start the server with %s, or write `max_concurrent %d`.", assign(setting, u.MaxConcurrent), slots)))
		case u.MaxConcurrent > slots:
			list = append(list, u.finding(Warning, "slots", r.Address, fmt.Sprintf("max_concurrent is %d. %s processes %d at once: the others wait inside of it, without fairness and without a limit.", u.MaxConcurrent, says, slots),
				fmt.Sprintf("Write `max_concurrent %d`, or start the server with %s.", slots, assign(setting, u.MaxConcurrent))))
		case u.MaxConcurrent < slots:
			list = append(list, u.finding(Note, "slots", r.Address, fmt.Sprintf("max_concurrent is %d. %s could process %d at once.", u.MaxConcurrent, says, slots),
				fmt.Sprintf("Write `max_concurrent %d`, unless others use the server, too.", slots)))
		}
	}
	return list
}

// assign writes a setting of a server with its value: a flag, or an environment variable.
func assign(setting string, value int) string {
	if strings.HasPrefix(setting, "-") {
		return fmt.Sprintf("%s %d", setting, value)
	}
	return fmt.Sprintf("%s=%d", setting, value)
}

// checkWarm looks for the models that are to stay loaded.
func (u *Upstream) checkWarm() (list []Finding) {
	for _, model := range u.Warm {
		for _, r := range u.Replicas {
			if _, ok := r.Find(model); !ok && r.Listed && len(r.Models) > 0 {
				list = append(list, u.finding(Error, "model-missing", r.Address, fmt.Sprintf("`warm` names the model %s, which it does not have.", model), u.obtain(model)))
			}
		}
	}
	return list
}

package upstream

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// An Inspection is what one replica said when an operator had it examined. No question makes a server generate or load a model, and none
// costs money.
type Inspection struct {
	// Address is the base URL of the replica.
	Address string
	// Err is why the replica did not answer the request for its models, or did not list any; nil if it did.
	Err error
	// Status is that of its answer, or zero if it did not answer.
	Status int
	// KeyRefused means that it refuses the API key, or that it wants one and the upstream has none.
	KeyRefused bool
	// Loading means that it answers, but is loading a model.
	Loading bool
	// Kind is what the replica really is, as far as its answers show that; nil if they do not.
	Kind *Kind
	// Models are the models that it lists.
	Models []Model
	// Listed means that it has no other models than those.
	Listed bool
	// OneModel is the model with which it answers a request for any name; empty if it looks at the name.
	OneModel string
	// Slots is how many requests it says that it generates for at once; zero if it does not say.
	Slots int
	// CacheTokens is the size of its KV cache, for all requests together, in tokens; zero if it does not say.
	CacheTokens int
	// Facts are what it says of the models that were asked for.
	Facts map[string]Facts
}

// inspectTimeout bounds each question of an inspection. A service on another continent may take a second.
const inspectTimeout = 5 * time.Second

// Inspect asks the ith replica about itself and about models, by their names there.
func (u *Upstream) Inspect(ctx context.Context, i int, models []string) *Inspection {
	p := &probe{ctx: ctx, u: u, base: u.Bases[i], timeout: inspectTimeout}
	list := p.list()
	found := &Inspection{Address: p.base.String(), Err: list.err, Status: list.status, Models: list.models, Facts: map[string]Facts{}}
	if list.status == 0 {
		return found
	}
	found.Kind = p.inspectKind(list)
	kind := u.ActualKind()
	found.KeyRefused = kind.refusesKey(p, list)
	found.Loading = kind.health != nil && kind.health(p) == replica.Loading
	found.Listed = list.answered() && !kind.unlisted
	for i := range found.Models {
		found.Models[i].ID = strings.TrimPrefix(found.Models[i].ID, kind.namePrefix)
	}
	if kind.catalog != "" && len(found.Models) > 0 {
		found.Models = p.describe(found.Models, kind.catalog)
	}
	if kind.oneModel && len(found.Models) == 1 {
		if models, err := llamaCppRouterModels(p); err == nil && len(models) == 0 {
			found.OneModel = found.Models[0].ID
		}
	}
	if kind.fetchSlots != nil {
		found.Slots = kind.fetchSlots(p)
	}
	if kind.statedSlots != nil {
		found.Slots = kind.statedSlots(p)
	}
	if kind.work != nil {
		work, _ := kind.work(p)
		found.CacheTokens = work.Load.Tokens
	}
	for _, model := range models {
		found.Facts[model] = u.inspectModel(p, found, model)
	}
	return found
}

// inspectKind returns what a server is. It asks only servers of one's own, and only where their other paths are known.
func (p *probe) inspectKind(list *listing) *Kind {
	if !IsPrivate(p.base.Hostname()) || p.base.Path != Auto.basePath || p.u.Kind.BuiltIn() {
		return nil
	}
	kind, err := p.detectKind(list)
	if err != nil {
		return nil
	}
	return kind
}

// refusesKey reports whether a server does not accept the API key. Services that list their models to everybody are asked for something else.
func (k *Kind) refusesKey(p *probe, list *listing) bool {
	answer := list.probeAnswer
	if k.keyPath != "" && list.answered() {
		a, err := p.fetch(http.MethodGet, k.keyPath, nil)
		if err != nil {
			return false
		}
		answer = a
	}
	switch {
	case answer.status == http.StatusOK || answer.status >= http.StatusInternalServerError:
		return false
	case answer.status == http.StatusUnauthorized:
		return true
	case answer.status == http.StatusForbidden || answer.status == http.StatusBadRequest:
		return k.Classify(answer.status, answer.header, answer.body).Verdict == router.Misconfigured
	}
	return false
}

// inspectModel returns what is known of a model: by the list of models, by the server's own description, and by the configuration.
func (u *Upstream) inspectModel(p *probe, found *Inspection, model string) (about Facts) {
	if ask := u.ActualKind().about; ask != nil {
		about = ask(p, model)
	}
	if m, ok := found.Find(model); ok {
		about.Window = cmp.Or(about.Window, m.ContextWindow)
		about.Bytes = cmp.Or(about.Bytes, m.Size)
		about.addDetails(m.Details)
	}
	about.guess(model)
	return about
}

// Find returns the entry of a model by a name that requests may have. What a server answers to more names than it lists is found, too:
// names without ":latest", and names that a service continues with a date or lets a client continue with a variant.
func (i *Inspection) Find(name string) (Model, bool) {
	for _, same := range []func(id string) bool{
		func(id string) bool { return id == name },
		func(id string) bool {
			return strings.EqualFold(strings.TrimSuffix(id, ollamaLatest), strings.TrimSuffix(name, ollamaLatest))
		},
		func(id string) bool {
			return dated.MatchString(strings.TrimPrefix(id, name)) && strings.HasPrefix(id, name)
		},
		func(id string) bool {
			base, _, ok := strings.Cut(name, ":")
			return ok && strings.Contains(base, "/") && id == base
		},
	} {
		if at := slices.IndexFunc(i.Models, func(m Model) bool { return same(m.ID) }); at >= 0 {
			return i.Models[at], true
		}
	}
	for _, m := range i.Models {
		for _, d := range m.Details {
			var aliases []string
			if d.Name == "aliases" && json.Unmarshal(d.Value, &aliases) == nil && slices.Contains(aliases, name) {
				return m, true
			}
		}
	}
	return Model{}, false
}

// dated is what a service adds to the name of a model.
var dated = regexp.MustCompile(`^-(\d{8}|\d{4}-\d{2}-\d{2}|latest|\d{3,4})$`)

// OwnHost reports whether an address of a replica is on this machine.
func OwnHost(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Hostname() == "localhost" || strings.HasPrefix(u.Hostname(), "127.") || u.Hostname() == "::1")
}

// Settings returns how a server of this kind is told its setup: variables of its environment, or flags of its command. It returns nothing for
// servers that cannot be told.
func (k *Kind) Settings(s Setup) []string {
	if k.settings == nil {
		return nil
	}
	return k.settings(s)
}

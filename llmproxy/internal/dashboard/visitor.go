package dashboard

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/access"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/openai"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/overview"
)

// A visitor is who looks at the page, as each of its requests says anew: there are no sessions.
type visitor struct {
	name string
	// view is what it sees.
	view overview.Viewer
	// admin reports whether it manages keys.
	admin bool
	// key is its own at a site with that access; nil if it has none.
	key    *keys.Key
	access *access.Access
}

// visitor returns who sends a request. A key that is valid at any handler counts, and one that is not valid counts as a failed attempt at
// all of them. A key is looked for first: somebody who sends one wants to be that key's owner.
func (d *Dashboard) visitor(r *http.Request, h http.Header) (visitor, *failure) {
	var found visitor
	sites := overview.Sites()
	for _, s := range sites {
		if k := s.Access.Lookup(r); k != nil && (found.key == nil || k.Admin && !found.admin) {
			found = visitor{name: k.Name, admin: k.Admin, key: k, access: s.Access}
			if !k.Admin {
				found.view = overview.Viewer{Key: k.Name, Identity: k.Identity}
			}
		}
	}
	hasKey, user := access.HasKey(r.Header), d.User(r)
	isAdmin := user != "" && (slices.Contains(d.Admins, user) || slices.Contains(d.Admins, "*"))
	switch {
	case !hasKey && isAdmin:
		return visitor{name: user, admin: true}, nil
	case found.key != nil:
		return found, nil
	case !hasKey && d.NoSignIn:
		return visitor{}, nil
	}
	var refused *failure
	for _, s := range sites {
		if s.Access == nil || s.Access.Keys == nil {
			continue
		}
		if !hasKey { // it has not tried anything yet
			refused = &failure{status: http.StatusUnauthorized, message: "Sign in with an API key of this gateway."}
			continue
		}
		if _, err := s.Access.Authenticate(r, h); err != nil && (refused == nil || refused.status == http.StatusUnauthorized) {
			refused = failureOf(err)
		}
	}
	if refused == nil {
		refused = &failure{status: http.StatusUnauthorized, message: "No handler llm_proxy of this Caddy has keys, so nobody can sign in. Give a key the option admin, or use admins or no_sign_in of llm_dashboard."}
	}
	return visitor{}, refused
}

// failureOf returns an error of the API as one of the page.
func failureOf(e *openai.Error) *failure { return &failure{e.Status, e.Message, e.Header} }

// A shownVisitor is what the page knows of who looks at it.
type shownVisitor struct {
	Name string `json:"name,omitempty"`
	// Sees is "all" or "own".
	Sees  string `json:"sees"`
	Admin bool   `json:"admin"`
	// HasKey reports whether it signed in with a key, which the playground can use.
	HasKey bool `json:"has_key"`
	// API is the path of the API on this site.
	API string `json:"api"`
	// Quota is what is left of its limits, as GET /llm/usage shows it.
	Quota json.RawMessage `json:"quota,omitempty"`
}

func (d *Dashboard) showVisitor(w http.ResponseWriter, r *http.Request, v visitor) {
	shown := shownVisitor{Name: v.name, Sees: "all", Admin: v.admin, HasKey: v.key != nil && access.HasKey(r.Header), API: d.API}
	if v.view != (overview.Viewer{}) {
		shown.Sees = "own"
	}
	if v.key != nil {
		quota, err := v.access.Quota(r, http.Header{}, v.key)
		if err != nil {
			fail(w, failureOf(err))
			return
		}
		shown.Quota = quota
	}
	answer(w, http.StatusOK, shown)
}

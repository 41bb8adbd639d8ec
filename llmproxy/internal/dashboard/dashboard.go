// Package dashboard is the live page: its files, who may see what on it, and the stream of events that keeps it up to date.
//
// It shows what package overview knows, and decides nothing about requests to generate. Its playground is a client of the gateway like
// any other. While nobody looks, nothing runs. It stands above overview, and below llmproxy, which knows Caddy.
package dashboard

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

// A Config is what a dashboard needs.
type Config struct {
	// Path is where the page is: it is served at Path/.
	Path string
	// API is the path of the gateway's API on the same site, for the playground.
	API string
	// Admins are the users, authenticated by another handler, who see and manage everything; an asterisk stands for all of them.
	Admins []string
	// NoSignIn lets everybody see everything, and change nothing.
	NoSignIn bool
	// User returns the name of the user that another handler has authenticated, or "".
	User func(*http.Request) string
	// ServeKeys answers requests to manage keys, at /keys and below it, as the admin API does. It returns the status and an error for a
	// request that failed.
	ServeKeys func(http.ResponseWriter, *http.Request) (status int, err error)
}

// A Dashboard serves the page. It must be closed.
type Dashboard struct {
	Config
	feed    feed
	foreign *http.CrossOriginProtection
}

// New returns a new Dashboard.
func New(c Config) *Dashboard {
	return &Dashboard{Config: c, foreign: http.NewCrossOriginProtection()}
}

// Close ends all streams of events.
func (d *Dashboard) Close() { d.feed.close() }

// policy forbids the page everything that it does not need: code and styles of others and within the page, other origins, frames.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Serve answers requests to the page. It reports false for other paths.
func (d *Dashboard) Serve(w http.ResponseWriter, r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, d.Path)
	if !ok || rest != "" && rest[0] != '/' {
		return false
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	name := strings.TrimPrefix(rest, "/")
	switch data, isData := strings.CutPrefix(name, "data/"); {
	case rest == "": // relative, because the handler may not see all of the path
		h.Set("Location", path.Base(d.Path)+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
	case isData:
		h.Set("Cache-Control", "no-store")
		d.serveData(w, r, data)
	default:
		serveFile(w, r, name)
	}
	return true
}

//go:embed static
var static embed.FS

// A file is one of the page's.
type file struct {
	content []byte
	tag     string
}

var files = readFiles()

func readFiles() map[string]file {
	all := map[string]file{}
	err := fs.WalkDir(static, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := static.ReadFile(name)
		sum := sha256.Sum256(content)
		all[strings.TrimPrefix(name, "static/")] = file{content, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return all
}

func serveFile(w http.ResponseWriter, r *http.Request, name string) {
	if name == "" {
		name = "index.html"
	}
	f, ok := files[name]
	switch {
	case !ok:
		http.Error(w, "The dashboard has no such file.", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Use GET or HEAD.", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", cmp.Or(mime.TypeByExtension(path.Ext(name)), "text/plain; charset=utf-8"))
	h.Set("Cache-Control", "no-cache") // with the tag, so that a new version is used at once
	h.Set("Etag", f.tag)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
}

// serveData answers what the page asks for.
func (d *Dashboard) serveData(w http.ResponseWriter, r *http.Request, name string) {
	if err := d.foreign.Check(r); err != nil { // a browser sends by itself what it has for Caddy's own authentication
		fail(w, &failure{status: http.StatusForbidden, message: "This request comes from another site."})
		return
	}
	v, err := d.visitor(r, w.Header())
	if err != nil {
		fail(w, err)
		return
	}
	keys, isKeys := strings.CutPrefix(name, "keys")
	switch {
	case name == "me" && r.Method == http.MethodGet:
		d.showVisitor(w, r, v)
	case name == "events" && r.Method == http.MethodGet:
		d.serveEvents(w, r, v)
	case isKeys && (keys == "" || keys[0] == '/'):
		d.serveKeys(w, r, v, keys)
	default:
		fail(w, &failure{status: http.StatusNotFound, message: "The dashboard does not have that."})
	}
}

// serveKeys lets an admin manage keys.
func (d *Dashboard) serveKeys(w http.ResponseWriter, r *http.Request, v visitor, rest string) {
	if !v.admin {
		fail(w, &failure{status: http.StatusForbidden, message: "Only an admin can see and change keys."})
		return
	}
	inner := r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = "/keys"+rest, ""
	if status, err := d.ServeKeys(w, inner); err != nil {
		fail(w, &failure{status: status, message: err.Error()})
	}
}

// A failure is why a request of the page is not answered.
type failure struct {
	status  int
	message string
	header  http.Header
}

// fail answers with a failure.
func fail(w http.ResponseWriter, f *failure) {
	maps.Copy(w.Header(), f.header)
	answer(w, f.status, map[string]any{"error": map[string]string{"message": f.message}})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}

package state

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

const (
	// maxSharers bounds what is believed of the file.
	maxSharers = 100_000
	// sharersFewer is how long there must have been fewer before it is written down: where all are stopped, one after the other,
	// the last one must not think that it was always alone.
	sharersFewer = 10 * time.Minute
)

// sharers remembers in a small file how many Caddys share a state, for a Caddy that starts while the state is away.
type sharers struct {
	path  string
	kept  int64     // in the file
	fewer time.Time // since when there have been fewer; zero if there are not
}

// Remembered returns the file in which something of the shared state at an address is remembered, for a start while the state
// is away.
func Remembered(what, address string) string {
	return filepath.Join(caddy.AppDataDir(), "llm_proxy", what+"-"+placeOf(address))
}

// newSharers reads what is remembered.
func newSharers(path string) *sharers {
	s := &sharers{path: path}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return s // nobody knows yet
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && n <= maxSharers {
		s.kept = n
	}
	return s
}

// placeOf names a state by where it is, and never by a password.
func placeOf(address string) string {
	where := ""
	if u, err := url.Parse(address); err == nil {
		q := u.Query()
		where = strings.Join(append([]string{u.Host, u.Path, q.Get("db"), q.Get("master_name")}, q["addr"]...), " ")
	}
	sum := sha256.Sum256([]byte(where))
	return hex.EncodeToString(sum[:8])
}

// heard writes down how many there are now.
func (s *sharers) heard(n int64) { s.note(n, time.Now()) }

func (s *sharers) note(n int64, now time.Time) {
	switch {
	case n == s.kept:
		s.fewer = time.Time{}
		return
	case n < s.kept && s.fewer.IsZero():
		s.fewer = now
		return
	case n < s.kept && now.Sub(s.fewer) < sharersFewer:
		return
	}
	s.kept, s.fewer = n, time.Time{}
	go s.write(n) // the disk may be slow
}

func (s *sharers) write(n int64) {
	err := os.MkdirAll(filepath.Dir(s.path), 0o700)
	if err == nil {
		err = WriteFile(s.path, []byte(strconv.FormatInt(n, 10)+"\n"))
	}
	if err != nil {
		caddy.Log().Named("http.handlers.llm_proxy.limits").Warn("how many Caddys share the limits is not remembered", zap.Error(err))
	}
}

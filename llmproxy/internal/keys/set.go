package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-llmproxy/caddy-llmproxy/ratelimit"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// A Key is a client and what it may do. It is immutable.
type Key struct {
	Name      string
	Identity  string   // the name with its kind: a key and a user of the same name are different callers
	Models    []string // patterns; nil for all
	LocalOnly bool
	Priority  admission.Priority
	Weight    int       // zero for 1
	Admin     bool      // its owner sees everything on the dashboard
	Expires   time.Time // zero for never
	Tags      []string
	Limits    []*ratelimit.Limit

	digest digest
}

// May reports whether the key may ask for a model.
func (k *Key) May(model string) bool {
	if k == nil || len(k.Models) == 0 {
		return true
	}
	for _, pattern := range k.Models {
		if router.Match(pattern, model) {
			return true
		}
	}
	return false
}

// Expired reports whether the key has ended.
func (k *Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

type digest = [sha256.Size]byte

// A Set finds keys. It is immutable.
type Set struct {
	byDigest map[digest]*Key
	byUser   map[string]*Key
}

// An EntryError is a mistake in the key, or user, with that index.
type EntryError struct {
	Err   error
	User  bool
	Index int
}

// Error implements error.
func (e *EntryError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake without its place.
func (e *EntryError) Unwrap() error { return e.Err }

// Compile returns the set of keys and of users that other handlers authenticate. It reports all errors, as EntryErrors.
func Compile(keys, users []*Entry) (*Set, error) {
	s := &Set{byDigest: make(map[digest]*Key, len(keys)), byUser: make(map[string]*Key, len(users))}
	names := make(map[string]bool, len(keys))
	var errs []error
	for i, e := range keys {
		k, err := e.compile("key")
		if err == nil {
			k.digest, err = ParseDigest(e.Secret)
		}
		switch {
		case err != nil:
			err = fmt.Errorf("key %.80q: %w", e.Name, err)
		case names[e.Name]:
			err = fmt.Errorf("duplicate key %q; rename one", e.Name)
		case s.byDigest[k.digest] != nil:
			err = fmt.Errorf("the keys %q and %q have the same secret; give each its own", s.byDigest[k.digest].Name, e.Name)
		default:
			names[e.Name] = true
			s.byDigest[k.digest] = k
			continue
		}
		errs = append(errs, &EntryError{err, false, i})
	}
	for i, e := range users {
		k, err := e.compile("user")
		switch {
		case err != nil:
			err = fmt.Errorf("user %.80q: %w", e.Name, err)
		case e.Secret != "":
			err = fmt.Errorf("user %q has a secret: another handler authenticates users; remove it", e.Name)
		case s.byUser[e.Name] != nil:
			err = fmt.Errorf("duplicate user %q; keep one", e.Name)
		default:
			s.byUser[e.Name] = k
			continue
		}
		errs = append(errs, &EntryError{err, true, i})
	}
	return s, errors.Join(errs...)
}

// MinSecret is the length of the shortest secret that is accepted. Only a long random one is safe.
const MinSecret = 4

// maxSecret bounds what is hashed for an unauthenticated caller.
const maxSecret = 256

// Find returns the key of a secret. Its timing reveals nothing about the stored secrets: it looks up a digest, and compares
// the one it finds in constant time.
func (s *Set) Find(secret string) (*Key, bool) {
	if secret == "" || len(secret) > maxSecret {
		return nil, false
	}
	var buffer [maxSecret]byte
	given := sha256.Sum256(buffer[:copy(buffer[:], secret)])
	k, ok := s.byDigest[given]
	if !ok || subtle.ConstantTimeCompare(given[:], k.digest[:]) != 1 {
		return nil, false
	}
	return k, true
}

// User returns the entry of a user whom another handler has authenticated.
func (s *Set) User(name string) (*Key, bool) {
	k, ok := s.byUser[name]
	return k, ok
}

// Users reports whether any user is configured.
func (s *Set) Users() bool { return len(s.byUser) > 0 }

const digestPrefix = "sha256:"

// NewSecret makes a secret of 256 random bits. Scanners of repositories and logs recognize it by its prefix.
func NewSecret() string { return "sk-llm-" + rand.Text() + rand.Text() }

// Digest is a secret as it is kept.
func Digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return digestPrefix + hex.EncodeToString(sum[:])
}

// IsDigest reports whether the text has the form of a digest; ParseDigest checks it.
func IsDigest(text string) bool { return strings.HasPrefix(text, digestPrefix) }

// ParseDigest parses the result of Digest. Its errors do not quote the text, because it may be a secret.
func ParseDigest(text string) (d [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(text, digestPrefix)
	if !ok || len(digits) != hex.EncodedLen(len(d)) {
		return d, errNoDigest
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return d, errNoDigest
	}
	return d, nil
}

var errNoDigest = errors.New("invalid secret: expected sha256: and 64 hexadecimal digits; create one with `caddy llm-key create`")

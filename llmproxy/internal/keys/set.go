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
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// A Key is a client and what it may do. It never changes once made.
type Key struct {
	Name      string
	Models    []string // patterns; nil for all
	LocalOnly bool
	Priority  replica.Priority
	Expires   time.Time // zero for never
	Tags      []string
	Limits    []*ratelimit.Limit

	digest digest
}

// May tells whether the key may ask for a model.
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

// Expired tells whether the key has ended.
func (k *Key) Expired(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

type digest = [sha256.Size]byte

// A Set finds keys. It never changes once made.
type Set struct {
	byDigest map[digest]*Key
	byUser   map[string]*Key
}

// Compile makes the set of keys, and of users that other handlers have made sure of. All mistakes are reported.
func Compile(keys, users []*Entry) (*Set, error) {
	s := &Set{byDigest: make(map[digest]*Key, len(keys)), byUser: make(map[string]*Key, len(users))}
	names := make(map[string]bool, len(keys))
	var errs []error
	for _, e := range keys {
		k, err := e.compile("key")
		if err == nil {
			k.digest, err = ParseDigest(e.Secret)
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("key %.80q: %w", e.Name, err))
		case names[e.Name]:
			errs = append(errs, fmt.Errorf("the key %q is there twice", e.Name))
		case s.byDigest[k.digest] != nil:
			errs = append(errs, fmt.Errorf("the keys %q and %q have the same secret", s.byDigest[k.digest].Name, e.Name))
		default:
			names[e.Name] = true
			s.byDigest[k.digest] = k
		}
	}
	for _, e := range users {
		k, err := e.compile("user")
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("user %.80q: %w", e.Name, err))
		case e.Secret != "":
			errs = append(errs, fmt.Errorf("the user %q has a secret: another handler checks who it is", e.Name))
		case s.byUser[e.Name] != nil:
			errs = append(errs, fmt.Errorf("the user %q is there twice", e.Name))
		default:
			s.byUser[e.Name] = k
		}
	}
	return s, errors.Join(errs...)
}

// maxSecret bounds what is hashed for a stranger.
const maxSecret = 256

// Find gives the key of a secret. How long it takes tells nothing of the secrets there are: what is looked up is a digest,
// and the one that is found is compared in constant time.
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

// User gives what a user may do that another handler has made sure of.
func (s *Set) User(name string) (*Key, bool) {
	k, ok := s.byUser[name]
	return k, ok
}

// Users tells whether any user is configured.
func (s *Set) Users() bool { return len(s.byUser) > 0 }

const digestPrefix = "sha256:"

// NewSecret makes a secret of 256 random bits. Its beginning tells scanners of repositories and logs what it is.
func NewSecret() string { return "sk-llm-" + rand.Text() + rand.Text() }

// Digest is a secret as it is kept.
func Digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return digestPrefix + hex.EncodeToString(sum[:])
}

// IsDigest tells whether a text is a digest, or at least meant as one.
func IsDigest(text string) bool { return strings.HasPrefix(text, digestPrefix) }

// ParseDigest reads what Digest gives. What is none is not quoted: it may be a secret.
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

var errNoDigest = errors.New("its secret is not written as sha256: and 64 hexadecimal digits; `caddy llm-key create` makes one")

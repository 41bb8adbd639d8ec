package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

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

package keystore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/keys"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/state"
)

// A redisDocument is a document in the shared state. A server may forget what it was told: it is flushed, comes back with an older
// copy, or gives way to one that was behind. Then whoever knows more tells it again.
type redisDocument struct {
	client redis.UniversalClient
	copy   string // a file with what was last seen there, for a start while the server is away; empty for none
	mu     sync.Mutex
	known  version // the latest that was seen there

	copying sync.Mutex // held by who writes the copy
}

// A version is the text of the keys after so many changes.
type version struct {
	number int64
	text   []byte
}

const (
	redisKey  = "llm_proxy:keys"
	redisWait = 500 * time.Millisecond
)

// value is an version as the server keeps it: its number in a line of its own, and then the text.
func (e version) value() string {
	if e.number == 0 {
		return string(e.text)
	}
	return strconv.FormatInt(e.number, 10) + "\n" + string(e.text)
}

// versionOf reads a value. One without a number was put there by somebody else, before all changes.
func versionOf(value string) version {
	line, text, _ := strings.Cut(value, "\n")
	if number, err := strconv.ParseInt(line, 10, 64); err == nil && number > 0 {
		return version{number, []byte(text)}
	}
	if value == "" {
		return version{}
	}
	return version{0, []byte(value)}
}

func (s *redisDocument) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisWait)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.client.Get(ctx, redisKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	found := versionOf(value)
	if found.number >= s.known.number {
		s.see(found)
		return found.text, nil
	}
	done, err := s.put(ctx, value, s.known)
	if err != nil {
		return nil, err
	}
	if done {
		caddy.Log().Named("http.handlers.llm_proxy").Warn("the shared state had lost changes of keys; they were written again")
	} // else another Caddy was faster, which is seen the next time
	return s.known.text, nil
}

// replaceScript writes only if nobody else did.
var replaceScript = redis.NewScript(`if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

func (s *redisDocument) put(ctx context.Context, old string, next version) (done bool, err error) {
	n, err := replaceScript.Run(ctx, s.client, []string{redisKey}, old, next.value()).Int()
	return n == 1, err
}

func (s *redisDocument) replace(old, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), redisWait)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(s.known.text, old) {
		return errReplaced
	}
	next := version{s.known.number + 1, text}
	done, err := s.put(ctx, s.known.value(), next)
	if err != nil {
		return err
	}
	if !done {
		return errReplaced
	}
	s.see(next)
	return nil
}

// see takes note of an version. The caller holds mu.
func (s *redisDocument) see(e version) {
	same := s.known.number == e.number && bytes.Equal(s.known.text, e.text)
	s.known = e
	if !same && s.copy != "" {
		go s.keepCopy() // the disk may be slow
	}
}

func (s *redisDocument) keepCopy() {
	s.copying.Lock()
	defer s.copying.Unlock()
	s.mu.Lock()
	text := s.known.text
	s.mu.Unlock()
	err := os.MkdirAll(filepath.Dir(s.copy), 0o700)
	if err == nil {
		err = state.WriteFile(s.copy, text)
	}
	if err != nil {
		caddy.Log().Named("http.handlers.llm_proxy").Warn("the keys of the shared state cannot be saved for a later start", zap.Error(err))
	}
}

// recall gives the keys that were last seen; none if that is not known. The server is never told them: it may know better.
func (s *redisDocument) recall() *keys.File {
	text, err := os.ReadFile(s.copy)
	if err != nil {
		return new(keys.File)
	}
	file, err := keys.ParseFile(text)
	if err != nil {
		return new(keys.File)
	}
	return file
}

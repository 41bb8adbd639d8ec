package llmproxy

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
)

// A sharedKeys is a document in the shared state. A server may forget what it was told: it is flushed, comes back with an older
// copy, or gives way to one that was behind. Then whoever knows more tells it again.
type sharedKeys struct {
	client redis.UniversalClient
	copy   string // a file with what was last seen there, for a start while the server is away; empty for none
	mu     sync.Mutex
	known  edition // the latest that was seen there

	copying sync.Mutex // held by who writes the copy
}

// An edition is the text of the keys after so many changes.
type edition struct {
	number int64
	text   []byte
}

const (
	sharedKeysName = "llm_proxy:keys"
	sharedKeysWait = 500 * time.Millisecond
)

// value is an edition as the server keeps it: its number in a line of its own, and then the text.
func (e edition) value() string {
	if e.number == 0 {
		return string(e.text)
	}
	return strconv.FormatInt(e.number, 10) + "\n" + string(e.text)
}

// editionOf reads a value. One without a number was put there by somebody else, before all changes.
func editionOf(value string) edition {
	line, text, _ := strings.Cut(value, "\n")
	if number, err := strconv.ParseInt(line, 10, 64); err == nil && number > 0 {
		return edition{number, []byte(text)}
	}
	if value == "" {
		return edition{}
	}
	return edition{0, []byte(value)}
}

func (s *sharedKeys) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sharedKeysWait)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.client.Get(ctx, sharedKeysName).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	found := editionOf(value)
	if found.number >= s.known.number {
		s.see(found)
		return found.text, nil
	}
	done, err := s.put(ctx, value, s.known)
	if err != nil {
		return nil, err
	}
	if done {
		caddy.Log().Named("http.handlers.llm_proxy").Warn("the shared state had forgotten changes of keys, and was told them again")
	} // else another Caddy was faster, which is seen the next time
	return s.known.text, nil
}

// replaceKeys writes only if nobody else did.
var replaceKeys = redis.NewScript(`if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

func (s *sharedKeys) put(ctx context.Context, old string, next edition) (done bool, err error) {
	n, err := replaceKeys.Run(ctx, s.client, []string{sharedKeysName}, old, next.value()).Int()
	return n == 1, err
}

func (s *sharedKeys) replace(old, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), sharedKeysWait)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(s.known.text, old) {
		return errReplaced
	}
	next := edition{s.known.number + 1, text}
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

// see takes note of an edition. The caller holds mu.
func (s *sharedKeys) see(e edition) {
	same := s.known.number == e.number && bytes.Equal(s.known.text, e.text)
	s.known = e
	if !same && s.copy != "" {
		go s.keepCopy() // the disk may be slow
	}
}

func (s *sharedKeys) keepCopy() {
	s.copying.Lock()
	defer s.copying.Unlock()
	s.mu.Lock()
	text := s.known.text
	s.mu.Unlock()
	err := os.MkdirAll(filepath.Dir(s.copy), 0o700)
	if err == nil {
		err = write(s.copy, text)
	}
	if err != nil {
		caddy.Log().Named("http.handlers.llm_proxy").Warn("the keys of the shared state are not remembered", zap.Error(err))
	}
}

// recall gives the keys that were last seen; none if that is not known. The server is never told them: it may know better.
func (s *sharedKeys) recall() *keys.File {
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

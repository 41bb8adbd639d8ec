package llmproxy

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A sharedKeys is a document in the shared state.
type sharedKeys struct{ client redis.UniversalClient }

const (
	sharedKeysName = "llm_proxy:keys"
	sharedKeysWait = 500 * time.Millisecond
)

func (s *sharedKeys) read() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sharedKeysWait)
	defer cancel()
	text, err := s.client.Get(ctx, sharedKeysName).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return text, err
}

// replaceKeys writes only if nobody else did.
var replaceKeys = redis.NewScript(`if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1`)

func (s *sharedKeys) replace(old, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), sharedKeysWait)
	defer cancel()
	done, err := replaceKeys.Run(ctx, s.client, []string{sharedKeysName}, old, text).Int()
	if err != nil {
		return err
	}
	if done == 0 {
		return errReplaced
	}
	return nil
}

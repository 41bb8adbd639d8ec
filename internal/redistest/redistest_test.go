//go:build unix && redis

package redistest

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// Each way to run servers runs them.
func TestSetups(t *testing.T) {
	for name, setup := range map[string]Setup{
		"redis":   {},
		"valkey":  {Binary: "valkey-server"},
		"TLS":     {TLS: NewAuthority(t)},
		"user":    {User: "caddy", Password: "p@ss/word?#%"},
		"lasting": {Lasting: true},
		"all":     {Binary: "valkey-server", TLS: NewAuthority(t), User: "caddy", Password: "secret", Lasting: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup.Start(t)
			client := s.Client(t)
			if err := client.Set(t.Context(), "a", "b", 0).Err(); err != nil {
				t.Fatal(err)
			}
			s.Down()
			s.Up()
			if got := s.do("GET", "a"); (got == "b") != setup.Lasting {
				t.Errorf("%q is left after it was started anew", got)
			}
			if _, err := redis.ParseURL(s.URL()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStartCluster(t *testing.T) {
	t.Parallel()
	_, url := Setup{}.StartCluster(t)
	o, err := redis.ParseClusterURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClusterClient(o)
	defer client.Close()
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		if err := client.Set(t.Context(), key, "b", 0).Err(); err != nil {
			t.Error(err)
		}
	}
}

func TestStartPair(t *testing.T) {
	t.Parallel()
	p := Setup{}.StartPair(t)
	o, err := redis.ParseFailoverURL(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewFailoverClient(o)
	defer client.Close()
	if err := client.Set(t.Context(), "a", "b", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Wait(t.Context(), 1, startTimeout).Err(); err != nil {
		t.Fatal(err)
	}
	p.Master.Down()
	until(t, "the replica does not take over", func() bool { return client.Set(t.Context(), "c", "d", 0).Err() == nil })
	if got := client.Get(t.Context(), "a").Val(); got != "b" {
		t.Errorf("the replica has %q", got)
	}
}

package state

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
)

// Placeholders may occur anywhere, and a password may hold any character.
func TestExpandAddress(t *testing.T) {
	r := caddy.NewEmptyReplacer()
	for name, value := range map[string]string{
		"url": "redis://caddy:p%40ss@10.0.0.3:6379/2", "user": "a:b", "password": "p@ss/w?rd#%20 +{}", "host": "10.0.0.3:6380", "db": "3", "file./a/b?c@d": "filed", "scheme": "rediss",
		"marked": "\ufeffp@ss", "marked url": "\ufeffredis://10.0.0.3",
	} {
		r.Set(name, value)
	}
	for _, test := range []struct {
		address        string
		user, password string
		host           string
		db             int
	}{
		{"{url}", "caddy", "p@ss", "10.0.0.3:6379", 2},
		{"redis://10.0.0.3", "", "", "10.0.0.3:6379", 0},
		{"redis://:{password}@10.0.0.3:6379/1", "", "p@ss/w?rd#%20 +{}", "10.0.0.3:6379", 1},
		{"redis://{user}:{password}@{host}/{db}", "a:b", "p@ss/w?rd#%20 +{}", "10.0.0.3:6380", 3},
		{"{scheme}://x:{file./a/b?c@d}@{host}", "x", "filed", "10.0.0.3:6380", 0},
		{"redis://x:a%2Fb{file./a/b?c@d}@{host}?client_name={password}", "x", "a/bfiled", "10.0.0.3:6380", 0},
		{"redis://:{marked}@10.0.0.3:6379/1", "", "p@ss", "10.0.0.3:6379", 1},
		{"{marked url}", "", "", "10.0.0.3:6379", 0},
		{"redis://{host}/{db}?client_name=a@b", "", "", "10.0.0.3:6380", 3},
	} {
		t.Run(test.address, func(t *testing.T) {
			o, err := redis.ParseURL(ExpandAddress(r, test.address))
			if err != nil {
				t.Fatal(err)
			}
			if o.Username != test.user || o.Password != test.password || o.Addr != test.host || o.DB != test.db {
				t.Errorf("%q %q %q %d", o.Username, o.Password, o.Addr, o.DB)
			}
			if strings.Contains(test.address, "client_name={") && o.ClientName != "p@ss/w?rd#%20 +{}" {
				t.Errorf("the option is %q", o.ClientName)
			}
		})
	}
}

func TestHasPlainPassword(t *testing.T) {
	for address, want := range map[string]bool{
		"redis://10.0.0.3:6379":                     false,
		"redis://caddy@10.0.0.3":                    false,
		"redis://caddy:{env.A}@10.0.0.3":            false,
		"redis://{env.B}:{env.A}@{env.C}:{env.D}/0": false,
		"{env.A}": false,
		"redis://s?master_name=m&username=a&password={env.A}":       false,
		"redis://:plain@10.0.0.3":                                   true,
		"redis://:a{env.A}@10.0.0.3":                                true,
		"redis://{env.S}@s?master_name=m&username=a&password=plain": true,
		"unix://:plain@/run/redis.sock?db=1":                        true,
	} {
		if got := HasPlainPassword(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// Errors do not quote the address.
func TestErrorsDoNotQuoteTheAddress(t *testing.T) {
	for _, address := range []string{
		"redis://:secret@10.0.0.3:port", "redis://:secret%zz@10.0.0.3", "redis://:secret@10.0.0.3/db", "http://:secret@10.0.0.3", "secret", "redis://:sec/ret secret@10.0.0.3",
		"redis://:secret@10.0.0.3?unknown=secret", "redis://:secret@10.0.0.3?master_name=m&db=secret", "redis://:secret@10.0.0.3?addr=secret", "unix://:secret@", "rediss://:secret@a?addr=b:1&pool_size=secret",
	} {
		client, err := NewRedis(address, nil)
		if err == nil {
			client.Close()
			t.Errorf("%s is accepted", address)
		} else if strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
}

//go:build unix

package redistest

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// URL is how the server is configured.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Address}
	if s.setup.TLS != nil {
		u.Scheme = "rediss"
	}
	if s.setup.User != "" {
		u.User = url.UserPassword(s.setup.User, s.setup.Password)
	}
	return u.String()
}

// Client gives a connection of the test's own, which waits for a second at most.
func (s *Server) Client(t testing.TB) *redis.Client {
	client := s.client()
	t.Cleanup(func() { client.Close() })
	return client
}

func (s *Server) client() *redis.Client {
	o := &redis.Options{
		Addr: s.Address, Username: s.setup.User, Password: s.setup.Password, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second,
	}
	if s.setup.TLS != nil {
		o.TLSConfig = &tls.Config{RootCAs: s.setup.TLS.pool, Certificates: []tls.Certificate{s.setup.TLS.certificate}}
	}
	return redis.NewClient(o)
}

func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return false // the library would write a line
	}
	conn.Close()
	return s.do("PING") == "PONG"
}

// do asks the server for a text; empty if it does not answer.
func (s *Server) do(args ...any) string {
	client := s.client()
	defer client.Close()
	text, err := client.Do(context.Background(), args...).Text()
	if err != nil {
		return ""
	}
	return text
}

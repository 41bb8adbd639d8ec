//go:build !redis

package ratelimit

import "testing"

func newStore(testing.TB) timed { return NewMemory() }

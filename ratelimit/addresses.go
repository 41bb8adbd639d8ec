package ratelimit

import (
	"hash/maphash"
	"net/netip"
)

// The table of addresses holds up to 1,048,576 of them in 24 MiB. It grows in chunks of 6 KiB. A new address in a full set
// replaces the one of eight that has not been seen for the longest time, whose bucket is usually empty again.
const (
	chunks = 4096
	sets   = 32 // per chunk
	ways   = 8  // per set
)

// addresses holds the token buckets of client addresses, found by a seeded hash so that clients cannot cause collisions.
type addresses struct {
	seed   maphash.Seed
	chunks []*chunk
}

type chunk [sets][ways]entry

type entry struct {
	hash uint64
	tokenBucket
}

func newAddresses() addresses {
	return addresses{seed: maphash.MakeSeed(), chunks: make([]*chunk, chunks)}
}

// addressKey identifies a bucket of the table.
type addressKey struct {
	address netip.Addr
	unit    Unit
	window  int64
}

func (a *addresses) bucket(l *Limit) *tokenBucket {
	hash := maphash.Comparable(a.seed, addressKey{l.Address, l.Rule.Unit, int64(l.Rule.Window)})
	c := a.chunks[hash%chunks]
	if c == nil {
		c = new(chunk)
		a.chunks[hash%chunks] = c
	}
	set := &c[hash/chunks%sets]
	oldest := &set[0]
	for i := range set {
		e := &set[i]
		if e.hash == hash && e.at != 0 {
			return &e.tokenBucket
		}
		if e.at < oldest.at {
			oldest = e
		}
	}
	*oldest = entry{hash: hash}
	return &oldest.tokenBucket
}

// Network returns what an address counts as: itself for IPv4, and its /64 network for IPv6, because one subscriber has at least
// that many addresses.
func Network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	prefix, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return prefix.Addr()
}

package ratelimit

import (
	"hash/maphash"
	"net/netip"
)

// The table of addresses holds 1,048,576 of them at most and is then 24 MiB large; it grows to that in pieces of 6 KiB. Where
// it is full, an address takes the place of the one that was not seen for the longest of eight, which has, as a rule, nothing
// to lose: its bucket is empty again.
const (
	chunks = 4096
	sets   = 32 // of a chunk
	ways   = 8  // of a set
)

// addresses are the buckets of client addresses, found by a seeded hash: nobody outside can choose addresses that meet.
type addresses struct {
	seed   maphash.Seed
	chunks []*chunk
}

type chunk [sets][ways]entry

type entry struct {
	hash uint64
	bucket
}

func newAddresses() addresses {
	return addresses{seed: maphash.MakeSeed(), chunks: make([]*chunk, chunks)}
}

// who is what a bucket of the table belongs to.
type who struct {
	address netip.Addr
	unit    Unit
	window  int64
}

func (a *addresses) bucket(l *Limit) *bucket {
	hash := maphash.Comparable(a.seed, who{l.Address, l.Rule.Unit, int64(l.Rule.Window)})
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
			return &e.bucket
		}
		if e.at < oldest.at {
			oldest = e
		}
	}
	*oldest = entry{hash: hash}
	return &oldest.bucket
}

// Network is what an address counts as: itself for IPv4, its /64 for IPv6, of which one subscriber has many.
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

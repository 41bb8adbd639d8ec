package gateway

// Vectors of different models cannot be compared, so that one answer must not hold both: what a fallback once embedded does not
// go with what another target did. The targets of one pool are equals, and their vectors are, too.

// keepAlike forgets the known items that do not go with the others: those of later pools.
func (b *batch) keepAlike(model string) {
	first := -1
	for _, e := range b.entries {
		if e != nil {
			if pool := b.plan.PoolOf(e.Target, model); first < 0 || pool < first {
				first = pool
			}
		}
	}
	for i, e := range b.entries {
		if e != nil && b.plan.PoolOf(e.Target, model) != first {
			b.entries[i] = nil
		}
	}
}

// goesWith tells whether what a target embedded goes with the known items.
func (b *batch) goesWith(target, model string) bool {
	for _, e := range b.entries {
		if e != nil {
			return b.plan.PoolOf(e.Target, model) == b.plan.PoolOf(target, model)
		}
	}
	return true
}

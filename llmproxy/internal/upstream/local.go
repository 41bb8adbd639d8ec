package upstream

// IsLocal tells whether the upstream runs on machines of one's own: nobody is paid for what it answers, and nobody else reads
// what it is asked. What is not known yet is not local.
func (u *Upstream) IsLocal() bool {
	if u.Local != nil {
		return *u.Local
	}
	kind := u.kind.Load()
	return kind != nil && (kind.LocalAddress != "" || kind == Echo)
}

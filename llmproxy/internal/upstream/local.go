package upstream

// Local tells whether the upstream runs on machines of one's own: nobody is paid for what it answers.
func (u *Upstream) Local() bool {
	kind := u.Speaks()
	return kind.LocalAddress != "" || kind == Echo
}

package check

import (
	"slices"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/tuning"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// Tune returns a plan for each model of each local upstream that answers and can be told how to start. The function returns the GPU of a server
// on this machine, or of one elsewhere.
func (c *Config) Tune(gpu func(own bool) tuning.GPU) (plans []tuning.Plan) {
	for _, server := range c.Servers {
		for _, site := range server.Sites {
			for _, u := range site.Upstreams {
				plans = append(plans, u.tune(gpu)...)
			}
		}
	}
	return plans
}

func (u *Upstream) tune(gpu func(own bool) tuning.GPU) (plans []tuning.Plan) {
	if u.Absent || len(u.Replicas) == 0 || u.ActualKind().SlotsSetting == "" {
		return nil
	}
	r := u.Replicas[0]
	var names []string
	for name, about := range r.Facts {
		if _, found := r.Find(name); !about.Embeds && (found || r.OneModel != "") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		plans = append(plans, tuning.Propose(tuning.Request{
			Target: u.Name + "/" + name, Model: name, Kind: u.ActualKind(), GPU: gpu(upstream.OwnHost(r.Address)), Facts: r.Facts[name], Slots: u.MaxConcurrent, CacheTokens: r.CacheTokens,
		}))
	}
	return plans
}

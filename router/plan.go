package router

// A Plan is the ordered pools for one model. It is made once, at load, and shared by all requests.
type Plan struct {
	// Rule is the model or pattern of the configuration that led here, or "discover".
	Rule  string
	Pools []*Pool
}

// Targets visits every target of the plan in order, once for each replica.
func (p *Plan) Targets(visit func(Target)) {
	for _, pool := range p.Pools {
		for _, c := range pool.candidates {
			visit(c.Target)
		}
	}
}

// First is the upstream of the first target.
func (p *Plan) First() *Upstream { return p.Pools[0].candidates[0].Target.Upstream }

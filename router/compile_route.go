package router

// routes resolves the rules of m.
func (c *compiler) routes(m *Model, via []string) []Route {
	var routes []Route
	always := len(m.Pools) > 0
	for i, config := range m.Routes {
		route := Route{Rule: m.Name, Always: config.Matcher == "", Match: config.Match, Shadow: config.Shadow}
		if !route.Always {
			route.Rule += "/" + config.Matcher
		}
		switch {
		case len(config.Targets) == 0:
			c.fail("model %q: route %s has no target: say `route %[2]s upstream/model`", m.Name, config.Matcher)
			continue
		case route.Always && route.Shadow:
			c.fail("model %q: a route that always matches cannot be a shadow", m.Name)
		case route.Always && i < len(m.Routes)-1:
			c.fail("model %q: the routes behind `route %s` are never reached: a route without a matcher is the last one", m.Name, config.Targets[0])
		case route.Always && len(m.Pools) > 0:
			c.fail("model %q: `to` is never reached behind `route %s`: leave one of them out", m.Name, config.Targets[0])
		}
		for _, earlier := range routes {
			if !route.Always && earlier.Rule == route.Rule {
				c.fail("model %q: route %s stands twice", m.Name, config.Matcher)
			}
		}
		route.Plan = c.leads(m, config, via)
		routes = append(routes, route)
		always = always || route.Always
	}
	if len(m.Routes) > 0 && !always {
		c.fail("model %q: nothing is left for a request that no route matches: end with `route upstream/model`", m.Name)
	}
	return routes
}

// leads is the plan of a route.
func (c *compiler) leads(m *Model, config RouteConfig, via []string) *Plan {
	if other := c.reference(m, config.Targets); other != nil {
		return c.plan(other, append(via[:len(via):len(via)], m.Name))
	}
	plan := &Plan{Rule: m.Name, LocalOnly: m.LocalOnly}
	if pool := c.pool(m, PoolConfig{Targets: config.Targets, Policy: LeastBusy}, len(via) > 0); pool != nil {
		plan.Pools = []*Pool{pool}
	}
	return plan
}

package main

import (
	"context"
	"fmt"
	"time"
)

// A pass is one measurement of one scenario at one side.
type pass struct {
	scenario *scenario
	servers  *servers
	side     side
	want     *want
	lasting  time.Duration
}

// A sample is what a pass found.
type sample map[figure]float64

// warmUp is how long connections and processes run before they are measured.
const warmUp = 250 * time.Millisecond

func (p *pass) process() *process { return p.servers.running[p.side] }

func (p *pass) load(ctx context.Context, size int) (*load, error) {
	return newLoad(ctx, p.process().addr, p.scenario.connections, p.scenario.request(size), p.want)
}

// busy sends one request after the other on every connection.
func busy(ctx context.Context, p *pass) (sample, error) {
	l, err := p.load(ctx, p.scenario.size)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if _, err := l.repeat(ctx, warmUp); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	return p.measured(ctx, p.lasting, func() (result, error) { return l.repeat(ctx, p.lasting) })
}

// hits has the cache of llm_proxy answer, and sees what the same process takes to relay the same request.
func hits(ctx context.Context, p *pass) (sample, error) {
	if p.side != ours {
		return busy(ctx, p)
	}
	around, relaying := *p.scenario, *p
	around.name, around.header = around.name+"-relayed", "Cache-Control: no-store\r\n"
	relaying.scenario = &around
	relayed, err := busy(ctx, &relaying)
	if err != nil {
		return nil, fmt.Errorf("without the cache: %w", err)
	}
	s, err := busy(ctx, p)
	if err != nil {
		return nil, err
	}
	each := cpuPerRequest
	if p.scenario.stream {
		each = cpuPerEvent
	}
	s[hitShare] = s[each] / relayed[each]
	return s, nil
}

// pacedStreams lets the upstream set the pace.
func pacedStreams(ctx context.Context, p *pass) (sample, error) {
	l, err := p.load(ctx, p.scenario.size)
	if err != nil {
		return nil, err
	}
	defer l.close()
	lasting := p.scenario.upstream.lasting()
	return p.measured(ctx, lasting, func() (result, error) { return l.paced(ctx, lasting) })
}

// measured reads what the process has used before and after the work, while nothing else is sent to it.
func (p *pass) measured(ctx context.Context, lasting time.Duration, work func() (result, error)) (sample, error) {
	profiled := p.profile(ctx, lasting)
	before, err := p.process().cpu()
	if err != nil {
		return nil, err
	}
	r, err := work()
	if err != nil {
		return nil, err
	}
	after, err := p.process().cpu()
	if err != nil {
		return nil, err
	}
	if err := profiled(); err != nil {
		return nil, err
	}
	rss, err := p.process().memory("VmRSS")
	if err != nil {
		return nil, err
	}
	s := sample{
		requestRate: float64(r.requests) / r.elapsed.Seconds(),
		latency50:   quantile(r.total, 0.50),
		latency99:   quantile(r.total, 0.99),
		rssNow:      rss / megabyte,
	}
	used := float64((after - before).Microseconds())
	if !p.scenario.stream {
		s[cpuPerRequest] = used / float64(r.requests)
		return s, nil
	}
	s[cpuPerEvent] = used / float64(r.events)
	s[eventRate] = float64(r.events) / r.elapsed.Seconds()
	s[first50], s[first99] = quantile(r.first, 0.50), quantile(r.first, 0.99)
	if len(r.gaps) > 0 {
		s[gap50], s[gap99] = quantile(r.gaps, 0.50), quantile(r.gaps, 0.99)
	}
	return s, nil
}

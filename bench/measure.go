package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A pass is one measurement of a scenario at one side.
type pass struct {
	scenario *scenario
	servers  *servers
	side     side
	wants    [sides]*want
	duration time.Duration
}

// A sample is the result of a pass.
type sample map[figure]float64

const (
	warmUpTime = 250 * time.Millisecond // of connections
	idleTime   = 500 * time.Millisecond // of a new process, before its RSS is read
)

func (p *pass) process() *process { return p.servers.running[p.side] }

func (p *pass) request(to side, size int) []byte {
	sc := *p.scenario
	if peer := p.servers.peer; to == ours && peer != nil {
		sc.header += peer.header(p.servers.running[direct].addr)
	}
	return sc.request(size)
}

func (p *pass) load(ctx context.Context, size int) (*load, error) {
	l, err := newLoad(ctx, p.process().addr, p.scenario.connections, p.request(p.side, size), p.wants[p.side])
	if err == nil && p.scenario.vary != nil {
		l.vary(p.scenario.vary)
	}
	return l, err
}

// saturated sends requests back to back on every connection.
func saturated(ctx context.Context, p *pass) (sample, error) {
	l, err := p.load(ctx, p.scenario.size)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if _, err := l.repeat(ctx, warmUpTime); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	return p.measured(ctx, p.duration, func() (result, error) { return l.repeat(ctx, p.duration) })
}

// cacheHits measures answers from the cache, and compares their CPU time with that of the same request relayed by the same process.
func cacheHits(ctx context.Context, p *pass) (sample, error) {
	if p.side != ours {
		return saturated(ctx, p)
	}
	uncached, relaying := *p.scenario, *p
	uncached.name, uncached.header = uncached.name+"-relayed", "Cache-Control: no-store\r\n"
	relaying.scenario = &uncached
	relayed, err := saturated(ctx, &relaying)
	if err != nil {
		return nil, fmt.Errorf("without the cache: %w", err)
	}
	s, err := saturated(ctx, p)
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

// translated measures requests of a client of another API, and compares their CPU time with that of the same request to OpenAI's API at
// the same process. The other sides only know the latter.
func translated(a api) func(context.Context, *pass) (sample, error) {
	return func(ctx context.Context, p *pass) (sample, error) {
		untranslated, err := saturated(ctx, p)
		if err != nil || p.side != ours {
			return untranslated, err
		}
		own, translating := *p.scenario, *p
		own.name, own.api = own.name+"-translated", a
		translating.scenario = &own
		if translating.wants[ours], err = translating.learn(ctx, ours); err != nil {
			return nil, fmt.Errorf("asking for a translated answer: %w", err)
		}
		s, err := saturated(ctx, &translating)
		if err != nil {
			return nil, err
		}
		s[translatedShare] = s[cpuPerRequest] / untranslated[cpuPerRequest]
		return s, nil
	}
}

// converted measures answers that llm_proxy makes shorter than the upstream's, because the client asked for that.
func converted(ctx context.Context, p *pass) (sample, error) {
	if p.side != ours || p.servers.noise {
		return saturated(ctx, p)
	}
	converting := *p
	var err error
	if converting.wants[ours], err = p.learn(ctx, ours); err != nil {
		return nil, fmt.Errorf("asking for a converted answer: %w", err)
	}
	if n := converting.wants[ours].length; n >= p.wants[direct].length {
		return nil, fmt.Errorf("the answer was not converted: it has %d bytes", n)
	}
	return saturated(ctx, &converting)
}

// pacedStreams measures one stream on every connection, at the upstream's pace.
func pacedStreams(ctx context.Context, p *pass) (sample, error) {
	l, err := p.load(ctx, p.scenario.size)
	if err != nil {
		return nil, err
	}
	defer l.close()
	d := p.scenario.upstream.duration()
	return p.measured(ctx, d, func() (result, error) { return l.paced(ctx, d) })
}

// measured reads the CPU time of the process before and after the work; nothing else may be sent to it meanwhile.
func (p *pass) measured(ctx context.Context, d time.Duration, work func() (result, error)) (sample, error) {
	profiled, scraped := p.profile(ctx, d), p.scrape(ctx)
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
	if err := errors.Join(profiled(), scraped()); err != nil {
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

// streamMemory opens many streams at a new process and reads its RSS while all of them are open. Without a warm-up, the code
// that the first stream pages in counts as well.
func streamMemory(ctx context.Context, p *pass) (sample, error) {
	l, idle, err := p.fresh(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer l.close()

	scraped := p.scrape(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := l.paced(ctx, p.scenario.upstream.duration())
		ended <- err
	}()
	most, err := p.whileOpen(l, ended)
	if err := errors.Join(err, scraped()); err != nil {
		return nil, err
	}
	streams := float64(len(l.workers))
	return sample{rssIdle: idle / megabyte, rssPerStream: (most - idle) / streams / kilobyte, streamsHeld: streams}, nil
}

// whileOpen returns the highest RSS while every stream was open.
func (p *pass) whileOpen(l *load, ended <-chan error) (most float64, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil && most == 0 {
				err = errors.New("the streams were never all open at once")
			}
			return most, err
		case <-tick.C:
			rss, err := p.process().memory("VmRSS")
			if err != nil {
				return 0, err
			}
			if l.open.Load() == int64(len(l.workers)) {
				most = max(most, rss)
			}
		}
	}
}

// bodyMemory sends large requests one by one to a new process and reads its peak RSS: after the first, which is the cost of
// such a body, and after ten, which includes what garbage collection leaves behind.
func bodyMemory(ctx context.Context, p *pass) (sample, error) {
	l, idle, err := p.fresh(ctx, 20)
	if err != nil {
		return nil, err
	}
	defer l.close()
	s := sample{rssIdle: idle / megabyte}
	for i := range 10 {
		if _, err := l.times(ctx, 1); err != nil {
			return nil, err
		}
		peak, err := p.process().memory("VmHWM")
		if err != nil {
			return nil, err
		}
		s[bodyCopies10] = (peak - idle) / float64(p.scenario.size)
		if i == 0 {
			s[bodyCopies] = s[bodyCopies10]
		}
	}
	return s, nil
}

// burstMemory sends one large request on every connection of a new process at once and reads its peak RSS.
func burstMemory(ctx context.Context, p *pass) (sample, error) {
	l, idle, err := p.fresh(ctx, 20)
	if err != nil {
		return nil, err
	}
	defer l.close()
	scraped := p.scrape(ctx)
	if _, err := l.times(ctx, 1); err != nil {
		return nil, err
	}
	peak, err := p.process().memory("VmHWM")
	if err := errors.Join(err, scraped()); err != nil {
		return nil, err
	}
	return sample{rssIdle: idle / megabyte, peakGrowth: (peak - idle) / megabyte}, nil
}

// modelMemory sends a request for each of many models to a new process and reads its RSS: after the requests, and after its metrics
// were read once.
func modelMemory(ctx context.Context, p *pass) (sample, error) {
	l, idle, err := p.fresh(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if _, err := l.times(ctx, manyModels/p.scenario.connections); err != nil {
		return nil, err
	}
	used, err := p.process().memory("VmRSS")
	if err != nil {
		return nil, err
	}
	if err := fetch(ctx, p.servers.adminSocket(p.side), "metrics", io.Discard); err != nil {
		return nil, err
	}
	if err := rest(ctx, idleTime); err != nil {
		return nil, err
	}
	scraped, err := p.process().memory("VmRSS")
	if err != nil {
		return nil, err
	}
	return sample{rssIdle: idle / megabyte, rssUsed: used / megabyte, rssScraped: scraped / megabyte}, nil
}

// fresh restarts the side's process and lets it answer a small request a few times. It returns the load of the scenario, which the caller
// must close, and the RSS of the process, from where its peak counts.
func (p *pass) fresh(ctx context.Context, warmups int) (l *load, idle float64, err error) {
	if err := p.servers.restart(ctx, p.side); err != nil {
		return nil, 0, err
	}
	if warmups > 0 {
		small, err := newLoad(ctx, p.process().addr, 1, p.request(p.side, kilobyte), p.wants[p.side])
		if err != nil {
			return nil, 0, err
		}
		defer small.close()
		if _, err := small.times(ctx, warmups); err != nil {
			return nil, 0, fmt.Errorf("warming up: %w", err)
		}
	}
	if err := rest(ctx, idleTime); err != nil {
		return nil, 0, err
	}
	if idle, err = p.process().memory("VmRSS"); err != nil {
		return nil, 0, err
	}
	if l, err = p.load(ctx, p.scenario.size); err != nil {
		return nil, 0, err
	}
	if err := p.process().resetPeak(); err != nil {
		l.close()
		return nil, 0, err
	}
	return l, idle, nil
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// profile writes a CPU profile of the side's process to the directory given by -profile while work runs, then an allocation
// profile, one of each for every scenario and side. The caller must wait for them.
func (p *pass) profile(ctx context.Context, d time.Duration) (wait func() error) {
	s := p.servers
	if s.profiles == "" || p.side == direct {
		return func() error { return nil }
	}
	socket, name := s.adminSocket(p.side), filepath.Join(s.profiles, p.scenario.name+"-"+p.side.String())
	done := make(chan error, 1)
	go func() {
		seconds := strconv.Itoa(max(1, int(d.Seconds())))
		done <- errors.Join(
			fetchProfile(ctx, socket, "profile?seconds="+seconds, name+".pprof"),
			fetchProfile(ctx, socket, "allocs", name+".allocs.pprof"),
		)
	}()
	return func() error { return <-done }
}

func fetchProfile(ctx context.Context, socket, which, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer out.Close()
	return fetch(ctx, socket, "debug/pprof/"+which, out)
}

// scrape reads the metrics of the side's process every second, beginning now, as Prometheus would. The caller must end it.
func (p *pass) scrape(ctx context.Context) (end func() error) {
	if !p.scenario.observed || p.side == direct {
		return func() error { return nil }
	}
	socket, stop, done := p.servers.adminSocket(p.side), make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if err := fetch(ctx, socket, "metrics", io.Discard); err != nil {
				done <- err
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				done <- nil
				return
			}
		}
	}()
	return func() error { close(stop); return <-done }
}

// fetch writes what the admin API answers.
func fetch(ctx context.Context, socket, path string, to io.Writer) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the admin API for %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the admin API for %s: %s", path, res.Status)
	}
	if _, err := io.Copy(to, res.Body); err != nil {
		return fmt.Errorf("asking the admin API for %s: %w", path, err)
	}
	return nil
}

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
	want     *want
	duration time.Duration
}

// A sample is the result of a pass.
type sample map[figure]float64

const (
	warmUpTime = 250 * time.Millisecond // of connections
	idleTime   = 500 * time.Millisecond // of a new process, before its RSS is read
)

func (p *pass) process() *process { return p.servers.running[p.side] }

func (p *pass) load(ctx context.Context, size int) (*load, error) {
	return newLoad(ctx, p.process().addr, p.scenario.connections, p.scenario.request(size), p.want)
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
		if translating.want, err = translating.learn(ctx, ours); err != nil {
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
	profiled := p.profile(ctx, d)
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

// streamMemory opens many streams at a new process and reads its RSS while all of them are open. Without a warm-up, the code
// that the first stream pages in counts as well.
func streamMemory(ctx context.Context, p *pass) (sample, error) {
	idle, err := p.idle(ctx, nil, 0)
	if err != nil {
		return nil, err
	}
	l, err := p.load(ctx, p.scenario.size)
	if err != nil {
		return nil, err
	}
	defer l.close()

	ended := make(chan error, 1)
	go func() {
		_, err := l.paced(ctx, p.scenario.upstream.duration())
		ended <- err
	}()
	most, err := p.whileOpen(l, ended)
	if err != nil {
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
	small := *p.scenario
	small.size = kilobyte
	idle, err := p.idle(ctx, small.request(kilobyte), 20)
	if err != nil {
		return nil, err
	}
	l, err := p.load(ctx, p.scenario.size)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if err := p.process().resetPeak(); err != nil {
		return nil, err
	}
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

// idle restarts the side's process, lets it answer the request a few times and returns its RSS after that.
func (p *pass) idle(ctx context.Context, request []byte, times int) (float64, error) {
	if err := p.servers.restart(ctx, p.side); err != nil {
		return 0, err
	}
	if times > 0 {
		l, err := newLoad(ctx, p.process().addr, 1, request, p.want)
		if err != nil {
			return 0, err
		}
		defer l.close()
		if _, err := l.times(ctx, times); err != nil {
			return 0, fmt.Errorf("warming up: %w", err)
		}
	}
	select {
	case <-time.After(idleTime):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	return p.process().memory("VmRSS")
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
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/debug/pprof/"+which, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profiling: %s", res.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer out.Close()
	if _, err := io.Copy(out, res.Body); err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	return nil
}

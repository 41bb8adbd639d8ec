package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// settle is how long a process that was just started is left alone before its RSS is read.
const settle = 500 * time.Millisecond

// heldStreams opens many streams at a proxy that was just started, and reads its RSS while all of them are open. Nothing
// goes before, so the code that the first stream pages in is counted against the streams too.
func heldStreams(ctx context.Context, p *pass) (sample, error) {
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
		_, err := l.paced(ctx, p.scenario.upstream.lasting())
		ended <- err
	}()
	most, err := p.whileOpen(l, ended)
	if err != nil {
		return nil, err
	}
	streams := float64(len(l.workers))
	return sample{rssIdle: idle / megabyte, rssPerStream: (most - idle) / streams / kilobyte, streamsHeld: streams}, nil
}

// whileOpen is the highest RSS seen while every stream was open.
func (p *pass) whileOpen(l *load, ended <-chan error) (most float64, err error) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil && most == 0 {
				err = errors.New("the streams were never all open at once")
			}
			return most, err
		case <-look.C:
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

// largeBody sends single large requests to a proxy that was just started, and reads the highest RSS it ever had: after
// one, which is what such a body costs, and after ten in a row, which is what is left lying about on top of that.
func largeBody(ctx context.Context, p *pass) (sample, error) {
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
	if err := p.process().forgetPeak(); err != nil {
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

// idle starts the side's process anew, lets it answer the request a few times, and reads the RSS it has then.
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
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	return p.process().memory("VmRSS")
}

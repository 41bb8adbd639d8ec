package telemetry

import (
	"math"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/replica"
)

// Logged is the record as the access log shows it.
type Logged struct{ *exchange.Record }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l Logged) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("id", l.ID)
	if l.Key != "" {
		enc.AddString("key", l.Key)
	}
	if len(l.Tags) > 0 {
		zap.Strings("tags", l.Tags).AddTo(enc)
	}
	if l.Priority != replica.Normal {
		enc.AddString("priority", l.Priority.String())
	}
	enc.AddString("endpoint", l.Endpoint)
	enc.AddString("model", l.Model)
	enc.AddBool("stream", l.Stream)
	enc.AddString("target", l.Target)
	enc.AddString("route", l.Route)
	l.decided(enc)
	enc.AddInt("status", l.Status)
	enc.AddString("verdict", l.Verdict.String())
	l.times(enc)
	enc.AddInt("events", l.Events)
	enc.AddInt64("bytes", l.Bytes)
	enc.AddInt("chars", l.Chars)
	if l.HasUsage {
		enc.AddInt64("input_tokens", l.Usage.Input)
		enc.AddInt64("output_tokens", l.Usage.Output)
		enc.AddInt64("cached_tokens", l.Usage.Cached)
		enc.AddInt64("reasoning_tokens", l.Usage.Reasoning)
		enc.AddBool("estimated", l.Estimated)
	}
	if l.HasCost {
		enc.AddFloat64("cost_usd", l.Cost)
	}
	l.cached(enc)
	if l.Prompt != "" {
		enc.AddString("prompt", l.Prompt)
	}
	if l.Err != nil {
		enc.AddString("error", l.Err.Code)
	}
	return enc.AddArray("attempts", attempts(l.Attempts))
}

// cached is what the cache did.
func (l Logged) cached(enc zapcore.ObjectEncoder) {
	if l.Cache != "" {
		enc.AddString("cache", l.Cache)
	}
}

// decided is what rules did beyond the route.
func (l Logged) decided(enc zapcore.ObjectEncoder) {
	if l.Shadow != "" {
		enc.AddString("shadow", l.Shadow)
	}
	if l.Pinned {
		enc.AddBool("pinned", true)
	}
	if l.LocalOnly {
		enc.AddBool("local_only", true)
	}
	if l.Warning != "" {
		enc.AddString("warning", l.Warning)
	}
}

func (l Logged) times(enc zapcore.ObjectEncoder) {
	enc.AddDuration("queue", l.Queue)
	enc.AddDuration("ttft", l.FirstContent)
	enc.AddDuration("duration", l.Duration)
	if speed := speedOf(l.Record); speed > 0 {
		enc.AddFloat64("tokens_per_second", speed)
	}
}

// speedOf is how many output tokens a second came, behind the first content of a stream, to one decimal.
func speedOf(rec *exchange.Record) float64 {
	each := perOutputToken(rec)
	if !rec.Stream || each <= 0 {
		return 0
	}
	return math.Round(10/each.Seconds()) / 10
}

type attempts []exchange.Attempt

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (a attempts) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, one := range a {
		err := enc.AppendObject(zapcore.ObjectMarshalerFunc(func(enc zapcore.ObjectEncoder) error {
			enc.AddString("target", one.Target)
			enc.AddString("verdict", one.Verdict.String())
			enc.AddInt("status", one.Status)
			enc.AddDuration("duration", one.Duration)
			return nil
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

package telemetry

import (
	"math"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/router/admission"
)

// logObject is a record as the access log shows it. docs/logs.md explains each field.
type logObject struct{ *exchange.Record }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l logObject) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("id", l.ID)
	addIfSet(enc, "key", l.Key)
	if len(l.Tags) > 0 {
		zap.Strings("tags", l.Tags).AddTo(enc)
	}
	if l.Priority != admission.Normal {
		enc.AddString("priority", l.Priority.String())
	}
	enc.AddString("endpoint", l.Endpoint)
	enc.AddString("model", l.Model)
	enc.AddBool("stream", l.Stream)
	enc.AddString("target", l.Target)
	enc.AddString("route", l.Route)
	addIfSet(enc, "shadow", l.Shadow)
	if l.SessionRoute {
		enc.AddBool("pinned", true)
	}
	if l.LocalOnly {
		enc.AddBool("local_only", true)
	}
	addIfSet(enc, "warning", l.Warning)
	enc.AddInt("status", l.Status)
	enc.AddString("verdict", l.Verdict.String())
	enc.AddDuration("queue", l.Queue)
	enc.AddDuration("paused", l.Paused)
	enc.AddDuration("ttft", l.FirstContent)
	enc.AddDuration("duration", l.Duration)
	if each := timePerToken(l.Record); l.Stream && each > 0 {
		enc.AddFloat64("tokens_per_second", math.Round(10/each.Seconds())/10)
	}
	enc.AddInt("events", l.Events)
	enc.AddInt64("bytes", l.Bytes)
	enc.AddInt("chars", l.Chars)
	l.addUsage(enc)
	addIfSet(enc, "cache", l.Cache)
	addIfSet(enc, "prompt", l.Prompt)
	if l.Err != nil {
		enc.AddString("error", l.Err.Code)
	}
	return enc.AddArray("attempts", zapcore.ArrayMarshalerFunc(l.addAttempts))
}

func addIfSet(enc zapcore.ObjectEncoder, name, value string) {
	if value != "" {
		enc.AddString(name, value)
	}
}

func (l logObject) addUsage(enc zapcore.ObjectEncoder) {
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
}

func (l logObject) addAttempts(enc zapcore.ArrayEncoder) error {
	for _, a := range l.Attempts {
		err := enc.AppendObject(zapcore.ObjectMarshalerFunc(func(enc zapcore.ObjectEncoder) error {
			enc.AddString("target", a.Target)
			enc.AddString("verdict", a.Verdict.String())
			enc.AddInt("status", a.Status)
			enc.AddDuration("duration", a.Duration)
			return nil
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

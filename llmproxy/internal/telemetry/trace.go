package telemetry

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/delivery"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/exchange"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/prices"
	"github.com/caddy-llmproxy/caddy-llmproxy/router"
)

const tracerName = "github.com/caddy-llmproxy/caddy-llmproxy"

// Trace starts the span of an attempt as a child of the request's span, which Caddy's tracing handler started. It returns a nil
// span if there is no tracing, or if the request is not sampled; that costs one lookup in the context.
func (o *Observer) Trace(ctx context.Context, rec *exchange.Record, a exchange.Attempt) (context.Context, delivery.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, nil
	}
	_, model, _ := strings.Cut(a.Target, "/")
	operation := operationName(rec.Endpoint)
	attributes := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", operation),
		attribute.String("gen_ai.request.model", model),
		attribute.String("llm.request_id", rec.ID),
		attribute.String("llm.model", rec.Model),
		attribute.String("llm.target", a.Target),
		attribute.Int("llm.attempt", len(rec.Attempts)+1),
	}
	if base, err := url.Parse(a.Address); err == nil {
		attributes = append(attributes, attribute.String("gen_ai.provider.name", o.providerName(a.Configured.Upstream, base)), attribute.String("server.address", base.Hostname()))
		if port, err := strconv.Atoi(base.Port()); err == nil {
			attributes = append(attributes, attribute.Int("server.port", port))
		}
	}
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, operation+" "+model,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return ctx, attemptSpan{ctx, span}
}

// attemptSpan is the span of an attempt.
type attemptSpan struct {
	ctx  context.Context
	span trace.Span
}

// Inject implements delivery.Span.
func (s attemptSpan) Inject(h http.Header) {
	propagation.TraceContext{}.Inject(s.ctx, propagation.HeaderCarrier(h))
}

// End implements delivery.Span. A span contains no text of prompts and answers, and no messages of upstreams' errors, which may
// quote them.
func (s attemptSpan) End(rec *exchange.Record, a exchange.Attempt) {
	if a.Status != 0 {
		s.span.SetAttributes(attribute.Int("http.response.status_code", a.Status))
	}
	if a.Verdict == router.OK || a.Verdict == router.ClientClosed && rec.FirstContent > 0 {
		s.setUsage(rec)
	}
	if a.Verdict != router.OK {
		s.span.SetAttributes(attribute.String("error.type", a.Verdict.String()))
		s.span.SetStatus(codes.Error, a.Verdict.String())
	}
	s.span.End()
}

func (s attemptSpan) setUsage(rec *exchange.Record) {
	if rec.HasUsage {
		s.span.SetAttributes(
			attribute.Int64("gen_ai.usage.input_tokens", rec.Usage.Input),
			attribute.Int64("gen_ai.usage.output_tokens", rec.Usage.Output),
			attribute.Int64("gen_ai.usage.cache_read.input_tokens", rec.Usage.Cached),
			attribute.Int64("gen_ai.usage.reasoning.output_tokens", rec.Usage.Reasoning),
			attribute.Bool("llm.usage.estimated", rec.Estimated))
	}
	if rec.HasCost {
		s.span.SetAttributes(attribute.Float64("llm.cost_usd", rec.Cost))
	}
	if rec.Stream {
		s.span.SetAttributes(attribute.Float64("gen_ai.response.time_to_first_chunk", rec.FirstContent.Seconds()))
	}
}

// operationName returns the name of an endpoint in the GenAI conventions.
func operationName(endpoint string) string {
	switch endpoint {
	case "completions":
		return "text_completion"
	case "responses", "responses_compact":
		return "chat"
	}
	return endpoint
}

// providerNames are the services whose names in the GenAI conventions differ from those in tables of prices.
var providerNames = map[string]string{"gemini": "gcp.gemini", "mistral": "mistral_ai", "xai": "x_ai", "azure": "azure.ai.openai"}

// providerName returns the name of an upstream's service in the GenAI conventions; for other upstreams, their kind.
func (o *Observer) providerName(route *router.Upstream, base *url.URL) string {
	service := prices.Service(base.Hostname())
	switch {
	case providerNames[service] != "":
		return providerNames[service]
	case service != "":
		return service
	}
	for _, u := range o.Upstreams {
		if u.Route == route {
			return u.ActualKind().Name
		}
	}
	return ""
}

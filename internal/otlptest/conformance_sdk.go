package otlptest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// exporter is one of the Go SDK's own, with an SDK in front of it.
type exporter struct {
	signal otlp.Signal
	record func(ctx context.Context) // makes a span, a data point or a log record
	flush  func(ctx context.Context) error
	close  func(ctx context.Context) error
}

// goExporters makes an exporter of each signal that the SDK has, for the protocol.
func (g *target) goExporters(t *testing.T, squeeze bool) []exporter {
	t.Helper()
	ctx := t.Context()
	spans, err := g.spanExporter(ctx, squeeze)
	points, err2 := g.metricExporter(ctx, squeeze)
	records, err3 := g.logExporter(ctx, squeeze)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	tracing := sdktrace.NewTracerProvider(sdktrace.WithBatcher(spans, sdktrace.WithBatchTimeout(time.Hour)))
	metering := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points, sdkmetric.WithInterval(time.Hour))))
	logging := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(records, sdklog.WithExportInterval(time.Hour))))
	counter, err := metering.Meter("conformance").Int64Counter("calls")
	if err != nil {
		t.Fatal(err)
	}
	all := []exporter{
		{otlp.Traces, func(ctx context.Context) {
			_, span := tracing.Tracer("conformance").Start(ctx, "GET /orders")
			span.End()
		}, tracing.ForceFlush, tracing.Shutdown},
		{otlp.Metrics, func(ctx context.Context) { counter.Add(ctx, 1) }, metering.ForceFlush, metering.Shutdown},
		{otlp.Logs, func(ctx context.Context) {
			var r log.Record
			r.SetBody(attribute.StringValue("order taken"))
			logging.Logger("conformance").Emit(ctx, r)
		}, logging.ForceFlush, logging.Shutdown},
	}
	t.Cleanup(func() {
		g.sink.answer = nil
		for _, e := range all {
			e.close(context.Background())
		}
	})
	return all
}

// exporters has the Go SDK's own exporters send, and checks what they make of the answers.
func (s suite) exporters(t *testing.T) {
	var tries atomic.Int32
	first := func(err error) func() error {
		return func() error {
			if tries.Add(1) == 1 {
				return err
			}
			return nil
		}
	}
	answers := []struct {
		name  string
		err   error
		again bool   // the exporter sends the same request again, and then succeeds
		fails string // what its error says; "": it has none
	}{
		{"taken", nil, false, ""},
		{"down", &otlp.Error{Code: otlp.Unavailable, Message: "down", Retryable: true}, true, ""},
		{"throttled", &otlp.Error{Code: otlp.ResourceExhausted, Message: "slow down", Retryable: true}, true, ""},
		{"again", &otlp.Error{Code: otlp.Internal, Message: "again", Retryable: true}, true, ""},
		{"for good", &otlp.Error{Code: otlp.InvalidArgument, Message: "no such field"}, false, "no such field"},
		{"full for good", &otlp.Error{Code: otlp.ResourceExhausted, Message: "too large"}, false, "too large"},
		{"never", &otlp.Error{Code: otlp.Unavailable, Message: "never again"}, false, "never again"},
		{"partly", &otlp.PartialSuccess{Rejected: 1, Message: "too old"}, false, "too old"},
	}
	for _, squeeze := range []bool{false, true} {
		g := s.target(t, suiteLimit)
		for _, e := range g.goExporters(t, squeeze) {
			for _, a := range answers {
				t.Run(fmt.Sprint(e.signal, squeeze, a.name), func(t *testing.T) {
					tries.Store(0)
					g.sink.answer = first(a.err)
					e.record(t.Context())
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					err := e.flush(ctx)
					if a.fails == "" && err != nil || a.fails != "" && (err == nil || !strings.Contains(err.Error(), a.fails)) {
						t.Errorf("the exporter says %v, want %q", err, a.fails)
					}
					want := 1
					if a.again {
						want = 2
					}
					g.checkExported(t, e.signal, squeeze, want)
				})
			}
		}
	}
}

// checkExported checks that the sink got a request of one record so many times.
func (g *target) checkExported(t *testing.T, sig otlp.Signal, squeeze bool, times int) {
	t.Helper()
	coding := ""
	if squeeze {
		coding = "gzip"
	}
	got := g.sink.take()
	if len(got) != times {
		t.Errorf("the sink got %d requests, want %d", len(got), times)
	}
	for _, p := range got {
		body, err := decompress(coding, p.Body, suiteLimit)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Decode(p.Signal, p.Encoding, body)
		if err != nil || p.Signal != sig || d.Records != 1 || p.Records != 1 || p.Size != len(body) {
			t.Errorf("the sink got %d records of %s in %d bytes (%v); want 1 of %s in %d", p.Records, p.Signal, p.Size, err, sig, len(body))
		}
	}
}

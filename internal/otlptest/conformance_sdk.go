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

// Exporter is an SDK's own exporter of one signal, with the SDK in front of it.
type Exporter struct {
	Signal otlp.Signal

	// Export makes one record and hands it over. The error is what the SDK says of the answer, unless it is Silent.
	Export func(ctx context.Context) error
	Silent bool

	// Patient says that it waits for a second or so before it sends a request again.
	Patient bool

	// Again says whether it sends the same request again after an error, where it does not go by the OTLP
	// specification. nil: it does.
	Again func(e *otlp.Error) bool
}

// ExporterConformance has SDKs' exporters send to a receiver, as Conformance starts it, and checks what they make of its
// answers. start makes them for a receiver at baseURL, compressing with gzip or not at all; they end with their test.
func ExporterConformance(t *testing.T, p Protocol, start func(t *testing.T, sink otlp.Sink, maxBytes int) (baseURL string),
	exporters func(t *testing.T, baseURL string, squeeze bool) []Exporter) {
	s := suite{protocol: p, start: start}
	for _, squeeze := range []bool{false, true} {
		g := s.target(t, suiteLimit)
		for _, e := range exporters(t, "http://"+g.addr+g.prefix, squeeze) {
			for _, a := range exporterAnswers {
				if a.retryable() && e.Patient && (squeeze || e.Signal != otlp.Traces) {
					continue
				}
				t.Run(fmt.Sprint(e.Signal, squeeze, a.name), func(t *testing.T) { g.export(t, e, a, squeeze) })
			}
		}
		g.sink.answers(nil) // for what the SDKs send when they end
	}
}

// exporterAnswer is how the sink answers the first of an exporter's tries.
type exporterAnswer struct {
	name  string
	err   error
	fails string // what the exporter's error says; "": it has none
}

var exporterAnswers = []exporterAnswer{
	{"taken", nil, ""},
	{"down", &otlp.Error{Code: otlp.Unavailable, Message: "down", Retryable: true}, ""},
	{"throttled", &otlp.Error{Code: otlp.ResourceExhausted, Message: "slow down", Retryable: true}, ""},
	{"against its code", &otlp.Error{Code: otlp.Internal, Message: "again", Retryable: true}, ""},
	{"for good", &otlp.Error{Code: otlp.InvalidArgument, Message: "no such field"}, "no such field"},
	{"full for good", &otlp.Error{Code: otlp.ResourceExhausted, Message: "too large"}, "too large"},
	{"never", &otlp.Error{Code: otlp.Unavailable, Message: "never again"}, "never again"},
	{"partly", &otlp.PartialSuccess{Rejected: 1, Message: "too old"}, "too old"},
}

func (a exporterAnswer) retryable() bool {
	e, is := errors.AsType[*otlp.Error](a.err)
	return is && e.Retryable
}

// sent is how often the exporter sends a request that is answered so.
func (a exporterAnswer) sent(e Exporter) int {
	refused, is := errors.AsType[*otlp.Error](a.err)
	if is && (e.Again == nil && refused.Retryable || e.Again != nil && e.Again(refused)) {
		return 2
	}
	return 1
}

// export has e send one record, and checks what reached the sink and what e says.
func (g *target) export(t *testing.T, e Exporter, a exporterAnswer, squeeze bool) {
	var tries atomic.Int32
	g.sink.answers(func() error {
		if tries.Add(1) == 1 {
			return a.err
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := e.Export(ctx)
	if !e.Silent && (a.fails == "" && err != nil || a.fails != "" && (err == nil || !strings.Contains(err.Error(), a.fails))) {
		t.Errorf("the exporter says %v, want %q", err, a.fails)
	}
	g.checkExported(t, e.Signal, squeeze, a.sent(e))
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

// exporters runs ExporterConformance with the Go SDK's.
func (s suite) exporters(t *testing.T) {
	ExporterConformance(t, s.protocol, s.start, func(t *testing.T, baseURL string, squeeze bool) []Exporter {
		return goExporters(t, s.protocol, baseURL, squeeze)
	})
}

// goExporters are those of the Go SDK.
func goExporters(t *testing.T, p Protocol, baseURL string, squeeze bool) []Exporter {
	t.Helper()
	spans, err := spanExporter(t.Context(), p, baseURL, squeeze)
	points, err2 := metricExporter(t.Context(), p, baseURL, squeeze)
	records, err3 := logExporter(t.Context(), p, baseURL, squeeze)
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
	t.Cleanup(func() {
		ctx := context.Background()
		_ = errors.Join(tracing.Shutdown(ctx), metering.Shutdown(ctx), logging.Shutdown(ctx)) // metrics send once more
	})
	return []Exporter{
		{Signal: otlp.Traces, Export: func(ctx context.Context) error {
			_, span := tracing.Tracer("conformance").Start(ctx, "GET /orders")
			span.End()
			return tracing.ForceFlush(ctx)
		}},
		{Signal: otlp.Metrics, Export: func(ctx context.Context) error {
			counter.Add(ctx, 1)
			return metering.ForceFlush(ctx)
		}},
		{Signal: otlp.Logs, Export: func(ctx context.Context) error {
			var r log.Record
			r.SetBody(attribute.StringValue("order taken"))
			logging.Logger("conformance").Emit(ctx, r)
			return logging.ForceFlush(ctx)
		}},
	}
}

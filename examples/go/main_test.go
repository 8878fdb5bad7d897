package main

import (
	"context"
	"encoding/hex"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// start makes the function with an SDK that sends to a backend of the test's own, in the extension's place.
func start(t *testing.T) (*function, *otlptest.Backend) {
	t.Helper()
	backend, err := otlptest.StartBackend(otlptest.Options{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.URL())
	t.Setenv("AWS_REGION", "eu-west-1")
	sdk, err := newTelemetry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFunction(sdk)
	if err != nil {
		t.Fatal(err)
	}
	return f, backend
}

func TestEverythingIsHandedOverWhenTheHandlerReturns(t *testing.T) {
	f, backend := start(t)
	for n := 1; n <= 3; n++ {
		receipt, err := f.handle(t.Context(), Order{ID: "A-1", Steps: 3})
		if err != nil {
			t.Fatal(err)
		}
		if receipt.Spans != 4 || receipt.Logs != 4 || receipt.Points != 2 {
			t.Errorf("the receipt is %+v, want 4 spans, 4 logs and 2 points", receipt)
		}
		for sig, each := range map[otlp.Signal]int{otlp.Traces: receipt.Spans, otlp.Logs: receipt.Logs, otlp.Metrics: receipt.Points} {
			if got := backend.Totals(sig).Records; got != n*each {
				t.Errorf("after %d invocations %d records of %s have arrived, the receipts say %d", n, got, sig, n*each)
			}
		}
	}
}

func TestTraceOfAnInvocation(t *testing.T) {
	f, backend := start(t)
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "request-1"})
	receipt, err := f.handle(ctx, Order{ID: "A-1", Steps: 2, WorkMS: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.handle(ctx, Order{ID: "A-2"}); err != nil { // a warm one
		t.Fatal(err)
	}
	var roots, steps []*trace.Span
	for _, q := range backend.Requests() {
		if m, ok := q.Message.(*coltrace.ExportTraceServiceRequest); ok {
			resource := m.ResourceSpans[0].Resource.Attributes
			if got := text(resource, "cloud.platform"); got != "aws_lambda" {
				t.Errorf("cloud.platform is %q, want aws_lambda", got)
			}
			if got := text(resource, "cloud.region"); got != "eu-west-1" {
				t.Errorf("cloud.region is %q, want eu-west-1", got)
			}
			for _, s := range m.ResourceSpans[0].ScopeSpans[0].Spans {
				if s.Kind == trace.Span_SPAN_KIND_SERVER {
					roots = append(roots, s)
				} else {
					steps = append(steps, s)
				}
			}
		}
	}
	if len(roots) != 2 || len(steps) != 2 {
		t.Fatalf("%d root spans and %d steps, want 2 and 2", len(roots), len(steps))
	}
	cold, warm := roots[0], roots[1]
	if hex.EncodeToString(cold.TraceId) != receipt.TraceID || text(cold.Attributes, "faas.invocation_id") != "request-1" {
		t.Errorf("the root span is %v, want trace %s of request-1", cold, receipt.TraceID)
	}
	if !flag(cold.Attributes, "faas.coldstart") || flag(warm.Attributes, "faas.coldstart") {
		t.Error("faas.coldstart is not true for the first invocation only")
	}
	for _, s := range steps {
		if string(s.ParentSpanId) != string(cold.SpanId) || string(s.TraceId) != string(cold.TraceId) {
			t.Errorf("step %q is not a child of the root span", s.Name)
		}
	}
	for _, r := range logRecords(backend) {
		if r.GetBody().GetStringValue() == "step 1 done" && string(r.SpanId) != string(steps[0].SpanId) {
			t.Error("a step's log record does not carry the step's span")
		}
	}
}

func logRecords(backend *otlptest.Backend) []*logs.LogRecord {
	var all []*logs.LogRecord
	for _, q := range backend.Requests() {
		if m, ok := q.Message.(*collogs.ExportLogsServiceRequest); ok {
			all = append(all, m.ResourceLogs[0].ScopeLogs[0].LogRecords...)
		}
	}
	return all
}

func text(attrs []*common.KeyValue, key string) string { return value(attrs, key).GetStringValue() }
func flag(attrs []*common.KeyValue, key string) bool   { return value(attrs, key).GetBoolValue() }

func value(attrs []*common.KeyValue, key string) *common.AnyValue {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

func TestDeadTelemetryDoesNotFailTheFunction(t *testing.T) {
	f, backend := start(t)
	backend.Fail(otlptest.Fault{Kind: otlptest.Hang})
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if _, err := f.handle(ctx, Order{ID: "A-1", Steps: 1}); err != nil {
		t.Errorf("the handler failed with its telemetry: %v", err)
	}
}

func TestHangComesAfterTheFlushIfAsked(t *testing.T) {
	f, backend := start(t)
	go f.handle(t.Context(), Order{ID: "A-1", Steps: 2, Hang: true, FlushFirst: true}) // never returns
	for sig, n := range map[otlp.Signal]int{otlp.Traces: 3, otlp.Logs: 3, otlp.Metrics: 2} {
		if err := backend.WaitRecords(t.Context(), sig, n); err != nil {
			t.Error(err)
		}
	}
}

func TestXRayParent(t *testing.T) {
	const root, parent = "Root=1-5759e988-bd862e3fe1be46a994272793", "Parent=53995c3f42cd8ad8"
	if got := xrayParent(root + ";" + parent + ";Sampled=1"); got.TraceID().String() != "5759e988bd862e3fe1be46a994272793" ||
		got.SpanID().String() != "53995c3f42cd8ad8" || !got.IsSampled() || !got.IsRemote() {
		t.Errorf("xrayParent = %+v, want the header's ids, sampled and remote", got)
	}
	for _, header := range []string{
		"", "nonsense", root + ";" + parent, root + ";" + parent + ";Sampled=0", root + ";Sampled=1",
		"Root=1-xyz;" + parent + ";Sampled=1", "Root=1-5759e988-xx862e3fe1be46a994272793;" + parent + ";Sampled=1",
	} {
		if got := xrayParent(header); got.IsValid() {
			t.Errorf("xrayParent(%q) = %+v, want none", header, got)
		}
	}
}

func TestDisabledSDK(t *testing.T) {
	t.Setenv("OTEL_SDK_DISABLED", "true")
	f, backend := start(t)
	if _, err := f.handle(t.Context(), Order{ID: "A-1", Steps: 1}); err != nil {
		t.Fatal(err)
	}
	if n := len(backend.Requests()); n > 0 {
		t.Errorf("%d requests arrived of an SDK that is disabled", n)
	}
}

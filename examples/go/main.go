// Command go is a Lambda function in Go with OpenTelemetry traces, metrics and logs, to be copied.
//
// On the OS-only runtimes that Go runs on, no exec wrapper can set the SDK up: set two variables.
//
//	OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318   the SDK sends to the extension (Go's default is https)
//	OTLP_RELAY_ENDPOINT=https://otlp.example.com        the extension sends to your backend
//
// The function plays at handling an order in steps. telemetry.go is the part that every function needs.
package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	logglobal "go.opentelemetry.io/otel/log/global"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

const scope = "example.com/orders" // names this instrumentation in the backend

// Order is the event.
type Order struct {
	ID     string `json:"id"`
	Steps  int    `json:"spans"`   // to take, a child span each
	WorkMS int    `json:"work_ms"` // that the steps take, all together

	// To see what a timeout does: hang until Lambda ends the function, before or after the telemetry is flushed.
	Hang       bool `json:"hang"`
	FlushFirst bool `json:"flush_first"`
}

// Receipt is the response: how much telemetry the invocation made, and what its flush took.
type Receipt struct {
	ID      string  `json:"id"`
	TraceID string  `json:"trace_id"`
	Spans   int     `json:"spans"`
	Logs    int     `json:"logs"`
	Points  int     `json:"points"`
	FlushMS float64 `json:"flush_ms"`
}

func main() {
	t, err := newTelemetry(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "set up telemetry:", err)
		os.Exit(1)
	}
	// For instrumentation libraries, which look for the SDK here.
	otel.SetTracerProvider(t.traces)
	otel.SetMeterProvider(t.metrics)
	logglobal.SetLoggerProvider(t.logs)

	f, err := newFunction(t)
	if err != nil {
		fmt.Fprintln(os.Stderr, "set up telemetry:", err)
		os.Exit(1)
	}
	lambda.Start(f.handle)
}

// function is what lives as long as the environment.
type function struct {
	telemetry *telemetry
	tracer    trace.Tracer
	logger    log.Logger
	orders    metric.Int64Counter
	duration  metric.Float64Histogram
	warm      atomic.Bool
}

func newFunction(t *telemetry) (*function, error) {
	f := &function{telemetry: t, tracer: t.traces.Tracer(scope), logger: t.logs.Logger(scope)}
	meter := t.metrics.Meter(scope)
	var err error
	if f.orders, err = meter.Int64Counter("orders.handled", metric.WithUnit("{order}")); err != nil {
		return nil, err
	}
	f.duration, err = meter.Float64Histogram("orders.duration", metric.WithUnit("s"))
	return f, err
}

// handle is the Lambda handler: one root span an invocation, and a flush at its end.
func (f *function) handle(ctx context.Context, order Order) (Receipt, error) {
	begin := time.Now()
	ctx, root := f.startRoot(ctx)
	f.log(ctx, "order received", order.ID)
	for i := range order.Steps {
		f.step(ctx, order, i)
	}
	if order.Hang && !order.FlushFirst {
		time.Sleep(time.Hour)
	}
	f.orders.Add(ctx, 1)
	f.duration.Record(ctx, time.Since(begin).Seconds())
	root.End()

	beginFlush := time.Now()
	if err := f.flush(ctx); err != nil {
		// Telemetry must not fail the function.
		fmt.Fprintln(os.Stderr, "flush telemetry:", err)
	}
	flushed := time.Since(beginFlush)
	if order.Hang {
		time.Sleep(time.Hour)
	}
	return Receipt{
		ID: order.ID, TraceID: root.SpanContext().TraceID().String(),
		Spans:  1 + order.Steps, // the root span, and one a step
		Logs:   1 + order.Steps, // "order received", and one a step
		Points: 2,               // two instruments of one series each

		FlushMS: float64(flushed.Microseconds()) / 1000,
	}, nil
}

// startRoot starts the invocation's span, as the semantic conventions for functions have it.
func (f *function) startRoot(ctx context.Context) (context.Context, trace.Span) {
	header, _ := ctx.Value("x-amzn-trace-id").(string) // set by aws-lambda-go
	if parent := xrayParent(header); parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	attrs := []attribute.KeyValue{semconv.FaaSColdstart(!f.warm.Swap(true))}
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		attrs = append(attrs, semconv.FaaSInvocationID(lc.AwsRequestID), semconv.CloudResourceID(lc.InvokedFunctionArn))
	}
	return f.tracer.Start(ctx, lambdacontext.FunctionName,
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...))
}

// step is one piece of the work, in a span of its own.
func (f *function) step(ctx context.Context, order Order, i int) {
	ctx, span := f.tracer.Start(ctx, fmt.Sprintf("step %d", i+1),
		trace.WithAttributes(attribute.String("order.id", order.ID)))
	defer span.End()
	time.Sleep(time.Duration(order.WorkMS) * time.Millisecond / time.Duration(order.Steps))
	f.log(ctx, fmt.Sprintf("step %d done", i+1), order.ID)
}

// log emits a log record; it carries the ids of the span in ctx.
func (f *function) log(ctx context.Context, message, orderID string) {
	var r log.Record
	r.SetTimestamp(time.Now())
	r.SetSeverity(log.SeverityInfo)
	r.SetSeverityText("INFO")
	r.SetBody(attribute.StringValue(message))
	r.AddAttributes(attribute.String("order.id", orderID))
	f.logger.Emit(ctx, r)
}

// flush hands the telemetry over, in good time before Lambda's own deadline.
func (f *function) flush(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-50*time.Millisecond))
		defer cancel()
	}
	return f.telemetry.flush(ctx)
}

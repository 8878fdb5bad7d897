package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// telemetry is the OpenTelemetry SDK. It is made once, while the environment initialises, and serves every
// invocation: exporters keep their connection to the extension open.
type telemetry struct {
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	logs    *sdklog.LoggerProvider
}

// newTelemetry sets the SDK up. Where it sends to comes from the OTEL_EXPORTER_OTLP_* variables.
func newTelemetry(ctx context.Context) (*telemetry, error) {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" { // which Go's SDK leaves to the program
		return &telemetry{sdktrace.NewTracerProvider(), sdkmetric.NewMeterProvider(), sdklog.NewLoggerProvider()}, nil
	}
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			semconv.ServiceName(lambdacontext.FunctionName),
			semconv.CloudProviderAWS,
			semconv.CloudPlatformAWSLambda,
			semconv.CloudRegion(os.Getenv("AWS_REGION")),
			semconv.FaaSName(lambdacontext.FunctionName),
			semconv.FaaSVersion(lambdacontext.FunctionVersion),
			semconv.FaaSInstance(lambdacontext.LogStreamName), // tells one environment from another
			semconv.FaaSMaxMemory(lambdacontext.MemoryLimitInMB<<20),
		),
		resource.WithFromEnv(), // last, so that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	)
	if err != nil {
		return nil, fmt.Errorf("describe this function: %w", err)
	}
	spans, points, records, err := newExporters(ctx)
	if err != nil {
		return nil, fmt.Errorf("make the exporters: %w", err)
	}
	return &telemetry{
		traces: sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(spans)),
		metrics: sdkmetric.NewMeterProvider(sdkmetric.WithResource(res),
			sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points))),
		logs: sdklog.NewLoggerProvider(sdklog.WithResource(res),
			sdklog.WithProcessor(sdklog.NewBatchProcessor(records))),
	}, nil
}

// newExporters follows OTEL_EXPORTER_OTLP_PROTOCOL, of which the exporters themselves read only whether
// otlptracehttp is to send JSON.
func newExporters(ctx context.Context) (spans sdktrace.SpanExporter, points sdkmetric.Exporter, records sdklog.Exporter, err error) {
	var errs [3]error
	switch os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") {
	case "grpc":
		spans, errs[0] = otlptracegrpc.New(ctx)
		points, errs[1] = otlpmetricgrpc.New(ctx)
		records, errs[2] = otlploggrpc.New(ctx)
	default:
		spans, errs[0] = otlptracehttp.New(ctx)
		points, errs[1] = otlpmetrichttp.New(ctx)
		records, errs[2] = otlploghttp.New(ctx)
	}
	return spans, points, records, errors.Join(errs[:]...)
}

// flush hands everything to the extension. Once the handler has returned, Lambda may freeze this process for
// hours or end it, with whatever the SDK still holds: so flush at the end of each invocation. It costs a few
// hundred microseconds on the loopback device, and the three signals go at the same time.
func (t *telemetry) flush(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [3]error
	wg.Go(func() { errs[0] = t.traces.ForceFlush(ctx) })
	wg.Go(func() { errs[1] = t.metrics.ForceFlush(ctx) })
	wg.Go(func() { errs[2] = t.logs.ForceFlush(ctx) })
	wg.Wait()
	return errors.Join(errs[:]...)
}

// xrayParent is the caller's span out of X-Ray's trace header, "Root=1-5759e988-…;Parent=53995c3f…;Sampled=1".
// Without active tracing Lambda makes up a header with Sampled=0; to take that for the parent would have the
// default sampler drop every trace, so it counts as none.
func xrayParent(header string) trace.SpanContext {
	field := map[string]string{}
	for _, part := range strings.Split(header, ";") {
		k, v, _ := strings.Cut(part, "=")
		field[k] = v
	}
	root := strings.Split(field["Root"], "-") // version, seconds, the rest of the id
	if len(root) != 3 || field["Sampled"] != "1" {
		return trace.SpanContext{}
	}
	traceID, err := trace.TraceIDFromHex(root[1] + root[2])
	spanID, err2 := trace.SpanIDFromHex(field["Parent"])
	if err != nil || err2 != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true,
	})
}

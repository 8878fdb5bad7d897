package otlptest

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// retryAtOnce is how the exporters try again: the conformance suite does not wait for theirs to be patient.
var retryAtOnce = struct {
	Enabled                                      bool
	InitialInterval, MaxInterval, MaxElapsedTime time.Duration
}{true, time.Microsecond, time.Millisecond, patience}

// spanExporter is otlptracegrpc's or otlptracehttp's exporter.
func spanExporter(ctx context.Context, p Protocol, baseURL string, squeeze bool) (sdktrace.SpanExporter, error) {
	if p == GRPC {
		opts := []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(baseURL), otlptracegrpc.WithRetry(retryAtOnce)}
		if squeeze {
			opts = append(opts, otlptracegrpc.WithCompressor("gzip"))
		}
		return otlptracegrpc.New(ctx, opts...)
	}
	opts := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(baseURL + "/v1/traces"), otlptracehttp.WithRetry(retryAtOnce)}
	if squeeze {
		opts = append(opts, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	return otlptracehttp.New(ctx, opts...)
}

// metricExporter is otlpmetricgrpc's or otlpmetrichttp's exporter.
func metricExporter(ctx context.Context, p Protocol, baseURL string, squeeze bool) (sdkmetric.Exporter, error) {
	if p == GRPC {
		opts := []otlpmetricgrpc.Option{otlpmetricgrpc.WithEndpointURL(baseURL), otlpmetricgrpc.WithRetry(retryAtOnce)}
		if squeeze {
			opts = append(opts, otlpmetricgrpc.WithCompressor("gzip"))
		}
		return otlpmetricgrpc.New(ctx, opts...)
	}
	opts := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpointURL(baseURL + "/v1/metrics"), otlpmetrichttp.WithRetry(retryAtOnce)}
	if squeeze {
		opts = append(opts, otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	}
	return otlpmetrichttp.New(ctx, opts...)
}

// logExporter is otlploggrpc's or otlploghttp's exporter.
func logExporter(ctx context.Context, p Protocol, baseURL string, squeeze bool) (sdklog.Exporter, error) {
	if p == GRPC {
		opts := []otlploggrpc.Option{otlploggrpc.WithEndpointURL(baseURL), otlploggrpc.WithRetry(otlploggrpc.RetryConfig(retryAtOnce))}
		if squeeze {
			opts = append(opts, otlploggrpc.WithCompressor("gzip"))
		}
		return otlploggrpc.New(ctx, opts...)
	}
	opts := []otlploghttp.Option{otlploghttp.WithEndpointURL(baseURL + "/v1/logs"), otlploghttp.WithRetry(otlploghttp.RetryConfig(retryAtOnce))}
	if squeeze {
		opts = append(opts, otlploghttp.WithCompression(otlploghttp.GzipCompression))
	}
	return otlploghttp.New(ctx, opts...)
}

package flush

import (
	"context"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// BenchmarkFlush queues 1,000 requests of 10 spans, and flushes them to a sink that costs nothing.
func BenchmarkFlush(b *testing.B) {
	for _, compression := range []otlp.Compression{otlp.None, otlp.Gzip} {
		b.Run(compression.String(), func(b *testing.B) {
			built := (&otlptest.Builder{Name: "benchmark"}).Build(otlp.Traces, otlp.Protobuf, 10)
			p := otlp.Payload{Body: built.Body, Size: len(built.Body), Records: len(built.IDs)}
			queue := buffer.New(buffer.Limits{Bytes: 64 << 20, Records: 1 << 20}, nil, func(buffer.Item) { b.Error("queue full") })
			cfg := Config{Queue: queue, Recorder: &counts{}}
			cfg.Routes[otlp.Traces] = Route{
				Sink:        sinkFunc(func(context.Context, otlp.Payload) error { return nil }),
				Compression: compression, MaxBytes: 20 << 20, BatchBytes: 2 << 20,
			}
			f := New(b.Context(), cfg)
			b.SetBytes(int64(1000 * p.Size))
			b.ReportAllocs()
			for b.Loop() {
				for range 1000 {
					_ = queue.Send(b.Context(), p)
				}
				if err := f.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

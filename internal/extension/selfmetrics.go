package extension

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"runtime"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// selfMetricsEvery is the least time between two requests' worth of the extension's own metrics: the export interval that the
// OpenTelemetry specification gives metrics by default.
const selfMetricsEvery = time.Minute

// selfMetrics are the extension's own metrics, for OTLP_RELAY_SELF_METRICS. They are queued like the function's when a
// flush begins that happens anyway, at most once a minute and once at SHUTDOWN: they never cause one, and are
// accounted for like all data. Only the loop's goroutine uses it.
type selfMetrics struct {
	app   *app
	start time.Time // wall time: since when the counters count
	last  time.Time // wall time of the last append; zero before the first
	id    string    // service.instance.id; made late, since a snapshot must not share it
}

// newSelfMetrics is a's own metrics, or nil where they are off or have nowhere to go.
func newSelfMetrics(a *app) *selfMetrics {
	if !a.cfg.SelfMetrics || a.breakers[otlp.Metrics] == nil {
		return nil
	}
	return &selfMetrics{app: a, start: a.now()}
}

// joins queues the metrics if they are due and a flush of what is queued up to mark is about to begin.
func (s *selfMetrics) joins(f *flush.Flusher, upto buffer.Mark, now time.Time) bool {
	if s == nil || !s.due(now) || !f.Starts(upto) {
		return false
	}
	s.append(now)
	return true
}

// due says whether a minute has gone by. A clock that was set back makes them due.
func (s *selfMetrics) due(now time.Time) bool {
	gone := now.Sub(s.last)
	return gone >= selfMetricsEvery || gone < 0
}

// append queues the metrics of now.
func (s *selfMetrics) append(now time.Time) {
	s.last = now
	body, points := s.measure(now).Append(nil)
	_ = (*intake)(s.app).Send(context.Background(), otlp.Payload{
		Signal: otlp.Metrics, Body: body, Size: len(body), Records: points, Received: now,
	})
}

func (s *selfMetrics) measure(now time.Time) *otlp.Measurements {
	if s.id == "" {
		s.id = instanceID()
	}
	return &otlp.Measurements{
		Resource: append(s.app.cfg.Resource, otlp.Attribute{Key: "service.instance.id", Text: s.id}),
		Scope:    "github.com/otlp-relay/otlp-relay", Version: Version,
		Start: s.start, Time: now,
		Metrics: append(append(s.app.ledger.metrics(), s.stateMetrics()...), runtimeMetrics()...),
	}
}

// resource describes the environment (semantic conventions, "AWS Lambda" and "FaaS"). The service is the extension, not the
// function: the function's own go.* metrics must not be mixed with these.
func (e *environment) resource(memoryMB int) []otlp.Attribute {
	attrs := []otlp.Attribute{
		{Key: "service.name", Text: "otlp-relay"}, {Key: "service.version", Text: Version},
		{Key: "cloud.provider", Text: "aws"}, {Key: "cloud.platform", Text: "aws_lambda"},
	}
	for _, a := range [...]struct{ key, variable string }{
		{"cloud.region", "AWS_REGION"}, {"faas.name", "AWS_LAMBDA_FUNCTION_NAME"}, {"faas.version", "AWS_LAMBDA_FUNCTION_VERSION"},
	} {
		if v := e.vars[a.variable]; v != "" {
			attrs = append(attrs, otlp.Attribute{Key: a.key, Text: v})
		}
	}
	if memoryMB > 0 {
		attrs = append(attrs, otlp.Attribute{Key: "faas.max_memory", Int: int64(memoryMB) << 20, IsInt: true})
	}
	return attrs[:len(attrs):len(attrs)]
}

// instanceID is a random UUID (RFC 9562, version 4).
func instanceID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// stateMetrics are the queue's, the breakers' and the flush mode.
func (s *selfMetrics) stateMetrics() []otlp.Metric {
	queued := otlp.Metric{Name: "otlp_relay.queue.records", Unit: "{record}", Kind: otlp.UpDownCounterMetric,
		Description: "Records that wait to be sent"}
	size := otlp.Metric{Name: "otlp_relay.queue.size", Unit: "By", Kind: otlp.UpDownCounterMetric,
		Description: "Bytes that wait to be sent, uncompressed"}
	open := otlp.Metric{Name: "otlp_relay.breaker.open", Unit: "1", Kind: otlp.GaugeMetric,
		Description: "1 while the backend counts as out of order, 0 while it works"}
	opened := otlp.Metric{Name: "otlp_relay.breaker.openings", Unit: "{opening}", Kind: otlp.CounterMetric,
		Description: "How often the backend was found out of order"}
	for _, sig := range otlp.Signals() {
		attrs := []otlp.Attribute{{Key: "signal", Text: sig.String()}}
		records, bytes := s.app.queue.Queued(sig)
		queued.Points = append(queued.Points, otlp.Point{Attributes: attrs, Value: int64(records)})
		size.Points = append(size.Points, otlp.Point{Attributes: attrs, Value: int64(bytes)})
		if b := s.app.breakers[sig]; b != nil {
			value := int64(1)
			if b.Closed() {
				value = 0
			}
			open.Points = append(open.Points, otlp.Point{Attributes: attrs, Value: value})
			opened.Points = append(opened.Points, otlp.Point{Attributes: attrs, Value: s.app.openings[sig].Load()})
		}
	}
	return []otlp.Metric{queued, size, open, opened,
		{Name: "otlp_relay.queue.capacity", Unit: "By", Kind: otlp.UpDownCounterMetric,
			Description: "Bytes that the queue may hold (OTLP_RELAY_BUFFER_BYTES)",
			Points:      []otlp.Point{{Value: int64(s.app.settings.BufferBytes)}}},
		{Name: "otlp_relay.flush.mode", Unit: "1", Kind: otlp.GaugeMetric,
			Description: "1 for the flush mode in force",
			Points:      []otlp.Point{{Attributes: []otlp.Attribute{{Key: "mode", Text: s.app.mode().String()}}, Value: 1}}},
	}
}

// runtimeMetrics are the Go runtime's (semantic conventions, "Go runtime").
func runtimeMetrics() []otlp.Metric {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	one := func(name, unit, description string, kind otlp.MetricKind, value uint64) otlp.Metric {
		return otlp.Metric{Name: name, Unit: unit, Description: description, Kind: kind, Points: []otlp.Point{{Value: int64(value)}}}
	}
	return []otlp.Metric{
		one("go.memory.used", "By", "Memory used by the Go runtime", otlp.UpDownCounterMetric, m.Sys-m.HeapReleased),
		one("go.memory.allocated", "By", "Memory allocated to the heap by the application", otlp.CounterMetric, m.TotalAlloc),
		one("go.memory.allocations", "{allocation}", "Count of allocations to the heap by the application", otlp.CounterMetric, m.Mallocs),
		one("go.goroutine.count", "{goroutine}", "Count of live goroutines", otlp.UpDownCounterMetric, uint64(runtime.NumGoroutine())),
		one("go.processor.limit", "{thread}", "The number of OS threads that can execute user-level Go code simultaneously", otlp.UpDownCounterMetric, uint64(runtime.GOMAXPROCS(0))),
		one("otlp_relay.gc.cycles", "{cycle}", "Garbage collections", otlp.CounterMetric, uint64(m.NumGC)),
		one("otlp_relay.gc.pause", "ns", "Time that garbage collections stopped the program", otlp.CounterMetric, m.PauseTotalNs),
	}
}

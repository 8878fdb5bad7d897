package extension

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// withSelfMetrics turns the sandbox's own metrics on. Every metrics request goes to the returned list.
func withSelfMetrics(s *sandbox) *[]otlp.Payload {
	var got []otlp.Payload
	s.app.cfg.SelfMetrics = true
	s.app.own = newSelfMetrics(s.app)
	s.loop.own = s.app.own
	before := s.backend
	s.setBackend(func(ctx context.Context, p otlp.Payload) error {
		if p.Signal == otlp.Metrics {
			s.mu.Lock()
			got = append(got, p)
			s.mu.Unlock()
		}
		return before(ctx, p)
	})
	return &got
}

func TestSelfMetricsRideAlong(t *testing.T) {
	for _, jumps := range []bool{false, true} {
		bubble(map[bool]string{false: "monotonic time runs", true: "it stands still"}[jumps], t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
			got := withSelfMetrics(s)
			idle := func(d time.Duration) { s.freeze(d, !jumps) }
			s.cycle("1")
			if len(*got) != 1 {
				t.Fatalf("%d requests with the first flush, want 1", len(*got))
			}
			s.cycle("2")
			if len(*got) != 1 {
				t.Errorf("sent again within a minute")
			}
			idle(10 * time.Minute)
			s.invoke("3") // with nothing to send
			s.returned("3")
			s.held()
			if len(*got) != 1 {
				t.Errorf("they caused a flush of their own")
			}
			s.cycle("4")
			if len(*got) != 2 {
				t.Errorf("%d requests after a flush ten minutes later, want 2", len(*got))
			}
			s.shutdown()
			if len(*got) != 2 {
				t.Errorf("a SHUTDOWN with nothing to send sent them")
			}
		})
	}
}

func TestSelfMetricsAtShutdown(t *testing.T) {
	bubble("with data left", t, options{mode: flush.Interval}, func(t *testing.T, s *sandbox) {
		got := withSelfMetrics(s)
		s.emit(otlp.Traces, 10)
		s.shutdown()
		if len(*got) != 1 || s.delivered() < 2 {
			t.Errorf("%d requests, delivered %d", len(*got), s.delivered())
		}
	})
}

func TestNoSelfMetricsUnasked(t *testing.T) {
	bubble("off", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.cycle("1")
		s.shutdown()
		if s.sent() != 1 {
			t.Errorf("%d requests, want the function's one", s.sent())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		s.app.cfg.SelfMetrics, s.app.breakers[otlp.Metrics] = true, nil
		if newSelfMetrics(s.app) != nil {
			t.Error("made without a destination for metrics")
		}
	})
}

// TestSelfMetricsSayWhatIsTrue reads them with the official types and compares them with the ledger.
func TestSelfMetricsSayWhatIsTrue(t *testing.T) {
	bubble("values", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.app.cfg.Resource = (&environment{vars: map[string]string{"AWS_LAMBDA_FUNCTION_NAME": "fn", "AWS_REGION": "eu-west-1"}}).resource(512)
		withSelfMetrics(s)
		s.cycle("1")
		s.cycle("2")
		s.app.ledger.drop(otlp.Logs, otlp.DroppedRefused, 0, 0, context.Canceled)
		s.app.ledger.accept(otlp.Payload{Signal: otlp.Logs, Records: 3, Size: 30})
		s.app.ledger.drop(otlp.Logs, otlp.DroppedRefused, 3, 30, nil)
		s.app.breakers[otlp.Logs].(interface{ Trip(error) }).Trip(context.DeadlineExceeded)
		s.app.own.id = ""
		body, points := s.app.own.measure(s.wall()).Append(nil)
		var req metricspb.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		for _, m := range req.ResourceMetrics[0].ScopeMetrics[0].Metrics {
			if m.Unit == "" || m.Description == "" {
				t.Errorf("%s has no unit or description", m.Name)
			}
			for _, p := range append(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()...) {
				key := m.Name
				for _, a := range p.Attributes {
					key += " " + a.Value.GetStringValue()
				}
				got[key] = p.GetAsInt()
			}
		}
		if len(got) != points {
			t.Errorf("%d data points, said to be %d: two are the same", len(got), points)
		}
		for key, want := range map[string]int64{
			"otlp_relay.records.accepted traces": 2, "otlp_relay.records.delivered traces": 2, "otlp_relay.records.accepted logs": 3,
			"otlp_relay.records.dropped logs refused": 3, "otlp_relay.dropped.size logs refused": 30, "otlp_relay.queue.records traces": 0,
			"otlp_relay.queue.capacity": 1 << 20, "otlp_relay.breaker.open logs": 1, "otlp_relay.breaker.open traces": 0,
			"otlp_relay.breaker.openings logs": 1, "otlp_relay.flush.mode end": 1,
		} {
			if v, ok := got[key]; !ok || v != want {
				t.Errorf("%s is %d (%v), want %d; of %v", key, v, ok, want, slices.Sorted(maps.Keys(got)))
			}
		}
		for _, name := range []string{"go.memory.used", "go.goroutine.count", "go.processor.limit"} {
			if got[name] <= 0 {
				t.Errorf("%s is %d", name, got[name])
			}
		}
		attrs := map[string]string{}
		for _, a := range req.ResourceMetrics[0].Resource.Attributes {
			attrs[a.Key] = a.Value.String()
		}
		for key, want := range map[string]string{"service.name": "otlp-relay", "faas.name": "fn", "cloud.region": "eu-west-1", "faas.max_memory": "536870912"} {
			if !strings.Contains(attrs[key], want) {
				t.Errorf("resource %s is %s, want %s", key, attrs[key], want)
			}
		}
		if len(attrs["service.instance.id"]) < 36 {
			t.Errorf("service.instance.id is %s", attrs["service.instance.id"])
		}
	})
}

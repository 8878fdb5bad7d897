package e2e

import (
	"fmt"
	"os"
	"slices"
	"testing"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// TestSoak runs one environment through 10,000 invocations, each with connections of its own to the extension, and a backend
// that goes out of order in every way again and again. What the extension holds must not grow with their number:
// goroutines and memory in use (its own metrics say), resident memory and file descriptors (the kernel says). In the
// end every record is accounted for.
func TestSoak(t *testing.T) {
	const rounds, each = 20, 500
	backend := newBackend(t, otlptest.Options{Keep: true})
	c, b := posters(t, setup{backend: backend, vars: map[string]string{
		"OTLP_RELAY_SELF_METRICS":   "true",
		"OTLP_RELAY_FLUSH_INTERVAL": "200ms",
		"OTLP_RELAY_FLUSH_TIMEOUT":  budget.String(),
		"OTLP_RELAY_TIMEOUT":        "500ms",
	}})
	outages := []otlptest.Fault{
		{Kind: otlptest.Refuse}, {Kind: otlptest.Status, Code: 503}, {Kind: otlptest.ResetBeforeRead}, {Kind: otlptest.HalfClose}, {Kind: otlptest.Hang},
	}
	var held []footprint
	for round := range rounds {
		for i := range each {
			switch i {
			case each / 2:
				backend.Fail(outages[round%len(outages)])
			case each/2 + 20:
				backend.Heal()
			}
			c.post(b.Build(otlp.Signals()[i%3], otlp.Encoding(i%2), 1+i%5))
		}
		held = append(held, c.footprint())
		t.Logf("%6d invocations: %v", (round+1)*each, held[round])
	}
	early, late := worst(held[:rounds/4]), worst(held[rounds-rounds/4:])
	if late.resident > early.resident+early.resident/2 || late.files > early.files+8 {
		t.Errorf("grew from %v to %v", early, late)
	}
	account := c.shutdown()
	own := ownMetrics(t, backend)
	for _, points := range own {
		c.made[otlp.Metrics] += points.records
	}
	c.mustArrive(account)
	if len(own) < 2 {
		t.Fatalf("%d requests with its own metrics, want one early and one at SHUTDOWN", len(own))
	}
	last := own[len(own)-1]
	t.Logf("own metrics: first %v, last %v", own[0], last)
	if n := last.values["go.goroutine.count"]; n <= 0 || n > 60 {
		t.Errorf("%d goroutines after 10,000 invocations", n)
	}
	if n := last.values["go.memory.used"]; n <= 0 || n > 32<<20 {
		t.Errorf("%d bytes in use after 10,000 invocations", n)
	}
}

// footprint is what the kernel holds for the extension.
type footprint struct {
	resident int64 // bytes
	files    int   // open descriptors
}

func (h footprint) String() string {
	return fmt.Sprintf("%.1f MB resident, %d files open", float64(h.resident)/1e6, h.files)
}

func worst(all []footprint) (w footprint) {
	for _, h := range all {
		w.resident, w.files = max(w.resident, h.resident), max(w.files, h.files)
	}
	return w
}

// footprint looks at the frozen extension.
func (c *chain) footprint() footprint {
	c.t.Helper()
	stats := c.env.Processes()
	i := slices.IndexFunc(stats, func(s lambdasim.ProcessStats) bool { return s.Name == extensionName })
	if i < 0 {
		c.t.Fatal("the extension does not run")
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", stats[i].PID))
	if err != nil {
		c.t.Fatal(err)
	}
	return footprint{stats[i].RSS, len(files)}
}

// measured is one request of the extension's own metrics.
type measured struct {
	records int
	values  map[string]int64 // of the metrics without attributes
}

// ownMetrics are the extension's own metrics that the backend took, in order.
func ownMetrics(t *testing.T, backend *otlptest.Backend) (all []measured) {
	t.Helper()
	for _, body := range backend.Bodies(otlp.Metrics, otlp.Protobuf) {
		var req metricspb.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &req); err != nil {
			t.Fatal(err)
		}
		for _, rm := range req.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				if sm.Scope.GetName() != "github.com/otlp-relay/otlp-relay" {
					continue
				}
				m := measured{values: map[string]int64{}}
				for _, metric := range sm.Metrics {
					for _, p := range append(metric.GetSum().GetDataPoints(), metric.GetGauge().GetDataPoints()...) {
						m.records++
						if len(p.Attributes) == 0 {
							m.values[metric.Name] = p.GetAsInt()
						}
					}
				}
				all = append(all, m)
			}
		}
	}
	return all
}

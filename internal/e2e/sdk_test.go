package e2e

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/otlp-relay/otlp-relay/internal/e2e/toolchain"
	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// newSDKChain starts an example on Lambda's official runtime, as a user does who attaches the layer and names the
// backend with the standard variables, which say the protocol of both hops. Where the SDK is to compress there is no
// wrapper, which would take that away: then the SDK's variables point at the extension, and its OTLP_RELAY_ENDPOINT
// at the backend.
func newSDKChain(t *testing.T, sdk toolchain.SDK, compression string, vars map[string]string) *chain {
	t.Helper()
	wrapped := compression == "none"
	s := setup{
		backend: newBackend(t, otlptest.Options{Keep: true, GRPC: wrapped && sdk.Protocol == "grpc"}),
		vars:    map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": sdk.Protocol},
	}
	maps.Copy(s.vars, vars)
	if !wrapped {
		s.vars["OTEL_EXPORTER_OTLP_COMPRESSION"] = compression
	}
	s.change = func(cfg *lambdasim.Config) {
		cfg.Timeout = 6 * time.Second
		cfg.InitTimeout, cfg.ShutdownWindow = time.Minute, 20*time.Second // a busy machine is not what is tested
		if sdk.Protocol == "grpc" {
			// Behind the wrapper it comes to the port of OTLP/HTTP.
			cfg.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://" + cfg.Env["OTLP_RELAY_GRPC_ADDR"]
		}
		if sdk.Language == "go" {
			return
		}
		sdk.Set(cfg, toolchain.Need(t, sdk.Language))
		if wrapped {
			cfg.Wrapper = filepath.Join("..", "..", "layer", "otlp-relay-exec")
			cfg.Env["OTLP_RELAY_ENDPOINT"] = ""
			cfg.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://" + s.backend.Addr()
		}
	}
	return newChain(t, s)
}

// Everything that a real function makes arrives: over freezes, in batches that are under way when the handler
// returns, and what comes after its flush, when the environment ends.
func TestSDKs(t *testing.T) {
	for _, sdk := range toolchain.SDKs() {
		for _, compression := range []string{"none", "gzip"} {
			t.Run(sdk.String()+" "+compression, func(t *testing.T) {
				c := newSDKChain(t, sdk, compression, nil)
				made := map[string]int{} // spans by trace
				for _, spans := range []int{3, 0, 20, 600, 1} {
					_, r := c.order(order{ID: "A-1", Spans: spans})
					made[r.TraceID] = r.Spans
					c.gap(100 * time.Millisecond)
				}
				if sdk.Language != "go" {
					_, r := c.order(order{ID: "A-1", Spans: 1, Late: true})
					made[r.TraceID] = r.Spans
					c.count(atEnd)
					c.count(receipt{Spans: 1})
				}
				c.mustArrive(c.shutdown())
				for _, q := range c.backend.Requests() {
					json := sdk.Protocol == "http/json" && (sdk.Language != "go" || q.Signal == otlp.Traces)
					if json != (q.Encoding == otlp.JSON) {
						t.Errorf("%s arrived in %s, want %s", q.Signal, q.Encoding.ContentType(), sdk.Protocol)
					}
				}
				arrived := spansByTrace(t, c.backend)
				for trace, n := range made {
					if arrived[trace] != n {
						t.Errorf("%d spans of trace %s arrived, %d were made", arrived[trace], trace, n)
					}
				}
			})
		}
	}
}

// atEnd is what the SDKs hand over once more when the environment ends: the last values of the two metrics.
var atEnd = receipt{Points: 2}

// A function that times out has handed its data over, and so has the one that follows it.
func TestSDKsAfterATimeout(t *testing.T) {
	for _, language := range []string{"python", "node", "java"} {
		t.Run(language, func(t *testing.T) {
			c := newSDKChain(t, toolchain.SDK{Language: language, Protocol: "http/protobuf"}, "none", nil)
			c.invoke(2)
			inv := c.send(order{ID: "hangs", Spans: 2, Hang: true, FlushFirst: true})
			if inv.Status != lambdasim.StatusTimeout || inv.Reset == nil {
				t.Fatalf("the invocation ended with %v, %v; want a timeout", inv.Status, inv.Error)
			}
			c.mustEndWell(*inv.Reset)
			c.count(usual(2))
			c.count(atEnd)
			if next, _ := c.invoke(2); next.Init == nil {
				t.Error("the invocation after a timeout had no init of its own")
			}
			c.count(atEnd)
			c.mustArrive(c.shutdown())
		})
	}
}

// A function that has a proxy for its own requests does not send its telemetry there.
func TestSDKsBesideAProxy(t *testing.T) {
	const nobody = "http://127.0.0.1:9"
	for _, sdk := range toolchain.SDKs() {
		if sdk.Language != "python" && sdk.Protocol != "grpc" {
			continue // these go to localhost by themselves
		}
		t.Run(sdk.String(), func(t *testing.T) {
			c := newSDKChain(t, sdk, "none", map[string]string{"HTTP_PROXY": nobody, "http_proxy": nobody, "HTTPS_PROXY": nobody})
			c.invoke(2)
			if sdk.Language != "go" {
				c.count(atEnd)
			}
			c.mustArrive(c.shutdown())
		})
	}
}

// spansByTrace counts the spans that the backend took, by trace id in lower-case hex.
func spansByTrace(t *testing.T, b *otlptest.Backend) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, q := range b.Requests() {
		if q.Signal != otlp.Traces || !q.Taken {
			continue
		}
		if m, ok := q.Message.(*coltrace.ExportTraceServiceRequest); ok {
			for _, rs := range m.ResourceSpans {
				for _, ss := range rs.ScopeSpans {
					for _, s := range ss.Spans {
						count[hex.EncodeToString(s.TraceId)]++
					}
				}
			}
			continue
		}
		var m struct {
			ResourceSpans []struct {
				ScopeSpans []struct {
					Spans []struct{ TraceID string }
				}
			}
		}
		if err := json.Unmarshal(q.Body, &m); err != nil {
			t.Fatal(err)
		}
		for _, rs := range m.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					count[strings.ToLower(s.TraceID)]++
				}
			}
		}
	}
	return count
}

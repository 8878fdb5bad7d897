package e2e

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// usual are the records of one invocation of the example function with n steps.
func usual(n int) receipt { return receipt{Spans: n + 1, Logs: n + 1, Points: 2} }

// A function that times out has handed its data over, and the environment that follows it works.
func TestFunctionTimeout(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := newChain(t, setup{vars: faultVars(mode), change: func(cfg *lambdasim.Config) { cfg.Timeout = time.Second }})
			c.invoke(2)
			inv := c.send(order{Spans: 2, Hang: true, FlushFirst: true})
			if inv.Status != lambdasim.StatusTimeout || inv.Reset == nil {
				t.Fatalf("the invocation ended with %v, %v; want a timeout", inv.Status, inv.Error)
			}
			c.count(usual(2))
			c.mustEndWell(*inv.Reset)
			if next, _ := c.invoke(2); next.Init == nil {
				t.Error("the invocation after a timeout had no init of its own")
			}
			c.mustArrive(c.shutdown())
		})
	}
}

// A function that crashes right after it handed its data over loses none of it.
func TestFunctionCrash(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c, b := posters(t, setup{vars: faultVars(mode)})
			for range 3 {
				requests := several(b, otlp.Traces, 2, 5)
				c.post(requests[0])
				inv := c.send(posting{Wires: [][]byte{wire(requests[1])}, Exit: true})
				if inv.Status != lambdasim.StatusError || inv.Reset == nil {
					t.Fatalf("the invocation ended with %v, %v; want a crash", inv.Status, inv.Error)
				}
				c.made[otlp.Traces] += 5
				c.mustEndWell(*inv.Reset)
			}
			c.post(b.Build(otlp.Traces, otlp.Protobuf, 5))
			c.mustArrive(c.shutdown())
		})
	}
}

// Where the Telemetry API is missing, end mode behaves as next, and the log says so.
func TestTelemetryAPI(t *testing.T) {
	for name, r := range map[string]struct {
		mode lambdasim.TelemetryMode
		log  string
	}{
		"works":         {lambdasim.TelemetryOn, ""},
		"not supported": {lambdasim.TelemetryNotSupported, "no Telemetry API here"},
		"refused":       {lambdasim.TelemetryRefused, "refused the subscription"},
		"silent":        {lambdasim.TelemetrySilent, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, setup{vars: faultVars("end"), change: func(cfg *lambdasim.Config) { cfg.Telemetry = r.mode }})
			held := 0
			for range 5 {
				if inv, _ := c.invoke(2); inv.Added() >= budget*9/10 {
					held++
				}
			}
			if held > 1 {
				t.Errorf("%d invocations were held for an event that does not come", held)
			}
			c.mustArrive(c.shutdown())
			said := c.logged("held for runtimeDone")
			if r.log == "" && len(said) > 0 || r.log != "" && (len(said) != 1 || !strings.Contains(said[0], r.log)) {
				t.Errorf("logged %q, want one line with %q", said, r.log)
			}
		})
	}
}

// On Managed Instances nothing freezes, invocations overlap, and data leaves on the timer.
func TestManagedInstances(t *testing.T) {
	c := newChain(t, setup{
		vars:   map[string]string{"OTLP_RELAY_FLUSH_INTERVAL": "20ms"},
		change: func(cfg *lambdasim.Config) { cfg.ManagedInstances, cfg.MaxConcurrency = true, 4 },
	})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if inv := c.send(order{Spans: 2, WorkMS: 5}); inv.Status != lambdasim.StatusSuccess {
					t.Errorf("the function was harmed: %v %v", inv.Status, inv.Error)
				}
			}
		})
	}
	wg.Wait()
	for range 20 {
		c.count(usual(2))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.backend.WaitRecords(ctx, otlp.Traces, c.made[otlp.Traces]); err != nil {
		t.Errorf("data did not leave on the timer: %v", err)
	}
	c.mustArrive(c.shutdown())
}

// A receiver port that is taken disables that listener only.
func TestReceiverPortInUse(t *testing.T) {
	t.Run("the function is not harmed", func(t *testing.T) {
		other := httptest.NewServer(http.NotFoundHandler())
		defer other.Close()
		addr := other.Listener.Addr().String()
		c := newChain(t, setup{vars: map[string]string{
			"OTLP_RELAY_HTTP_ADDR": addr, "OTEL_EXPORTER_OTLP_ENDPOINT": other.URL,
		}})
		for range 3 {
			c.invoke(1)
		}
		c.shutdown()
		if n := len(c.logged("cannot listen for OTLP/HTTP")); n != 1 {
			t.Errorf("the port in use was logged %d times", n)
		}
	})
	t.Run("OTLP/HTTP goes on without OTLP/gRPC", func(t *testing.T) {
		other := httptest.NewServer(http.NotFoundHandler())
		defer other.Close()
		c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_GRPC_ADDR": other.Listener.Addr().String()}})
		c.invoke(2)
		c.mustArrive(c.shutdown())
		if n := len(c.logged("cannot listen for OTLP/gRPC: set OTLP_RELAY_GRPC_ADDR")); n != 1 {
			t.Errorf("the port in use was logged %d times", n)
		}
	})
	t.Run("the other listener goes on", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		second := net.JoinHostPort("::1", port)
		if probe, err := net.Listen("tcp", second); err != nil {
			t.Logf("SKIPPED: this machine has no IPv6 loopback: %v", err)
			return
		} else {
			probe.Close()
		}
		c := newChain(t, setup{vars: map[string]string{
			"OTLP_RELAY_HTTP_ADDR": l.Addr().String(), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + second,
		}})
		c.invoke(2)
		c.mustArrive(c.shutdown())
	})
}

// SHUTDOWN sends what is queued, and ends in time where the backend does not let it.
func TestShutdown(t *testing.T) {
	for _, mode := range []string{"next", "interval"} {
		t.Run("drains/"+mode, func(t *testing.T) {
			c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_FLUSH": mode, "OTLP_RELAY_FLUSH_INTERVAL": "1h"}})
			for range 5 {
				c.invoke(5)
			}
			c.mustArrive(c.shutdown())
		})
	}
	for name, f := range map[string]otlptest.Fault{
		"dead":    {Kind: otlptest.Refuse},
		"hanging": {Kind: otlptest.Hang},
		"busy":    {Kind: otlptest.Status, Code: 429, RetryAfter: "3600"},
	} {
		for _, mode := range modes {
			t.Run(name+"/"+mode, func(t *testing.T) {
				c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_FLUSH": mode, "OTLP_RELAY_FLUSH_TIMEOUT": "200ms"}})
				c.invoke(2)
				c.backend.Fail(f)
				c.invoke(2)
				c.invoke(2)
				a := c.shutdown()
				c.mustBalance(a)
				for _, sig := range threeSignals {
					if a.dropped(sig, otlp.DroppedShutdown) == 0 || a.lost(sig, otlp.DroppedShutdown) > 0 {
						t.Errorf("%s: account %v, want what was left as dropped at shutdown", sig, a)
					}
				}
			})
		}
	}
}

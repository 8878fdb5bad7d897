package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/e2e/exclusive"
	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// binaries is where TestMain has built the programs under test.
var binaries string

// extensionName is the base name of the extension's executable, by which Lambda knows it.
const extensionName = "otlp-relay"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		unlock, err := exclusive.Lock()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer unlock()
		dir, err := os.MkdirTemp("", "e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binaries = dir
		for name, pkg := range map[string]string{
			extensionName: "./extension",
			"function":    "./examples/go",
			"poster":      "./internal/e2e/testdata/poster",
		} {
			if err := build(filepath.Join(dir, name), pkg, "CGO_ENABLED=0"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// build builds a package as the Makefile does; env and args come on top.
func build(out, pkg, env string, args ...string) error {
	cmd := goTool(append(append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"}, args...), "-o", out, pkg)...)
	cmd.Env = append(os.Environ(), strings.Fields(env)...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}

// setup says what a chain differs in from the usual one: the example function, a healthy backend.
type setup struct {
	vars    map[string]string // the customer's variables
	backend *otlptest.Backend
	program string // in place of "function": another of TestMain's
	change  func(*lambdasim.Config)
}

// chain is a function, the extension and a backend.
type chain struct {
	t       *testing.T
	addr    string // of the extension's receiver, for OTLP/HTTP
	grpc    string // and for OTLP/gRPC
	env     *lambdasim.Env
	backend *otlptest.Backend
	made    map[otlp.Signal]int // records that the extension answered 200 for
}

// newChain starts an environment. Where the test fails, what the processes printed is logged.
func newChain(t *testing.T, s setup) *chain {
	t.Helper()
	mustOwnTelemetryPort(t)
	c := &chain{t: t, addr: freeAddr(t), grpc: freeAddr(t), backend: s.backend, made: map[otlp.Signal]int{}}
	if c.backend == nil {
		c.backend = newBackend(t, otlptest.Options{})
	}
	if s.program == "" {
		s.program = "function"
	}
	cfg := lambdasim.Config{
		Function:   []string{filepath.Join(binaries, s.program)},
		Extensions: []string{filepath.Join(binaries, extensionName)},
		MemoryMB:   512,
		Timeout:    10 * time.Second,
		Env: map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + c.addr,
			"OTLP_RELAY_HTTP_ADDR":        c.addr,
			"OTLP_RELAY_GRPC_ADDR":        c.grpc,
			"OTLP_RELAY_ENDPOINT":         c.backend.URL(),
		},
	}
	maps.Copy(cfg.Env, s.vars)
	if s.change != nil {
		s.change(&cfg)
	}
	var err error
	if c.env, err = lambdasim.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.env.Close()
		if t.Failed() {
			t.Logf("processes printed:\n%s", strings.Join(c.lines(""), "\n"))
		}
	})
	return c
}

func newBackend(t *testing.T, o otlptest.Options) *otlptest.Backend {
	t.Helper()
	b, err := otlptest.StartBackend(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// freeAddr is a loopback address that nobody listens on. Its port is below those that the kernel gives to
// sockets which ask for any: nobody takes it before the extension does.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}

// mustOwnTelemetryPort fails where another extension runs on this machine. The port that the platform's
// telemetry comes to is fixed: of two extensions the second would do without, and prove less than it seems to.
func mustOwnTelemetryPort(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:4319")
	if err != nil {
		t.Fatalf("another extension seems to run beside this test: %v", err)
	}
	l.Close()
}

// order is the event of the examples.
type order struct {
	ID         string `json:"id"`
	Spans      int    `json:"spans"`
	WorkMS     int    `json:"work_ms"`
	Hang       bool   `json:"hang"`
	FlushFirst bool   `json:"flush_first"`
	Late       bool   `json:"late"` // not in examples/go
}

// receipt is the response of the examples.
type receipt struct {
	TraceID             string `json:"trace_id"`
	Spans, Logs, Points int
}

// send runs one invocation with the payload, whatever comes of it.
func (c *chain) send(payload any) lambdasim.Invocation {
	c.t.Helper()
	body, err := json.Marshal(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	inv, err := c.env.Invoke(c.t.Context(), lambdasim.Request{Payload: body})
	if err != nil {
		c.t.Fatal(err)
	}
	return inv
}

// mustSend is send for an invocation that must succeed; its response goes into into.
func (c *chain) mustSend(payload, into any) lambdasim.Invocation {
	c.t.Helper()
	inv := c.send(payload)
	if inv.Status != lambdasim.StatusSuccess {
		c.t.Fatalf("the function was harmed: %v %v", inv.Status, inv.Error)
	}
	if err := json.Unmarshal(inv.Response, into); err != nil {
		c.t.Fatalf("response %q: %v", inv.Response, err)
	}
	return inv
}

// invoke runs the example function once, with so many child spans.
func (c *chain) invoke(spans int) (lambdasim.Invocation, receipt) {
	c.t.Helper()
	return c.order(order{ID: "usual", Spans: spans, WorkMS: 2})
}

func (c *chain) order(o order) (lambdasim.Invocation, receipt) {
	c.t.Helper()
	var r receipt
	inv := c.mustSend(o, &r)
	c.count(r)
	return inv, r
}

// count notes what an invocation of the example function handed over.
func (c *chain) count(r receipt) {
	c.made[otlp.Traces] += r.Spans
	c.made[otlp.Logs] += r.Logs
	c.made[otlp.Metrics] += r.Points
}

// gap lets the environment lie frozen for as long.
func (c *chain) gap(d time.Duration) { time.Sleep(d) }

// shutdown ends the environment and returns the extension's account.
func (c *chain) shutdown() account {
	c.t.Helper()
	report, err := c.env.Shutdown(context.Background(), "spindown")
	if err != nil {
		c.t.Fatal(err)
	}
	c.mustEndWell(report)
	return c.account()
}

// mustEndWell checks that the extension ended by itself, in time, with exit code 0.
func (c *chain) mustEndWell(report lambdasim.ShutdownReport) {
	c.t.Helper()
	if exit, ok := report.Exit(extensionName); !ok || exit.Code != 0 || exit.Forced {
		c.t.Errorf("the extension ended with %+v, want exit code 0 of its own", exit)
	}
}

// lines is what a process printed; of every process, with its name in front, where name is empty.
func (c *chain) lines(name string) (lines []string) {
	for _, ev := range c.env.Record() {
		switch {
		case ev.Kind != lambdasim.KindLog:
		case name == "":
			lines = append(lines, ev.Process+": "+ev.Text)
		case ev.Process == name:
			lines = append(lines, ev.Text)
		}
	}
	return lines
}

// logged is the extension's log lines that hold text.
func (c *chain) logged(text string) (found []string) {
	for _, line := range c.lines(extensionName) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

package lambdasim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

// Built once by TestMain.
var probeBin, lambdaGoBin string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lambdasim-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	probeBin, lambdaGoBin = filepath.Join(dir, "probe"), filepath.Join(dir, "lambdago")
	for _, bin := range []string{probeBin, lambdaGoBin} {
		cmd := exec.Command("go", "build", "-o", bin, "./testdata/"+filepath.Base(bin))
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", bin, err, out)
			return 1
		}
	}
	return m.Run()
}

// extension is the probe under an extension's name.
func extension(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(probeBin, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// scripted is a probe as function and one probe for each other script, by name: ext, function, ...
func scripted(t *testing.T, scripts map[string]string) lambdasim.Config {
	t.Helper()
	cfg := lambdasim.Config{Function: []string{probeBin}, Env: map[string]string{}, Timeout: 20 * time.Second}
	for name, script := range scripts {
		cfg.Env["SCRIPT_"+name] = script
		if name != "function" {
			cfg.Extensions = append(cfg.Extensions, extension(t, name))
		}
	}
	return cfg
}

func start(t *testing.T, cfg lambdasim.Config) *lambdasim.Env {
	t.Helper()
	e, err := lambdasim.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("start: %v\n%s", err, dump(e))
	}
	closeAfter(t, e)
	return e
}

// startFailing starts an environment whose init phase must fail.
func startFailing(t *testing.T, cfg lambdasim.Config) (*lambdasim.Env, *lambdasim.InitError) {
	t.Helper()
	e, err := lambdasim.Start(t.Context(), cfg)
	var failed *lambdasim.InitError
	if !errors.As(err, &failed) {
		t.Fatalf("start: got %v, want an *InitError", err)
	}
	closeAfter(t, e)
	return e, failed
}

func closeAfter(t *testing.T, e *lambdasim.Env) {
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Log(dump(e))
		}
	})
}

func invoke(t *testing.T, e *lambdasim.Env, payload string) lambdasim.Invocation {
	t.Helper()
	inv, err := e.Invoke(t.Context(), lambdasim.Request{Payload: []byte(payload)})
	if err != nil {
		t.Fatalf("invoke: %v", err)
	}
	return inv
}

func succeed(t *testing.T, e *lambdasim.Env, payload string) lambdasim.Invocation {
	t.Helper()
	inv := invoke(t, e, payload)
	if inv.Status != lambdasim.StatusSuccess {
		t.Fatalf("invoke: %s: %v", inv.Status, inv.Error)
	}
	return inv
}

func shutdown(t *testing.T, e *lambdasim.Env) lambdasim.ShutdownReport {
	t.Helper()
	rep, err := e.Shutdown(context.Background(), "")
	if err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	return rep
}

// lines are what a process printed.
func lines(e *lambdasim.Env, process string) []string {
	var out []string
	for _, ev := range e.Record() {
		if ev.Kind == lambdasim.KindLog && ev.Process == process {
			out = append(out, ev.Text)
		}
	}
	return out
}

// telemetry are the events that a process's listener printed.
func telemetry(e *lambdasim.Env, process string) []string {
	var out []string
	for _, l := range lines(e, process) {
		if ev, ok := strings.CutPrefix(l, "telemetry: "); ok {
			out = append(out, ev)
		}
	}
	return out
}

func wantLine(t *testing.T, e *lambdasim.Env, process, line string) {
	t.Helper()
	if !slices.Contains(lines(e, process), line) {
		t.Errorf("%s did not print %q but\n%s", process, line, strings.Join(lines(e, process), "\n"))
	}
}

func wantContains(t *testing.T, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%q does not contain %q", got, want)
	}
}

// kinds are the recorded events of some kinds as "kind process".
func kinds(e *lambdasim.Env, which ...lambdasim.Kind) []string {
	var out []string
	for _, ev := range e.Record() {
		if slices.Contains(which, ev.Kind) {
			out = append(out, strings.TrimSpace(string(ev.Kind)+" "+ev.Process))
		}
	}
	return out
}

func dump(e *lambdasim.Env) string {
	if e == nil {
		return ""
	}
	var b strings.Builder
	var first time.Time
	for _, ev := range e.Record() {
		if first.IsZero() {
			first = ev.At
		}
		fmt.Fprintf(&b, "%9.3f ms %-14s %-10s %.8s %s %v %d\n", float64(ev.At.Sub(first))/1e6, ev.Kind, ev.Process, ev.RequestID, ev.Text, ev.Duration, ev.Count)
	}
	return b.String()
}

// freeAddr is a loopback address whose port was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// subscription is a telemetry subscription to the address, with the shortest buffering.
func subscription(addr, types string) string {
	_, port, _ := net.SplitHostPort(addr)
	return `{"schemaVersion":"2022-12-13","types":[` + types + `],"buffering":{"timeoutMs":25,"maxItems":1000,"maxBytes":262144},"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:` + port + `"}}`
}

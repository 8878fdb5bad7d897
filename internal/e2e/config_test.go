package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// A mistake in the configuration costs the telemetry, never the function: its SDK is answered 200, what it
// sends is counted, and one line names the variable at fault.
func TestDegraded(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]struct {
		vars map[string]string
		log  string
	}{
		"no endpoint":         {map[string]string{"OTLP_RELAY_ENDPOINT": ""}, "set OTLP_RELAY_ENDPOINT"},
		"not a URL":           {map[string]string{"OTLP_RELAY_ENDPOINT": "backend.example.com"}, "OTLP_RELAY_ENDPOINT"},
		"no host":             {map[string]string{"OTLP_RELAY_ENDPOINT": "http://"}, "OTLP_RELAY_ENDPOINT has no host"},
		"a queue":             {map[string]string{"OTLP_RELAY_ENDPOINT": "sqs+https://sqs.example.com/1/q"}, "OTLP_RELAY_ENDPOINT: queues and streams are not supported"},
		"gRPC without a host": {map[string]string{"OTLP_RELAY_ENDPOINT": "grpcs://:4317"}, "OTLP_RELAY_ENDPOINT has no host"},
		"a gRPC header":       {map[string]string{"OTLP_RELAY_ENDPOINT": "grpc://127.0.0.1:9", "OTLP_RELAY_HEADERS": "k=a%0Ab"}, "OTLP_RELAY_HEADERS"},
		"no such keeper":      {map[string]string{"OTLP_RELAY_HEADERS": "api-key=${vault:/key}"}, "OTLP_RELAY_HEADERS holds a reference that is not understood"},
		"no such certificate": {map[string]string{"OTLP_RELAY_CERTIFICATE": notPEM + ".gone"}, "OTLP_RELAY_CERTIFICATE"},
		"no PEM certificate":  {map[string]string{"OTLP_RELAY_CERTIFICATE": notPEM}, "OTLP_RELAY_CERTIFICATE"},
		"key without a pair":  {map[string]string{"OTLP_RELAY_CLIENT_KEY": notPEM}, "OTLP_RELAY_CLIENT_CERTIFICATE"},
		"a broken header":     {map[string]string{"OTLP_RELAY_HEADERS": "key=a%0Ab"}, "OTLP_RELAY_HEADERS"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, setup{vars: r.vars})
			held := 0
			for range 3 {
				if inv, _ := c.invoke(2); inv.ExtensionsDone.After(inv.RuntimeDone) {
					held++
				}
			}
			if held == 3 {
				t.Error("every invocation was held, although nothing can be sent")
			}
			a := c.shutdown()
			c.mustBalance(a)
			for _, sig := range threeSignals {
				if n := a.dropped(sig, otlp.DroppedMisconfigured); n != c.made[sig] {
					t.Errorf("%s: %d of %d records dropped as misconfigured", sig, n, c.made[sig])
				}
			}
			if lines := c.logged("level=ERROR"); len(lines) != 1 || !strings.Contains(lines[0], r.log) {
				t.Errorf("logged %q, want one error with %q", lines, r.log)
			}
			if lines := c.lines("function"); len(lines) > 0 {
				t.Errorf("the function's SDK complained: %q", lines)
			}
		})
	}
}

// One signal's mistake is that signal's alone.
func TestDegradedSignal(t *testing.T) {
	c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_LOGS_ENDPOINT": "not a URL"}})
	c.invoke(2)
	a := c.shutdown()
	c.mustBalance(a)
	for _, sig := range threeSignals {
		if want := map[otlp.Signal]int{otlp.Logs: c.made[otlp.Logs]}[sig]; a.lost(sig) != want {
			t.Errorf("%s: lost %d, want %d", sig, a.lost(sig), want)
		}
	}
}

func TestTLS(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		protocol := map[bool]string{false: "HTTP", true: "gRPC"}[grpc]
		t.Run(protocol, func(t *testing.T) { tlsWorks(t, grpc) })
		for name, r := range map[string]struct {
			clientCert bool
			trust      bool
			log        string
		}{
			"unknown authority":     {false, false, "OTLP_RELAY_CERTIFICATE"},
			"no client certificate": {true, true, "OTLP_RELAY_CLIENT_CERTIFICATE"},
		} {
			t.Run(protocol+", "+name, func(t *testing.T) {
				b := newBackend(t, otlptest.Options{TLS: true, ClientCert: r.clientCert, GRPC: grpc})
				vars := faultVars("end")
				if r.trust {
					vars["OTLP_RELAY_CERTIFICATE"] = file(t, "ca.pem", b.CA())
				}
				c := newChain(t, setup{backend: b, vars: vars})
				c.mustNotNotice(3)
				a := c.shutdown()
				c.mustBalance(a)
				if n := a.dropped(otlp.Traces, otlp.DroppedShutdown); n != c.made[otlp.Traces] {
					t.Errorf("%d of %d spans dropped at shutdown", n, c.made[otlp.Traces])
				}
				if lines := c.logged("backend out of order"); len(lines) == 0 || !strings.Contains(lines[0], r.log) {
					t.Errorf("logged %q, want the remedy, %s", lines, r.log)
				}
			})
		}
	}
}

// tlsWorks sends over mutual TLS, on one connection for each signal.
func tlsWorks(t *testing.T, grpc bool) {
	b := newBackend(t, otlptest.Options{TLS: true, ClientCert: true, GRPC: grpc})
	cert, key := b.ClientCert()
	c := newChain(t, setup{backend: b, vars: map[string]string{
		"OTLP_RELAY_CERTIFICATE":        file(t, "ca.pem", b.CA()),
		"OTLP_RELAY_CLIENT_CERTIFICATE": file(t, "cert.pem", cert),
		"OTLP_RELAY_CLIENT_KEY":         file(t, "key.pem", key),
	}})
	for range 5 {
		c.invoke(2)
	}
	c.mustArrive(c.shutdown())
	if n := b.Conns(); n > len(threeSignals) {
		t.Errorf("%d connections, want one for each signal", n)
	}
}

// file is a file of the test's with that content.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Where the function logs JSON, every line of the extension is JSON too.
func TestLogFormatJSON(t *testing.T) {
	c := newChain(t, setup{vars: map[string]string{"AWS_LAMBDA_LOG_FORMAT": "JSON", "OTLP_RELAY_FLUSH_TIMOUT": "1s"}})
	c.invoke(2)
	c.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 500, Message: `no "quotes"`})
	c.invoke(2)
	a := c.shutdown()
	c.mustBalance(a)
	if a.dropped(otlp.Traces, otlp.DroppedRefused) != 3 {
		t.Errorf("account %v, want 3 spans refused", a)
	}
	seen := map[string]bool{}
	for _, line := range c.lines(extensionName) {
		var fields struct{ Time, Level, Msg, Extension string }
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.Time == "" || fields.Level == "" || fields.Extension != extensionName {
			t.Errorf("not a JSON log line: %v: %s", err, line)
		}
		seen[fields.Msg] = true
	}
	for _, msg := range []string{"started", "records dropped", "shutdown", "ledger",
		"OTLP_RELAY_FLUSH_TIMOUT is not a setting of otlp-relay; did you mean OTLP_RELAY_FLUSH_TIMEOUT?"} {
		if !seen[msg] {
			t.Errorf("no line says %q", msg)
		}
	}
}

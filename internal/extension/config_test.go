package extension

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func parse(vars ...string) Config { return ParseConfig("/opt/extensions/otlp-relay", vars) }

func TestEndpoints(t *testing.T) {
	tests := []struct {
		name string
		vars []string
		want map[otlp.Signal]string // URL, or "!" and a part of the error
	}{
		{"base URL gets the signal's path", []string{"OTLP_RELAY_ENDPOINT=https://b.example.com/x"}, map[otlp.Signal]string{
			otlp.Traces: "https://b.example.com/x/v1/traces", otlp.Profiles: "https://b.example.com/x/v1development/profiles"}},
		{"a slash at the end", []string{"OTLP_RELAY_ENDPOINT=http://b:4318/"}, map[otlp.Signal]string{otlp.Logs: "http://b:4318/v1/logs"}},
		{"a query is kept", []string{"OTLP_RELAY_ENDPOINT=http://b/?t=1"}, map[otlp.Signal]string{otlp.Logs: "http://b/v1/logs?t=1"}},
		{"a signal's own URL is used as it is", []string{"OTLP_RELAY_ENDPOINT=http://b", "OTLP_RELAY_TRACES_ENDPOINT=http://t/in"},
			map[otlp.Signal]string{otlp.Traces: "http://t/in", otlp.Metrics: "http://b/v1/metrics"}},
		{"a signal's own URL without a path", []string{"OTLP_RELAY_TRACES_ENDPOINT=http://t"}, map[otlp.Signal]string{otlp.Traces: "http://t/", otlp.Logs: "!no backend"}},
		{"the function's variables", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://o.example.com"}, map[otlp.Signal]string{otlp.Traces: "https://o.example.com/v1/traces"}},
		{"ours win", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://o.example.com", "OTLP_RELAY_ENDPOINT=https://r.example.com"},
			map[otlp.Signal]string{otlp.Traces: "https://r.example.com/v1/traces"}},
		{"the function's variables point here", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318"}, map[otlp.Signal]string{otlp.Traces: "!set OTLP_RELAY_ENDPOINT"}},
		{"they point here, ours elsewhere", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318", "OTLP_RELAY_ENDPOINT=http://r"},
			map[otlp.Signal]string{otlp.Traces: "http://r/v1/traces"}},
		{"ours point here", []string{"OTLP_RELAY_ENDPOINT=http://127.0.0.1:4318"}, map[otlp.Signal]string{otlp.Traces: "!OTLP_RELAY_ENDPOINT points at this extension"}},
		{"ours point here by IPv6", []string{"OTLP_RELAY_ENDPOINT=http://[::1]:4318/x"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"ours point here with a dot", []string{"OTLP_RELAY_ENDPOINT=http://localhost.:4318"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"ours point here with a zone", []string{"OTLP_RELAY_ENDPOINT=http://[::1%25lo]:4318"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"ours point at the telemetry listener", []string{"OTLP_RELAY_ENDPOINT=http://127.0.0.1:4319"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"the function's gRPC default", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, map[otlp.Signal]string{otlp.Traces: "!no backend"}},
		{"a base path as it is spelled", []string{"OTLP_RELAY_ENDPOINT=http://b/a//b/../c%2Fd/"}, map[otlp.Signal]string{otlp.Traces: "http://b/a//b/../c%2Fd/v1/traces"}},
		{"another port is not here", []string{"OTLP_RELAY_ENDPOINT=http://127.0.0.1:9999"}, map[otlp.Signal]string{otlp.Traces: "http://127.0.0.1:9999/v1/traces"}},
		{"our own port moved", []string{"OTLP_RELAY_ENDPOINT=http://localhost:5000", "OTLP_RELAY_HTTP_ADDR=127.0.0.1:5000"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"nothing set", nil, map[otlp.Signal]string{otlp.Traces: "!set OTLP_RELAY_ENDPOINT", otlp.Profiles: "!set OTLP_RELAY_ENDPOINT"}},
		{"empty is unset", []string{"OTLP_RELAY_ENDPOINT= ", "OTEL_EXPORTER_OTLP_ENDPOINT=http://o"}, map[otlp.Signal]string{otlp.Traces: "http://o/v1/traces"}},
		{"no scheme", []string{"OTLP_RELAY_ENDPOINT=otlp.example.com:4318"}, map[otlp.Signal]string{otlp.Traces: "!has no scheme"}},
		{"no host", []string{"OTLP_RELAY_ENDPOINT=https:///x"}, map[otlp.Signal]string{otlp.Traces: "!has no host"}},
		{"not a URL, with a password in it", []string{"OTLP_RELAY_ENDPOINT=https://u:secret@[x"}, map[otlp.Signal]string{otlp.Traces: "!is not a URL"}},
		{"gRPC", []string{"OTLP_RELAY_ENDPOINT=grpc://b:1"}, map[otlp.Signal]string{otlp.Traces: "grpc://b:1", otlp.Logs: "grpc://b:1"}},
		{"gRPC over TLS, on OTLP's port", []string{"OTLP_RELAY_ENDPOINT=GRPCS://b"}, map[otlp.Signal]string{otlp.Traces: "grpcs://b:4317"}},
		{"gRPC by protocol", []string{"OTLP_RELAY_ENDPOINT=http://b:1/", "OTLP_RELAY_PROTOCOL=grpc"}, map[otlp.Signal]string{otlp.Traces: "grpc://b:1"}},
		{"gRPC by protocol, on OTLP's port", []string{"OTLP_RELAY_ENDPOINT=http://b", "OTLP_RELAY_PROTOCOL=grpc"}, map[otlp.Signal]string{otlp.Traces: "grpc://b:4317"}},
		{"gRPC by protocol, on the scheme's port", []string{"OTLP_RELAY_ENDPOINT=https://b", "OTLP_RELAY_PROTOCOL=grpc"}, map[otlp.Signal]string{otlp.Traces: "grpcs://b:443"}},
		{"gRPC without a scheme is secure", []string{"OTLP_RELAY_ENDPOINT=b:1", "OTLP_RELAY_PROTOCOL=grpc"}, map[otlp.Signal]string{otlp.Traces: "grpcs://b:1"}},
		{"gRPC without a scheme, insecure", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_INSECURE=TRUE"},
			map[otlp.Signal]string{otlp.Traces: "grpc://127.0.0.1:1"}},
		{"gRPC of one signal", []string{"OTLP_RELAY_ENDPOINT=http://b", "OTLP_RELAY_TRACES_ENDPOINT=t:1", "OTLP_RELAY_TRACES_PROTOCOL=grpc", "OTLP_RELAY_TRACES_INSECURE=true"},
			map[otlp.Signal]string{otlp.Traces: "grpc://t:1", otlp.Logs: "http://b/v1/logs"}},
		{"gRPC by IPv6", []string{"OTLP_RELAY_ENDPOINT=grpc://[2001:db8::1]"}, map[otlp.Signal]string{otlp.Traces: "grpc://[2001:db8::1]:4317"}},
		{"gRPC that points here", []string{"OTLP_RELAY_ENDPOINT=grpc://localhost"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"our own gRPC port moved", []string{"OTLP_RELAY_ENDPOINT=grpc://localhost:5000", "OTLP_RELAY_GRPC_ADDR=127.0.0.1:5000"}, map[otlp.Signal]string{otlp.Traces: "!points at this extension"}},
		{"the SDK's protocol is not ours", []string{"OTLP_RELAY_ENDPOINT=http://b", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, map[otlp.Signal]string{otlp.Traces: "http://b/v1/traces"}},
		{"one signal's mistake is its own", []string{"OTLP_RELAY_ENDPOINT=http://b", "OTLP_RELAY_LOGS_ENDPOINT=ftp://x"},
			map[otlp.Signal]string{otlp.Traces: "http://b/v1/traces", otlp.Logs: "!OTLP_RELAY_LOGS_ENDPOINT must begin"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := parse(tt.vars...)
			for sig, want := range tt.want {
				d := cfg.Destinations[sig]
				part, wrong := strings.CutPrefix(want, "!")
				switch {
				case wrong && (d.Err == nil || !strings.Contains(d.Err.Error(), part)):
					t.Errorf("%s: error %v, want %q", sig, d.Err, part)
				case !wrong && (d.Err != nil || d.URL.String() != want):
					t.Errorf("%s: %v, %v; want %s", sig, d.URL, d.Err, want)
				case !wrong && d.Protocol == HTTP && !strings.HasPrefix(d.URL.RequestURI(), "/"):
					t.Errorf("%s: request target %q", sig, d.URL.RequestURI())
				case d.Err != nil && strings.Contains(d.Err.Error(), "secret@"):
					t.Errorf("%s: the error shows a password: %v", sig, d.Err)
				}
			}
		})
	}
}

func TestOneVendorsKeyNeverReachesAnother(t *testing.T) {
	d := parse("OTLP_RELAY_ENDPOINT=https://ours", "OTEL_EXPORTER_OTLP_ENDPOINT=https://theirs",
		"OTEL_EXPORTER_OTLP_HEADERS=api-key=theirs", "OTEL_EXPORTER_OTLP_CERTIFICATE=/x.pem",
		"OTEL_EXPORTER_OTLP_COMPRESSION=none", "OTEL_EXPORTER_OTLP_TIMEOUT=1").Destinations[otlp.Traces]
	if len(d.Header) != 0 || d.Certificate != "" || d.Compression != otlp.Gzip || d.Timeout != defaultTimeout {
		t.Errorf("taken from the other vendor: %+v", d)
	}
	d = parse("OTEL_EXPORTER_OTLP_ENDPOINT=https://theirs", "OTEL_EXPORTER_OTLP_HEADERS=api-key=theirs",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS=api-key=traces", "OTLP_RELAY_TIMEOUT=3s").Destinations[otlp.Traces]
	if d.Header.Get("Api-Key") != "traces" || d.Timeout != 3*time.Second {
		t.Errorf("with the standard variables: %+v", d)
	}
}

func TestEachBackendGetsItsOwnFamilysKeys(t *testing.T) {
	cfg := parse("OTLP_RELAY_TRACES_ENDPOINT=https://a", "OTLP_RELAY_HEADERS=key=a", "OTLP_RELAY_CLIENT_KEY=/a.pem",
		"OTEL_EXPORTER_OTLP_ENDPOINT=https://b", "OTEL_EXPORTER_OTLP_HEADERS=key=b")
	if d := cfg.Destinations[otlp.Traces]; d.URL.Host != "a" || d.Header.Get("key") != "a" || d.ClientKey != "/a.pem" {
		t.Errorf("traces: %+v", d)
	}
	if d := cfg.Destinations[otlp.Logs]; d.URL.Host != "b" || d.Header.Get("key") != "b" || d.ClientKey != "" {
		t.Errorf("logs go to b with a's keys: %+v", d)
	}
}

func TestTimeoutThatMeansSecondsIsPointedAt(t *testing.T) {
	cfg := parse("OTEL_EXPORTER_OTLP_ENDPOINT=https://b", "OTEL_EXPORTER_OTLP_TIMEOUT=10")
	if d := cfg.Destinations[otlp.Traces].Timeout; d != 10*time.Millisecond || len(cfg.Warnings) != 1 {
		t.Errorf("timeout %v, warnings %q", d, cfg.Warnings)
	}
}

func TestDestinationSettings(t *testing.T) {
	cfg := parse("OTLP_RELAY_ENDPOINT=https://b", "OTLP_RELAY_HEADERS=a=1, b = x%20y ,,broken", "OTLP_RELAY_COMPRESSION=NONE",
		"OTLP_RELAY_METRICS_COMPRESSION=lz4", "OTLP_RELAY_LOGS_TIMEOUT=250", "OTLP_RELAY_CERTIFICATE=/ca.pem", "OTLP_RELAY_PROTOCOL=http/json")
	d := cfg.Destinations[otlp.Traces]
	if d.Header.Get("a") != "1" || d.Header.Get("b") != "x y" || d.Compression != otlp.None || d.Certificate != "/ca.pem" {
		t.Errorf("traces: %+v", d)
	}
	if c := cfg.Destinations[otlp.Metrics].Compression; c != otlp.Gzip {
		t.Errorf("unknown compression became %v, want gzip", c)
	}
	if d := cfg.Destinations[otlp.Logs].Timeout; d != 250*time.Millisecond {
		t.Errorf("timeout in milliseconds: %v", d)
	}
	for _, want := range []string{"OTLP_RELAY_HEADERS: entry 4", "OTLP_RELAY_METRICS_COMPRESSION", "OTLP_RELAY_PROTOCOL=http/json"} {
		if !slices.ContainsFunc(cfg.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("no warning of %s in %q", want, cfg.Warnings)
		}
	}
	if n := len(cfg.Warnings); n != 3 {
		t.Errorf("%d warnings, want each mistake once: %q", n, cfg.Warnings)
	}
}

func TestSettings(t *testing.T) {
	def := parse("OTLP_RELAY_ENDPOINT=http://b")
	if def.Flush != flush.Auto || def.FlushTimeout != time.Second || def.FlushInterval != 5*time.Second || def.HTTPAddr != "127.0.0.1:4318" || len(def.Warnings) > 0 {
		t.Errorf("defaults: %+v", def)
	}
	cfg := parse("OTLP_RELAY_ENDPOINT=http://b", "OTLP_RELAY_FLUSH=Next", "OTLP_RELAY_FLUSH_TIMEOUT=500", "OTLP_RELAY_FLUSH_INTERVAL=2m",
		"OTLP_RELAY_BUFFER_BYTES=1000000", "OTLP_RELAY_BUFFER_ITEMS=7", "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512",
		"AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances", "AWS_LAMBDA_RUNTIME_API=a:1")
	if cfg.Flush != flush.Next || cfg.FlushTimeout != 500*time.Millisecond || cfg.FlushInterval != 2*time.Minute || cfg.BufferBytes != 1000000 ||
		cfg.BufferItems != 7 || !cfg.LogJSON || cfg.MemoryMB != 512 || !cfg.ManagedInstances() || cfg.RuntimeAPI != "a:1" || cfg.Name != "otlp-relay" {
		t.Errorf("settings: %+v", cfg)
	}
	wrong := parse("OTLP_RELAY_ENDPOINT=http://b", "OTLP_RELAY_FLUSH=sometimes", "OTLP_RELAY_FLUSH_TIMEOUT=-1s", "OTLP_RELAY_FLUSH_INTERVAL=soon",
		"OTLP_RELAY_BUFFER_BYTES=big", "OTLP_RELAY_LOG_LEVEL=loud", "OTLP_RELAY_FLUSH_TIMOUT=1s")
	if wrong.Flush != flush.Auto || wrong.FlushTimeout != time.Second || wrong.FlushInterval != 5*time.Second || wrong.BufferBytes != 0 || wrong.LogLevel != "info" {
		t.Errorf("mistakes did not leave the defaults: %+v", wrong)
	}
	if len(wrong.Warnings) != 6 || !strings.Contains(strings.Join(wrong.Warnings, "\n"), "did you mean OTLP_RELAY_FLUSH_TIMEOUT?") {
		t.Errorf("warnings: %q", wrong.Warnings)
	}
}

func TestLedgerBalances(t *testing.T) {
	var l ledger
	l.accept(otlp.Payload{Signal: otlp.Logs, Records: 10, Size: 1000})
	l.deliver(otlp.Logs, 4, 400)
	l.drop(otlp.Logs, otlp.DroppedRefused, 3, 300, errors.New("no"))
	queued := func(records, bytes int) func(otlp.Signal) (int, int) {
		return func(sig otlp.Signal) (int, int) {
			if sig != otlp.Logs {
				return 0, 0
			}
			return records, bytes
		}
	}
	if _, ok := l.attrs(queued(3, 300)); !ok {
		t.Error("a true account does not balance")
	}
	for _, q := range [][2]int{{2, 300}, {3, 299}, {4, 400}} {
		if _, ok := l.attrs(queued(q[0], q[1])); ok {
			t.Errorf("a false account balances: %v", q)
		}
	}
}

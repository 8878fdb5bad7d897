package lambdasim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

// listening is an extension that subscribes and prints what it is sent.
func listening(addr, types, loop string) string {
	return "listen " + addr + "; register INVOKE,SHUTDOWN; subscribe " + subscription(addr, types) + "; loop " + loop
}

type platformEvent struct {
	Time, Type string
	Record     json.RawMessage
}

func parseEvents(t *testing.T, raws []string) []platformEvent {
	t.Helper()
	var events []platformEvent
	for _, r := range raws {
		var ev platformEvent
		if err := json.Unmarshal([]byte(r), &ev); err != nil {
			t.Fatalf("%s: %v", r, err)
		}
		events = append(events, ev)
	}
	return events
}

func types(events []platformEvent) []string {
	var out []string
	for _, ev := range events {
		out = append(out, ev.Type)
	}
	return out
}

func TestTelemetryOfALife(t *testing.T) {
	addr := freeAddr(t)
	e := start(t, scripted(t, map[string]string{
		"ext": listening(addr, `"platform"`, "await platform.runtimeDone finally await platform.report"),
	}))
	succeed(t, e, `"one"`)
	second := succeed(t, e, `"two"`)
	shutdown(t, e)
	all := parseEvents(t, telemetry(e, "ext"))
	if len(all) > 2 && all[1].Type == "platform.telemetrySubscription" { // it may come before or after the runtime is ready
		all[1], all[2] = all[2], all[1]
	}
	want := []string{
		"platform.initStart", "platform.initRuntimeDone", "platform.telemetrySubscription", "platform.initReport", "platform.extension",
		"platform.start", "platform.runtimeDone",
	}
	want = append(want, "platform.report", "platform.start", "platform.runtimeDone", "platform.report")
	if got := types(all); !slices.Equal(got, want) {
		t.Errorf("in all:\n got %q\nwant %q", got, want)
	}
	var done, report struct {
		RequestID, Status string
		Metrics           struct{ DurationMs, BilledDurationMs, ProducedBytes, MemorySizeMB, MaxMemoryUsedMB, InitDurationMs float64 }
		Spans             []struct{ Name, Start string }
		Tracing           struct{ Type, Value string }
	}
	json.Unmarshal(all[len(all)-2].Record, &done)
	json.Unmarshal(all[len(all)-1].Record, &report)
	if done.RequestID != second.RequestID || done.Status != "success" || done.Metrics.ProducedBytes != 5 || len(done.Spans) != 3 ||
		done.Tracing.Type != "X-Amzn-Trace-Id" || !strings.HasPrefix(done.Tracing.Value, "Root=1-") {
		t.Errorf("runtimeDone: %+v", done)
	}
	if got := second.Start.Add(1); done.Metrics.DurationMs <= 0 || done.Metrics.DurationMs >= report.Metrics.DurationMs {
		t.Errorf("durations: runtime %v, invocation %v of %v", done.Metrics.DurationMs, report.Metrics.DurationMs, got)
	}
	if report.RequestID != second.RequestID || report.Status != "success" || report.Metrics.MemorySizeMB != 128 || report.Metrics.MaxMemoryUsedMB <= 0 ||
		report.Metrics.InitDurationMs != 0 || report.Metrics.BilledDurationMs < report.Metrics.DurationMs || len(report.Spans) != 1 || report.Spans[0].Name != "extensionOverhead" {
		t.Errorf("report: %+v", report)
	}
	json.Unmarshal(all[7].Record, &report)
	if report.Metrics.InitDurationMs <= 0 {
		t.Errorf("first report: %+v", report)
	}
	for _, ev := range e.Record() {
		if ev.Kind == lambdasim.KindTelemetry && strings.Contains(ev.Text, "platform.report") {
			if ev.At.Before(second.Start) {
				t.Error("the first report was delivered before the second invocation")
			}
			break
		}
	}
}

func TestNothingIsDeliveredWhileFrozen(t *testing.T) {
	addr := freeAddr(t)
	e := start(t, scripted(t, map[string]string{"ext": listening(addr, `"platform"`, "finally await platform.report")}))
	for range 3 {
		succeed(t, e, "")
	}
	shutdown(t, e)
	frozen := true
	for _, ev := range e.Record() {
		switch ev.Kind {
		case lambdasim.KindFreeze:
			frozen = true
		case lambdasim.KindThaw, lambdasim.KindInitStart:
			frozen = false
		case lambdasim.KindTelemetry:
			if frozen {
				t.Errorf("telemetry while frozen: %+v", ev)
			}
		}
	}
	if n := len(telemetry(e, "ext")); n < 5 {
		t.Errorf("%d events in all", n)
	}
}

// invokeUntil goes on invoking until ok, which must become true.
func invokeUntil(t *testing.T, e *lambdasim.Env, ok func() bool) {
	t.Helper()
	for range 500 {
		succeed(t, e, "")
		if ok() {
			return
		}
	}
	t.Fatal("it did not happen within 500 invocations")
}

func TestListenerThatComesLate(t *testing.T) {
	addr, flag := freeAddr(t), filepath.Join(t.TempDir(), "flag")
	e := start(t, scripted(t, map[string]string{
		"ext": "listen-late " + addr + " " + flag + "; register INVOKE,SHUTDOWN; subscribe " + subscription(addr, `"platform"`) + "; loop hold 20ms",
	}))
	invokeUntil(t, e, func() bool { return len(kinds(e, lambdasim.KindTelemetryFail)) >= 2 })
	if got := kinds(e, lambdasim.KindTelemetry); len(got) != 0 {
		t.Fatalf("deliveries before there is a listener: %q", got)
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	invokeUntil(t, e, func() bool { return len(kinds(e, lambdasim.KindTelemetry)) >= 2 })
	shutdown(t, e)
	got := types(parseEvents(t, telemetry(e, "ext")))
	if len(got) == 0 || got[0] != "platform.initStart" || !slices.Contains(got, "platform.runtimeDone") {
		t.Errorf("delivered late: %q", got)
	}
}

func TestSubscriptionOutlivesReset(t *testing.T) {
	addr := freeAddr(t)
	e := start(t, scripted(t, map[string]string{"ext": listening(addr, `"platform"`, "hold 20ms")}))
	if inv := invoke(t, e, `{"do":"exit 1"}`); inv.Reset == nil {
		t.Fatal("no reset")
	}
	for _, want := range []string{`"state":"Already subscribed"`, `"phase":"invoke"`, `"errorType":"Runtime.ExitError"`} {
		invokeUntil(t, e, func() bool { return strings.Contains(strings.Join(telemetry(e, "ext"), ""), want) })
	}
}

func TestLogLinesAsTelemetry(t *testing.T) {
	for format, want := range map[string]string{"Text": `"type":"function","record":"{\"a\":1}"`, "JSON": `"type":"function","record":{"a":1}`} {
		t.Run(format, func(t *testing.T) {
			addr := freeAddr(t)
			cfg := scripted(t, map[string]string{"ext": listening(addr, `"function"`, "await function")})
			cfg.Env["AWS_LAMBDA_LOG_FORMAT"] = format
			e := start(t, cfg)
			succeed(t, e, `{"do":"print {\"a\":1}"}`)
			shutdown(t, e)
			text := strings.Join(telemetry(e, "ext"), "\n")
			wantContains(t, text, want)
			if strings.Contains(text, "platform") {
				t.Errorf("not asked for: %s", text)
			}
		})
	}
}

func TestTelemetryModes(t *testing.T) {
	tests := []struct {
		mode lambdasim.TelemetryMode
		loop string
		want string
	}{
		{lambdasim.TelemetryOn, "await platform.runtimeDone", "subscribe: 200"},
		{lambdasim.TelemetryNotSupported, "hold 60ms", "subscribe: 202 Telemetry.NotSupported"},
		{lambdasim.TelemetryRefused, "hold 60ms", "subscribe: 403 Telemetry.SubscriptionClosed"},
		{lambdasim.TelemetrySilent, "hold 60ms", "subscribe: 200"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.mode), func(t *testing.T) {
			cfg := scripted(t, map[string]string{"ext": listening(freeAddr(t), `"platform"`, tt.loop)})
			cfg.Telemetry = tt.mode
			e := start(t, cfg)
			succeed(t, e, "")
			shutdown(t, e)
			wantLine(t, e, "ext", tt.want)
			if got, want := len(telemetry(e, "ext")) > 0, tt.mode == lambdasim.TelemetryOn; got != want {
				t.Errorf("delivered: %v, want %v", got, want)
			}
		})
	}
}

func TestSubscriptionIsChecked(t *testing.T) {
	good := subscription("127.0.0.1:9", `"platform","function","extension"`)
	tests := map[string]struct {
		body    string
		managed bool
		want    string
	}{
		"good":                  {good, false, "200"},
		"short host":            {strings.Replace(good, "sandbox.localdomain", "sandbox", 1), false, "200"},
		"newest schema":         {strings.Replace(good, "2022-12-13", "2025-01-29", 1), true, "200"},
		"no buffering":          {`{"schemaVersion":"2022-07-01","types":["platform"],"destination":{"protocol":"HTTP","URI":"http://sandbox:9"}}`, false, "200"},
		"not JSON":              {"{", false, "400 ValidationError"},
		"older schema, managed": {good, true, "400 ValidationError"},
		"unknown schema":        {strings.Replace(good, "2022-12-13", "2022-12-14", 1), false, "400 ValidationError"},
		"no types":              {strings.Replace(good, `"platform","function","extension"`, "", 1), false, "400 ValidationError"},
		"unknown type":          {strings.Replace(good, "function", "functions", 1), false, "400 ValidationError"},
		"timeoutMs too small":   {strings.Replace(good, ":25,", ":24,", 1), false, "400 ValidationError"},
		"maxItems too small":    {strings.Replace(good, ":1000,", ":999,", 1), false, "400 ValidationError"},
		"maxBytes too large":    {strings.Replace(good, ":262144", ":1048577", 1), false, "400 ValidationError"},
		"another host":          {strings.Replace(good, "sandbox.localdomain", "127.0.0.1", 1), false, "400 ValidationError"},
		"TCP":                   {strings.Replace(good, `"HTTP"`, `"TCP"`, 1), false, "400 ValidationError"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := scripted(t, map[string]string{"ext": "register; subscribe " + tt.body + "; next"})
			cfg.ManagedInstances = tt.managed
			e := start(t, cfg)
			shutdown(t, e)
			wantLine(t, e, "ext", "subscribe: "+tt.want)
		})
	}
}

func TestSubscribeAfterInit(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; next; subscribe " + subscription("127.0.0.1:9", `"platform"`) + "; loop"}))
	succeed(t, e, "")
	if _, err := e.Shutdown(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	wantLine(t, e, "ext", "subscribe: 403 Telemetry.SubscriptionClosed")
}

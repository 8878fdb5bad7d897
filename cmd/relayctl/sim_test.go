package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// probe builds the emulator's test program, which is a function or an extension, as told by a script.
func probe(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, "../../internal/lambdasim/testdata/probe").CombinedOutput(); err != nil {
		t.Fatalf("build probe: %v\n%s", err, out)
	}
	return path
}

func TestSim(t *testing.T) {
	bin := probe(t, "probe")
	span := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"x"}]}]}]}`
	var out strings.Builder
	err := dispatch(t.Context(), []string{"sim",
		"--function", bin, "--extension", bin, "--invocations", "3", "--interval", "1ms", "--payload", `{"a":1}`,
		"--env", "OTLP_RELAY_HTTP_ADDR=127.0.0.1:0", // this extension has no receiver
		"--env", "SCRIPT_probe=register INVOKE,SHUTDOWN; post /v1/traces " + span + "; loop finally print level=INFO msg=ledger " +
			"traces.accepted.records=3 traces.delivered.records=1 traces.queued.records=0 traces.dropped.queue_full.records=2",
	}, &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"probe, 512 MB", "until the extension had registered", "   3  ", "success", "of 3",
		"shutdown (spindown)", "exit code 0",
		"traces              3          1          0          2            1  dropped: queue_full 2",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestSimOfABrokenExtension(t *testing.T) {
	bin := probe(t, "probe")
	var out strings.Builder
	err := dispatch(t.Context(), []string{"sim", "--function", bin, "--extension", bin,
		"--env", "OTLP_RELAY_HTTP_ADDR=127.0.0.1:0", "--env", "SCRIPT_probe=print no licence; exit 3"}, &out)
	var failed *lambdasim.InitError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "Extension.Crash") {
		t.Errorf("error: %v", err)
	}
	if !strings.Contains(out.String(), "[probe] no licence") {
		t.Errorf("its words are missing in %q", out.String())
	}
}

func TestSimInterrupted(t *testing.T) {
	bin := probe(t, "probe")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var out strings.Builder
	if err := dispatch(ctx, []string{"sim", "--function", bin, "--interval", "1h"}, &out); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "shutdown (spindown)") {
		t.Errorf("no orderly end:\n%s", out.String())
	}
}

func TestMisuse(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	good := []string{"sim", "--function", "true"}
	tests := []struct {
		args []string
		want string
	}{
		{nil, "name a command"},
		{[]string{"simulate"}, `no command "simulate"`},
		{[]string{"sim"}, "--function is missing"},
		{[]string{"sim", "--function", filepath.Join(dir, "nobody")}, "no such file: build it first"},
		{[]string{"sim", "--function", dir}, "is a directory"},
		{append(good, "--extension", plain), "not executable: chmod +x"},
		{append(good, "--wrapper", plain), "--wrapper"},
		{append(good, "--payload", "{"), "--payload is not JSON"},
		{append(good, "--telemetry", "maybe"), "want on, 202, refused or silent"},
		{append(good, "--timeout", "0s"), "want a positive duration"},
		{append(good, "--invocations", "-1"), "cannot be negative"},
		{append(good, "--env", "X"), "want K=V"},
		{append(good, "--backend", "here"), "want a URL"},
		{append(good, "--colour"), "not defined"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var out strings.Builder
			err := dispatch(t.Context(), tt.args, &out)
			var usage usageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want a usageError with %q", err, tt.want)
			}
		})
	}
	if os.Geteuid() != 0 {
		if err := dispatch(t.Context(), append(good, "--cpu"), &strings.Builder{}); err == nil || !strings.Contains(err.Error(), "needs root") {
			t.Errorf("--cpu without root: %v", err)
		}
	}
}

func TestHelp(t *testing.T) {
	var out strings.Builder
	if err := dispatch(t.Context(), []string{"help"}, &out); err != nil || !strings.Contains(out.String(), "sim ") {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	if err := dispatch(t.Context(), []string{"sim", "--help"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-telemetry") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:"+receiverPort)
	if err == nil { // else somebody has it already, which will do
		defer ln.Close()
	}
	bin, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	err = dispatch(t.Context(), []string{"sim", "--function", bin, "--extension", bin}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "port 4318") || !strings.Contains(err.Error(), "--env OTLP_RELAY_HTTP_ADDR") {
		t.Errorf("error: %v", err)
	}
}

func TestReadLedger(t *testing.T) {
	log := func(lines ...string) []lambdasim.Event {
		var events []lambdasim.Event
		for _, l := range lines {
			events = append(events, lambdasim.Event{Kind: lambdasim.KindLog, Process: "ext", Text: l})
		}
		return events
	}
	tests := map[string]struct {
		events  []lambdasim.Event
		present bool
		row     string
	}{
		"none": {log("msg=started", "{", "{}"), false, "traces              -          -          -          -            5"},
		"text": {log(`time=x level=INFO msg=ledger traces.accepted.records=5 traces.accepted.bytes=99 traces.delivered.records=5`), true,
			"traces              5          5          0          0            5"},
		"JSON": {log(`{"level":"INFO","msg":"ledger","traces":{"accepted":{"records":7},"delivered":{"records":5},"dropped":{"refused":{"records":2,"bytes":9}}}}`), true,
			"traces              7          5          0          2            5  dropped: refused 2"},
		"two incarnations": {log("msg=ledger traces.accepted.records=2 traces.delivered.records=2", "msg=ledger traces.accepted.records=3 traces.delivered.records=3"), true,
			"traces              5          5          0          0            5"},
		"the backend has less": {log("msg=ledger traces.accepted.records=9 traces.delivered.records=9"), true,
			"traces              9          9          0          0            5  the backend differs: -4"},
		"out of balance": {log("msg=ledger traces.accepted.records=9 traces.delivered.records=5"), true,
			"traces              9          5          0          0            5  the ledger does not balance: +4"},
		"not the function's": {[]lambdasim.Event{{Kind: lambdasim.KindLog, Process: lambdasim.FunctionProcess, Text: "msg=ledger traces.accepted.records=5"}}, false,
			"traces              -          -          -          -            5"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := readLedger(tt.events)
			five := int64(5)
			if got := l.row(otlp.Traces, &five); (l != nil) != tt.present || got != tt.row {
				t.Errorf("present %v\n got %q\nwant %q", l != nil, got, tt.row)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	var values []time.Duration
	for i := range 100 {
		values = append(values, time.Duration(100-i))
	}
	for p, want := range map[int]time.Duration{50: 50, 99: 99} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%d is %d", p, got)
		}
	}
	if got := percentile([]time.Duration{7}, 50); got != 7 {
		t.Errorf("p50 of one value is %d", got)
	}
}

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// madeUpRun is a run of two phases and a shutdown in which everything went as it should: the first invocation
// succeeds, the second hangs with a span in its memory, and a log record of it gets out.
func madeUpRun() *demoRun {
	t0 := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	ledger := `{"level":"INFO","msg":"ledger","extension":"otlp-relay","balanced":true` +
		`,"traces":{"accepted":{"records":2},"delivered":{"records":2},"queued":{"records":0},"dropped":{}}` +
		`,"metrics":{"accepted":{"records":1},"delivered":{"records":1},"queued":{"records":0},"dropped":{}}` +
		`,"logs":{"accepted":{"records":2},"delivered":{"records":2},"queued":{"records":0},"dropped":{}}}`
	exchanges := func(shift int) []exchange {
		return []exchange{
			{Signal: otlp.Traces, From: at(100 + shift), To: at(101 + shift), Status: 200, Taken: true, Records: []string{"span 1", "span 2"}},
			{Signal: otlp.Metrics, From: at(100 + shift), To: at(102 + shift), Status: 200, Taken: true, Records: []string{"point 1"}},
			{Signal: otlp.Logs, From: at(100 + shift), To: at(103 + shift), Status: 200, Taken: true, Records: []string{"log 1"}},
			{Signal: otlp.Logs, From: at(1200 + shift), To: at(1201 + shift), Status: 200, Taken: true, Records: []string{"log 2"}},
		}
	}
	failed := exchange{Signal: otlp.Traces, From: at(104), To: at(106), Status: 503, Records: []string{"span 1", "span 2"}}
	return &demoRun{
		Mode:  "auto",
		Start: t0,
		Init:  lambdasim.InitReport{Status: lambdasim.StatusSuccess, Start: at(5), Registered: at(15), End: at(40)},
		Phases: []demoPhase{
			{Name: phaseCold, From: at(50), To: at(160), Invocations: []demoInvocation{{
				Invocation: lambdasim.Invocation{Status: lambdasim.StatusSuccess, Start: at(60), ResponseAt: at(110), RuntimeDone: at(111), End: at(137)},
				Made:       counts{otlp.Traces: 2, otlp.Metrics: 1, otlp.Logs: 1},
			}}},
			{Name: phaseTimeout, From: at(1000), To: at(2600), Invocations: []demoInvocation{{
				Invocation: lambdasim.Invocation{Status: lambdasim.StatusTimeout, Start: at(1010), End: at(2510),
					Error: &lambdasim.FunctionError{Type: "Sandbox.Timedout"},
					Reset: &lambdasim.ShutdownReport{Start: at(2510), End: at(2530)}},
				Hung: true,
				Made: counts{otlp.Traces: 1, otlp.Logs: 1},
			}}},
			{Name: phaseShutdown, From: at(3000), To: at(3010)},
		},
		Outages:  []outage{{From: at(90), To: at(107), What: "the backend answers 503"}},
		Shutdown: lambdasim.ShutdownReport{Start: at(3000), End: at(3010), Window: 2 * time.Second},
		Events: []lambdasim.Event{
			{At: at(6), Kind: lambdasim.KindExec, Process: "otlp-relay"},
			{At: at(15), Kind: lambdasim.KindRegister, Process: "otlp-relay"},
			{At: at(41), Kind: lambdasim.KindFreeze},
			{At: at(60), Kind: lambdasim.KindThaw},
			{At: at(137), Kind: lambdasim.KindTelemetry, Process: "otlp-relay", Text: "platform.start platform.runtimeDone"},
			{At: at(140), Kind: lambdasim.KindFreeze},
			{At: at(1010), Kind: lambdasim.KindThaw},
			{At: at(2530), Kind: lambdasim.KindFreeze},
			{At: at(3000), Kind: lambdasim.KindThaw},
			{At: at(3005), Kind: lambdasim.KindLog, Process: "otlp-relay", Text: ledger},
			{At: at(3008), Kind: lambdasim.KindExit, Process: "otlp-relay", Text: "exit status 0"},
		},
		Handed:    exchanges(0),
		Delivered: append([]exchange{failed}, exchanges(10)...),
	}
}

func TestReportOfAGoodRun(t *testing.T) {
	r := newDemoReport(madeUpRun())
	if err := r.err(); err != nil {
		t.Errorf("err() = %v, want nil", err)
	}
	want := []signalAccount{
		{Signal: otlp.Traces, Made: 3, NotHanded: 1, Handed: 2, Delivered: 2},
		{Signal: otlp.Metrics, Made: 1, Handed: 1, Delivered: 1},
		{Signal: otlp.Logs, Made: 2, Handed: 2, Delivered: 2},
	}
	for i, a := range r.Signals {
		if a != want[i] {
			t.Errorf("account %d is %+v, want %+v", i, a, want[i])
		}
	}
	if a := r.Phases[0].Added; a != (stats{P50: 26 * time.Millisecond, Max: 26 * time.Millisecond, N: 1}) {
		t.Errorf("the first phase added %+v, want 26 ms once", a)
	}
	if a := r.Phases[1].Added; a.N != 0 {
		t.Errorf("an invocation that timed out counts as added time: %+v", a)
	}
	var out bytes.Buffer
	r.print(&out)
	for _, line := range []string{"traces 3 1 2 2 0 0", "Cold start 1 26.0 26.0 0", "Timeout 1 – – 0",
		"logs accepted 2 = delivered 2 + queued 0 + dropped 0", "ok every record that the function handed over has arrived, unchanged"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), line) {
			t.Errorf("the printed report lacks %q:\n%s", line, &out)
		}
	}
}

func TestReportTellsEachFault(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*demoRun)
		want string // in the error; empty: no fault
	}{
		{"nothing", func(*demoRun) {}, ""},
		{"a lost record", func(run *demoRun) { run.Delivered[1].Records = []string{"span 1"} }, "1 of 2 records of traces are lost"},
		{"a changed record", func(run *demoRun) { run.Delivered[2].Records = []string{"point 1, other value"} }, "1 of 1 records of metrics are lost"},
		{"a record that was refused", func(run *demoRun) { run.Delivered[4].Taken = false }, "1 of 2 records of logs are lost"},
		{"a duplicate", func(run *demoRun) { run.Delivered = append(run.Delivered, run.Delivered[2]) }, ""},
		{"a record that was not handed over", func(run *demoRun) { run.Phases[1].Invocations[0].Made[otlp.Metrics]++ }, ""},
		{"a failed invocation", func(run *demoRun) {
			run.Phases[0].Invocations[0].Status = lambdasim.StatusTimeout
			run.Phases[0].Invocations[0].Error = &lambdasim.FunctionError{Type: "Sandbox.Timedout"}
		}, "invocation 1 (Cold start) ended with timeout"},
		{"a hang that did not time out", func(run *demoRun) { run.Phases[1].Invocations[0].Status = lambdasim.StatusSuccess },
			"invocation 2 was told to hang and ended with success"},
		{"a failed init", func(run *demoRun) { run.Init.Status = lambdasim.StatusError }, "init phase ended with error"},
		{"no ledger", func(run *demoRun) { run.Events = run.Events[:9] }, "no ledger line"},
		{"a ledger that does not balance", func(run *demoRun) { inLedger(run, `"queued":{"records":0}`, `"queued":{"records":1}`) }, "does not balance"},
		{"a ledger of fewer records", func(run *demoRun) {
			inLedger(run, `"traces":{"accepted":{"records":2},"delivered":{"records":2}`, `"traces":{"accepted":{"records":1},"delivered":{"records":1}`)
		}, "accepted 1, but 2 were handed over"},
		{"unreadable traffic", func(run *demoRun) { run.Problems = []error{fmt.Errorf("not protobuf")} }, "not protobuf"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := madeUpRun()
			tt.do(run)
			err := newDemoReport(run).err()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("err() = %v, want nil", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("err() = %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func inLedger(run *demoRun, from, to string) {
	for i, ev := range run.Events {
		run.Events[i].Text = strings.Replace(ev.Text, from, to, 1)
	}
}

func TestDuplicatesAreCounted(t *testing.T) {
	run := madeUpRun()
	run.Delivered = append(run.Delivered, run.Delivered[1])
	if a := newDemoReport(run).Signals[0]; a.Duplicated != 2 || a.Delivered != 2 {
		t.Errorf("a doubled request of two spans counts as %+v, want 2 delivered and 2 duplicated", a)
	}
}

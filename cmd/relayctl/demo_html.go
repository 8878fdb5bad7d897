package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

//go:embed demo.html.tmpl
var demoTemplate string

// demoPage is what the template shows.
type demoPage struct {
	Date     string
	Mode     string
	Good     bool
	Verdict  string
	Cards    []card
	Overview panel
	Panels   []panel
	Report   *demoReport
	Ledger   []string
	Log      []logLine
}

// card is one number with its meaning.
type card struct{ Number, Unit, Text string }

// logLine is one line of the extension's log.
type logLine struct{ At, Level, Text string }

// writeDemoPage writes the picture: one file that needs no other.
func writeDemoPage(path string, run *demoRun, r *demoReport) error {
	page, err := renderDemoPage(run, r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the picture's folder: %w", err)
	}
	if err := os.WriteFile(path, page, 0o644); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

// renderDemoPage makes the page; the same run makes the same bytes.
func renderDemoPage(run *demoRun, r *demoReport) ([]byte, error) {
	t, err := template.New("demo").Funcs(template.FuncMap{
		"u":  func(x float64) string { return fmt.Sprintf("%.1f", x) },
		"ms": func(d time.Duration) string { return fmt.Sprintf("%.1f", milli(d)) },
	}).Parse(demoTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the page's template: %w", err)
	}
	page := demoPage{
		Date: run.Start.UTC().Format("2 January 2006, 15:04 MST"), Mode: run.Mode, Good: r.err() == nil,
		Verdict: verdict(r), Cards: cards(run, r), Overview: overview(run), Panels: panels(run), Report: r, Log: logLines(run),
	}
	for _, a := range r.Signals {
		page.Ledger = append(page.Ledger, r.ledgerLine(a.Signal))
	}
	var b bytes.Buffer
	if err := t.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("fill in the page: %w", err)
	}
	return b.Bytes(), nil
}

// verdict is the outcome in a sentence.
func verdict(r *demoReport) string {
	var t signalAccount
	for _, a := range r.Signals {
		t.Made += a.Made
		t.NotHanded += a.NotHanded
		t.Handed += a.Handed
		t.Lost += a.Lost
	}
	if err := r.err(); err != nil {
		return fmt.Sprintf("A check failed: %v.", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return fmt.Sprintf("The function handed %d spans, data points and log records to the extension; all of them reached the backend. "+
		"%d more died with the function when it hung before its flush.", t.Handed, t.NotHanded)
}

func cards(run *demoRun, r *demoReport) []card {
	lost, handed, n := 0, 0, 0
	for _, a := range r.Signals {
		lost += a.Lost
		handed += a.Handed
	}
	var frozen time.Duration
	all := freezes(run)
	for _, f := range all {
		frozen += f.length()
	}
	var well, down []demoInvocation
	for _, p := range run.Phases {
		n += len(p.Invocations)
		switch p.Name {
		case phaseFrequent, phaseRare:
			well = append(well, p.Invocations...)
		case phaseRefusing:
			down = append(down, p.Invocations...)
		}
	}
	return []card{
		{fmt.Sprint(lost), "", fmt.Sprintf("of %d records lost", handed)},
		{fmt.Sprintf("%.1f", milli(addedStats(well).P50)), "ms", "added to an invocation (p50), backend 20 ms away"},
		{fmt.Sprintf("%.1f", milli(addedStats(down).P50)), "ms", "added (p50) once the backend was known to be down"},
		{fmt.Sprint(n), "", fmt.Sprintf("invocations of %d environments, frozen %d times for %s in all", environments(run), len(all), span(frozen))},
	}
}

// panels are the acts of the scenario; those that tell one story share a picture.
func panels(run *demoRun) []panel {
	var all []panel
	add := func(name, note string, first, last string) {
		var w interval
		for _, p := range run.Phases {
			if p.Name == first {
				w.from = p.From
			}
			if p.Name == last {
				w.to = p.To
			}
		}
		if first == phaseCold {
			w.from = run.Init.Start
		}
		if w.length() > 0 {
			all = append(all, newPanel(run, name, note, w))
		}
	}
	add("Cold start", coldNote(run), phaseCold, phaseCold)
	add("Frequent invocations", heldNote(run, phaseFrequent), phaseFrequent, phaseFrequent)
	add("Rare invocations", heldNote(run, phaseRare), phaseRare, phaseRare)
	add("Backend outage and recovery", outageNote(run), phaseFailing, phaseRecovery)
	add("Function timeout, new start, shutdown", timeoutNote(run), phaseTimeout, phaseShutdown)
	return all
}

// overview is the whole run, true to scale.
func overview(run *demoRun) panel {
	if len(run.Phases) == 0 {
		return panel{}
	}
	w := interval{run.Init.Start, run.Phases[len(run.Phases)-1].To}
	p := &painter{run: run, window: w, panel: panel{Name: "The whole run, true to scale", Width: panelWidth, Height: 74}}
	p.scale = scale{pieces: []piece{{interval: w, x0: 4, x1: laneRight}}}
	for i, ph := range run.Phases {
		p.bar(ph.From, ph.To, 2, 66, []string{"odd", "even"}[i%2], ph.Name)
		if from, to := p.scale.x(ph.From), p.scale.x(ph.To); to-from > float64(len(ph.Name))*charWidth {
			p.text((from+to)/2, 16, "phase", ph.Name)
		}
	}
	for _, o := range run.Outages {
		p.bar(o.From, o.To, 56, 10, "outage", o.What)
	}
	for i := range p.Boxes {
		p.Boxes[i].W = max(p.Boxes[i].W-1, 1)
	}
	for _, ph := range run.Phases {
		for _, inv := range ph.Invocations {
			class := "handler"
			if inv.Status != lambdasim.StatusSuccess {
				class = "timeout"
			}
			p.bar(inv.Start, inv.End, 26, 24, class, fmt.Sprintf("%s: invocation of %s", p.clock(inv.Start), span(inv.Billed())))
			if inv.Added() > 0 {
				p.bar(inv.RuntimeDone, inv.End, 26, 24, "held", "held for "+span(inv.Added()))
			}
		}
	}
	return p.panel
}

// logLines are what the extension logged.
func logLines(run *demoRun) []logLine {
	var all []logLine
	for _, ev := range run.Events {
		if level, text := logText(ev); text != "" {
			all = append(all, logLine{fmt.Sprintf("%.2f s", ev.At.Sub(run.Start).Seconds()), level, text})
		}
	}
	return all
}

// logText is the level and the words of a line that the extension logged; no words for any other event.
func logText(ev lambdasim.Event) (level, text string) {
	if ev.Kind != lambdasim.KindLog || ev.Process == lambdasim.FunctionProcess {
		return "", ""
	}
	attrs := parseAttrs(ev.Text)
	if attrs["msg"] == "" {
		return "INFO", ev.Text
	}
	text = attrs["msg"]
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		if !slices.Contains([]string{"time", "level", "msg", "extension"}, k) {
			text += " " + k + "=" + attrs[k]
		}
	}
	return attrs["level"], text
}

// describe is the class of an event's dot and its words; no class for what is not shown.
func describe(ev lambdasim.Event) (class, tip string) {
	switch ev.Kind {
	case lambdasim.KindExec:
		return "process", ev.Process + " started"
	case lambdasim.KindRegister:
		return "process", ev.Process + " registered"
	case lambdasim.KindSignal:
		return "process", ev.Process + " got " + ev.Text
	case lambdasim.KindShutdown:
		return "process", ev.Process + " got SHUTDOWN (" + ev.Text + ")"
	case lambdasim.KindExit:
		return "process", ev.Process + " ended: " + ev.Text
	case lambdasim.KindTelemetry:
		if strings.Contains(ev.Text, "platform.runtimeDone") {
			return "telemetry", "the platform told the extension that the handler is done"
		}
	case lambdasim.KindLog:
		level, text := logText(ev)
		if text != "" {
			return "log-" + strings.ToLower(level), "extension: " + text
		}
	}
	return "", ""
}

// phase is the act of that name.
func (run *demoRun) phase(name string) demoPhase {
	for _, p := range run.Phases {
		if p.Name == name {
			return p
		}
	}
	return demoPhase{}
}

func within(all []exchange, from, to time.Time) []exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x exchange) bool { return x.From.Before(from) || x.From.After(to) })
}

func coldNote(run *demoRun) string {
	return fmt.Sprintf("The extension had registered %s after the init phase began; only then the function's own process starts. The phase took %s. "+
		"Nothing goes over the network before the first invocation.", span(run.Init.Registered.Sub(run.Init.Start)), span(run.Init.Duration()))
}

func heldNote(run *demoRun, name string) string {
	p := run.phase(name)
	s := addedStats(p.Invocations)
	sent := within(run.Delivered, p.From, p.To)
	failed := 0
	for _, x := range sent {
		if !x.Taken {
			failed++
		}
	}
	return fmt.Sprintf("The extension held an invocation for %s (p50), %s at most. %d requests of the SDK became %d to the backend, %d of which failed. "+
		"While the sandbox is frozen no thread runs, so what is not sent by then waits.",
		span(s.P50), span(s.Max), len(within(run.Handed, p.From, p.To)), len(sent), failed)
}

func outageNote(run *demoRun) string {
	failing, refusing, recovery := run.phase(phaseFailing), run.phase(phaseRefusing), run.phase(phaseRecovery)
	held := addedStats(slices.Concat(failing.Invocations, refusing.Invocations))
	waited := missing(within(run.Handed, run.Start, recovery.From), within(run.Delivered, run.Start, recovery.From))
	last := recovery.From
	for _, x := range within(run.Delivered, recovery.From, run.Shutdown.End) {
		if x.Taken && slices.ContainsFunc(x.Records, func(id string) bool { return slices.Contains(waited, id) }) {
			last = x.To
		}
	}
	return fmt.Sprintf("One invocation is held for %s while the extension tries again; then its breaker is open and nobody waits for a dead backend: "+
		"%s added (p50). %d records waited in the extension's memory; %s after the backend was back the last of them arrived.",
		span(held.Max), span(held.P50), len(waited), span(last.Sub(recovery.From)))
}

func timeoutNote(run *demoRun) string {
	var lostWith int
	for _, sig := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		lostWith += account(run, sig).NotHanded
	}
	s := run.Shutdown
	return fmt.Sprintf("The function hangs before it flushes: %d records were still in its own memory when Lambda ended it. What its SDK had handed over by then arrived. "+
		"The next invocation begins with an init of its own. At the shutdown the environment was gone after %s of the %s it is given.",
		lostWith, span(s.End.Sub(s.Start)), span(s.Window))
}

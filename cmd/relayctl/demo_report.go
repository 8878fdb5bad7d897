package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// demoReport is what a run came to.
type demoReport struct {
	Signals []signalAccount
	Phases  []phaseAccount
	Ledger  ledger // of all extension processes together
	Checks  []demoCheck
}

// signalAccount is the fate of one signal's records.
type signalAccount struct {
	Signal     otlp.Signal
	Made       int // by the function
	NotHanded  int // made, but never given to the extension
	Handed     int // given to the extension, which answered 200
	Delivered  int // of these, what the backend has
	Lost       int // of these, what it has not
	Duplicated int // extra copies of what it has
}

// phaseAccount is what one act cost.
type phaseAccount struct {
	Name        string
	Invocations int
	Response    stats // what a client waited
	Added       stats // billed time after the function was done
	Waiting     int   // records that the extension held at its end
}

// demoCheck is one thing that must hold.
type demoCheck struct {
	What string
	Bad  string // how it does not; empty where it does
}

// newDemoReport draws up the account of a run.
func newDemoReport(run *demoRun) *demoReport {
	r := &demoReport{}
	for _, sig := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		r.Signals = append(r.Signals, account(run, sig))
	}
	for _, p := range run.Phases {
		a := phaseAccount{Name: p.Name, Invocations: len(p.Invocations), Added: addedStats(p.Invocations)}
		var waits []time.Duration
		for _, inv := range p.Invocations {
			waits = append(waits, inv.ResponseTime())
		}
		a.Response = statsOf(waits)
		a.Waiting = waiting(run, p.To)
		r.Phases = append(r.Phases, a)
	}
	r.Ledger = readLedger(run.Events)
	r.Checks = []demoCheck{
		check("every record that the function handed over has arrived, unchanged", r.lost()),
		check("the function failed only where it was told to", failures(run)),
		check("the extension's ledger balances and agrees with what was seen outside", r.checkLedger()),
		check("everything on the wire could be read", errors.Join(run.Problems...)),
	}
	return r
}

func check(what string, err error) demoCheck {
	c := demoCheck{What: what}
	if err != nil {
		c.Bad = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return c
}

// account follows one signal's records from the function to the backend.
func account(run *demoRun, sig otlp.Signal) signalAccount {
	handed, delivered := ofSignal(run.Handed, sig), ofSignal(run.Delivered, sig)
	a := signalAccount{Signal: sig, Handed: records(handed)}
	for _, p := range run.Phases {
		for _, inv := range p.Invocations {
			a.Made += inv.Made[sig]
		}
	}
	a.Made = max(a.Made, a.Handed) // a function that does not tell what it made
	a.NotHanded = a.Made - a.Handed
	a.Lost = len(missing(handed, delivered))
	a.Delivered = a.Handed - a.Lost
	a.Duplicated = records(delivered) - a.Delivered
	return a
}

func ofSignal(all []exchange, sig otlp.Signal) []exchange {
	return slices.DeleteFunc(slices.Clone(all), func(x exchange) bool { return x.Signal != sig })
}

// records counts those that changed hands.
func records(all []exchange) int {
	n := 0
	for _, x := range all {
		if x.Taken {
			n += len(x.Records)
		}
	}
	return n
}

// missing are the records that were handed over and have not been delivered.
func missing(handed, delivered []exchange) []string {
	there := map[string]bool{}
	for _, x := range delivered {
		if x.Taken {
			for _, id := range x.Records {
				there[id] = true
			}
		}
	}
	var gone []string
	for _, x := range handed {
		if x.Taken {
			gone = append(gone, slices.DeleteFunc(slices.Clone(x.Records), func(id string) bool { return there[id] })...)
		}
	}
	return gone
}

// waiting is how many records the extension held at a time.
func waiting(run *demoRun, at time.Time) int {
	before := func(x exchange) bool { return x.To.After(at) }
	return records(slices.DeleteFunc(slices.Clone(run.Handed), before)) -
		records(slices.DeleteFunc(slices.Clone(run.Delivered), before))
}

// lost is the one thing that must never be. Nothing in the scenario excuses it: the extension outlives the
// function's timeout, and the backend works when an environment ends.
func (r *demoReport) lost() error {
	var errs []error
	for _, a := range r.Signals {
		if a.Lost > 0 {
			errs = append(errs, fmt.Errorf("%d of %d records of %s are lost", a.Lost, a.Handed, a.Signal))
		}
	}
	return errors.Join(errs...)
}

// failures are the invocations that should not have failed but did.
func failures(run *demoRun) error {
	var errs []error
	if run.Init.Status != lambdasim.StatusSuccess {
		errs = append(errs, fmt.Errorf("the init phase ended with %s", run.Init.Status))
	}
	number := 0
	for _, p := range run.Phases {
		for _, inv := range p.Invocations {
			number++
			switch {
			case inv.Hung && inv.Status != lambdasim.StatusTimeout:
				errs = append(errs, fmt.Errorf("invocation %d was told to hang and ended with %s", number, inv.Status))
			case !inv.Hung && inv.Status != lambdasim.StatusSuccess:
				errs = append(errs, fmt.Errorf("invocation %d (%s) ended with %s: %v", number, p.Name, inv.Status, inv.Error))
			}
		}
	}
	return errors.Join(errs...)
}

// checkLedger compares what the extension says of itself, in all its processes' ledger lines, with what was
// seen on both its sides.
func (r *demoReport) checkLedger() error {
	if r.Ledger == nil {
		return errors.New("no ledger line was logged")
	}
	var errs []error
	for _, a := range r.Signals {
		name := a.Signal.String()
		accepted, delivered, queued := r.Ledger[name+".accepted.records"], r.Ledger[name+".delivered.records"], r.Ledger[name+".queued.records"]
		dropped, _ := r.Ledger.dropped(a.Signal)
		if accepted != delivered+queued+dropped {
			errs = append(errs, fmt.Errorf("%s: the ledger does not balance", name))
		}
		if accepted != int64(a.Handed) {
			errs = append(errs, fmt.Errorf("%s: accepted %d, but %d were handed over", name, accepted, a.Handed))
		}
		// More may have arrived than the extension knows of: where an answer was cut off.
		if got := int64(a.Delivered + a.Duplicated); delivered > got {
			errs = append(errs, fmt.Errorf("%s: delivered %d, but %d arrived", name, delivered, got))
		}
	}
	return errors.Join(errs...)
}

// environments is how many times the extension was started.
func environments(run *demoRun) int {
	n := 0
	for _, ev := range run.Events {
		if ev.Kind == lambdasim.KindRegister {
			n++
		}
	}
	return n
}

// err is nil where all checks hold.
func (r *demoReport) err() error {
	var errs []error
	for _, c := range r.Checks {
		if c.Bad != "" {
			errs = append(errs, errors.New(c.Bad))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("the demo found a fault: %w", errors.Join(errs...))
}

// print writes the tables.
func (r *demoReport) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n\tmade\tnot handed over\thanded over\tdelivered\tlost\tduplicated\t\n")
	for _, a := range r.Signals {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", a.Signal, a.Made, a.NotHanded, a.Handed, a.Delivered, a.Lost, a.Duplicated)
	}
	w.Flush()
	fmt.Fprintf(out, "\n\"Not handed over\" is what the function still held when it hung and Lambda ended it.\n")

	fmt.Fprintf(w, "\nadded to an invocation\tinvocations\tp50 ms\tmax ms\trecords waiting at the end\t\n")
	for _, p := range r.Phases {
		switch {
		case p.Added.N > 0:
			fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%d\t\n", p.Name, p.Invocations, milli(p.Added.P50), milli(p.Added.Max), p.Waiting)
		case p.Invocations > 0:
			fmt.Fprintf(w, "%s\t%d\t–\t–\t%d\t\n", p.Name, p.Invocations, p.Waiting)
		}
	}
	w.Flush()

	fmt.Fprintf(out, "\nThe extension's own ledger:\n")
	for _, a := range r.Signals {
		fmt.Fprintf(out, "  %s\n", r.ledgerLine(a.Signal))
	}
	fmt.Fprintln(out)
	for _, c := range r.Checks {
		if c.Bad == "" {
			fmt.Fprintf(out, "  ok    %s\n", c.What)
		} else {
			fmt.Fprintf(out, "  FAIL  %s: %s\n", c.What, c.Bad)
		}
	}
}

// ledgerLine is the ledger's invariant with a signal's numbers.
func (r *demoReport) ledgerLine(sig otlp.Signal) string {
	dropped, reasons := r.Ledger.dropped(sig)
	if reasons != "" {
		reasons = " (" + reasons + ")"
	}
	return fmt.Sprintf("%-8s accepted %d = delivered %d + queued %d + dropped %d%s", sig, r.Ledger[sig.String()+".accepted.records"],
		r.Ledger[sig.String()+".delivered.records"], r.Ledger[sig.String()+".queued.records"], dropped, reasons)
}

// stats are of a set of durations; zero where there are none.
type stats struct {
	P50, Max time.Duration
	N        int
}

func statsOf(all []time.Duration) stats {
	if len(all) == 0 {
		return stats{}
	}
	return stats{P50: percentile(all, 50), Max: slices.Max(all), N: len(all)}
}

// addedStats leaves out invocations that did not get as far as the extension's part.
func addedStats(all []demoInvocation) stats {
	var added []time.Duration
	for _, inv := range all {
		if inv.Status == lambdasim.StatusSuccess {
			added = append(added, inv.Added())
		}
	}
	return statsOf(added)
}

// String is the figures in milliseconds, as wide for every value.
func (s stats) String() string {
	if s.N == 0 {
		return "        –  (max         –)"
	}
	return fmt.Sprintf("%6.1f ms (max %6.1f ms)", milli(s.P50), milli(s.Max))
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

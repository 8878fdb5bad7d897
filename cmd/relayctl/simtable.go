package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

// How many of the processes' last lines are shown when the init phase failed.
const lastLines = 30

// table prints one row for each invocation, as it comes.
type table struct {
	out    io.Writer
	titles bool // were printed
	done   []lambdasim.Invocation
}

func newTable(out io.Writer, o simOptions) *table {
	who := "no extension"
	if n := len(o.cfg.Extensions); n > 0 {
		who = strings.Join(o.cfg.Extensions, ", ")
	}
	fmt.Fprintf(out, "%s with %s, %d MB\n", strings.Join(o.cfg.Function, " "), who, o.cfg.MemoryMB)
	return &table{out: out}
}

func (t *table) init(rep lambdasim.InitReport) {
	fmt.Fprintf(t.out, "init %s ms", ms(rep.Duration()))
	if !rep.Registered.IsZero() {
		fmt.Fprintf(t.out, ", of which %s ms until the extension had registered", ms(rep.Registered.Sub(rep.Start)))
	}
	fmt.Fprintln(t.out)
}

func (t *table) row(i int, inv lambdasim.Invocation) {
	if !t.titles {
		fmt.Fprintf(t.out, "\n%4s  %12s  %10s  %10s  %s\n", "#", "response ms", "billed ms", "added ms", "status")
		t.titles = true
	}
	t.done = append(t.done, inv)
	note := string(inv.Status)
	if inv.Error != nil {
		note += ": " + inv.Error.Error()
	}
	if inv.Init != nil {
		note += fmt.Sprintf(" (with an init of %s ms)", ms(inv.Init.Duration()))
	}
	fmt.Fprintf(t.out, "%4d  %12s  %10s  %10s  %s\n", i+1, ms(inv.ResponseTime()), ms(inv.Billed()), ms(inv.Added()), note)
}

// summary prints the median and the 99th percentile of the invocations that succeeded.
func (t *table) summary() {
	var response, billed, added []time.Duration
	for _, inv := range t.done {
		if inv.Status == lambdasim.StatusSuccess {
			response = append(response, inv.ResponseTime())
			billed = append(billed, inv.Billed())
			added = append(added, inv.Added())
		}
	}
	if len(response) == 0 {
		return
	}
	fmt.Fprintln(t.out)
	for _, p := range []int{50, 99} {
		fmt.Fprintf(t.out, " p%d  %12s  %10s  %10s  of %d\n", p,
			ms(percentile(response, p)), ms(percentile(billed, p)), ms(percentile(added, p)), len(response))
	}
}

// percentile is the smallest value that at least p percent of the values do not exceed. It sorts them.
func percentile(values []time.Duration, p int) time.Duration {
	slices.Sort(values)
	return values[max(0, (len(values)*p+99)/100-1)]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func printShutdown(out io.Writer, rep lambdasim.ShutdownReport) {
	if len(rep.Exits) == 0 {
		fmt.Fprintln(out, "\nshutdown: no process was left")
		return
	}
	fmt.Fprintf(out, "\nshutdown (%s): %s ms of %s\n", rep.Reason, ms(rep.End.Sub(rep.Start)), ms(rep.Window))
	for _, x := range rep.Exits {
		how := fmt.Sprintf("exit code %d", x.Code)
		if x.Signal != "" {
			how = x.Signal
		}
		switch {
		case x.Forced && x.Asked.IsZero():
			how += ", it was not asked"
		case x.Forced:
			how += ", it had not ended in its time"
		case !x.Asked.IsZero():
			how += fmt.Sprintf(", %s ms after it was asked", ms(x.Took))
		}
		fmt.Fprintf(out, "  %-20s %s\n", x.Process, how)
	}
}

// printLogs shows the end of what the processes printed.
func printLogs(out io.Writer, env *lambdasim.Env) {
	var lines []string
	for _, ev := range env.Record() {
		switch ev.Kind {
		case lambdasim.KindLog:
			lines = append(lines, "["+ev.Process+"] "+ev.Text)
		case lambdasim.KindRefused:
			lines = append(lines, "refused: "+ev.Text)
		case lambdasim.KindExit:
			lines = append(lines, "["+ev.Process+"] ended: "+ev.Text)
		}
	}
	for _, l := range lines[max(0, len(lines)-lastLines):] {
		fmt.Fprintln(out, l)
	}
}

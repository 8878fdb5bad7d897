package extension

import (
	"fmt"
	"testing"
	"time"
)

// TestFlushPolicy runs every strategy through every pattern, in simulated time, and holds auto to its promises.
// `make bench` makes a table of what it prints.
func TestFlushPolicy(t *testing.T) {
	for i, p := range patterns(t) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			by := map[string]outcome{}
			for _, s := range strategies() {
				by[s.name] = simulate(t, s, p.to, p.calls)
				fmt.Fprintf(t.Output(), "figures\t%03d\t%s\t%s\t%s\n", i, p.name, s.name, by[s.name].figures())
			}
			by["auto"].mustKeepPromises(t, p, by["end"])
		})
	}
}

// figures is a line of the table: the added billed time of an invocation in ms (mean, p99, most), the delivery
// delay in s (p50, p99), requests per 1,000 invocations, records lost.
func (o outcome) figures() string {
	millis := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("%g\t%g\t%g\t%g\t%g\t%d\t%d", millis(o.meanAdded()), millis(quantile(o.added, .99)), millis(quantile(o.added, 1)),
		quantile(o.late, .5).Seconds(), quantile(o.late, .99).Seconds(), 1000*o.requests/o.invocations, o.lost)
}

// mustKeepPromises checks what auto promises, beside the outcome of end for the same pattern.
func (o outcome) mustKeepPromises(t *testing.T, p pattern, end outcome) {
	t.Helper()
	most, settled := quantile(o.added, 1), quantile(o.added[len(o.added)/2:], .99)
	spare := 0
	if p.to.roundTrip > 900*ms {
		spare = 1 // SHUTDOWN has no time for it to be asked twice
	}
	if o.lost > spare {
		t.Errorf("%d records lost", o.lost)
	}
	if o.switches > o.invocations/50 {
		t.Errorf("the regime changed %d times in %d invocations", o.switches, o.invocations)
	}
	switch {
	case p.to.down != nil && !p.to.hangs:
		if most > 150*ms {
			t.Errorf("an invocation was held %v for a backend that refuses", most)
		}
	case p.to.down != nil || p.to.roundTrip > time.Second:
		if o.longest > 1 || most > 1100*ms {
			t.Errorf("%d invocations in a row were held in vain, up to %v", o.longest, most)
		}
	default:
		if o.meanAdded() > end.meanAdded() {
			t.Errorf("added %v, more than end's %v", o.meanAdded(), end.meanAdded())
		}
		if n := o.leftBehind(); n > o.invocations/20+o.switches/2 {
			t.Errorf("%d of %d records were left behind", n, len(o.late))
		}
	}
	switch p.kind {
	case rare:
		if o.meanAdded() != end.meanAdded() || quantile(o.late, 1) != quantile(end.late, 1) {
			t.Errorf("rare invocations are not treated as end does")
		}
	case frequent:
		if o.meanAdded() > time.Millisecond || settled > 5*ms || quantile(o.late, .99) > 6*time.Second || 1000*o.requests/o.invocations > 300 {
			t.Errorf("frequent invocations: %s", o.figures())
		}
	case costly:
		if o.meanAdded() > end.meanAdded()/10 {
			t.Errorf("added %v where end adds %v", o.meanAdded(), end.meanAdded())
		}
	}
}

// leftBehind is how many records were more than a minute late.
func (o outcome) leftBehind() (n int) {
	for _, d := range o.late {
		if d > time.Minute {
			n++
		}
	}
	return n
}

package flush

import "time"

// History is what Auto knows of an environment: how its invocations come, and what holding them costs. It is a
// value without a clock: each event makes the next History of it, so that the same events always lead to the
// same decisions. The zero value, with its Interval set, has seen nothing.
//
// It tells two regimes apart. Where invocations are rare, or nothing is known yet, each is held until its data
// is out. Where they are frequent, data is gathered: the next INVOKE is near, and what waits for it is late by
// little. The price of gathering is paid when the traffic stops: what is queued then waits for SHUTDOWN, some
// minutes away. How long the traffic will last is not known, but for how long it has lasted: so a run of frequent
// invocations must have lasted for a while before data is gathered, and then data waits for a small part of
// that time only.
type History struct {
	Interval time.Duration // OTLP_RELAY_FLUSH_INTERVAL

	last    time.Time     // the last INVOKE
	given   time.Time     // when its invocation was given back
	first   time.Time     // the first INVOKE of the run
	run     int           // INVOKEs in the run
	gap     time.Duration // from one INVOKE to the next, smoothed
	handler time.Duration // of an invocation, smoothed; 0 where runtimeDone is not known
	hold    time.Duration // what holding an invocation has cost beyond its handler, smoothed
	gathers bool
}

// What docs/benchmarks.md shows by simulation.
const (
	runInvocations = 10  // INVOKEs that a run has before data is gathered
	runIntervals   = 2   // flush intervals that it has lasted by then
	atStake        = 20  // data waits for so small a part of the run at most
	worthIt        = 100 // holding goes on where it costs less than so small a part of the handler
)

// Gathers says whether data is gathered: the regime.
func (h History) Gathers() bool { return h.gathers }

// Gap is how long after an INVOKE the next one is expected; 0 where nothing is known.
func (h History) Gap() time.Duration { return h.gap }

// Wait is how old data becomes before it is exported, where data is gathered.
func (h History) Wait() time.Duration {
	_, lasted := h.Run()
	return min(h.Interval, lasted/atStake)
}

// Run is how many INVOKEs have come without a break, and for how long they have.
func (h History) Run() (invocations int, lasted time.Duration) { return h.run, h.last.Sub(h.first) }

// Invoke notes an INVOKE at a wall time. What counts is the wait for it: the time since the last INVOKE, less
// what the extension held that invocation for or its handler took. A wait of more than half an interval ends a
// run; once data is gathered it takes a whole one, so that the regime does not follow each irregularity.
func (h History) Invoke(at time.Time) History {
	gap := at.Sub(h.last)
	if h.last.IsZero() || gap < 0 { // a clock that was set back tells nothing
		return h.startRun(at)
	}
	wait, limit := min(gap-h.handler, at.Sub(h.given)), h.Interval/2
	if h.gathers {
		limit = h.Interval
	}
	if wait > limit {
		return h.startRun(at)
	}
	h.last = at
	if h.run++; h.run == 2 {
		h.gap = gap
	} else {
		h.gap = smooth(h.gap, gap)
	}
	h.gathers = h.gathers || h.run >= runInvocations && at.Sub(h.first) >= runIntervals*h.Interval && h.handler <= worthIt*h.hold
	return h
}

// Release notes that the invocation of the last INVOKE was given back at a wall time. handler is how long its
// handler took, where the invocation was held until that was done; else 0.
func (h History) Release(at time.Time, handler time.Duration) History {
	h.given = at
	if handler <= 0 {
		return h
	}
	beyond := max(0, at.Sub(h.last)-handler)
	if h.handler == 0 {
		h.handler, h.hold = handler, beyond
		return h
	}
	h.handler, h.hold = smooth(h.handler, handler), smooth(h.hold, beyond)
	return h
}

// startRun begins a run at an INVOKE.
func (h History) startRun(at time.Time) History {
	h.last, h.first, h.run, h.gap, h.gathers = at, at, 1, 0, false
	return h
}

// smooth moves an average by an eighth of the way to a new value.
func smooth(average, value time.Duration) time.Duration { return average + (value-average)/8 }

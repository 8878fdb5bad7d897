package flush

import "time"

// Mode is when data leaves: the value of OTLP_RELAY_FLUSH.
type Mode uint8

// The modes. Auto means End until it learns to adapt.
const (
	Auto     Mode = iota
	End           // exports start when data arrives; the invocation is held until they are done
	Next          // the previous invocation's data leaves while this one runs
	Interval      // on a timer, looked at when an INVOKE comes; the rule where there is no freeze
)

var modeNames = [...]string{"auto", "end", "next", "interval"}

// String is the mode's name as OTLP_RELAY_FLUSH spells it.
func (m Mode) String() string { return modeNames[m] }

// ParseMode reads the value of OTLP_RELAY_FLUSH, in lower case.
func ParseMode(s string) (m Mode, ok bool) {
	for i, name := range modeNames {
		if s == name {
			return Mode(i), true
		}
	}
	return Auto, false
}

// Policy decides when to flush. It is pure: the same situation gives the same answer.
type Policy struct {
	Mode      Mode
	Interval  time.Duration // Interval mode: the age of the oldest payload that forces a flush
	HighWater int           // queued bytes that force a flush, whatever the mode
}

// Situation is what a decision rests on.
type Situation struct {
	Bytes     int           // queued, uncompressed
	Age       time.Duration // of the oldest queued payload, by wall time
	Telemetry bool          // runtimeDone events can be expected
}

// Plan is what an INVOKE asks for.
type Plan struct {
	Flush     bool // export what is queued now
	AwaitDone bool // hold the invocation until its runtimeDone and the exports
	Await     bool // hold it until the exports that Flush starts are done
}

// Invoke decides what to do at the start of an invocation. End mode without runtimeDone events is Next:
// one must never wait for an event that cannot come.
func (p Policy) Invoke(s Situation) Plan {
	switch {
	case p.Mode == Interval:
		due := s.Bytes > 0 && (s.Age >= p.Interval || s.Bytes >= p.HighWater)
		return Plan{Flush: due, Await: due}
	case p.Mode == Next || !s.Telemetry:
		return Plan{Flush: s.Bytes > 0, Await: s.Bytes > 0}
	}
	return Plan{Flush: s.Bytes > 0, AwaitDone: true, Await: true}
}

// Arrival decides whether data that has just arrived is exported at once.
func (p Policy) Arrival(s Situation) bool {
	return s.Bytes >= p.HighWater || (p.Mode == End || p.Mode == Auto) && s.Telemetry
}

// Due is how long until the timer of Interval mode wants a flush; false where it never does.
func (p Policy) Due(s Situation) (in time.Duration, ok bool) {
	if p.Mode != Interval || s.Bytes == 0 {
		return 0, false
	}
	return max(0, p.Interval-s.Age), true
}

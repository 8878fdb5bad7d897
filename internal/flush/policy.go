package flush

import "time"

// Mode is when data leaves: the value of OTLP_RELAY_FLUSH.
type Mode uint8

// The modes.
const (
	Auto     Mode = iota // End while invocations are rare; when they are frequent, Next with gathered payloads
	End                  // exports start when data arrives; the invocation is held until they are done
	Next                 // the previous invocation's data leaves while this one runs
	Interval             // on a timer, looked at when an INVOKE comes; the rule where there is no freeze
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
	Interval  time.Duration // the age of the oldest payload that forces a flush, in Interval mode and where Auto gathers
	HighWater int           // queued bytes that force a flush, whatever the mode
}

// Situation is what a decision rests on. Bytes and Age are of what could leave: data whose destination is out
// of order must not drive the rest out.
type Situation struct {
	Bytes     int           // queued, uncompressed
	Age       time.Duration // of the oldest queued payload, by wall time
	Telemetry bool          // runtimeDone events can be expected
	History   History       // what Auto goes by
}

// Plan is what an INVOKE asks for.
type Plan struct {
	Flush     bool   // export what is queued now
	AwaitDone bool   // hold the invocation until its runtimeDone and the exports
	Await     bool   // hold it until the exports that Flush starts are done
	Why       string // for the log
}

// Why data leaves, or not yet.
const (
	whyNothing   = "nothing is queued"
	whyEnd       = "invocations are held until their data is out"
	whyNext      = "data leaves during the next invocation"
	whyYoung     = "data is gathered"
	whyOld       = "the oldest data is due"
	whyHighWater = "high water"
)

// Invoke decides what to do at the start of an invocation. End mode without runtimeDone events is Next:
// one must never wait for an event that cannot come.
func (p Policy) Invoke(s Situation) Plan {
	switch {
	case p.gathers(s):
		return p.gather(s)
	case p.Mode == Next || !s.Telemetry:
		plan := Plan{Flush: s.Bytes > 0, Await: s.Bytes > 0, Why: whyNext}
		if !plan.Flush {
			plan.Why = whyNothing
		}
		return plan
	}
	return Plan{Flush: s.Bytes > 0, AwaitDone: true, Await: true, Why: whyEnd}
}

// gathers says whether data waits for its age or for high water.
func (p Policy) gathers(s Situation) bool {
	return p.Mode == Interval || p.Mode == Auto && s.History.Gathers()
}

// gather is the plan where data is gathered. In Auto, data leaves with this INVOKE rather than with the next
// one where that is expected too late for it.
func (p Policy) gather(s Situation) Plan {
	age, limit := s.Age, p.Interval
	if p.Mode == Auto {
		age, limit = s.Age+s.History.Gap(), s.History.Wait()
	}
	switch {
	case s.Bytes == 0:
		return Plan{Why: whyNothing}
	case s.Bytes >= p.HighWater:
		return Plan{Flush: true, Await: true, Why: whyHighWater}
	case age >= limit:
		return Plan{Flush: true, Await: true, Why: whyOld}
	}
	return Plan{Why: whyYoung}
}

// Arrival decides whether data that has just arrived is exported at once, and why.
func (p Policy) Arrival(s Situation) (why string, flush bool) {
	switch {
	case s.Bytes >= p.HighWater:
		return whyHighWater, true
	case s.Telemetry && (p.Mode == End || p.Mode == Auto && !s.History.Gathers()):
		return whyEnd, true
	}
	return "", false
}

// Due is how long until gathered data is old enough to leave without an INVOKE: where an environment is not
// frozen, or a handler takes long. It is false where no moment is due.
func (p Policy) Due(s Situation) (in time.Duration, ok bool) {
	if !p.gathers(s) || s.Bytes == 0 {
		return 0, false
	}
	return max(0, p.Interval-s.Age), true
}

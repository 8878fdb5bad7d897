package lambdasim

import (
	"slices"
	"sync"
	"time"
)

// Kind is what an Event tells.
type Kind string

// The kinds, with the fields they set beside At.
const (
	KindInitStart     Kind = "init_start"     // Text: the phase
	KindExec          Kind = "exec"           // Process
	KindRegister      Kind = "register"       // Process; Text: the events
	KindInitEnd       Kind = "init_end"       // Text: status or error; Duration
	KindThaw          Kind = "thaw"           // Duration: what it took
	KindStart         Kind = "start"          // RequestID: an invocation begins
	KindInvoke        Kind = "invoke"         // Process, RequestID: it was given the invocation
	KindResponse      Kind = "response"       // RequestID; Text: status; Count: bytes
	KindRuntimeNext   Kind = "runtime_next"   // Process; RequestID: of the invocation that this completes
	KindExtensionNext Kind = "extension_next" // Process
	KindEnd           Kind = "end"            // RequestID; Text: status; Duration: billed
	KindFreeze        Kind = "freeze"         // Duration: what it took
	KindSubscribe     Kind = "subscribe"      // Process; Text: answer of the Telemetry API
	KindTelemetry     Kind = "telemetry"      // Process: a batch left and was taken; Count: events; Text: their types; Duration: until the answer
	KindTelemetryFail Kind = "telemetry_fail" // the same for a batch that was not taken and will be sent again; Text: why
	KindFault         Kind = "fault"          // Process; Text: the error
	KindRefused       Kind = "refused"        // Text: method, path and error type of a call that was refused
	KindSignal        Kind = "signal"         // Process; Text: the signal
	KindShutdown      Kind = "shutdown"       // Process: it was given the SHUTDOWN event; Text: reason
	KindExit          Kind = "exit"           // Process; Text: how
	KindLog           Kind = "log"            // Process; Text: a line it printed
)

// Event is one thing that happened.
type Event struct {
	At        time.Time // wall clock and monotonic
	Kind      Kind
	Process   string // FunctionProcess or an extension's name
	RequestID string
	Text      string
	Duration  time.Duration
	Count     int
}

// FunctionProcess is the name under which the runtime's process is recorded.
const FunctionProcess = "function"

// recorder keeps the events. It is safe for use by several goroutines.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) add(ev Event) {
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, ev)
}

// Record is everything that happened so far, in the order of time. The caller owns it.
func (e *Env) Record() []Event {
	e.rec.mu.Lock()
	events := slices.Clone(e.rec.events)
	e.rec.mu.Unlock()
	slices.SortStableFunc(events, func(a, b Event) int { return a.At.Compare(b.At) })
	return events
}

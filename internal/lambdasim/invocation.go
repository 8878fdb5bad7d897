package lambdasim

import (
	"fmt"
	"time"
)

// Status is how something ended, in the Telemetry API's words.
type Status string

// Every status there is.
const (
	StatusSuccess Status = "success"
	StatusError   Status = "error"   // the function answered with an error, or a process exited
	StatusTimeout Status = "timeout" // of the function
	StatusFailure Status = "failure" // the sandbox itself failed
)

// FunctionError is the error that a client gets in place of a response.
type FunctionError struct {
	Type    string // such as Runtime.ExitError, Extension.Crash, Sandbox.Timedout, or the function's own
	Message string
}

// Error is the type with its message.
func (e *FunctionError) Error() string { return e.Type + ": " + e.Message }

// InitReport tells of one init phase. A time that was not reached is zero.
type InitReport struct {
	Phase        string // "init", or "invoke" where it ran inside an invocation (a suppressed init)
	Status       Status
	Error        *FunctionError // nil on success
	Start        time.Time
	Registered   time.Time // when the last extension had registered: only then the runtime is started
	RuntimeReady time.Time // the runtime's first next
	End          time.Time
	Reset        *ShutdownReport // how the processes ended where the init failed
}

// Duration is the length of the phase.
func (r InitReport) Duration() time.Duration { return r.End.Sub(r.Start) }

// InitError is a failed init phase.
type InitError struct{ InitReport }

// Error says which phase failed, how and after what time.
func (e *InitError) Error() string {
	return fmt.Sprintf("init phase: %s after %v: %v", e.Status, e.Duration().Round(time.Millisecond), e.InitReport.Error)
}

// Request is what a client sends.
type Request struct {
	Payload     []byte // default {}
	TraceHeader string // X-Amzn-Trace-Id; made up, not sampled, where empty
}

// Invocation tells of one invocation. A time that was not reached is zero.
type Invocation struct {
	RequestID      string
	Status         Status
	Response       []byte                   // what the client got; kept also where the invocation failed after it
	Error          *FunctionError           // nil on success
	ColdStart      bool                     // the first one after a normal init
	Init           *InitReport              // of the suppressed init that this invocation began with, else nil
	Start          time.Time                // after the thaw
	ResponseAt     time.Time                // the runtime's response had arrived: the client has it
	RuntimeDone    time.Time                // the runtime asked for the next event
	ExtensionsDone time.Time                // the last of the extensions that subscribed to INVOKE did; zero without any
	End            time.Time                // billing ends
	CPU            map[string]time.Duration // by process name, from the freeze before to the freeze after
	Reset          *ShutdownReport          // how the processes ended after a timeout or a crash, else nil
}

// ResponseTime is what the client waits.
func (i Invocation) ResponseTime() time.Duration {
	if i.ResponseAt.IsZero() {
		return i.Billed()
	}
	return i.ResponseAt.Sub(i.Start)
}

// Billed is the time the invocation occupies the environment, not rounded up to a millisecond as a bill is.
func (i Invocation) Billed() time.Duration { return i.End.Sub(i.Start) }

// Added is what the extensions added: billed time after the runtime was done. It is zero where the runtime
// did not get that far.
func (i Invocation) Added() time.Duration {
	if i.RuntimeDone.IsZero() {
		return 0
	}
	return i.End.Sub(i.RuntimeDone)
}

// ShutdownReport tells how an environment, or one incarnation of it before a reset, ended.
type ShutdownReport struct {
	Reason string // spindown, timeout or failure
	Start  time.Time
	End    time.Time
	Window time.Duration // what the processes were given
	Exits  []Exit        // the function's first, then the extensions' by name
}

// Exit tells how one process ended.
type Exit struct {
	Process string
	Code    int           // exit code; -1 after a signal
	Signal  string        // that ended it, such as "killed"; empty after an exit of its own
	Asked   time.Time     // SIGTERM (function) or the SHUTDOWN event (extension) was sent; zero if it was not
	At      time.Time     // it was gone
	Took    time.Duration // from Asked to At; zero where it was not asked
	Forced  bool          // the emulator killed it
}

// Exit is the exit of a process by its name, and whether there was one.
func (r ShutdownReport) Exit(process string) (Exit, bool) {
	for _, x := range r.Exits {
		if x.Process == process {
			return x, true
		}
	}
	return Exit{}, false
}

// ProcessStats is what a process used so far. Durations of CPU time count all its threads but not its child
// processes; a zero time was not reached.
type ProcessStats struct {
	Name           string
	PID            int
	Started        time.Time     // before the fork
	Registered     time.Time     // its register call (extensions)
	FirstNext      time.Time     // its first next
	CPUToRegister  time.Duration // from its start
	CPUToFirstNext time.Duration // from its start
	CPU            time.Duration // from its start
	RSS            int64         // bytes resident, as last read: at a freeze, or now where it is running
	PeakRSS        int64         // bytes, high-water mark
	Running        bool
}

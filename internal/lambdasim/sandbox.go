package lambdasim

import (
	"slices"
	"time"
)

// agentState is a state of an extension (the platform's "agent"), as its state machine has them.
type agentState string

const (
	stateStarted    agentState = "Started"
	stateRegistered agentState = "Registered"
	stateReady      agentState = "Ready"   // blocked in next
	stateRunning    agentState = "Running" // has an event
	stateInitError  agentState = "InitError"
	stateExitError  agentState = "ExitError"
)

const (
	eventInvoke   = "INVOKE"
	eventShutdown = "SHUTDOWN"
)

// fault is what ends an incarnation. It is an error so that await can answer it.
type fault struct {
	FunctionError
	process string
	at      time.Time
}

// agent is an extension, external (with a process) or internal (a part of the runtime's).
// Its fields are guarded by Env.mu.
type agent struct {
	name     string
	id       string
	external bool
	proc     *process // nil for an internal one
	state    agentState
	events   []string
	nextAt   time.Time        // of its last next
	inbox    chan *agentEvent // an event waits in it for a next that comes late
}

func (a *agent) wants(event string) bool { return slices.Contains(a.events, event) }

// agentEvent is what event/next answers.
type agentEvent struct {
	body   []byte
	record Event // what to record, but for the time: of KindInvoke or KindShutdown
	sent   bool  // the answer has left, or cannot leave; guarded by Env.mu
}

// call is one invocation as the Runtime API sees it. Its fields are guarded by Env.mu.
type call struct {
	id         string
	payload    []byte
	trace      string
	deadline   time.Time
	start      time.Time
	answering  bool // a response or error is being read
	responded  bool
	closed     bool // an answer comes too late
	response   []byte
	err        *FunctionError
	firstByte  time.Time // of the response
	responseAt time.Time
	done       time.Time // the runtime's next after the response
}

// poller is a runtime's next that waits.
type poller struct{ calls chan *call }

// sandbox is one incarnation of the environment: what lives between two resets. Its fields are guarded by
// Env.mu, but for over.
type sandbox struct {
	agents     []*agent // external ones first, in the order of their start
	runtime    *process // nil until its turn comes
	firstNext  time.Time
	pollers    []*poller
	calls      map[string]*call
	current    *call // on demand
	fault      *fault
	stopping   bool // exits are no faults any more
	regClosed  bool
	teleClosed bool
	over       chan struct{} // closed when the incarnation has ended
}

func newSandbox() *sandbox {
	return &sandbox{calls: map[string]*call{}, over: make(chan struct{})}
}

// failLocked notes the first fault; later ones are its consequences. The caller holds Env.mu.
func (e *Env) failLocked(box *sandbox, process, errorType, message string) {
	if box.stopping || box.fault != nil {
		return
	}
	box.fault = &fault{FunctionError{errorType, message}, process, time.Now()}
	e.rec.add(Event{At: box.fault.at, Kind: KindFault, Process: process, Text: box.fault.Error()})
	e.notifyLocked()
}

// processes are all that were launched, the function's first. The caller holds Env.mu.
func (b *sandbox) processes() []*process {
	var ps []*process
	if b.runtime != nil && b.runtime.pid != 0 {
		ps = append(ps, b.runtime)
	}
	for _, a := range b.agents {
		if a.external && a.proc.pid != 0 {
			ps = append(ps, a.proc)
		}
	}
	return ps
}

// process is the external extension's of that name, or nil. The caller holds Env.mu.
func (b *sandbox) process(name string) *process {
	for _, a := range b.agents {
		if a.external && a.name == name {
			return a.proc
		}
	}
	return nil
}

// awaitLaunch waits until the process that a call comes from has its pid; p may be nil.
func (p *process) awaitLaunch() {
	if p != nil {
		<-p.launched
	}
}

func (b *sandbox) agentByID(id string) *agent {
	for _, a := range b.agents {
		if a.id == id {
			return a
		}
	}
	return nil
}

// allAgents says whether ok holds for every agent that sel selects; a nil sel selects all.
func (b *sandbox) allAgents(sel, ok func(*agent) bool) bool {
	for _, a := range b.agents {
		if (sel == nil || sel(a)) && !ok(a) {
			return false
		}
	}
	return true
}

package lambdasim

import (
	"encoding/json"
	"slices"
	"syscall"
	"time"
)

const (
	reasonSpindown = "spindown"
	reasonTimeout  = "timeout"
	reasonFailure  = "failure"

	externalWindow = 2 * time.Second
	internalWindow = 500 * time.Millisecond
	runtimeShare   = 0.3 // of the window: what the runtime gets before SHUTDOWN is sent

	managedFlushLimit = time.Second
	killLimit         = 10 * time.Second // for the kernel to reap what was killed
)

func resetReason(s Status) string {
	if s == StatusTimeout {
		return reasonTimeout
	}
	return reasonFailure
}

// stop ends an incarnation: first the runtime, then the extensions, within the window. It returns when
// every process is gone. The caller holds turn; the environment is thawed.
func (e *Env) stop(box *sandbox, reason string) ShutdownReport {
	e.readUsage()
	e.mu.Lock()
	box.stopping = true
	agents := slices.Clone(box.agents)
	runtime := box.runtime
	if runtime != nil && runtime.pid == 0 {
		runtime = nil // it could not be started
	}
	e.mu.Unlock()
	rep := ShutdownReport{Reason: reason, Start: time.Now(), Window: e.window(agents)}
	deadline := rep.Start.Add(rep.Window)

	if runtime != nil && len(agents) > 0 {
		e.ask(runtime, syscall.SIGTERM)
		e.awaitExits(rep.Start.Add(time.Duration(runtimeShare*float64(rep.Window))), runtime)
	}
	e.forceExit(runtime)
	if e.cfg.ManagedInstances {
		e.hub.flush(min(managedFlushLimit, time.Until(deadline)))
	}
	wait := e.askExtensions(agents, deadline, reason)
	e.awaitExits(deadline, wait...)
	e.kill(box)
	rep.End = time.Now()
	e.mu.Lock()
	for _, p := range box.processes() {
		if p.gone {
			rep.Exits = append(rep.Exits, p.exit())
		}
	}
	e.mu.Unlock()
	return rep
}

// askExtensions gives SHUTDOWN to the extensions that subscribed to it, and answers their processes. It kills
// the others.
func (e *Env) askExtensions(agents []*agent, deadline time.Time, reason string) []*process {
	var ask []*agent
	var wait []*process
	for _, a := range agents {
		e.mu.Lock()
		launched, wants := a.external && a.proc.pid != 0, a.wants(eventShutdown)
		e.mu.Unlock()
		switch {
		case launched && wants:
			ask = append(ask, a)
			wait = append(wait, a.proc)
		case launched:
			e.forceExit(a.proc)
		}
	}
	for _, a := range ask {
		e.release(a, shutdownEvent(a, deadline, reason))
	}
	return wait
}

// window is the time all processes together have.
func (e *Env) window(agents []*agent) time.Duration {
	external := slices.ContainsFunc(agents, func(a *agent) bool { return a.external })
	switch {
	case len(agents) == 0:
		return 0
	case e.cfg.ShutdownWindow > 0:
		return e.cfg.ShutdownWindow
	case external:
		return externalWindow
	}
	return internalWindow
}

// ask sends the signal that a process may answer by exiting.
func (e *Env) ask(p *process, sig syscall.Signal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.gone {
		return
	}
	p.asked = time.Now()
	e.rec.add(Event{At: p.asked, Kind: KindSignal, Process: p.name, Text: "SIGTERM"})
	p.signal(sig)
}

// forceExit kills the process, if it still lives, and waits until it is reaped. p may be nil.
func (e *Env) forceExit(p *process) {
	if p == nil {
		return
	}
	e.mu.Lock()
	if !p.gone {
		p.forced = true
		e.rec.add(Event{Kind: KindSignal, Process: p.name, Text: "SIGKILL"})
		p.signal(syscall.SIGKILL)
	}
	e.mu.Unlock()
	select {
	case <-p.exited:
	case <-time.After(killLimit): // stuck in the kernel: there is nothing more to do about it
	}
}

// awaitExits waits until the processes are gone, or for the limit, or for Close.
func (e *Env) awaitExits(limit time.Time, ps ...*process) {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	for _, p := range ps {
		select {
		case <-p.exited:
		case <-timer.C:
			return
		case <-e.ctx.Done():
			return
		}
	}
}

// kill ends every process of the incarnation and the incarnation itself. The environment must be thawed.
func (e *Env) kill(box *sandbox) {
	e.mu.Lock()
	box.stopping = true
	ps := box.processes()
	e.mu.Unlock()
	for _, p := range ps {
		e.forceExit(p)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.box == box {
		e.box, e.last = nil, box
		close(box.over)
	}
	e.notifyLocked()
}

// release hands an event to an extension: at once where it waits in next, else when it comes.
func (e *Env) release(a *agent, ev *agentEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.state == stateReady {
		a.state = stateRunning
	}
	a.inbox <- ev // has room: an incarnation has one event under way, and SHUTDOWN
}

// shutdownEvent is the SHUTDOWN event. Its deadline is in milliseconds since 1970.
func shutdownEvent(a *agent, deadline time.Time, reason string) *agentEvent {
	body, err := json.Marshal(struct {
		EventType      string `json:"eventType"`
		DeadlineMs     int64  `json:"deadlineMs"`
		ShutdownReason string `json:"shutdownReason"`
	}{eventShutdown, deadline.UnixMilli(), reason})
	if err != nil {
		panic("BUG: lambdasim: marshal SHUTDOWN: " + err.Error())
	}
	return &agentEvent{body: body, record: Event{Kind: KindShutdown, Process: a.name, Text: reason}}
}

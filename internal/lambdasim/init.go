package lambdasim

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

const (
	phaseInit   = "init"
	phaseInvoke = "invoke"
)

// initialise starts a new incarnation and runs its init phase up to limit. A failed phase is told in the
// report, with its processes ended; the error is for a caller who gave up. The caller holds turn.
func (e *Env) initialise(ctx context.Context, phase string, limit time.Time) (InitReport, error) {
	if err := e.thaw(); err != nil {
		return InitReport{}, err
	}
	box := newSandbox()
	rep := InitReport{Phase: phase, Start: time.Now()}
	e.rec.add(Event{At: rep.Start, Kind: KindInitStart, Text: phase})
	e.hub.beginInit()
	e.hub.emit(e.initStartEvent(phase, rep.Start))
	e.mu.Lock()
	e.box = box
	e.mu.Unlock()

	err := e.runInit(ctx, box, limit, &rep)
	e.mu.Lock()
	box.regClosed, box.teleClosed = true, true
	e.mu.Unlock()
	rep.End = time.Now()
	rep.Status, rep.Error = e.outcome(err, "init", rep.End.Sub(rep.Start))
	if rep.Status == "" {
		return rep, err
	}
	e.reportInit(box, rep)
	e.hub.endInit()
	if rep.Status != StatusSuccess {
		reset := e.stop(box, resetReason(rep.Status))
		rep.Reset = &reset
	}
	e.mu.Lock()
	e.lastInit = rep
	e.mu.Unlock()
	return rep, nil
}

// outcome translates what await answered. An empty status means that the caller gave up.
func (e *Env) outcome(err error, what string, after time.Duration) (Status, *FunctionError) {
	var f *fault
	var failedInit *InitError
	switch {
	case err == nil:
		return StatusSuccess, nil
	case errors.Is(err, errLimit):
		return StatusTimeout, &FunctionError{"Sandbox.Timedout", fmt.Sprintf("%s timed out after %.2f seconds", what, after.Seconds())}
	case errors.As(err, &f):
		return StatusError, &f.FunctionError
	case errors.As(err, &failedInit):
		return failedInit.Status, failedInit.InitReport.Error
	}
	return "", nil
}

// runInit is the order of the init phase: extensions, their registrations, the runtime, its next, everyone's
// next.
func (e *Env) runInit(ctx context.Context, box *sandbox, limit time.Time, rep *InitReport) error {
	for _, path := range e.cfg.Extensions {
		e.startExtension(box, path)
	}
	registered := func() bool {
		return box.allAgents(nil, func(a *agent) bool { return a.state != stateStarted })
	}
	if err := e.await(ctx, box, limit, registered); err != nil {
		return err
	}
	if len(e.cfg.Extensions) > 0 {
		rep.Registered = e.lastRegistration(box)
	}
	e.startFunction(box)
	if err := e.await(ctx, box, limit, func() bool { return !box.firstNext.IsZero() }); err != nil {
		return err
	}
	e.mu.Lock()
	rep.RuntimeReady, box.regClosed = box.firstNext, true
	e.mu.Unlock()
	done := *rep
	done.Status = StatusSuccess
	e.hub.emit(e.initDoneEvent("platform.initRuntimeDone", rep.RuntimeReady, done, nil))
	return e.await(ctx, box, limit, func() bool {
		return box.allAgents(nil, func(a *agent) bool { return !a.nextAt.IsZero() })
	})
}

func (e *Env) lastRegistration(box *sandbox) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	var last time.Time
	for _, a := range box.agents {
		if a.external && a.proc.registered.After(last) {
			last = a.proc.registered
		}
	}
	return last
}

// startExtension executes one file of the layer. A file that cannot be executed fails the init phase.
func (e *Env) startExtension(box *sandbox, path string) {
	p := newProcess(filepath.Base(path))
	a := &agent{name: p.name, id: newUUID(), external: true, proc: p, state: stateStarted, inbox: make(chan *agentEvent, 2)}
	e.mu.Lock()
	tooMany := len(box.agents) == maxExtensions
	if tooMany {
		e.failLocked(box, p.name, "Extension.LaunchError", "TooManyExtensions")
	} else {
		box.agents = append(box.agents, a)
	}
	e.mu.Unlock()
	if tooMany {
		return
	}
	if err := e.spawn(box, p, e.extensionCommand(path)); err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.failLocked(box, p.name, "Extension.LaunchError", launchError(err)+": "+err.Error())
	}
}

func (e *Env) startFunction(box *sandbox) {
	p := newProcess(FunctionProcess)
	e.mu.Lock()
	box.runtime = p
	e.mu.Unlock()
	cmd, err := e.functionCommand()
	if err == nil {
		err = e.spawn(box, p, cmd)
	}
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.failLocked(box, FunctionProcess, "Runtime.InvalidEntrypoint", err.Error())
	}
}

// reportInit emits the events that close the phase.
func (e *Env) reportInit(box *sandbox, rep InitReport) {
	ev := Event{At: rep.End, Kind: KindInitEnd, Text: string(rep.Status), Duration: rep.Duration()}
	if rep.Error != nil {
		ev.Text += ": " + rep.Error.Error()
	}
	e.rec.add(ev)
	if rep.Status != StatusSuccess && rep.RuntimeReady.IsZero() {
		e.hub.emit(e.initDoneEvent("platform.initRuntimeDone", rep.End, rep, nil))
	}
	d := rep.Duration()
	e.hub.emit(e.initDoneEvent("platform.initReport", rep.End, rep, &d))
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range box.agents {
		rec := extensionRecord{Name: a.name, State: string(a.state), Events: append([]string{}, a.events...)}
		if f := box.fault; f != nil && f.process == a.name {
			rec.ErrorType = f.Type
		}
		e.hub.emit(platformEvent("platform.extension", rep.End, rec))
	}
}

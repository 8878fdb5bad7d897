package lambdasim

import (
	"context"
	"errors"
)

// invokeManaged runs one of several concurrent invocations: it waits for a free next of the runtime and ends
// with the response. A timeout is the client's alone: the code runs on. A crash ends the environment, which
// on Managed Instances is replaced, not reset.
func (e *Env) invokeManaged(ctx context.Context, req Request) (Invocation, error) {
	e.mu.Lock()
	box := e.box
	usable := box != nil && !box.stopping && box.fault == nil
	e.mu.Unlock()
	if !usable {
		return Invocation{}, ErrClosed
	}
	c := e.newCall(req)
	inv := Invocation{RequestID: c.id, Start: c.start}
	e.rec.add(Event{At: c.start, Kind: KindStart, RequestID: c.id})
	e.hub.emit(platformEvent("platform.start", c.start, startRecord{c.id, functionVersion, c.tracing()}))

	err := e.await(ctx, box, c.deadline, func() bool { return e.dispatchLocked(box, c) })
	if err == nil {
		err = e.await(ctx, box, c.deadline, func() bool { return c.responded })
	}
	status, ferr := e.outcome(err, c.id+" Task", e.cfg.Timeout)
	if status == "" {
		return inv, err
	}
	e.mu.Lock()
	inv.Status, inv.Error = status, ferr
	inv.Response, inv.ResponseAt, inv.End = c.response, c.responseAt, c.responseAt
	if err == nil && c.err != nil {
		inv.Status, inv.Error = StatusError, c.err
	}
	done := *c // the runtime may still answer after a timeout
	e.mu.Unlock()
	var f *fault
	switch {
	case errors.Is(err, errLimit):
		inv.End = c.deadline
	case errors.As(err, &f):
		inv.End = f.at
		inv.Reset = e.terminate(box)
	}
	e.hub.emit(e.managedReportEvent(inv, &done))
	e.rec.add(Event{At: inv.End, Kind: KindEnd, RequestID: inv.RequestID, Text: string(inv.Status), Duration: inv.Billed()})
	return inv, nil
}

// terminate ends an environment that a crash made useless. It answers nil where another invocation did.
func (e *Env) terminate(box *sandbox) *ShutdownReport {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.mu.Lock()
	current := e.box == box
	e.mu.Unlock()
	if !current {
		return nil
	}
	rep := e.stop(box, reasonFailure)
	return &rep
}

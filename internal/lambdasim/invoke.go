package lambdasim

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Invoke thaws the environment, runs one invocation, and freezes it again. After a reset it begins with an
// init phase, whose time counts. What the invocation came to is in the Invocation; the error is for a
// caller who gave up or an environment that has ended.
//
// On Managed Instances it does not wait for invocations that other goroutines have under way.
func (e *Env) Invoke(ctx context.Context, req Request) (Invocation, error) {
	if e.cfg.ManagedInstances {
		return e.invokeManaged(ctx, req)
	}
	e.turn.Lock()
	defer e.turn.Unlock()
	if e.ended {
		return Invocation{}, ErrClosed
	}
	if err := e.thaw(); err != nil {
		return Invocation{}, err
	}
	c := e.newCall(req)
	inv := Invocation{RequestID: c.id, Start: c.start, ColdStart: e.initialised}
	before := e.cpuAtFreeze()
	coldInit := e.coldInit()
	e.initialised = false
	e.rec.add(Event{At: c.start, Kind: KindStart, RequestID: c.id})

	err := e.runInvocation(ctx, c, &inv)
	status, ferr := e.outcome(err, c.id+" Task", e.cfg.Timeout)
	switch status {
	case "":
		return inv, e.abandon(err)
	case StatusSuccess:
		e.complete(c, &inv)
	default:
		inv.Status, inv.Error = status, ferr
		e.fail(c, &inv, err)
	}
	e.rec.add(Event{At: inv.End, Kind: KindEnd, RequestID: inv.RequestID, Text: string(inv.Status), Duration: inv.Billed()})
	err = e.freeze()
	used := e.addUsage(&inv, before)
	e.hub.emit(e.reportEvent(inv, c, coldInit, used)) // it leaves after the next thaw
	return inv, err
}

// newCall makes the invocation as the runtime will see it. Its time starts now.
func (e *Env) newCall(req Request) *call {
	now := time.Now()
	c := &call{id: newUUID(), payload: req.Payload, trace: req.TraceHeader, start: now, deadline: now.Add(e.cfg.Timeout)}
	if len(c.payload) == 0 {
		c.payload = []byte("{}")
	}
	if c.trace == "" {
		c.trace = newTraceHeader(now)
	}
	return c
}

// coldInit is the length of the init phase that the next invocation is the first after, for its report.
func (e *Env) coldInit() *time.Duration {
	if !e.initialised {
		return nil
	}
	d := e.Init().Duration()
	return &d
}

// runInvocation runs the init that a reset made necessary, then the invocation itself, and returns when it is
// complete or cannot be.
func (e *Env) runInvocation(ctx context.Context, c *call, inv *Invocation) error {
	e.mu.Lock()
	box := e.box
	e.mu.Unlock()
	if box == nil {
		rep, err := e.initialise(ctx, phaseInvoke, c.deadline)
		if err != nil {
			return err
		}
		inv.Init = &rep
		if rep.Status != StatusSuccess {
			return &InitError{rep}
		}
		e.mu.Lock()
		box = e.box
		e.mu.Unlock()
	}
	e.hub.emit(platformEvent("platform.start", c.start, startRecord{c.id, functionVersion, c.tracing()}))
	if err := e.invokeExtensions(ctx, box, c); err != nil {
		return err
	}
	if err := e.await(ctx, box, c.deadline, func() bool { return e.dispatchLocked(box, c) }); err != nil {
		return err
	}
	return e.await(ctx, box, c.deadline, func() bool {
		return !c.done.IsZero() && box.allAgents(wantsInvoke, func(a *agent) bool { return a.state == stateReady })
	})
}

func wantsInvoke(a *agent) bool { return a.wants(eventInvoke) }

// invokeExtensions gives the invocation to the extensions that want it, and returns when the answers have
// left: the runtime comes after them.
func (e *Env) invokeExtensions(ctx context.Context, box *sandbox, c *call) error {
	body := e.invokeEvent(c)
	e.mu.Lock()
	var agents []*agent
	for _, a := range box.agents {
		if a.wants(eventInvoke) {
			agents = append(agents, a)
		}
	}
	e.mu.Unlock()
	events := make([]*agentEvent, len(agents))
	for i, a := range agents {
		events[i] = &agentEvent{body: body, record: Event{Kind: KindInvoke, Process: a.name, RequestID: c.id}}
		e.release(a, events[i])
	}
	return e.await(ctx, box, c.deadline, func() bool {
		return !slices.ContainsFunc(events, func(ev *agentEvent) bool { return !ev.sent })
	})
}

// invokeEvent is the INVOKE event. Its deadline is in milliseconds since 1970.
func (e *Env) invokeEvent(c *call) []byte {
	body, err := json.Marshal(struct {
		EventType  string   `json:"eventType"`
		DeadlineMs int64    `json:"deadlineMs"`
		RequestID  string   `json:"requestId"`
		ARN        string   `json:"invokedFunctionArn"`
		Tracing    *tracing `json:"tracing"`
	}{eventInvoke, c.deadline.UnixMilli(), c.id, e.id.arn, c.tracing()})
	if err != nil {
		panic("BUG: lambdasim: marshal INVOKE: " + err.Error())
	}
	return body
}

// dispatchLocked hands the call to a waiting next of the runtime, if there is one. The caller holds mu.
func (e *Env) dispatchLocked(box *sandbox, c *call) bool {
	if len(box.pollers) == 0 {
		return false
	}
	p := box.pollers[0]
	box.pollers = box.pollers[1:]
	box.calls[c.id] = c
	if !e.cfg.ManagedInstances {
		box.current = c
	}
	p.calls <- c
	return true
}

// closeCall refuses later answers and copies what came.
func (e *Env) closeCall(c *call, inv *Invocation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.closed = true
	inv.Response, inv.ResponseAt, inv.RuntimeDone = c.response, c.responseAt, c.done
}

// complete fills in an invocation that the runtime and the extensions finished.
func (e *Env) complete(c *call, inv *Invocation) {
	e.closeCall(c, inv)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, a := range e.box.agents {
		if a.wants(eventInvoke) && a.nextAt.After(inv.ExtensionsDone) {
			inv.ExtensionsDone = a.nextAt
		}
	}
	inv.End = inv.RuntimeDone
	if inv.ExtensionsDone.After(inv.End) {
		inv.End = inv.ExtensionsDone
	}
	inv.Status = StatusSuccess
	if c.err != nil {
		inv.Status, inv.Error = StatusError, c.err
	}
}

// fail fills in an invocation that ran into its timeout, a crash or a failed init, and resets the
// environment. Where the runtime did not finish, the platform says platform.runtimeDone in its place, and
// before the processes are told.
func (e *Env) fail(c *call, inv *Invocation, cause error) {
	e.closeCall(c, inv)
	var failedInit *InitError
	if errors.As(cause, &failedInit) {
		inv.End, inv.Reset = failedInit.End, failedInit.Reset
		return
	}
	inv.End = c.deadline
	var f *fault
	if errors.As(cause, &f) {
		inv.End = f.at
	}
	if inv.RuntimeDone.IsZero() {
		e.mu.Lock()
		ev := e.runtimeDoneEvent(c, inv.End, inv.Status, inv.Error.Type)
		e.mu.Unlock()
		e.hub.emit(ev)
	}
	e.mu.Lock()
	box := e.box
	e.mu.Unlock()
	reset := e.stop(box, resetReason(inv.Status))
	inv.Reset = &reset
}

// cpuAtFreeze is what each process had used when it was last frozen.
func (e *Env) cpuAtFreeze() map[string]time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	used := map[string]time.Duration{}
	if e.box != nil {
		for _, p := range e.box.processes() {
			used[p.name] = p.frozenCPU
		}
	}
	return used
}

// addUsage fills in the CPU time since before, and answers the memory the processes used at most, in bytes.
func (e *Env) addUsage(inv *Invocation, before map[string]time.Duration) (peak int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	box := e.box
	if box == nil {
		box = e.last
	}
	inv.CPU = map[string]time.Duration{}
	for _, p := range box.processes() {
		cpu := p.frozenCPU
		if p.gone {
			cpu = p.finalCPU
		}
		inv.CPU[p.name] = cpu - before[p.name]
		peak += p.peak
	}
	return peak
}

// abandon ends the incarnation of an invocation whose caller gave up, so that the next one starts afresh.
func (e *Env) abandon(cause error) error {
	e.mu.Lock()
	box := e.box
	e.mu.Unlock()
	if box != nil {
		e.kill(box)
	}
	return errors.Join(cause, e.freeze())
}

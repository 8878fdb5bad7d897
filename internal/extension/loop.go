package extension

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// breaker is what the loop asks of a destination's circuit breaker (export.Breaker).
type breaker interface {
	Closed() bool       // requests flow
	RetryAt() time.Time // when an open one lets a probe through
	Trip(cause error)   // open it
	Reset()             // close it
}

// loop is the extension's one select loop: Extensions API events, runtimeDone, arriving data and one timer.
// Only its own goroutine touches its state.
type loop struct {
	log      *slog.Logger
	now      func() time.Time // wall clock
	next     func(context.Context) (lambdaapi.Event, error)
	active   func() int // requests of the function's SDK that are begun and not answered
	collect  func()     // a garbage collection, when one is due
	queue    *buffer.Queue
	flusher  *flush.Flusher
	breakers [otlp.SignalCount]breaker // nil where the signal has no destination
	ledger   *ledger
	policy   flush.Policy
	timeout  time.Duration // OTLP_RELAY_FLUSH_TIMEOUT

	events <-chan lambdaapi.Event // filled by poll
	done   <-chan string          // request ids of runtimeDone events
	heard  func() bool            // whether the Telemetry API has sent anything yet
	wake   <-chan struct{}        // data arrived, a request was answered, or an export ended

	subscribed bool          // runtimeDone events were promised
	deaf       bool          // … but the last one awaited did not come
	wanted     buffer.Mark   // what the policy has decided to export
	held       *invocation   // the invocation that has not been given back yet; nil while Next is pending
	early      []string      // the last runtimeDone ids that match no held invocation
	stuck      int           // requests that have outlasted a budget: not waited for again
	proceed    chan struct{} // tells poll to call Next
}

// invocation is one that the extension holds: Next has not been called since its INVOKE.
type invocation struct {
	id       string
	deadline time.Time
	plan     flush.Plan
	done     bool      // its runtimeDone has come
	until    time.Time // it is held no longer than this
}

var (
	errShutdown = errors.New("the environment is shutting down")
	errOverrun  = errors.New("an export held the invocation for all of its budget (OTLP_RELAY_FLUSH_TIMEOUT)")
)

// run handles events until SHUTDOWN, which it returns, or until ctx ends.
func (l *loop) run(ctx context.Context) (lambdaapi.Event, error) {
	l.proceed = make(chan struct{}, 1)
	events := make(chan lambdaapi.Event)
	l.events = events
	pollCtx, stop := context.WithCancel(ctx)
	defer stop()
	go l.poll(pollCtx, events)
	l.release()

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.schedule(timer)
		select {
		case ev := <-l.events:
			if ev.Type == lambdaapi.Shutdown {
				return ev, nil
			}
			l.invoke(ev)
		case id := <-l.done:
			l.runtimeDone(id)
		case <-l.wake:
			l.arrival()
		case <-timer.C:
		case <-ctx.Done():
			return lambdaapi.Event{}, context.Cause(ctx)
		}
		l.step()
	}
}

// poll calls Next each time the loop says so. A failing Next is tried again after 100 ms, doubling to 5 s: the
// extension must neither spin nor exit before SHUTDOWN.
func (l *loop) poll(ctx context.Context, events chan<- lambdaapi.Event) {
	for {
		select {
		case <-l.proceed:
		case <-ctx.Done():
			return
		}
		ev, err := l.next(ctx)
		for wait := 100 * time.Millisecond; err != nil; wait = min(2*wait, 5*time.Second) {
			if ctx.Err() != nil {
				return
			}
			l.log.Warn("calling event/next failed; trying again", "error", err, "wait", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			ev, err = l.next(ctx)
		}
		select {
		case events <- ev:
		case <-ctx.Done():
			return
		}
	}
}

// situation is what the policy decides on.
func (l *loop) situation() flush.Situation {
	s := flush.Situation{Bytes: l.queue.Bytes(), Telemetry: l.subscribed && !l.deaf}
	if oldest, ok := l.queue.Oldest(); ok {
		s.Age = l.now().Sub(oldest)
	}
	return s
}

// invoke begins to hold an invocation.
func (l *loop) invoke(ev lambdaapi.Event) {
	now := l.now()
	inv := &invocation{id: ev.RequestID, deadline: ev.Deadline, plan: l.policy.Invoke(l.situation())}
	l.held = inv
	if inv.plan.Flush {
		l.want()
	}
	switch {
	case !inv.plan.AwaitDone:
		inv.until = flush.Until(now, inv.deadline, l.timeout)
	case slices.Contains(l.early, inv.id):
		inv.done = true
		inv.until = flush.Until(now, inv.deadline, l.timeout)
	case !l.heard():
		// The subscription has not delivered anything. If it never does, one invocation must not be held to
		// its deadline to find out: its platform.start alone is due 25 ms from now.
		inv.until = flush.Until(now, inv.deadline, l.timeout)
	default:
		inv.until = flush.Until(now, inv.deadline, inv.deadline.Sub(now))
	}
}

// runtimeDone ends the wait for the function; what is left is the wait for the exports.
func (l *loop) runtimeDone(id string) {
	l.deaf = false
	if l.held == nil || l.held.id != id {
		l.early = append(l.early, id)
		l.early = l.early[max(0, len(l.early)-4):]
		return
	}
	l.held.done = true
	l.held.until = flush.Until(l.now(), l.held.deadline, l.timeout)
}

// arrival lets the policy look at data that has come.
func (l *loop) arrival() {
	if l.policy.Arrival(l.situation()) {
		l.want()
	}
}

// want decides to export what is queued: in End mode also all that is still to come, so that data leaves as
// it arrives.
func (l *loop) want() {
	l.wanted = max(l.wanted, l.queue.Mark())
}

// step does what the state asks for after any event: start exports, give the invocation back, report losses.
func (l *loop) step() {
	active := l.active() // before Start, so that what these requests bring is seen either as active or as queued
	l.stuck = min(l.stuck, active)
	if in, ok := l.policy.Due(l.situation()); ok && in == 0 {
		l.want()
	}
	l.flusher.Start(l.wanted)
	if l.held != nil && l.finished(active) {
		l.held = nil
		l.release()
	}
	l.ledger.report(l.log)
}

// finished says whether nothing is left to hold the invocation for.
func (l *loop) finished(active int) bool {
	inv := l.held
	busy := l.exporting()
	switch {
	case !inv.plan.Await || !l.worthwhile():
		return true
	case !l.now().Before(inv.until):
		l.overrun(active, busy)
		return true
	case inv.plan.AwaitDone && !inv.done:
		return false
	}
	return active <= l.stuck && len(busy) == 0
}

// overrun notes what has used up a budget, so that it does not do so twice in a row.
func (l *loop) overrun(active int, busy []otlp.Signal) {
	l.stuck = active
	if l.held.plan.AwaitDone && !l.held.done {
		l.deaf = true
		l.log.Debug("no runtimeDone for the invocation; not waiting for the next ones until one comes", "requestId", l.held.id)
		return
	}
	for _, sig := range busy {
		l.breakers[sig].Trip(errOverrun)
	}
}

// exporting is the signals whose exports an invocation is held for: those of a destination that works. A
// probe of one that does not is nobody's wait.
func (l *loop) exporting() []otlp.Signal {
	var busy []otlp.Signal
	for _, sig := range otlp.Signals() {
		if b := l.breakers[sig]; b != nil && b.Closed() && l.flusher.Busy(sig) {
			busy = append(busy, sig)
		}
	}
	return busy
}

// worthwhile says whether holding an invocation can bring anything: not where there is no destination, or
// every one that has had data is out of order.
func (l *loop) worthwhile() bool {
	some, works, broken := false, false, false
	for _, sig := range otlp.Signals() {
		b := l.breakers[sig]
		if b == nil {
			continue
		}
		some = true
		if l.ledger.carried(sig) {
			works = works || b.Closed()
			broken = broken || !b.Closed()
		}
	}
	return works || some && !broken
}

// release gives the invocation back: Lambda may freeze the environment from here on.
func (l *loop) release() {
	l.collect()
	l.proceed <- struct{}{}
}

// schedule sets the timer to the next moment at which step has something to do by itself.
func (l *loop) schedule(timer *time.Timer) {
	now := l.now()
	wait := time.Hour
	if l.held != nil {
		wait = min(wait, l.held.until.Sub(now))
	}
	if in, ok := l.policy.Due(l.situation()); ok && in > 0 {
		wait = min(wait, in)
	}
	for _, sig := range otlp.Signals() {
		if b := l.breakers[sig]; b != nil && !b.Closed() && !l.flusher.Busy(sig) && l.queue.Has(sig, l.wanted) {
			wait = min(wait, b.RetryAt().Sub(now))
		}
	}
	timer.Reset(max(wait, time.Millisecond))
}

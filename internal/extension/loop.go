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
	"github.com/otlp-relay/otlp-relay/internal/tune"
)

// breaker is what the loop asks of a destination's circuit breaker (export.Breaker).
type breaker interface {
	Closed() bool       // requests flow
	RetryAt() time.Time // when an open one lets a probe through
	Reset()             // close it
}

// policy is when data leaves: a flush.Policy, unless a simulation compares it with others.
type policy interface {
	Invoke(flush.Situation) flush.Plan
	Arrival(flush.Situation) (why string, flush bool)
	Due(flush.Situation) (in time.Duration, ok bool)
}

// loop is the extension's one select loop: Extensions API events, runtimeDone, arriving data and one timer.
// Only its own goroutine touches its state.
type loop struct {
	log      *slog.Logger
	now      func() time.Time // wall clock
	next     func(context.Context) (lambdaapi.Event, error)
	active   func() int // requests of the function's SDK that are begun and not answered
	thawed   func()     // called after a freeze
	queue    *buffer.Queue
	flusher  *flush.Flusher
	breakers [otlp.SignalCount]breaker // nil where the signal has no destination
	hosts    [otlp.SignalCount]string  // of the destinations
	ledger   *ledger
	garbage  *tune.Collector
	policy   policy
	adapts   bool          // the policy goes by the history
	timeout  time.Duration // OTLP_RELAY_FLUSH_TIMEOUT
	own      *selfMetrics  // nil: not wanted

	events <-chan lambdaapi.Event         // filled by poll
	done   <-chan lambdaapi.PlatformEvent // runtimeDone events
	heard  func() bool                    // whether the Telemetry API has sent anything yet
	wake   <-chan struct{}                // data arrived, a request was answered, or an export ended

	subscribed bool // runtimeDone events were promised
	deaf       bool // … but the last one awaited did not come
	history    flush.History
	wanted     buffer.Mark // what the policy has decided to export
	held       *invocation // the invocation that has not been given back yet; nil while Next is pending
	early      []string    // runtimeDone ids that match no held invocation, since the last INVOKE
	last       string      // the id of the last INVOKE
	mute       int         // invocations so far, which counts while no data has come
	stuck      int         // requests that have outlasted a budget: not waited for again
	patience   [otlp.SignalCount]patience
	lasting    [otlp.SignalCount]bool // an export that has used up a budget is still the one under way
	cut        [otlp.SignalCount]bool // a probe was out when Next was called: the freeze may have been what failed it
	proceed    chan struct{}          // tells poll to call Next
}

// invocation is one that the extension holds: Next has not been called since its INVOKE.
type invocation struct {
	id       string
	began    time.Time // wall clock
	deadline time.Time // wall clock; zero where the platform did not say
	plan     flush.Plan
	done     bool                   // its runtimeDone has come
	handler  time.Duration          // how long it took, by its runtimeDone; 0 where that is not known
	proven   bool                   // the Telemetry API has delivered something, so runtimeDone is worth waiting for
	exported [otlp.SignalCount]bool // it was held for this signal's exports
	until    time.Time              // it is held no longer than this; monotonic, as it is not frozen while it is held
}

// errShutdown is why exports end when the environment does.
var errShutdown = errors.New("the environment is shutting down")

// begin starts to poll for events.
func (l *loop) begin(ctx context.Context) {
	events := make(chan lambdaapi.Event)
	l.events, l.proceed = events, make(chan struct{}, 1)
	go l.poll(ctx, events)
}

// run handles events until SHUTDOWN, which it returns, or until ctx ends.
func (l *loop) run(ctx context.Context) (lambdaapi.Event, error) {
	l.release()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.schedule(timer)
		select {
		case ev := <-l.events:
			switch ev.Type {
			case lambdaapi.Shutdown:
				return ev, nil
			case lambdaapi.Invoke:
				l.invoke(ev)
			default: // of a platform to come: nothing is known to be done about it
				l.release()
			}
		case ev := <-l.done:
			l.runtimeDone(ev)
		case <-l.wake:
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
	s := flush.Situation{Telemetry: l.subscribed && !l.deaf, History: l.history}
	now := l.now()
	for _, sig := range otlp.Signals() {
		bytes, oldest, ok := l.queue.Waiting(sig)
		if !ok || !l.open(sig, now) {
			continue
		}
		s.Bytes += bytes
		s.Age = max(s.Age, now.Sub(oldest))
	}
	return s
}

// open says whether data of a signal could leave now.
func (l *loop) open(sig otlp.Signal, now time.Time) bool {
	b := l.breakers[sig]
	return b != nil && (b.Closed() || !b.RetryAt().After(now))
}

// invoke begins to hold an invocation.
func (l *loop) invoke(ev lambdaapi.Event) {
	l.thawed()
	l.mute++
	inv := &invocation{id: ev.RequestID, began: l.now(), deadline: ev.Deadline}
	if l.adapts {
		l.learn(l.history.Invoke(inv.began))
	}
	s := l.situation()
	inv.plan = l.policy.Invoke(s)
	l.explainPlan(inv, s)
	inv.done = slices.ContainsFunc(l.early, func(id string) bool { return id == inv.id })
	inv.proven = l.heard()
	l.early = nil // an asynchronous retry comes with the same id
	l.held, l.last = inv, inv.id
	for _, sig := range otlp.Signals() {
		if (inv.plan.Flush || inv.plan.AwaitDone) && !l.flusher.Busy(sig) { // else it tells nothing new
			l.patience[sig].invoke()
		}
	}
	if inv.plan.Flush {
		l.want()
	}
	if len(l.exporting()) > 0 {
		inv.plan.Await = true // what is under way would be frozen in the middle
	}
	l.limit(inv)
}

// limit sets the moment that ends the hold, as far as is known by now.
func (l *loop) limit(inv *invocation) {
	now := l.now()
	deadline := inv.deadline
	if deadline.IsZero() {
		deadline = now.Add(time.Hour)
	}
	timeout := l.timeout
	// While the handler runs a hold costs nothing. But where the Telemetry API has not delivered anything yet, it
	// may never do so, and one invocation must not be held to its deadline to find out: its platform.start
	// alone is due 25 ms from now.
	if inv.plan.AwaitDone && !inv.done && inv.proven && !inv.deadline.IsZero() {
		timeout = deadline.Sub(now)
	}
	inv.until = time.Now().Add(flush.Until(now, deadline, timeout).Sub(now))
}

// runtimeDone ends the wait for the function; what is left is the wait for the exports.
func (l *loop) runtimeDone(ev lambdaapi.PlatformEvent) {
	l.deaf = false
	if l.held == nil || l.held.id != ev.RequestID {
		if ev.RequestID != l.last { // telemetry is delivered at least once
			l.early = append(l.early, ev.RequestID)
		}
		return
	}
	l.held.done = true
	l.held.handler = max(0, min(ev.Time.Sub(l.held.began), l.now().Sub(l.held.began)))
	l.limit(l.held)
}

// want decides to export what is queued now. It says whether that is more than was wanted before.
func (l *loop) want() (more bool) {
	mark := l.queue.Mark()
	more = mark > l.wanted
	l.wanted = max(l.wanted, mark)
	return more
}

// step does what the state asks for after any event: start exports, give the invocation back, report losses.
func (l *loop) step() {
	active := l.active() // before the queue is looked at: what these requests bring is either active or queued
	l.stuck = min(l.stuck, active)
	s := l.situation()
	why, now := l.policy.Arrival(s)
	if in, ok := l.policy.Due(s); ok && in == 0 && !now {
		why, now = whyTimer, true
	}
	if now && l.want() {
		l.explainFlush(why, s)
	}
	for _, sig := range otlp.Signals() {
		l.lasting[sig] = l.lasting[sig] && l.flusher.Busy(sig)
	}
	if l.own.joins(l.flusher, l.wanted, l.now()) {
		l.want()
	}
	l.flusher.Start(l.wanted)
	if l.held != nil && l.finished(active) {
		l.learnRelease(l.held)
		l.held = nil
		l.release()
	} else {
		l.garbage.Collect() // never on the way to a release, which it would delay
	}
	l.ledger.report(l.log)
}

// finished says whether nothing is left to hold the invocation for.
func (l *loop) finished(active int) bool {
	inv := l.held
	if !inv.proven && l.heard() {
		inv.proven = true
		l.limit(inv)
	}
	busy := l.exporting()
	for _, sig := range busy {
		inv.exported[sig] = true
	}
	switch {
	case !inv.plan.Await || !l.worthwhile():
		return true
	case !time.Now().Before(inv.until):
		l.overrun(active, busy)
		return true
	case inv.plan.AwaitDone && !inv.done, active > l.stuck, len(busy) > 0:
		return false
	}
	for _, sig := range otlp.Signals() {
		if inv.exported[sig] {
			l.patience[sig].kept()
		}
	}
	return true
}

// overrun notes what has used up a budget, so that it does not do so twice in a row.
func (l *loop) overrun(active int, busy []otlp.Signal) {
	l.stuck = active
	if l.held.plan.AwaitDone && !l.held.done {
		l.deaf = true
		l.log.Debug("no runtimeDone for the invocation; not waiting for the next ones until one comes", "requestId", l.held.id)
		return
	}
	for _, slow := range busy {
		l.lasting[slow] = true
		for _, sig := range otlp.Signals() {
			if l.hosts[sig] == l.hosts[slow] && l.patience[sig].lost(l.now()) {
				l.log.Warn("an export took longer than OTLP_RELAY_FLUSH_TIMEOUT: it goes on, and the next invocations are not held for it",
					"signal", sig.String(), "host", l.hosts[sig])
			}
		}
	}
}

// awaited says whether an invocation is held for a signal's exports: where its destination works, and where a
// freeze may have cut the last probe short, since otherwise every probe might be.
func (l *loop) awaited(sig otlp.Signal) bool {
	b := l.breakers[sig]
	if b == nil || l.lasting[sig] || !l.patience[sig].holds(l.now()) {
		return false
	}
	return b.Closed() || l.cut[sig] && l.flusher.Busy(sig)
}

// exporting is the signals whose exports under way an invocation is held for.
func (l *loop) exporting() []otlp.Signal {
	var busy []otlp.Signal
	for _, sig := range otlp.Signals() {
		if l.awaited(sig) && l.flusher.Busy(sig) {
			busy = append(busy, sig)
		}
	}
	return busy
}

// worthwhile says whether holding an invocation can bring anything: not where there is no destination, or none
// that has had data is waited for.
func (l *loop) worthwhile() bool {
	some, carried := false, false
	for _, sig := range otlp.Signals() {
		if l.breakers[sig] == nil {
			continue
		}
		some = true
		if l.ledger.carried(sig) {
			carried = true
			if l.awaited(sig) {
				return true
			}
		}
	}
	return some && !carried && l.mute <= mostMute
}

// mostMute is how many invocations are held for the first data of a function. One that sends none by then may have no
// SDK at all, and would be billed for the wait for ever.
const mostMute = 32

// invocationGarbage is about what the platform's own calls leave behind in an invocation, in bytes.
const invocationGarbage = 6 << 10

// release gives the invocation back: Lambda may freeze the environment from here on.
func (l *loop) release() {
	for _, sig := range otlp.Signals() {
		if b := l.breakers[sig]; b != nil {
			l.cut[sig] = !b.Closed() && (l.cut[sig] || l.flusher.Busy(sig))
		}
	}
	l.garbage.Add(invocationGarbage)
	select {
	case l.proceed <- struct{}{}:
	default: // it is told already
	}
}

// schedule sets the timer to the next moment at which step has something to do by itself.
func (l *loop) schedule(timer *time.Timer) {
	now := l.now()
	wait := time.Hour
	if l.held != nil {
		wait = min(wait, time.Until(l.held.until))
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

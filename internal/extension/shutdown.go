package extension

import (
	"context"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// shutdownWindow is what AWS leaves an extension of the 2 s: it stands in where the event has no deadline.
const shutdownWindow = 1400 * time.Millisecond

// shutdown drains the queue within the event's deadline. By then the runtime has had its
// SIGTERM and is gone (Extensions API, "Shutdown phase"), so what it sent last is in our sockets already.
func (a *app) shutdown(ctx context.Context, ev lambdaapi.Event) {
	now := a.now()
	if ev.Deadline.IsZero() {
		ev.Deadline = now.Add(shutdownWindow)
	}
	end := flush.Until(now, ev.Deadline, ev.Deadline.Sub(now))
	ctx, cancel := context.WithDeadlineCause(ctx, time.Now().Add(end.Sub(now)), errShutdown)
	defer cancel()
	a.log.Info("shutdown", "reason", ev.ShutdownReason, "left", ev.Deadline.Sub(now).Round(time.Millisecond))

	// An export that is under way may wait for the answer of a connection that died in the freeze. It gets a
	// third of the time; then its data goes out afresh.
	recalls := a.underWay()
	patience := time.AfterFunc(end.Sub(now)/3, func() {
		for _, recall := range recalls {
			recall(errShutdown)
		}
	})
	defer patience.Stop()
	a.ending.Store(true)
	a.awaitReplay(ctx)
	a.closeBreakers()
	if a.own != nil && a.queue.Bytes() > 0 {
		a.own.append(now)
	}
	a.drain(ctx, len(recalls) > 0)
	a.flusher.Stop(errShutdown)
}

// underWay is what ends each export that is under way.
func (a *app) underWay() (recalls []context.CancelCauseFunc) {
	for _, sig := range otlp.Signals() {
		if recall := a.flusher.Recall(sig); recall != nil {
			recalls = append(recalls, recall)
		}
	}
	return recalls
}

// closeBreakers gives every destination another chance: it is the last, and nothing is spared for later.
func (a *app) closeBreakers() {
	for _, b := range a.breakers {
		if b != nil {
			b.Reset()
		}
	}
}

// quiet is how long nothing may have happened before the function counts as having sent all it had: a request
// may lie in our socket that nobody has read since the thaw.
const quiet = 20 * time.Millisecond

// drain exports until nothing is queued, no request is open and none arrives, or ctx ends. inherited says that
// exports were under way before: their failure says nothing about the backend of now.
func (a *app) drain(ctx context.Context, inherited bool) {
	for {
		err := a.flusher.Flush(ctx)
		if err != nil && inherited && ctx.Err() == nil {
			inherited = false
			a.closeBreakers()
			continue
		}
		select {
		case <-a.wake:
			continue
		case <-time.After(quiet):
		case <-ctx.Done():
		}
		if ctx.Err() == nil && a.active() > 0 {
			continue
		}
		if err != nil || ctx.Err() != nil {
			a.log.Warn("shutdown with data left", "error", err)
		}
		return
	}
}

// close ends the receiver. What it takes until then is in the ledger.
func (a *app) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	if a.receiver.Shutdown(ctx) != nil {
		_ = a.receiver.Close()
	}
}

// settle counts what could not leave, and logs the ledger: one line for the environment's whole life.
func (a *app) settle() {
	for _, sig := range otlp.Signals() {
		if records, bytes := a.queue.Queued(sig); records > 0 {
			a.ledger.drop(sig, otlp.DroppedShutdown, records, bytes, errShutdown)
		}
	}
	a.ledger.report(a.log)
	attrs, balanced := a.ledger.attrs(func(otlp.Signal) (int, int) { return 0, 0 })
	args := []any{"balanced", balanced}
	for _, attr := range attrs {
		args = append(args, attr)
	}
	a.log.Info("ledger", args...)
}

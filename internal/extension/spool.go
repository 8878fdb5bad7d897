package extension

import (
	"context"
	"math"
	"runtime/debug"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/spool"
)

// spooling is OTLP_RELAY_SPOOL=tmp: the copies of what is queued, and what is known about them.
type spooling struct {
	*spool.Spool

	begun    bool          // the replay has; only the goroutine that calls Next looks
	replayed chan struct{} // closed when Replay is over

	mu      sync.Mutex
	trouble string // why the last payload got no copy; empty: it got one
}

// newSpooling keeps copies in dir. What is queued and what is on its way to the backend may each be as much as the
// queue holds.
func newSpooling(dir string, bufferBytes int) *spooling {
	return &spooling{Spool: spool.New(dir, 2*bufferBytes), replayed: make(chan struct{})}
}

// keep makes the copy of an accepted payload, before the SDK is told that it was accepted. It is nil where there can
// be none: that is said once, and the payload is as safe as without a spool.
func (a *app) keep(p otlp.Payload) buffer.Copy {
	s := a.spool
	r, err := s.Append(p, p.Size)
	s.mu.Lock()
	last := s.trouble
	if s.trouble = ""; err != nil {
		s.trouble = err.Error()
	}
	now := s.trouble
	s.mu.Unlock()
	switch {
	case now == last:
	case now == "":
		a.log.Info("telemetry is kept in the spool again")
	case last == "":
		a.log.Warn("telemetry is kept in memory only, as without OTLP_RELAY_SPOOL: see to room and rights in /tmp", "error", err)
	}
	if err != nil {
		return nil
	}
	return r
}

// begin starts the replay with the first event: then it delays neither register nor the first Next, which the
// invocation after a reset waits for.
func (s *spooling) begin(a *app) {
	if !s.begun {
		s.begun = true
		go a.replay()
	}
}

// replay queues what an earlier process left.
func (a *app) replay() {
	defer close(a.spool.replayed)
	defer func() {
		if v := recover(); v != nil {
			a.log.Error("BUG: reading the spool back panicked", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	if err := a.spool.Replay(a.inherit); err != nil {
		a.log.Warn("what an earlier process of this environment left in the spool could not be read back", "error", err)
	}
	a.notify()
}

// inherit takes what Replay found. From here on it is like data that has just come.
func (a *app) inherit(left []spool.Left) {
	var items []buffer.Item
	records := 0
	for _, l := range left {
		records += l.Records
		a.ledger.replay(l.Signal, l.Records, l.Accounted)
		why, cause := l.Lost, error(nil)
		if err := a.refusals[l.Signal].Load(); why == "" && err != nil {
			why, cause = otlp.DroppedMisconfigured, *err
		}
		if why != "" {
			a.ledger.drop(l.Signal, why, l.Records, l.Accounted, cause)
			l.Record.Settle(l.Records)
			continue
		}
		items = append(items, buffer.Item{Payload: l.Payload, Accounted: l.Accounted, Copy: l.Record, Alone: l.Suspect})
	}
	a.log.Info("an earlier process of this environment left telemetry in the spool", "records", records)
	a.queue.Inherit(items)
}

// awaitReplay waits until the replay is over, or ctx ends.
func (a *app) awaitReplay(ctx context.Context) {
	if a.spool == nil {
		return
	}
	select {
	case <-a.spool.replayed:
	case <-ctx.Done():
	}
}

// leave decides about what could not be delivered. After a reset the environment lives on: what has a copy is the
// next process's.
func (a *app) leave(reason string) {
	if a.spool == nil {
		return
	}
	<-a.spool.replayed // it waits for nothing; where the window is too short for it, the kill that ends both leaves the files
	reset := reason == "timeout" || reason == "failure"
	for _, sig := range otlp.Signals() {
		for items := a.queue.Take(sig, math.MaxInt, buffer.Everything); items != nil; items = a.queue.Take(sig, math.MaxInt, buffer.Everything) {
			for _, it := range items {
				a.leaveOne(it, reset)
			}
		}
	}
	if err := a.spool.Close(); err != nil {
		a.log.Warn("the spool could not be written to: what was delivered may be sent again after a reset", "error", err)
	}
}

func (a *app) leaveOne(it buffer.Item, reset bool) {
	r, ok := it.Copy.(*spool.Record)
	if ok && reset && a.spool.Keep(r, it.Payload, it.Accounted) == nil {
		a.ledger.keep(it.Signal, it.Records, it.Accounted)
		return
	}
	a.ledger.drop(it.Signal, otlp.DroppedShutdown, it.Records, it.Accounted, errShutdown)
	if ok {
		r.Settle(it.Records)
	}
}

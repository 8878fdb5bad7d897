package export

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Watch ends requests that have outlived their time limit in a freeze. A client's own limit is monotonic, and that
// clock may stand still while the environment is frozen: a request that is never answered would live through
// invocation after invocation, and its signal's data with it.
type Watch struct {
	now func() time.Time // the wall clock

	mu   sync.Mutex
	open map[*watched]struct{} // guarded by mu
}

// watched is a request under way.
type watched struct {
	until time.Time // wall clock
	end   context.CancelCauseFunc
	err   error
}

// NewWatch returns a Watch over nothing yet. now is the wall clock.
func NewWatch(now func() time.Time) *Watch { return &Watch{now: now, open: map[*watched]struct{}{}} }

// Over returns a Sink that sends through next and is watched: a Send may take so long by the wall clock. 0: no limit.
func (w *Watch) Over(next otlp.Sink, limit time.Duration) otlp.Sink {
	if limit <= 0 {
		return next
	}
	err := fmt.Errorf("no answer within %v, a freeze included: %w", limit, context.DeadlineExceeded)
	return watchedSink{w, next, limit, err}
}

// Thawed is to be called after each freeze. It ends what is over its limit, but for a moment in which an answer that
// came in the freeze can still be read.
func (w *Watch) Thawed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := range w.open {
		if w.now().After(r.until) {
			delete(w.open, r) // once
			time.AfterFunc(thawGrace, func() { r.end(r.err) })
		}
	}
}

type watchedSink struct {
	watch *Watch
	next  otlp.Sink
	limit time.Duration
	err   error
}

// Send is the other Sink's. Where the Watch ends it, ctx itself has not ended: it is a failure like any other.
func (s watchedSink) Send(ctx context.Context, p otlp.Payload) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r := &watched{s.watch.now().Add(s.limit), end, s.err}
	s.watch.set(r, true)
	defer s.watch.set(r, false)
	return s.next.Send(ctx, p)
}

func (w *Watch) set(r *watched, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if open {
		w.open[r] = struct{}{}
	} else {
		delete(w.open, r)
	}
}

package export

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const (
	firstWindow = time.Second
	maxWindow   = time.Minute
	maxAsked    = 15 * time.Minute // of a Retry-After: one faulty answer must not silence an environment for its life
)

// errProbing is the outcome of a probe that panicked.
var errProbing = errors.New("probe ended without an outcome")

// Breaker is a Sink that stops sending to a backend that is down. It is closed at first and passes requests
// to normal. A retryable error opens it for a window of 1 s, or for as long as the backend asked; then one
// request at a time goes to probe. A verdict of the backend, be it a refusal, closes it; a retryable error
// opens it again for twice the window, 60 s at most. While it is open Send returns a retryable *otlp.Error at
// once.
//
// Windows are wall time, as they span freezes. A clock that was set back to before the window's beginning
// ends it: a probe too early harms less than one that never comes.
type Breaker struct {
	// OnChange is told when the Breaker opens, with the cause, or closes, with nil. It is called outside
	// the lock by whoever caused the change. Set it before the first use.
	OnChange func(open bool, cause error)

	normal, probe otlp.Sink
	now           func() time.Time

	mu      sync.Mutex // guards what follows
	open    bool
	probing bool // a probe is out
	window  time.Duration
	opened  time.Time // the window's beginning
	until   time.Time // the window's end
	cause   error     // the last retryable error
}

// NewBreaker returns a closed Breaker. now is the wall clock.
func NewBreaker(normal, probe otlp.Sink, now func() time.Time) *Breaker {
	return &Breaker{normal: normal, probe: probe, now: now}
}

// Send passes p on, or returns at once a retryable *otlp.Error whose RetryAfter is what is left of the window.
func (b *Breaker) Send(ctx context.Context, p otlp.Payload) error {
	probe, err := b.admit()
	switch {
	case err != nil:
		return err
	case probe:
		return b.sendProbe(ctx, p)
	}
	if err = b.normal.Send(ctx, p); failed(ctx, err) {
		b.Trip(err)
	}
	return err
}

// Ready says whether a Send now would reach the backend.
func (b *Breaker) Ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open || b.overLocked(b.now()) && !b.probing
}

// Closed says whether the backend is believed to be well.
func (b *Breaker) Closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.open
}

// RetryAt is the wall time at which the window ends; in the past where it is over, zero when closed.
func (b *Breaker) RetryAt() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch now := b.now(); {
	case !b.open:
		return time.Time{}
	case now.Before(b.opened): // the clock was set back
		return now
	}
	return b.until
}

// Trip opens the Breaker as a request that failed with err does. Within a window nothing changes but the
// cause, and the end where err asks for a later one: requests that were under way together count once.
func (b *Breaker) Trip(err error) {
	b.mu.Lock()
	was := b.open
	b.tripLocked(err)
	b.mu.Unlock()
	b.changed(was, true, err)
}

// Reset closes the Breaker whatever the backend's state is.
func (b *Breaker) Reset() {
	b.mu.Lock()
	was := b.open
	b.resetLocked()
	b.mu.Unlock()
	b.changed(was, false, nil)
}

// admit says how a request may go: to normal, as the probe, or not at all.
func (b *Breaker) admit() (probe bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	switch {
	case !b.open:
		return false, nil
	case b.overLocked(now) && !b.probing:
		b.probing = true
		return true, nil
	}
	var left time.Duration
	message := "not sent while the backend is down: it is being tried"
	if !b.overLocked(now) {
		left = b.until.Sub(now)
		message = fmt.Sprintf("not sent while the backend is down: next try in %v", left.Round(time.Millisecond))
	}
	return false, &otlp.Error{Code: otlp.Unavailable, Message: message, Retryable: true, RetryAfter: left, Err: b.cause}
}

// sendProbe sends p to probe and settles the Breaker by the outcome.
func (b *Breaker) sendProbe(ctx context.Context, p otlp.Payload) error {
	err := errProbing // stays where probe panics
	defer func() { b.settle(ctx, err) }()
	err = b.probe.Send(ctx, p)
	return err
}

// settle takes the probe's outcome: a failure opens the Breaker again, a verdict closes it, and a probe that
// was called off says nothing, so that the next request becomes one.
func (b *Breaker) settle(ctx context.Context, err error) {
	b.mu.Lock()
	was := b.open
	b.probing = false
	switch {
	case failed(ctx, err):
		b.tripLocked(err)
	case !mayRetry(err):
		b.resetLocked()
	}
	is := b.open
	b.mu.Unlock()
	b.changed(was, is, err)
}

// failed says whether err speaks against the backend. A request that its own sender called off does not.
func failed(ctx context.Context, err error) bool {
	return mayRetry(err) && !errors.Is(ctx.Err(), context.Canceled)
}

// overLocked says whether the window is over. The caller holds mu.
func (b *Breaker) overLocked(now time.Time) bool {
	return !now.Before(b.until) || now.Before(b.opened)
}

// tripLocked begins a window, or notes err in the one that is running. The caller holds mu.
func (b *Breaker) tripLocked(err error) {
	now, asked := b.now(), min(askedWait(err), maxAsked)
	b.cause = err
	if b.open && !b.overLocked(now) {
		if end := now.Add(asked); end.After(b.until) {
			b.until = end
		}
		return
	}
	b.window = min(2*b.window, maxWindow)
	if !b.open {
		b.window = firstWindow
	}
	b.open, b.opened, b.until = true, now, now.Add(max(b.window, asked))
}

// resetLocked closes the Breaker. The caller holds mu.
func (b *Breaker) resetLocked() { b.open, b.cause = false, nil }

// changed tells of a change of state, if it is one.
func (b *Breaker) changed(was, is bool, cause error) {
	switch {
	case was == is || b.OnChange == nil:
	case is:
		b.OnChange(true, cause)
	default:
		b.OnChange(false, nil)
	}
}

package export

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// RetryConfig says how long a Retry goes on.
type RetryConfig struct {
	// Budget, counted from the start of Send, is the time after which no further attempt begins. 0 means one
	// attempt.
	Budget time.Duration

	// More says whether another attempt may follow so many failures; nil: always.
	More func(failures int) bool

	// Jitter picks a wait from 0 to limit; nil picks at random.
	Jitter func(limit time.Duration) time.Duration
}

// Retry is a Sink that sends again what another refused for the moment: after a random part of 100 ms, which
// doubles up to 5 s, and never before the time that the backend asked for (OTLP specification, "Retryable
// Response Codes" and "OTLP/HTTP Throttling"). A wait that would end past the budget or ctx's deadline is not
// begun. Waits are monotonic: the time of a freeze may not count.
type Retry struct {
	next otlp.Sink
	cfg  RetryConfig
}

// NewRetry returns a Retry of next.
func NewRetry(next otlp.Sink, cfg RetryConfig) *Retry {
	return &Retry{next: next, cfg: cfg}
}

// Send returns the last attempt's error. Where ctx ends during a wait the error holds ctx's cause too, both
// in reach of errors.Is and errors.As.
func (r *Retry) Send(ctx context.Context, p otlp.Payload) error {
	return r.cfg.retry(ctx, func() error { return r.next.Send(ctx, p) })
}

// retry attempts something until it succeeds, is refused for good, or has no time left.
func (cfg RetryConfig) retry(ctx context.Context, attempt func() error) error {
	start := time.Now()
	backoff := firstBackoff
	for failures := 1; ; failures++ {
		err := attempt()
		if !mayRetry(err) || ctx.Err() != nil || cfg.More != nil && !cfg.More(failures) {
			return err
		}
		wait := max(cfg.jitter(backoff), askedWait(err))
		if time.Since(start)+wait >= cfg.Budget {
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && wait >= time.Until(deadline) {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("stop retrying (%w): %w", context.Cause(ctx), err)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// jitter is a wait from 0 to limit.
func (cfg RetryConfig) jitter(limit time.Duration) time.Duration {
	if cfg.Jitter != nil {
		return cfg.Jitter(limit)
	}
	return rand.N(limit + 1)
}

// askedWait is the least time that the error's maker asks to wait.
func askedWait(err error) time.Duration {
	var e *otlp.Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

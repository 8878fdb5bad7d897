package export

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func TestWatch(t *testing.T) {
	tests := []struct {
		name   string
		limit  time.Duration
		frozen time.Duration
		answer time.Duration // after the thaw
		ended  bool
	}{
		{"within the limit", 10 * time.Second, 9 * time.Second, time.Second, false},
		{"over it", 10 * time.Second, 11 * time.Second, time.Second, true},
		{"over it, but the answer is there", 10 * time.Second, time.Hour, 100 * time.Millisecond, false},
		{"the clock was set back", 10 * time.Second, -time.Hour, time.Second, false},
		{"no limit", 0, time.Hour, time.Second, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var jump time.Duration // wall time passes, monotonic time does not
				w := NewWatch(func() time.Time { return time.Now().Round(0).Add(jump) })
				thaw := make(chan struct{})
				s := w.Over(sinkFunc(func(ctx context.Context, _ otlp.Payload) error {
					<-thaw
					select {
					case <-time.After(test.answer):
						return nil
					case <-ctx.Done():
						return &otlp.Error{Retryable: true, Err: context.Cause(ctx)}
					}
				}), test.limit)
				done := make(chan error)
				go func() { done <- s.Send(t.Context(), payload(1)) }()
				synctest.Wait()
				jump = test.frozen
				w.Thawed()
				w.Thawed()
				close(thaw)
				if err := <-done; errors.Is(err, context.DeadlineExceeded) != test.ended || (err != nil) != test.ended {
					t.Errorf("ended with %v", err)
				}
				if len(w.open) > 0 {
					t.Error("a request that is over is watched")
				}
			})
		})
	}
}

package export

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// whole is the jitter that waits as long as it may.
func whole(limit time.Duration) time.Duration { return limit }

func busy(after time.Duration) error {
	return &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "busy", Retryable: true, RetryAfter: after}
}

func TestRetryAsksWhetherToGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts, more := 0, 1
		next := sinkFunc(func(context.Context, otlp.Payload) error {
			attempts++
			return busy(0)
		})
		r := NewRetry(next, RetryConfig{Budget: time.Second, Jitter: whole, More: func(failures int) bool { return failures <= more }})
		for more = range 3 {
			attempts = 0
			if r.Send(t.Context(), payload(1)) == nil || attempts != more+1 {
				t.Errorf("%d attempts, want %d", attempts, more+1)
			}
		}
	})
}

func TestRetry(t *testing.T) {
	ms := time.Millisecond
	permanent := &otlp.Error{Code: otlp.InvalidArgument, HTTPStatus: 400}
	partial := &otlp.PartialSuccess{Rejected: 1}
	plain := errors.New("connection broke")
	tests := []struct {
		name    string
		budget  time.Duration
		answers []error // the last one repeats
		at      []time.Duration
		want    error
	}{
		{"success", time.Second, []error{nil}, []time.Duration{0}, nil},
		{"permanent", time.Second, []error{permanent}, []time.Duration{0}, permanent},
		{"partial success", time.Second, []error{partial}, []time.Duration{0}, partial},
		{"no budget", 0, []error{busy(0)}, []time.Duration{0}, busy(0)},
		{"recovers", time.Second, []error{busy(0), plain, nil}, []time.Duration{0, 100 * ms, 300 * ms}, nil},
		{"then permanent", time.Second, []error{busy(0), permanent}, []time.Duration{0, 100 * ms}, permanent},
		{"budget ends it", time.Second, []error{busy(0)}, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms}, busy(0)},
		{"a wait up to the budget's very end is not begun", 300 * ms, []error{busy(0)}, []time.Duration{0, 100 * ms}, busy(0)},
		{"cap", 20 * time.Second, []error{busy(0)}, []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 11300 * ms, 16300 * ms}, busy(0)},
		{"Retry-After is a minimum", 10 * time.Second, []error{busy(3 * time.Second), busy(50 * ms), nil}, []time.Duration{0, 3 * time.Second, 3200 * ms}, nil},
		{"Retry-After past the budget", time.Second, []error{busy(2 * time.Second)}, []time.Duration{0}, busy(2 * time.Second)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var at []time.Duration
				next := sinkFunc(func(context.Context, otlp.Payload) error {
					at = append(at, time.Since(start))
					return test.answers[min(len(at), len(test.answers))-1]
				})
				err := NewRetry(next, RetryConfig{Budget: test.budget, Jitter: whole}).Send(t.Context(), payload(1))
				if !equal(at, test.at) {
					t.Errorf("attempts at %v, want %v", at, test.at)
				}
				if (err == nil) != (test.want == nil) || err != nil && err.Error() != test.want.Error() {
					t.Errorf("error is %v, want %v", err, test.want)
				}
				if took := time.Since(start); took != at[len(at)-1] {
					t.Errorf("returned at %v, %v after the last attempt", took, took-at[len(at)-1])
				}
			})
		})
	}
}

func equal(a, b []time.Duration) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestRetryNeverSleepsPastDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start, tries := time.Now(), 0
		next := sinkFunc(func(context.Context, otlp.Payload) error { tries++; return busy(0) })
		err := NewRetry(next, RetryConfig{Budget: time.Minute, Jitter: whole}).Send(ctx, payload(1))
		if took := time.Since(start); took != 300*time.Millisecond || tries != 3 || refusal(t, err).HTTPStatus != 503 {
			t.Errorf("took %v for %d tries: %v", took, tries, err)
		}
	})
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shutdown := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(150*time.Millisecond, func() { cancel(shutdown) })
		start := time.Now()
		next := sinkFunc(func(context.Context, otlp.Payload) error { return busy(0) })
		err := NewRetry(next, RetryConfig{Budget: time.Minute, Jitter: whole}).Send(ctx, payload(1))
		if took := time.Since(start); took != 150*time.Millisecond || !errors.Is(err, shutdown) || !refusal(t, err).Retryable {
			t.Errorf("took %v: %v", took, err)
		}
		if want := "stop retrying (shutting down): HTTP 503: busy"; err.Error() != want {
			t.Errorf("error says %q, want %q", err, want)
		}
		// An attempt that the context ended is the last.
		tries := 0
		next = func(context.Context, otlp.Payload) error { tries++; return busy(0) }
		err = NewRetry(next, RetryConfig{Budget: time.Minute}).Send(ctx, payload(1))
		if tries != 1 || err.Error() != "HTTP 503: busy" {
			t.Errorf("%d tries, want 1; error %v", tries, err)
		}
	})
}

func TestJitterIsFull(t *testing.T) {
	r := NewRetry(nil, RetryConfig{})
	var low, high bool
	for range 1000 {
		d := r.cfg.jitter(time.Second)
		if d < 0 || d > time.Second {
			t.Fatalf("jitter of %v", d)
		}
		low, high = low || d < 100*time.Millisecond, high || d > 900*time.Millisecond
	}
	if !low || !high {
		t.Error("jitter does not reach from 0 to its limit")
	}
}

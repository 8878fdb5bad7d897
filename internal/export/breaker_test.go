package export

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// breakerRig is a Breaker whose sinks answer as told and whose clock is set by hand.
type breakerRig struct {
	*Breaker
	now            time.Time
	answer         error
	normal, probes int
	changes        []string
}

func newBreakerRig() *breakerRig {
	r := &breakerRig{now: someDay}
	normal := sinkFunc(func(context.Context, otlp.Payload) error { r.normal++; return r.answer })
	probe := sinkFunc(func(context.Context, otlp.Payload) error { r.probes++; return r.answer })
	r.Breaker = NewBreaker(normal, probe, func() time.Time { return r.now })
	r.OnChange = func(open bool, cause error) {
		r.Closed() // would deadlock under the lock
		r.changes = append(r.changes, fmt.Sprint(open, " ", cause))
	}
	return r
}

// send answers with err, if the Breaker lets it.
func (r *breakerRig) send(err error) error {
	r.answer = err
	return r.Send(context.Background(), payload(1))
}

func TestBreakerWindows(t *testing.T) {
	r := newBreakerRig()
	if r.send(nil); !r.Closed() || !r.Ready() || !r.RetryAt().IsZero() {
		t.Error("not closed at first")
	}
	var windows []time.Duration
	for range 8 {
		if err := r.send(busy(0)); refusal(t, err).HTTPStatus != 503 {
			t.Fatalf("the backend's answer became %v", err)
		}
		left := r.RetryAt().Sub(r.now)
		windows = append(windows, left/time.Second)
		if r.Closed() || r.Ready() {
			t.Error("not open after a failure")
		}
		r.now = r.now.Add(left - time.Millisecond)
		sent := r.normal + r.probes
		e := refusal(t, r.send(nil))
		if r.normal+r.probes != sent || !e.Retryable || e.HTTPStatus != 0 || e.RetryAfter != time.Millisecond || !errors.Is(e, r.cause) {
			t.Errorf("within the window: %+v", e)
		}
		if r.now = r.now.Add(time.Millisecond); !r.Ready() || r.Closed() {
			t.Error("not ready after the window")
		}
	}
	if got, want := fmt.Sprint(windows), "[1ns 2ns 4ns 8ns 16ns 32ns 60ns 60ns]"; got != want {
		t.Errorf("windows in seconds are %s, want %s", got, want)
	}
	if r.normal != 2 || r.probes != 7 {
		t.Errorf("%d requests and %d probes, want 2 and 7", r.normal, r.probes)
	}
	if r.send(nil); !r.Closed() {
		t.Error("not closed after a success")
	}
	if r.send(busy(0)); r.RetryAt().Sub(r.now) != time.Second {
		t.Errorf("window after a recovery is %v, want 1 s", r.RetryAt().Sub(r.now))
	}
	if got, want := fmt.Sprint(r.changes), "[true HTTP 503: busy false <nil> true HTTP 503: busy]"; got != want {
		t.Errorf("changes are %s, want %s", got, want)
	}
}

func TestBreakerVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		opens bool
	}{
		"success":         {nil, false},
		"permanent":       {&otlp.Error{HTTPStatus: 400}, false},
		"partial success": {&otlp.PartialSuccess{Rejected: 1}, false},
		"retryable":       {busy(0), true},
		"wrapped":         {fmt.Errorf("send: %w", busy(0)), true},
		"any other":       {errors.New("connection broke"), true},
	} {
		r := newBreakerRig()
		if r.send(test.err); r.Closed() == test.opens {
			t.Errorf("%s: closed %v as a request's answer", name, r.Closed())
		}
		r = newBreakerRig()
		r.send(busy(0))
		r.now = r.now.Add(time.Second)
		if r.send(test.err); r.Closed() == test.opens || r.probes != 1 {
			t.Errorf("%s: closed %v as a probe's answer", name, r.Closed())
		}
	}
}

func TestBreakerObeysRetryAfter(t *testing.T) {
	r := newBreakerRig()
	r.send(busy(30 * time.Second))
	if left := r.RetryAt().Sub(r.now); left != 30*time.Second {
		t.Errorf("window is %v, want 30 s", left)
	}
	r.now = r.now.Add(30 * time.Second)
	r.send(busy(time.Second))
	if left := r.RetryAt().Sub(r.now); left != 2*time.Second {
		t.Errorf("second window is %v, want 2 s", left)
	}
}

// Windows are wall time, and wall time jumps.
func TestBreakerClockJumps(t *testing.T) {
	for name, test := range map[string]struct {
		jump  time.Duration
		ready bool
	}{
		"within the window": {time.Second - 1, false},
		"frozen for hours":  {7 * time.Hour, true},
		"set back by hours": {-7 * time.Hour, true},
		"set back a little": {-time.Millisecond, true},
	} {
		r := newBreakerRig()
		r.send(busy(0))
		r.now = r.now.Add(test.jump)
		if r.Ready() != test.ready {
			t.Errorf("%s: ready %v", name, r.Ready())
		}
		if wait := r.RetryAt().Sub(r.now); wait > time.Second || test.ready != (wait <= 0) {
			t.Errorf("%s: retry in %v", name, wait)
		}
		if r.send(busy(0)); (r.probes == 1) != test.ready {
			t.Errorf("%s: %d probes", name, r.probes)
		}
		if test.ready && r.RetryAt().Sub(r.now) != 2*time.Second {
			t.Errorf("%s: next window is %v, want 2 s", name, r.RetryAt().Sub(r.now))
		}
	}
}

func TestBreakerTripAndReset(t *testing.T) {
	r := newBreakerRig()
	slow := errors.New("held an invocation past its budget")
	r.Trip(slow)
	if e := refusal(t, r.send(nil)); r.normal != 0 || !errors.Is(e, slow) || e.RetryAfter != time.Second {
		t.Errorf("tripped: %d sent, error %v", r.normal, e)
	}
	r.Trip(busy(5 * time.Second)) // in the same window: noted, not counted
	if left := r.RetryAt().Sub(r.now); left != 5*time.Second {
		t.Errorf("window is %v, want 5 s", left)
	}
	r.Reset()
	if r.send(nil); !r.Closed() || r.normal != 1 || r.probes != 0 {
		t.Errorf("after Reset: closed %v, %d sent", r.Closed(), r.normal)
	}
	r.Trip(slow)
	if left := r.RetryAt().Sub(r.now); left != time.Second {
		t.Errorf("window after Reset is %v, want 1 s", left)
	}
	want := "[true held an invocation past its budget false <nil> true held an invocation past its budget]"
	if got := fmt.Sprint(r.changes); got != want {
		t.Errorf("changes are %s", got)
	}
}

// Requests under way together, one per signal, fail together: that is one failure.
func TestBreakerCountsCompanionsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := sinkFunc(func(context.Context, otlp.Payload) error { time.Sleep(10 * time.Second); return busy(0) })
		b := NewBreaker(hang, hang, time.Now)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { b.Send(context.Background(), payload(1)) })
		}
		wg.Wait()
		if left := time.Until(b.RetryAt()); left != time.Second {
			t.Errorf("window is %v, want 1 s", left)
		}
	})
}

func TestBreakerOneProbeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probes := 0
		down := sinkFunc(func(context.Context, otlp.Payload) error { return busy(0) })
		slow := sinkFunc(func(context.Context, otlp.Payload) error { probes++; time.Sleep(10 * time.Second); return nil })
		b := NewBreaker(down, slow, time.Now)
		b.Send(context.Background(), payload(1))
		time.Sleep(time.Second)
		go b.Send(context.Background(), payload(1))
		synctest.Wait()
		if b.Ready() || b.Closed() {
			t.Error("ready although a probe is out")
		}
		start := time.Now()
		e := refusal(t, b.Send(context.Background(), payload(1)))
		if probes != 1 || !e.Retryable || e.RetryAfter != 0 || time.Since(start) != 0 {
			t.Errorf("%d probes; %+v", probes, e)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !b.Closed() {
			t.Error("not closed by the probe")
		}
	})
}

// A probe that held an invocation too long trips the Breaker, and then fails: that is one failure.
func TestBreakerTripDuringProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := sinkFunc(func(context.Context, otlp.Payload) error { return busy(0) })
		slow := sinkFunc(func(context.Context, otlp.Payload) error { time.Sleep(1500 * time.Millisecond); return busy(0) })
		b := NewBreaker(down, slow, time.Now)
		b.Send(context.Background(), payload(1))
		time.Sleep(time.Second)
		go b.Send(context.Background(), payload(1))
		time.Sleep(time.Second)
		b.Trip(errors.New("held"))
		want := time.Now().Add(2 * time.Second)
		time.Sleep(time.Second)
		if at := b.RetryAt(); !at.Equal(want) {
			t.Errorf("window ends %v late", at.Sub(want))
		}
	})
}

// A request that its sender called off says nothing about the backend; one that its deadline ended does.
func TestBreakerCalledOff(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	for _, test := range []struct {
		ctx   context.Context
		opens bool
	}{{cancelled, false}, {expired, true}} {
		r := newBreakerRig()
		r.answer = busy(0)
		if r.Send(test.ctx, payload(1)); r.Closed() == test.opens {
			t.Errorf("%v: closed %v", test.ctx.Err(), r.Closed())
		}
		r.Trip(busy(0))
		r.now = r.now.Add(time.Second)
		r.Send(test.ctx, payload(1))
		if r.Closed() || r.Ready() == test.opens {
			t.Errorf("%v as a probe: closed %v, ready %v", test.ctx.Err(), r.Closed(), r.Ready())
		}
	}
}

func TestBreakerSurvivesPanicOfProbe(t *testing.T) {
	r := newBreakerRig()
	r.probe = sinkFunc(func(context.Context, otlp.Payload) error { panic("boom") })
	r.send(busy(0))
	r.now = r.now.Add(time.Second)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		r.send(nil)
	}()
	if r.now = r.now.Add(2 * time.Second); !r.Ready() {
		t.Error("no probe is ever sent again")
	}
}

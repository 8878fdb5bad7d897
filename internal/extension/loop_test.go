package extension

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func TestEndMode(t *testing.T) {
	o := options{mode: flush.End, rtt: 20 * time.Millisecond}
	bubble("exports start when data arrives and are done before Next", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		if s.sent() != 1 {
			t.Error("the export did not start with the request")
		}
		time.Sleep(50 * time.Millisecond) // the handler works on
		s.emit(otlp.Traces, 10)
		s.returned("1")
		if held := s.held(); held > 0 || s.delivered() != 2 {
			t.Errorf("held %v after runtimeDone with %d delivered, want both gone by then", held, s.delivered())
		}
	})
	bubble("a stale runtimeDone does not end the wait", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.returned("0")
		if s.inNext.Load() {
			t.Error("released by another invocation's runtimeDone")
		}
		s.returned("1")
		s.mustBeInNext("after its own runtimeDone")
	})
	bubble("a runtimeDone that overtakes its INVOKE counts", t, o, func(t *testing.T, s *sandbox) {
		s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: "1"})
		synctest.Wait()
		s.invoke("1")
		s.mustBeInNext("at once")
	})
	bubble("a request that is begun is waited for", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.requests.Add(1)
		s.returned("1")
		if s.inNext.Load() {
			t.Fatal("released with a request half read")
		}
		s.requests.Add(-1)
		s.emit(otlp.Traces, 10)
		if s.held(); s.delivered() != 1 {
			t.Error("its data was not exported before Next")
		}
	})
	bubble("a request that never ends holds one invocation, not the next", t, o, func(t *testing.T, s *sandbox) {
		s.requests.Add(1)
		s.invoke("1")
		s.returned("1")
		if held := s.held(); held > time.Second {
			t.Errorf("held %v, more than the budget", held)
		}
		s.invoke("2")
		s.returned("2")
		s.mustBeInNext("the second time")
	})
	bubble("a hanging backend holds no longer than the budget, and only once", t, o, func(t *testing.T, s *sandbox) {
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, time.Hour) })
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.returned("1")
		if held := s.held(); held < 900*time.Millisecond || held > time.Second {
			t.Errorf("held %v, want the budget of 1 s", held)
		}
		for _, id := range []string{"2", "3", "4"} {
			s.invoke(id)
			s.mustBeInNext("invocation " + id + " of a dead backend")
			s.emit(otlp.Traces, 10)
			time.Sleep(100 * time.Millisecond)
			s.freeze(10*time.Minute, true)
		}
		s.setBackend(func(context.Context, otlp.Payload) error { return nil })
		s.invoke("5")
		time.Sleep(80 * time.Second) // a hanging probe ends, its window passes, and the next one finds the backend well
		synctest.Wait()
		if s.delivered() != 4 {
			t.Errorf("delivered %d after the outage, want all 4", s.delivered())
		}
	})
	bubble("the deadline of the function comes first", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		begin := time.Now()
		s.held() // no runtimeDone: the handler runs into its timeout
		if d := time.Since(begin); d > 9500*time.Millisecond || d < 9*time.Second {
			t.Errorf("released after %v of 10 s, want a margin of 5 %%", d)
		}
	})
}

func TestWithoutTelemetryEndIsNext(t *testing.T) {
	bubble("refused", t, options{mode: flush.End, noTelemetry: true}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.mustBeInNext("without telemetry, at once")
		s.emit(otlp.Traces, 10)
		s.invoke("2")
		if s.held(); s.delivered() != 1 {
			t.Error("the first invocation's data did not leave during the second")
		}
	})
	bubble("accepted and silent", t, options{mode: flush.End, silent: true}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		if held := s.held(); held > time.Second {
			t.Errorf("held %v for an event that cannot come", held)
		}
		s.invoke("2")
		s.mustBeInNext("the second time")
	})
}

func TestNextMode(t *testing.T) {
	o := options{mode: flush.Next, rtt: 20 * time.Millisecond}
	bubble("data leaves during the next invocation", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.mustBeInNext("nothing to send")
		s.emit(otlp.Traces, 10)
		if s.sent() != 0 {
			t.Error("exported in the same invocation")
		}
		s.freeze(time.Hour, false)
		s.invoke("2")
		if held := s.held(); held != 20*time.Millisecond || s.delivered() != 1 {
			t.Errorf("held %v, delivered %d; want the round trip and 1", held, s.delivered())
		}
	})
	bubble("high water leaves at once", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 600<<10)
		if s.sent() != 1 {
			t.Error("not exported at high water")
		}
	})
	bubble("what arrives meanwhile waits for its turn", t, o, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.invoke("2")
		s.emit(otlp.Traces, 10)
		s.held()
		time.Sleep(time.Second)
		if s.delivered() != 1 {
			t.Errorf("delivered %d, want only the previous invocation's", s.delivered())
		}
	})
}

func TestIntervalMode(t *testing.T) {
	bubble("looked at when an INVOKE comes, by wall time", t, options{mode: flush.Interval}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.freeze(time.Second, false)
		s.invoke("2")
		if s.sent() != 0 {
			t.Error("exported before the interval")
		}
		s.freeze(5*time.Second, false)
		s.invoke("3")
		if s.held(); s.delivered() != 1 {
			t.Error("not exported although the interval passed in a freeze")
		}
	})
	bubble("on a timer where nothing freezes", t, options{mode: flush.Interval}, func(t *testing.T, s *sandbox) {
		s.emit(otlp.Traces, 10)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s.delivered() != 1 {
			t.Error("not exported on the timer")
		}
	})
}

func TestOutage(t *testing.T) {
	for _, mode := range []flush.Mode{flush.Auto, flush.End, flush.Next, flush.Interval} {
		for _, running := range []bool{false, true} {
			name := mode.String() + map[bool]string{false: ", monotonic stopped", true: ", monotonic running"}[running]
			bubble(name, t, options{mode: mode}, func(t *testing.T, s *sandbox) {
				down := &otlp.Error{HTTPStatus: 503, Retryable: true}
				s.setBackend(func(context.Context, otlp.Payload) error { return down })
				var most time.Duration
				heldTwice := 0
				for i := range 20 {
					id := string(rune('a' + i))
					s.invoke(id)
					s.emit(otlp.Traces, 10)
					s.returned(id)
					if d := s.held(); d > 0 {
						most = max(most, d)
						heldTwice++
					}
					s.freeze(6*time.Second, running)
				}
				if most > time.Second || heldTwice > 1 {
					t.Errorf("%d invocations held, up to %v; want one, up to 1 s", heldTwice, most)
				}
				before := s.sent()
				if before > 20 {
					t.Errorf("%d requests to a dead backend in 20 invocations", before)
				}
				s.setBackend(func(context.Context, otlp.Payload) error { return nil })
				s.freeze(2*time.Minute, running)
				s.invoke("z")
				s.returned("z")
				s.held()
				if s.delivered() != 20 {
					t.Errorf("delivered %d after the outage, want all 20", s.delivered())
				}
				if n := strings.Count(s.log.String(), "backend out of order"); n != 1 {
					t.Errorf("the outage was logged %d times", n)
				}
				s.shutdown()
			})
		}
	}
}

func TestOneSignalsOutageLeavesTheOthers(t *testing.T) {
	bubble("end", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(_ context.Context, p otlp.Payload) error {
			if p.Signal == otlp.Metrics {
				return &otlp.Error{HTTPStatus: 503, Retryable: true}
			}
			return nil
		})
		for _, id := range []string{"1", "2", "3"} {
			s.invoke(id)
			s.emit(otlp.Metrics, 10)
			s.emit(otlp.Traces, 10)
			s.returned(id)
			s.held()
		}
		if s.delivered() != 3 {
			t.Errorf("delivered %d, want the traces of all three", s.delivered())
		}
	})
}

func TestShutdownDrainsWithinItsDeadline(t *testing.T) {
	bubble("good backend", t, options{mode: flush.Next, rtt: 20 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.emit(otlp.Logs, 10)
		s.shutdown()
		if s.delivered() != 2 {
			t.Errorf("delivered %d, want 2", s.delivered())
		}
	})
	bubble("hanging backend", t, options{mode: flush.Next}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, time.Hour) })
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		if took := s.shutdown(); took > 1400*time.Millisecond {
			t.Errorf("shutdown took %v of 1.4 s", took)
		}
		if !strings.Contains(s.log.String(), "dropped.shutdown.records=1") {
			t.Errorf("what was left is not counted:\n%s", s.log)
		}
	})
	bubble("an export that hangs since before is sent afresh", t, options{mode: flush.Next}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, time.Hour) })
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.invoke("2")
		s.held()
		s.emit(otlp.Logs, 10)
		s.freeze(time.Hour, false)
		s.setBackend(func(context.Context, otlp.Payload) error { return nil })
		if took := s.shutdown(); s.delivered() != 2 || took > 700*time.Millisecond {
			t.Errorf("delivered %d in %v, want both in half of the time", s.delivered(), took)
		}
		if strings.Contains(s.log.String(), "works again") {
			t.Errorf("a change of state is logged that nobody saw:\n%s", s.log)
		}
	})
	bubble("a breaker that is open gets a last chance", t, options{mode: flush.Next}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(context.Context, otlp.Payload) error {
			return &otlp.Error{Retryable: true, Err: errors.New("refused")}
		})
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.invoke("2")
		s.held()
		s.setBackend(func(context.Context, otlp.Payload) error { return nil })
		s.shutdown()
		if s.delivered() != 1 {
			t.Errorf("delivered %d, want 1", s.delivered())
		}
	})
}

func TestNextThatFailsIsTriedAgainWithoutSpinning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := &loop{log: slog.New(slog.DiscardHandler), proceed: make(chan struct{}, 1)}
		l.next = func(context.Context) (lambdaapi.Event, error) {
			if calls++; calls < 10 {
				return lambdaapi.Event{}, errors.New("500")
			}
			return lambdaapi.Event{Type: lambdaapi.Shutdown}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan lambdaapi.Event)
		go l.poll(ctx, events)
		begin := time.Now()
		l.proceed <- struct{}{}
		<-events
		cancel()
		if took := time.Since(begin); took != 21300*time.Millisecond {
			t.Errorf("nine failures took %v, want 0.1+0.2+0.4+0.8+1.6+3.2+5+5+5 s", took)
		}
	})
}

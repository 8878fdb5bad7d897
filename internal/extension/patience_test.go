package extension

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// cycle is one whole invocation with a record; it returns how long it was held after its runtimeDone.
func (s *sandbox) cycle(id string) time.Duration {
	s.invoke(id)
	s.emit(otlp.Traces, 10)
	s.returned(id)
	return s.held()
}

func TestSlowBackendIsNotWaitedForAgainAndAgain(t *testing.T) {
	bubble("round trip over the budget", t, options{mode: flush.End, rtt: 1200 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		pattern := ""
		for i := range 40 {
			if s.cycle(string(rune('A'+i))) > 900*time.Millisecond {
				pattern += "H"
			} else {
				pattern += "."
			}
			s.freeze(5*time.Second, true)
		}
		if n := strings.Count(pattern, "H"); n > 4 || strings.Contains(pattern, "HH") {
			t.Errorf("held in vain %d times of 40: %s", n, pattern)
		}
		if strings.Contains(s.log.String(), "out of order") {
			t.Errorf("a backend that answers is called out of order:\n%s", s.log)
		}
		if s.delivered() != 40 {
			t.Errorf("delivered %d of 40", s.delivered())
		}
	})
	for name, running := range map[string]bool{"monotonic stopped": false, "monotonic running": true} {
		bubble("attempts that hang are waited for once each, and ever less, "+name, t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
			attempts := 0
			s.setBackend(func(ctx context.Context, _ otlp.Payload) error {
				attempts++
				return wait(ctx, time.Hour)
			})
			pattern := ""
			for i := range 40 {
				if s.cycle(string(rune('A'+i))) > 0 {
					pattern += "H"
				} else {
					pattern += "."
				}
				s.freeze(5*time.Second, running)
			}
			if n := strings.Count(pattern, "H"); n > 4 || strings.Contains(pattern, "HH") {
				t.Errorf("held in vain %d times of 40: %s", n, pattern)
			}
			if attempts < 4 || attempts > 12 { // each is given up after 11 s, and then a window of the breaker passes
				t.Errorf("%d attempts in 200 s", attempts)
			}
			s.setBackend(func(context.Context, otlp.Payload) error { return nil })
			for i := range 20 {
				s.cycle(string(rune('a' + i)))
				s.freeze(5*time.Second, running)
			}
			if s.delivered() != 60 {
				t.Errorf("delivered %d of 60 within 100 s of the outage's end", s.delivered())
			}
		})
	}
	bubble("one slow answer is forgiven", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, 2*time.Second) })
		s.cycle("1")
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, 100*time.Millisecond) })
		for _, id := range []string{"2", "3", "4", "5"} {
			s.freeze(5*time.Second, true)
			if d := s.cycle(id); d > 0 {
				t.Errorf("invocation %s was held %v", id, d)
			}
		}
		s.freeze(5*time.Second, true)
		if d := s.cycle("6"); d < 50*time.Millisecond {
			t.Errorf("held %v: the backend is not waited for any more", d)
		}
	})
	bubble("a backlog goes on while the function does", t, options{mode: flush.Next, rtt: 100 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		s.invoke("0")
		for range 40 {
			s.emit(otlp.Profiles, 10) // never merged: 40 requests
		}
		for i := range 12 {
			s.invoke(string(rune('A' + i)))
			s.held()
			time.Sleep(300 * time.Millisecond) // the handler
		}
		if s.delivered() != 40 || strings.Contains(s.log.String(), "out of order") {
			t.Errorf("delivered %d of 40:\n%s", s.delivered(), s.log)
		}
	})
	for _, mode := range []flush.Mode{flush.End, flush.Next} {
		bubble("no budget at all, "+mode.String(), t, options{mode: mode, rtt: 20 * time.Millisecond}, func(t *testing.T, s *sandbox) {
			s.loop.timeout = 0
			for i := range 10 {
				s.cycle(string(rune('a' + i)))
				s.freeze(5*time.Second, true)
			}
			if strings.Contains(s.log.String(), "out of order") || s.delivered() < 9 {
				t.Errorf("delivered %d:\n%s", s.delivered(), s.log)
			}
		})
	}
	bubble("a dead host costs one hold, not one for each signal", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, time.Hour) })
		long := 0
		for _, sig := range []otlp.Signal{otlp.Traces, otlp.Logs, otlp.Metrics} {
			s.invoke(sig.String())
			s.emit(sig, 10)
			s.returned(sig.String())
			if s.held() > 0 {
				long++
			}
		}
		if long != 1 {
			t.Errorf("%d invocations held, want 1", long)
		}
	})
}

// TestRecoveryIsFoundThoughFreezesCutProbes has handlers so short that a probe never gets its answer beside one.
func TestRecoveryIsFoundThoughFreezesCutProbes(t *testing.T) {
	bubble("end", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(context.Context, otlp.Payload) error { return &otlp.Error{HTTPStatus: 503, Retryable: true} })
		s.cycle("0")
		thaw := make(chan struct{})
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error {
			select {
			case <-time.After(60 * time.Millisecond):
				return nil
			case <-thaw:
				return &otlp.Error{Retryable: true, Message: "connection died in the freeze"}
			}
		})
		for i := range 10 {
			s.freeze(61*time.Second, false)
			close(thaw)
			thaw = make(chan struct{})
			synctest.Wait()
			s.invoke(string(rune('a' + i)))
			s.emit(otlp.Traces, 10)
			time.Sleep(5 * time.Millisecond)
			s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: string(rune('a' + i))})
			synctest.Wait()
			s.held()
		}
		if s.delivered() != 11 {
			t.Errorf("delivered %d of 11 by a backend that is well", s.delivered())
		}
	})
}

func TestARunningExportHoldsNext(t *testing.T) {
	for _, mode := range []flush.Mode{flush.Next, flush.Interval} {
		bubble(mode.String(), t, options{mode: mode, rtt: 200 * time.Millisecond}, func(t *testing.T, s *sandbox) {
			s.emit(otlp.Traces, 600<<10) // over high water: it leaves at once
			if s.sent() != 1 {
				t.Fatal("not exported at high water")
			}
			s.invoke("1")
			if s.inNext.Load() {
				t.Error("released with an export in its middle")
			}
			s.held()
		})
	}
}

func TestTheHoldIsMonotonic(t *testing.T) {
	bubble("clock set back", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, time.Hour) })
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.returned("1")
		s.jump.Add(-int64(8 * time.Second))
		if d := s.held(); d > time.Second {
			t.Errorf("held %v with a budget of 1 s", d)
		}
	})
	bubble("clock set forward", t, options{mode: flush.End, rtt: 100 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.returned("1")
		s.jump.Add(int64(8 * time.Second))
		s.app.notify()
		if s.held(); s.delivered() != 1 {
			t.Error("released before the export was done")
		}
	})
}

func TestRuntimeDoneRaces(t *testing.T) {
	bubble("the first event comes late", t, options{mode: flush.End, silent: true}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		time.Sleep(30 * time.Millisecond)
		s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.start", RequestID: "1"})
		time.Sleep(3 * time.Second) // the handler
		s.emit(otlp.Traces, 10)
		if s.inNext.Load() || s.sent() != 1 {
			t.Errorf("released before runtimeDone although telemetry works; sent %d of 1", s.sent())
		}
		s.returned("1")
		s.mustBeInNext("after runtimeDone")
	})
	bubble("delivered twice, then a retry with the same id", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.cycle("1")
		s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: "1"})
		synctest.Wait()
		s.freeze(time.Minute, false)
		s.invoke("1")
		if s.inNext.Load() {
			t.Error("released by the first attempt's runtimeDone")
		}
		s.returned("1")
	})
	bubble("data and runtimeDone while the loop is busy", t, options{mode: flush.End, rtt: 20 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		for i := range 50 {
			id := string(rune('0' + i))
			s.invoke(id)
			// Both events are waiting when the loop looks again, so select takes either.
			s.requests.Add(1)
			_ = (*intake)(s.app).Send(t.Context(), otlp.Payload{Signal: otlp.Traces, Body: []byte{0}, Size: 1, Records: 1, Received: s.wall()})
			s.requests.Add(-1)
			s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: id})
			s.app.notify()
			synctest.Wait()
			if s.held(); s.delivered() != int64(i+1) {
				t.Fatalf("invocation %d: released with its data not exported", i)
			}
		}
	})
}

func TestABugInTheLoopLeavesOneNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		s.loop.active = func() int { panic("boom") }
		s.app.notify()
		synctest.Wait()
		for _, id := range []string{"1", "2"} {
			s.invoke(id)
			s.mustBeInNext("after a bug")
		}
		s.events <- lambdaapi.Event{Type: lambdaapi.Shutdown}
		if ev := <-s.ended; ev.Type != lambdaapi.Shutdown {
			t.Errorf("ended with %+v", ev)
		}
	})
}

func TestEventsOfAnotherKind(t *testing.T) {
	bubble("unknown", t, options{mode: flush.End}, func(t *testing.T, s *sandbox) {
		s.events <- lambdaapi.Event{Type: "RESTORE"}
		synctest.Wait()
		s.mustBeInNext("after an event of a platform to come")
	})
	bubble("no deadline", t, options{mode: flush.End, rtt: 20 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		s.events <- lambdaapi.Event{Type: lambdaapi.Invoke, RequestID: "1"}
		synctest.Wait()
		s.emit(otlp.Traces, 10)
		if s.returned("1"); s.delivered() != 1 || s.loop.deaf {
			t.Errorf("delivered %d, deaf %v", s.delivered(), s.loop.deaf)
		}
	})
}

// TestAFunctionWithoutTelemetryIsNotHeldForEver: nobody knows at first whether data will come.
func TestAFunctionWithoutTelemetryIsNotHeldForEver(t *testing.T) {
	for _, mode := range []flush.Mode{flush.End, flush.Auto} {
		bubble(mode.String(), t, options{mode: mode}, func(t *testing.T, s *sandbox) {
			for i := range mostMute + 3 {
				id := fmt.Sprint(i)
				s.freeze(time.Minute, true)
				s.invoke(id)
				if held := !s.inNext.Load(); held != (i < mostMute) {
					t.Fatalf("invocation %d: held %v", i, held)
				}
				s.returned(id)
			}
			s.freeze(time.Minute, true)
			s.invoke("first")
			s.emit(otlp.Traces, 10)
			s.returned("first")
			s.freeze(time.Minute, true)
			if s.invoke("next"); s.inNext.Load() {
				t.Error("not held although data has come")
			}
			s.returned("next")
			if s.delivered() != 1 {
				t.Errorf("delivered %d of 1", s.delivered())
			}
		})
	}
}

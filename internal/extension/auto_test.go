package extension

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// calls runs n invocations of 20 ms with a record each, frozen for gap in front of each.
func (s *sandbox) calls(n int, gap time.Duration, running bool) {
	for range n {
		s.freeze(gap, running)
		s.count++
		id := strconv.Itoa(s.count)
		s.invoke(id)
		if s.pending != "" { // what the platform could not deliver before the freeze
			s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: s.pending, Time: s.wall()})
			s.pending = ""
		}
		time.Sleep(20 * time.Millisecond)
		s.emit(otlp.Traces, 10)
		if s.inNext.Load() {
			s.pending = id
			continue
		}
		s.returned(id)
		s.held()
	}
}

// becomeFrequent runs invocations until data is gathered, and then until data may wait for the whole interval.
func (s *sandbox) becomeFrequent(running bool) {
	s.calls(1100, 80*time.Millisecond, running)
	if !s.loop.history.Gathers() {
		s.t.Fatal("data is not gathered")
	}
}

// bothClocks runs a test with monotonic time stopped and running in a freeze.
func bothClocks(name string, t *testing.T, o options, f func(t *testing.T, s *sandbox, running bool)) {
	for _, running := range []bool{false, true} {
		bubble(name+map[bool]string{false: ", monotonic stopped", true: ", monotonic running"}[running], t, o,
			func(t *testing.T, s *sandbox) { f(t, s, running) })
	}
}

func TestAutoMode(t *testing.T) {
	o := options{mode: flush.Auto, rtt: 15 * time.Millisecond}
	bothClocks("rare invocations are held until their data is out", t, o, func(t *testing.T, s *sandbox, running bool) {
		for i := range 12 {
			s.calls(1, time.Minute, running)
			if s.delivered() != int64(i+1) || s.sent() != i+1 {
				t.Fatalf("delivered %d in %d requests after %d invocations", s.delivered(), s.sent(), i+1)
			}
		}
	})
	bothClocks("a burst in a quiet night strands nothing", t, o, func(t *testing.T, s *sandbox, running bool) {
		for range 5 {
			s.calls(9, 100*time.Millisecond, running)
			s.freeze(time.Hour, running)
		}
		if s.delivered() != 45 {
			t.Errorf("delivered %d of 45", s.delivered())
		}
	})
	bothClocks("frequent invocations are not held, and share requests", t, o, func(t *testing.T, s *sandbox, running bool) {
		s.becomeFrequent(running)
		requests, begin := s.sent(), time.Now()
		for range 500 {
			s.calls(1, 80*time.Millisecond, running)
			s.mustBeInNext("with data being gathered")
		}
		if n := s.sent() - requests; n < 10 || n > 11 { // 50 s
			t.Errorf("%d requests in 500 invocations of 50 s", n)
		}
		if spent := time.Since(begin); !running && spent != 500*20*time.Millisecond {
			t.Errorf("%v billed, want the handlers alone", spent)
		}
		if left := 1600 - s.delivered(); left > 51 {
			t.Errorf("%d records wait, more than an interval's", left)
		}
		s.shutdown()
		if s.delivered() != 1600 {
			t.Errorf("delivered %d of 1600", s.delivered())
		}
	})
	bothClocks("what the traffic left behind leaves with the next INVOKE, which is held again", t, o, func(t *testing.T, s *sandbox, running bool) {
		s.becomeFrequent(running)
		s.freeze(time.Minute, running)
		s.invoke("late")
		if s.inNext.Load() {
			t.Error("not held although invocations are rare again")
		}
		s.emit(otlp.Traces, 10)
		s.returned("late")
		if s.held(); s.delivered() != 1101 {
			t.Errorf("delivered %d of 1101", s.delivered())
		}
	})
	bothClocks("no flapping", t, o, func(t *testing.T, s *sandbox, running bool) {
		s.becomeFrequent(running)
		for range 50 {
			s.calls(4, time.Second, running)
			s.calls(1, 4500*time.Millisecond, running)
		}
		if n := strings.Count(s.log.String(), "invocations are rare again"); n > 0 {
			t.Errorf("the regime changed %d times", n)
		}
	})
}

func TestAutoDecidesByTheClocksItHas(t *testing.T) {
	o := options{mode: flush.Auto, rtt: 15 * time.Millisecond}
	bubble("wall time set forward", t, o, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		s.jump.Add(int64(24 * time.Hour))
		s.calls(1, 80*time.Millisecond, false)
		if s.delivered() != 1101 {
			t.Errorf("delivered %d of 1101: a day may have passed", s.delivered())
		}
		s.calls(110, 80*time.Millisecond, false)
		if !s.loop.history.Gathers() {
			t.Error("does not gather by the new time")
		}
	})
	bubble("wall time set back", t, o, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		s.jump.Add(-int64(24 * time.Hour))
		s.calls(1, 80*time.Millisecond, false)
		if s.delivered() != 1101 {
			t.Errorf("delivered %d of 1101: the data may be of any age", s.delivered())
		}
		s.calls(110, 80*time.Millisecond, false)
		if !s.loop.history.Gathers() {
			t.Error("does not gather by the new time")
		}
	})
}

func TestAutoForcedFlushes(t *testing.T) {
	o := options{mode: flush.Auto, rtt: 15 * time.Millisecond}
	bubble("high water", t, o, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		before := s.sent()
		s.invoke("big")
		s.emit(otlp.Traces, 600<<10)
		if s.sent() != before+1 {
			t.Error("not exported at high water")
		}
	})
	bubble("a slow backend is not waited for at one flush after the other", t, o, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		s.setBackend(func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, 1200*time.Millisecond) })
		flushes, last, inVain := s.sent(), 0, 0
		for range 3000 {
			begin := time.Now()
			s.calls(1, 80*time.Millisecond, false)
			if time.Since(begin) > 900*time.Millisecond {
				if n := s.sent() - flushes; inVain > 0 && n-last < 2 {
					t.Errorf("held at flush %d and at flush %d", last, n)
				} else {
					inVain, last = inVain+1, n
				}
			}
		}
		if n := s.sent() - flushes; inVain > 5 || n < 20 {
			t.Errorf("held in vain at %d of %d flushes", inVain, n)
		}
	})
	bubble("data that ages while its handler runs", t, o, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		s.invoke("long")
		s.emit(otlp.Traces, 10)
		time.Sleep(5100 * time.Millisecond)
		synctest.Wait()
		if s.delivered() != 1101 {
			t.Errorf("delivered %d of 1101 although the handler runs on", s.delivered())
		}
	})
	bubble("an export in its middle is not left to a freeze", t, options{mode: flush.Auto, rtt: 300 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		s.invoke("big")
		s.emit(otlp.Traces, 600<<10)
		s.freeze(100*time.Millisecond, false)
		s.invoke("next")
		if s.inNext.Load() {
			t.Error("released with an export in its middle")
		}
		if held := s.held(); held > 300*time.Millisecond {
			t.Errorf("held %v", held)
		}
	})
	bubble("a dead signal does not drive the others out", t, o, func(t *testing.T, s *sandbox) {
		s.setBackend(func(_ context.Context, p otlp.Payload) error {
			if p.Signal == otlp.Metrics {
				return &otlp.Error{HTTPStatus: 503, Retryable: true, RetryAfter: 10 * time.Minute}
			}
			return nil
		})
		s.becomeFrequent(false)
		s.invoke("metrics")
		s.emit(otlp.Metrics, 600<<10) // over high water, and it stays
		before := s.sent()
		s.calls(200, 80*time.Millisecond, false) // 20 s
		if n := s.sent() - before; n > 5 {
			t.Errorf("%d requests of the signal that is well in 20 s", n)
		}
	})
}

func TestAutoWithoutTelemetry(t *testing.T) {
	bubble("rare is next", t, options{mode: flush.Auto, noTelemetry: true}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.mustBeInNext("without telemetry, at once")
		s.emit(otlp.Traces, 10)
		s.freeze(time.Minute, false)
		s.invoke("2")
		if s.held(); s.delivered() != 1 {
			t.Error("the first invocation's data did not leave during the second")
		}
	})
	bubble("frequent is gathered", t, options{mode: flush.Auto, noTelemetry: true}, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		before := s.sent()
		s.calls(100, 80*time.Millisecond, false)
		if n := s.sent() - before; n > 3 {
			t.Errorf("%d requests in 10 s", n)
		}
	})
	bubble("deaf is next", t, options{mode: flush.Auto, silent: true}, func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		if held := s.held(); held > time.Second {
			t.Errorf("held %v for an event that cannot come", held)
		}
		s.freeze(time.Minute, false)
		s.invoke("2")
		s.mustBeInNext("the second time")
	})
}

func TestManagedInstancesDoNotAdapt(t *testing.T) {
	a := &app{cfg: Config{Flush: flush.Auto, FlushInterval: time.Second, InitializationType: managedInstances}, api: lambdaapi.NewClient("")}
	l := a.loop(false)
	if p := l.policy.(flush.Policy); p.Mode != flush.Interval || l.adapts {
		t.Errorf("mode %v, adapts %v", p.Mode, l.adapts)
	}
}

func TestDecisionsAreExplained(t *testing.T) {
	bubble("debug", t, options{mode: flush.Auto, rtt: 15 * time.Millisecond}, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		s.calls(1, time.Minute, false)
		for _, text := range []string{
			`msg=invoke requestId=1 export=false hold=true why="invocations are held until their data is out"`,
			`msg=export why="invocations are held until their data is out" queued=10`,
			`msg="invocations are frequent: data is gathered, and they are not held" invocations=81`,
			`export=false hold=false why="data is gathered"`,
			`export=true hold=true why="the oldest data is due"`,
			`msg="invocations are rare again: each is held until its data is out" invocations=1100`,
		} {
			if !strings.Contains(s.log.String(), text) {
				t.Errorf("not in the log: %s", text)
			}
		}
	})
	bubble("info", t, options{mode: flush.Auto, quiet: true}, func(t *testing.T, s *sandbox) {
		s.becomeFrequent(false)
		if s.log.Len() > 0 {
			t.Errorf("logged %q", s.log)
		}
	})
}

// An invocation is held for one quick retry; at SHUTDOWN there is no later.
func TestRetriesWhileHeld(t *testing.T) {
	for _, mode := range []flush.Mode{flush.End, flush.Next, flush.Auto} {
		bubble(mode.String(), t, options{mode: mode}, func(t *testing.T, s *sandbox) {
			fails := 1000
			s.setBackend(func(context.Context, otlp.Payload) error {
				if fails--; fails >= 0 {
					return &otlp.Error{HTTPStatus: 503, Retryable: true}
				}
				return nil
			})
			if mode == flush.Next {
				s.calls(1, time.Minute, false)
			}
			begin := time.Now()
			s.calls(1, time.Minute, false)
			if took := time.Since(begin); s.sent() != 2 || took > 150*time.Millisecond {
				t.Errorf("%d requests, %v", s.sent(), took)
			}
			fails = 3
			s.freeze(time.Minute, false)
			if s.shutdown(); s.sent() != 6 || s.delivered() == 0 {
				t.Errorf("delivered %d at SHUTDOWN with %d requests, want 6", s.delivered(), s.sent())
			}
		})
	}
}

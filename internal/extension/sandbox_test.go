package extension

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// sandbox is a Lambda environment inside a synctest bubble: the loop with its real flusher, queue, breakers
// and retries, between a scripted Extensions API and a scripted backend.
type sandbox struct {
	t        *testing.T
	app      *app
	loop     *loop
	log      *bytes.Buffer
	events   chan lambdaapi.Event
	inNext   atomic.Bool
	entered  chan struct{} // Next was called
	requests atomic.Int32  // open in the receiver
	ended    chan lambdaapi.Event
	count    int          // of the invocations that calls has made
	pending  string       // the last of them, where its runtimeDone waits for a thaw
	jump     atomic.Int64 // how far wall time is ahead of the bubble's: freezes with monotonic time stopped

	mu       sync.Mutex
	backend  func(ctx context.Context, p otlp.Payload) error
	attempts int // requests that reached the backend
}

// syncBuffer may be written by the loop while the test reads it.
type syncWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

type options struct {
	mode        flush.Mode
	noTelemetry bool // the subscription was refused or answered 202
	silent      bool // it was accepted, and nothing ever comes
	rtt         time.Duration
	route       func(a *app, sig otlp.Signal, client otlp.Sink) flush.Route // in place of one to the backend
	quiet       bool                                                        // no debug log
	policy      policy                                                      // in place of the mode's
}

func newSandbox(t *testing.T, o options) *sandbox {
	s := &sandbox{t: t, log: &bytes.Buffer{}, events: make(chan lambdaapi.Event), entered: make(chan struct{}, 1),
		ended: make(chan lambdaapi.Event, 1)}
	s.backend = func(ctx context.Context, _ otlp.Payload) error { return wait(ctx, o.rtt) }
	level := slog.LevelDebug
	if o.quiet {
		level = slog.LevelInfo
	}
	a := &app{
		cfg:  Config{Flush: o.mode, FlushTimeout: time.Second, FlushInterval: 5 * time.Second},
		log:  slog.New(slog.NewTextHandler(&syncWriter{w: s.log}, &slog.HandlerOptions{Level: level})),
		wake: make(chan struct{}, 1),
		done: make(chan lambdaapi.PlatformEvent, 16),
	}
	a.watch = export.NewWatch(s.wall)
	a.now, a.active = s.wall, func() int { return int(s.requests.Load()) }
	a.settings.BufferBytes = 1 << 20
	a.heard.Store(!o.silent)
	a.queue = buffer.New(buffer.Limits{Bytes: 1 << 20, Records: 1 << 20}, &a.bodies, a.evicted)
	cfg := flush.Config{Queue: a.queue, Recorder: (*recorder)(a), Changed: a.notify, Settled: a.settled}
	client := sink(func(ctx context.Context, p otlp.Payload) error {
		s.mu.Lock()
		s.attempts++
		backend := s.backend
		s.mu.Unlock()
		return backend(ctx, p)
	})
	for _, sig := range otlp.Signals() {
		if o.route != nil {
			cfg.Routes[sig] = o.route(a, sig, client)
			continue
		}
		b := export.NewBreaker(a.watch.Over(a.retry(client), 11*time.Second), a.watch.Over(client, 11*time.Second), s.wall)
		b.OnChange = a.breakerLog(sig, "backend")
		a.breakers[sig] = b
		cfg.Routes[sig] = flush.Route{Sink: b, MaxBytes: 1 << 20, Ready: b.Ready}
	}
	a.flusher = flush.New(t.Context(), cfg)
	s.app = a
	l := a.loop(!o.noTelemetry)
	l.next = func(ctx context.Context) (lambdaapi.Event, error) {
		s.inNext.Store(true)
		select {
		case s.entered <- struct{}{}:
		default:
		}
		select {
		case ev := <-s.events:
			s.inNext.Store(false)
			return ev, nil
		case <-ctx.Done():
			return lambdaapi.Event{}, ctx.Err()
		}
	}
	if o.policy != nil {
		l.policy = o.policy
	}
	s.loop = l
	go func() {
		ev, _ := l.runSafely(t.Context())
		s.ended <- ev
	}()
	synctest.Wait()
	s.mustBeInNext("after init")
	return s
}

type sink func(ctx context.Context, p otlp.Payload) error

func (f sink) Send(ctx context.Context, p otlp.Payload) error { return f(ctx, p) }

// wait is a backend's answering time; an attempt gives up after 10 s.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(min(d, 10*time.Second)):
	case <-ctx.Done():
		return &otlp.Error{Retryable: true, Err: context.Cause(ctx)}
	}
	if d > 10*time.Second {
		return &otlp.Error{Retryable: true, Err: context.DeadlineExceeded}
	}
	return nil
}

func (s *sandbox) wall() time.Time { return time.Now().Round(0).Add(time.Duration(s.jump.Load())) }

func (s *sandbox) mustBeInNext(when string) {
	s.t.Helper()
	if !s.inNext.Load() {
		s.t.Fatalf("%s: Next has not been called: the function is held", when)
	}
}

// freeze lets wall time pass; the monotonic clock stands still unless running.
func (s *sandbox) freeze(d time.Duration, running bool) {
	s.mustBeInNext("before a freeze")
	if running {
		time.Sleep(d)
	} else {
		s.jump.Add(int64(d))
	}
}

// invoke delivers an INVOKE with 10 s to the deadline.
func (s *sandbox) invoke(id string) {
	s.t.Helper()
	s.mustBeInNext("before INVOKE " + id)
	s.events <- lambdaapi.Event{Type: lambdaapi.Invoke, RequestID: id, Deadline: s.wall().Add(10 * time.Second)}
	synctest.Wait()
}

// emit is the function's SDK sending one record.
func (s *sandbox) emit(sig otlp.Signal, size int) {
	s.post(otlp.Payload{Signal: sig, Body: make([]byte, size), Size: size, Records: 1, Received: s.wall()})
}

// post is a request of the function's SDK.
func (s *sandbox) post(p otlp.Payload) {
	s.requests.Add(1)
	_ = (*intake)(s.app).Send(s.t.Context(), p)
	s.requests.Add(-1)
	s.app.notify()
	synctest.Wait()
}

// returned is the runtime calling next: its runtimeDone arrives 25 ms later.
func (s *sandbox) returned(id string) {
	end := s.wall()
	time.Sleep(25 * time.Millisecond)
	s.app.telemetryEvent(lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: id, Time: end})
	synctest.Wait()
}

// held runs the clock until Next is called, and says how long that took.
func (s *sandbox) held() time.Duration {
	begin := time.Now()
	for !s.inNext.Load() && time.Since(begin) < time.Minute {
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	return time.Since(begin)
}

func (s *sandbox) setBackend(f func(ctx context.Context, p otlp.Payload) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backend = f
}

func (s *sandbox) sent() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts
}

// delivered is the records of all signals that the backend took.
func (s *sandbox) delivered() (n int64) {
	s.app.ledger.mu.Lock()
	defer s.app.ledger.mu.Unlock()
	for _, e := range s.app.ledger.entries {
		n += e.delivered.records
	}
	return n
}

// shutdown ends the environment and checks the ledger.
func (s *sandbox) shutdown() (took time.Duration) {
	s.t.Helper()
	s.mustBeInNext("before SHUTDOWN")
	s.events <- lambdaapi.Event{Type: lambdaapi.Shutdown, Deadline: s.wall().Add(1400 * time.Millisecond), ShutdownReason: "spindown"}
	ev := <-s.ended
	begin := time.Now()
	s.app.shutdown(s.t.Context(), ev)
	s.app.settle()
	if !strings.Contains(s.log.String(), "balanced=true") {
		s.t.Errorf("the ledger does not balance:\n%s", s.log)
	}
	return time.Since(begin)
}

func bubble(name string, t *testing.T, o options, f func(t *testing.T, s *sandbox)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, newSandbox(t, o)) })
	})
}

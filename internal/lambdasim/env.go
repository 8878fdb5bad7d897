package lambdasim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// ErrClosed is what calls answer after Shutdown or Close, and after a Managed Instances environment failed:
// there it is not reset but replaced.
var ErrClosed = errors.New("lambdasim: the environment has ended")

var errLimit = errors.New("time limit reached")

// Env is one execution environment. Its methods are safe for use by several goroutines; on demand,
// invocations wait for one another.
type Env struct {
	cfg    Config
	id     identity
	addr   string
	rec    recorder
	clock  *stopClock // runs while the processes do
	hub    *hub
	group  *cgroup // nil where nothing needs it
	server *http.Server
	served chan struct{}      // closed when the server's goroutine is gone
	ctx    context.Context    // ends with Close
	cancel context.CancelFunc // of ctx

	turn sync.Mutex // held by whoever moves the lifecycle on: Start, Invoke, Shutdown, Close

	// Guarded by turn.
	ended       bool
	frozen      bool
	initialised bool // the init phase succeeded and no invocation came yet

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever something that mu guards changes
	box      *sandbox      // the current incarnation; nil after a reset
	last     *sandbox      // the one before
	lastInit InitReport

	logMu sync.Mutex // guards writes to cfg.Log
}

// Start makes an environment, starts its processes and runs the init phase; between this and the first
// invocation the environment is frozen.
//
// An *InitError tells that the init phase failed: the environment is still usable, and, as on the platform,
// the next Invoke tries again. With every other error it is nil. Close it in any case where it is not.
func Start(ctx context.Context, cfg Config) (*Env, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	group, err := newCgroup(cfg)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lambdasim: listen for the runtime API: %w", err), group.remove())
	}
	e := &Env{
		cfg:     cfg,
		id:      newIdentity(cfg),
		addr:    ln.Addr().String(),
		clock:   newStopClock(),
		group:   group,
		served:  make(chan struct{}),
		changed: make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.hub = newHub(e.ctx, e.clock, &e.rec)
	e.server = &http.Server{Handler: e.routes()}
	go func() {
		defer close(e.served)
		e.server.Serve(ln) // ends with ErrServerClosed
	}()

	e.turn.Lock()
	defer e.turn.Unlock()
	rep, err := e.initialise(ctx, phaseInit, time.Now().Add(cfg.InitTimeout))
	if err != nil {
		e.endLocked()
		return nil, err
	}
	if err := e.freeze(); err != nil {
		e.endLocked()
		return nil, err
	}
	if rep.Status != StatusSuccess {
		return e, &InitError{rep}
	}
	e.initialised = true
	return e, nil
}

// Init is the report of the last init phase.
func (e *Env) Init() InitReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastInit
}

// Addr is the address of the emulated APIs: AWS_LAMBDA_RUNTIME_API.
func (e *Env) Addr() string { return e.addr }

// Shutdown thaws the environment and ends it as the platform does: SIGTERM for the function, the SHUTDOWN
// event for the extensions, SIGKILL for what is left when the window closes. The reason is one of spindown,
// timeout and failure; empty means spindown. ctx is not consulted: the window bounds the call.
func (e *Env) Shutdown(_ context.Context, reason string) (ShutdownReport, error) {
	if reason == "" {
		reason = reasonSpindown
	}
	e.turn.Lock()
	defer e.turn.Unlock()
	if e.ended {
		return ShutdownReport{}, ErrClosed
	}
	if err := e.thawForSignals(); err != nil {
		e.endLocked()
		return ShutdownReport{}, err
	}
	e.mu.Lock()
	box := e.box
	e.mu.Unlock()
	rep := ShutdownReport{Reason: reason, Start: time.Now()}
	if box != nil {
		rep = e.stop(box, reason)
	}
	rep.End = time.Now()
	return rep, e.endLocked()
}

// Close kills whatever still runs and gives everything back: processes, cgroups, the listener. It may be
// called at any time and more than once.
func (e *Env) Close() error {
	e.cancel() // an invocation under way gives up
	e.turn.Lock()
	defer e.turn.Unlock()
	return e.endLocked()
}

// endLocked kills the processes and releases everything. The caller holds turn.
func (e *Env) endLocked() error {
	if e.ended {
		return nil
	}
	e.ended = true
	err := e.thaw()
	e.mu.Lock()
	box := e.box
	e.mu.Unlock()
	if box != nil {
		e.kill(box)
	}
	e.cancel()
	e.server.Close()
	<-e.served
	e.hub.wait()
	return errors.Join(err, e.group.remove())
}

// notifyLocked wakes every await. The caller holds mu.
func (e *Env) notifyLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// await blocks until ok, which is called with mu held, is true. It answers the sandbox's fault, errLimit, or
// the error of the context that ended (ErrClosed for Close) if that comes first.
func (e *Env) await(ctx context.Context, box *sandbox, limit time.Time, ok func() bool) error {
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	for {
		e.mu.Lock()
		done, fault, changed := ok(), box.fault, e.changed
		e.mu.Unlock()
		switch {
		case done:
			return nil
		case fault != nil:
			return fault
		}
		select {
		case <-changed:
		case <-timer.C:
			return errLimit
		case <-ctx.Done():
			return ctx.Err()
		case <-box.over:
			return ErrClosed
		case <-e.ctx.Done():
			return ErrClosed
		}
	}
}

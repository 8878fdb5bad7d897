// Package flush moves payloads from the queue to their destinations: take, merge, compress once, send, and
// give back what could not be sent. Each signal has one request in flight; what arrives meanwhile is merged
// into the next one. The package also holds the rules of when to flush and for how long.
package flush

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Recorder learns the fate of every record that leaves the queue: the ledger. Bytes are accepted bytes. Its
// methods are called from several goroutines.
type Recorder interface {
	Delivered(sig otlp.Signal, records, bytes int)
	Dropped(sig otlp.Signal, why otlp.Reason, records, bytes int, cause error)
}

// Route is where one signal's payloads go, and how.
type Route struct {
	Sink        otlp.Sink        // it must not keep a payload after Send has returned
	Compression otlp.Compression // what a request leaves with
	NoJSON      bool             // the destination takes protobuf only: JSON is transcoded
	MaxBytes    int              // of one request, uncompressed: the destination's limit
	BatchBytes  int              // uncompressed bytes merged into one request at most; 0 means MaxBytes
	Ready       func() bool      // whether the sink would take a request now; nil: always. An open breaker is not ready.

	// Open makes the route where something has to come from the network first. It is called before anything is
	// taken from the queue, and again for each export until it succeeds; meanwhile only Ready is used. nil: the
	// route is made.
	Open func(ctx context.Context) (Route, error)

	// Refuse is the mistake that leaves the signal without a destination: what is queued is dropped.
	Refuse error
}

// Config is what a Flusher needs.
type Config struct {
	Queue    *buffer.Queue
	Routes   [otlp.SignalCount]Route
	Recorder Recorder
	Changed  func() // called when a signal's export has ended; must not block; nil: not wanted

	// Settled is told of each payload taken from the queue when all its records are delivered or dropped, and nothing
	// here refers to its Body any more. It must not block; nil: not wanted.
	Settled func(otlp.Payload)
}

// Flusher exports the queue, each signal on its own goroutine while there is something to send: one signal's
// failure never cancels another's. It is safe for concurrent use.
type Flusher struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	cfg    Config
	pack   packer

	mu      sync.Mutex
	drains  [otlp.SignalCount]drain
	changed chan struct{} // closed and replaced whenever a drain ends
}

// drain is the state of one signal's goroutine, guarded by Flusher.mu.
type drain struct {
	running bool
	upto    buffer.Mark             // how far it goes
	ctx     context.Context         // of the request that is under way, or the next one; only the goroutine replaces it
	recall  context.CancelCauseFunc // ends it
	err     error                   // what ended the last one; nil where it sent everything
}

// New makes a Flusher whose exports live until ctx ends or Stop.
func New(ctx context.Context, cfg Config) *Flusher {
	f := &Flusher{cfg: cfg, changed: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	return f
}

// Start exports what is queued up to mark, beside the caller. A signal that is exporting already goes on up
// to mark; one whose route is not ready stays queued.
func (f *Flusher) Start(upto buffer.Mark) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sig := range otlp.Signals() {
		d := &f.drains[sig]
		if d.running {
			d.upto = max(d.upto, upto)
			continue
		}
		if !f.startsLocked(sig, upto) {
			continue
		}
		*d = drain{running: true, upto: upto}
		d.ctx, d.recall = context.WithCancelCause(f.ctx)
		go f.run(sig)
	}
}

func (f *Flusher) ready(sig otlp.Signal) bool {
	ready := f.cfg.Routes[sig].Ready
	return ready == nil || ready()
}

// Starts says whether Start would begin an export of some signal.
func (f *Flusher) Starts(upto buffer.Mark) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sig := range otlp.Signals() {
		if f.startsLocked(sig, upto) {
			return true
		}
	}
	return false
}

// startsLocked says whether an export of the signal would begin. The caller holds mu.
func (f *Flusher) startsLocked(sig otlp.Signal, upto buffer.Mark) bool {
	return !f.drains[sig].running && f.cfg.Queue.Has(sig, upto) && f.ready(sig)
}

// Busy says whether a signal is being exported.
func (f *Flusher) Busy(sig otlp.Signal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drains[sig].running
}

// Recall returns what ends the signal's request that is under way now, and no later one: what it has in its hands
// is queued again. It is nil where nothing is being exported.
func (f *Flusher) Recall(sig otlp.Signal) context.CancelCauseFunc {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.drains[sig].running {
		return nil
	}
	return f.drains[sig].recall
}

// Flush exports everything queued and waits until that is done, has failed, or ctx ends. Its result is nil
// where nothing is left; else it names the signals that are, with the reason.
func (f *Flusher) Flush(ctx context.Context) error {
	f.Start(buffer.Everything)
	for {
		running, changed, err := f.state()
		if !running {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("flush: still exporting: %w", context.Cause(ctx))
		}
	}
}

// state is whether a drain is running, what is closed when one ends, and why signals are still queued.
func (f *Flusher) state() (running bool, changed <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sig := range otlp.Signals() {
		d := &f.drains[sig]
		running = running || d.running
		if !d.running && f.cfg.Queue.Has(sig, buffer.Everything) {
			err = errors.Join(err, fmt.Errorf("flush %s: %w", sig, or(d.err, errNotReady)))
		}
	}
	return running, f.changed, err
}

var errNotReady = errors.New("the destination is not ready")

// or is err, or fallback where there is none.
func or(err, fallback error) error {
	if err != nil {
		return err
	}
	return fallback
}

// Stop ends the exports: their contexts end with cause, and Stop returns when every goroutine is done. What
// was not sent is in the queue again.
func (f *Flusher) Stop(cause error) {
	f.cancel(cause)
	for {
		running, changed, _ := f.state()
		if !running {
			return
		}
		<-changed
	}
}

// run is the goroutine of one signal.
func (f *Flusher) run(sig otlp.Signal) {
	for {
		f.mu.Lock()
		upto := f.drains[sig].upto
		f.mu.Unlock()
		err := f.drain(sig, upto)
		if f.finished(sig, err) {
			return
		}
	}
}

// finished ends a signal's goroutine, unless Start has asked for more meanwhile.
func (f *Flusher) finished(sig otlp.Signal, err error) bool {
	f.mu.Lock()
	d := &f.drains[sig]
	if err == nil && f.cfg.Queue.Has(sig, d.upto) {
		f.mu.Unlock()
		return false
	}
	d.recall(nil)
	d.running, d.err = false, err
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if f.cfg.Changed != nil {
		f.cfg.Changed()
	}
	return true
}

// drain sends what is queued of a signal, batch by batch, until nothing up to mark is left or the destination
// fails. It is the synchronous core: everything above only decides when it runs.
func (f *Flusher) drain(sig otlp.Signal, upto buffer.Mark) error {
	r := &f.cfg.Routes[sig]
	if r.Open != nil {
		if err := f.open(f.drains[sig].ctx, sig); err != nil {
			return err
		}
	}
	limit := r.MaxBytes
	if r.BatchBytes > 0 {
		limit = min(limit, r.BatchBytes)
	}
	for {
		batch := f.cfg.Queue.Take(sig, limit, upto)
		if batch == nil {
			return nil
		}
		if r.Refuse != nil {
			records, bytes := settle(batch)
			f.cfg.Recorder.Dropped(sig, otlp.DroppedMisconfigured, records, bytes, r.Refuse)
			f.settled(batch)
			continue
		}
		rest, err := f.guarded(f.drains[sig].ctx, sig, batch)
		f.cfg.Queue.Restore(rest)
		if err != nil {
			return err
		}
		f.settled(batch)
		f.renew(sig)
	}
}

// settled passes on that nothing of a batch is left.
func (f *Flusher) settled(batch []buffer.Item) {
	if f.cfg.Settled != nil {
		for _, it := range batch {
			f.cfg.Settled(it.Payload)
		}
	}
}

// open puts the route that Open makes in its own place. A bug on the way leaves the signal without a destination.
func (f *Flusher) open(ctx context.Context, sig otlp.Signal) (err error) {
	var made Route
	defer func() {
		if v := recover(); v != nil {
			made, err = Route{Refuse: fmt.Errorf("BUG: open the route of %s: %v\n%s", sig, v, debug.Stack())}, nil
		}
		if err == nil {
			f.mu.Lock()
			f.cfg.Routes[sig] = made // read elsewhere under mu, or by this goroutine and those that follow it
			f.mu.Unlock()
		}
	}()
	made, err = f.cfg.Routes[sig].Open(ctx)
	return err
}

// renew makes sure that a Recall from before does not end a signal's next request.
func (f *Flusher) renew(sig otlp.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := &f.drains[sig]
	d.recall(nil)
	d.ctx, d.recall = context.WithCancelCause(f.ctx)
}

// guarded delivers a batch and survives a bug on the way: what was in its hands is counted, and the function
// runs on.
func (f *Flusher) guarded(ctx context.Context, sig otlp.Signal, batch []buffer.Item) (rest []buffer.Item, err error) {
	s := sending{f: f, route: &f.cfg.Routes[sig], sig: sig}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("BUG: export of %s: %v\n%s", sig, v, debug.Stack())
			s.dropUnsettled(batch, err)
			rest = nil
		}
	}()
	return s.deliver(ctx, batch)
}

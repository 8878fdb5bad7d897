// Package extension is the otlp-relay Lambda extension as an importable app: configuration, wiring, the one
// select loop and the ledger.
package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
	"github.com/otlp-relay/otlp-relay/internal/tune"
)

// Version is the extension's own, as it shows in the log and in the User-Agent.
const Version = "0.1.0"

// app is the extension put together.
type app struct {
	cfg       Config
	out       io.Writer // takes the log, and what is sent to stdout:
	log       *slog.Logger
	settings  tune.Settings
	ledger    ledger
	queue     *buffer.Queue
	receiver  *receiver.Receiver
	api       *lambdaapi.Client
	flusher   *flush.Flusher
	watch     *export.Watch
	breakers  [otlp.SignalCount]breaker
	openings  [otlp.SignalCount]atomic.Int64          // how often a breaker opened
	refusals  [otlp.SignalCount]atomic.Pointer[error] // mistakes that leave a signal without a destination
	roots     export.Roots
	spool     *spooling // nil: off
	collector tune.Collector
	bodies    otlp.Bodies
	now       func() time.Time // wall clock
	active    func() int       // requests of the function's SDK that are begun and not answered

	client      func(otlp.Signal, *Destination) (otlp.Sink, error) // newClient, but for tests
	pems        pemFiles
	credentials func() (*export.Credentials, error) // one for all that is signed

	vault    *vault // nil where no setting refers to a secret
	redactor redactor
	prefetch sync.Once
	late     sync.Once // it has been said that secrets are late

	wake  chan struct{}
	done  chan lambdaapi.PlatformEvent
	heard atomic.Bool

	own    *selfMetrics // nil where OTLP_RELAY_SELF_METRICS is off, or metrics have no destination
	ending atomic.Bool  // SHUTDOWN has come
}

// Run is the extension's life: from its start to the end of SHUTDOWN. It returns an error only where the
// environment cannot be initialised with it anyway: when the Extensions API refuses it. Everything else
// degrades: a mistake about telemetry must never fail the user's function. Logs go to out.
func Run(ctx context.Context, cfg Config, out io.Writer) error {
	a := newApp(cfg, out)
	a.listen()
	if err := a.register(ctx); err != nil {
		a.log.Error("cannot register with the Extensions API", "error", err)
		return err
	}
	a.connect(ctx) // certificates may take milliseconds to read
	subscribed := a.subscribe(ctx)
	a.announce()
	ev, err := a.loop(subscribed).runSafely(ctx)
	if err != nil {
		return err
	}
	a.shutdown(ctx, ev)
	a.close(ctx)
	a.leave(ev.ShutdownReason)
	a.settle()
	return nil
}

func newApp(cfg Config, out io.Writer) *app {
	a := &app{
		cfg:      cfg,
		out:      out,
		settings: tune.For(cfg.MemoryMB, cfg.BufferBytes),
		api:      lambdaapi.NewClient(cfg.RuntimeAPI),
		roots:    export.Roots{File: cfg.RootsFile},
		now:      wallNow,
		watch:    export.NewWatch(wallNow),
		wake:     make(chan struct{}, 1),
		done:     make(chan lambdaapi.PlatformEvent, 16),
	}
	a.client, a.credentials = a.newClient, sync.OnceValues(a.newCredentials)
	a.vault = a.openVault(a.readSecret)
	a.log = newLogger(out, cfg.LogLevel, cfg.LogJSON, a.hidden())
	a.settings.Apply()
	a.bodies.Garbage = a.collector.Add
	items := cfg.BufferItems
	if items <= 0 {
		items = a.settings.BufferBytes / bytesPerItem
	}
	a.queue = buffer.New(buffer.Limits{Bytes: a.settings.BufferBytes, Records: items, Loose: a.settings.LooseBytes}, &a.bodies, a.evicted)
	if cfg.Spool != "" {
		a.spool = newSpooling(cfg.Spool, a.settings.BufferBytes)
	}
	a.receiver = receiver.New(receiver.Config{
		Sink:     (*intake)(a),
		MaxBytes: min(a.settings.BufferBytes, maxRequestBytes),
		Bodies:   &a.bodies,
		Ended:    a.answered,
	})
	a.active = a.receiver.Active
	return a
}

// evicted follows the queue's dropping an item to make room.
func (a *app) evicted(it buffer.Item) {
	a.ledger.drop(it.Signal, otlp.DroppedQueueFull, it.Records, it.Accounted, nil)
	a.settled(it.Payload)
	if it.Copy != nil {
		it.Copy.Settle(it.Records)
	}
}

// settled follows the end of a payload: its body's memory is for the next one, or garbage.
func (a *app) settled(p otlp.Payload) {
	if p.Lent {
		a.bodies.Return(p.Body)
	} else {
		a.collector.Add(cap(p.Body))
	}
}

// requestGarbage is about what one request leaves behind in the receiver, in bytes, besides its body.
const requestGarbage = 3 << 10

// answered follows a request's answer.
func (a *app) answered() {
	a.collector.Add(requestGarbage)
	a.notify()
}

// notify wakes the loop.
func (a *app) notify() {
	select {
	case a.wake <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// intake is the Sink behind the receiver: it counts a payload and queues it.
type intake app

// Send takes p into memory, and into the spool where there is one; it never fails and waits for nothing.
func (in *intake) Send(ctx context.Context, p otlp.Payload) error {
	in.ledger.accept(p)
	if err := in.refusals[p.Signal].Load(); err != nil {
		in.ledger.drop(p.Signal, otlp.DroppedMisconfigured, p.Records, p.Size, *err)
		(*app)(in).settled(p)
		return nil
	}
	if in.spool != nil {
		in.queue.Add(p, (*app)(in).keep(p))
		return nil
	}
	return in.queue.Send(ctx, p)
}

// listen opens the OTLP listeners. A port in use disables that listener only. Each takes both protocols.
func (a *app) listen() {
	for _, of := range [...]struct{ protocol, setting, addr string }{
		{"OTLP/HTTP", prefix + "HTTP_ADDR", a.cfg.HTTPAddr},
		{"OTLP/gRPC", prefix + "GRPC_ADDR", a.cfg.GRPCAddr},
	} {
		for _, addr := range listenAddrs(of.addr) {
			l, err := receiver.Listen(addr)
			if err != nil {
				if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) { // no IPv6 here: no fault
					a.log.Error("cannot listen for "+of.protocol+": set "+of.setting+" to a free address", "address", addr, "error", err)
				}
				continue
			}
			go func() {
				if err := a.receiver.Serve(l); err != nil {
					a.log.Error(of.protocol+" listener stopped", "address", addr, "error", err)
				}
			}()
		}
	}
}

// listenAddrs is addr, and its like on [::1] where addr is the IPv4 loopback: SDKs are told "localhost", and
// which address that is depends on their resolver.
func listenAddrs(addr string) []string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "127.0.0.1" && host != "localhost" {
		return []string{addr}
	}
	return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
}

// register tells Lambda that the extension is there. It tries for 1 s: init hangs until it succeeds.
func (a *app) register(ctx context.Context) error {
	events := []string{"INVOKE", "SHUTDOWN"}
	if a.cfg.ManagedInstances() {
		events = events[1:]
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		err := a.api.Register(ctx, a.cfg.Name, events)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("register as %q: %w", a.cfg.Name, err)
		}
	}
}

// loop puts the select loop together.
func (a *app) loop(subscribed bool) *loop {
	return &loop{
		log:      a.log,
		now:      a.now,
		next:     a.next,
		active:   a.active,
		thawed:   a.watch.Thawed,
		queue:    a.queue,
		flusher:  a.flusher,
		breakers: a.breakers,
		hosts:    a.hosts(),
		ledger:   &a.ledger,
		garbage:  &a.collector,
		policy: flush.Policy{
			Mode:      a.mode(),
			Interval:  a.cfg.FlushInterval,
			HighWater: a.settings.BufferBytes / 2,
		},
		adapts:     a.mode() == flush.Auto,
		history:    flush.History{Interval: a.cfg.FlushInterval},
		timeout:    a.cfg.FlushTimeout,
		done:       a.done,
		heard:      a.heard.Load,
		wake:       a.wake,
		subscribed: subscribed,
		own:        a.own,
	}
}

// wallNow is the wall time without Go's monotonic reading: what is measured with it may span a freeze, in
// which the monotonic clock may stand still.
func wallNow() time.Time { return time.Now().Round(0) }

// runSafely is run, and survives a bug in it: then the extension only keeps calling Next, so that the
// function goes on.
func (l *loop) runSafely(ctx context.Context) (ev lambdaapi.Event, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l.begin(ctx)
	defer func() {
		if v := recover(); v != nil {
			l.log.Error("BUG: the extension's loop panicked; telemetry now leaves at shutdown only", "panic", v, "stack", string(debug.Stack()))
			ev, err = l.idle(ctx)
		}
	}()
	return l.run(ctx)
}

// idle gives every invocation back at once, until SHUTDOWN.
func (l *loop) idle(ctx context.Context) (lambdaapi.Event, error) {
	for {
		select {
		case l.proceed <- struct{}{}:
		default:
		}
		select {
		case ev := <-l.events:
			if ev.Type == lambdaapi.Shutdown {
				return ev, nil
			}
		case <-ctx.Done():
			return lambdaapi.Event{}, context.Cause(ctx)
		}
	}
}

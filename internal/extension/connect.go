package extension

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// maxBatchBytes is the most that is merged into one request, uncompressed: 2,000 spans. More compresses no
// better, and would keep the flush's scratch memory from being reused. All four signals together never have more
// in flight than the queue may hold.
const maxBatchBytes = 1 << 20

// connect makes the route of every signal that has a destination. Nothing here touches the network; a
// destination that cannot be made degrades its signal.
func (a *app) connect(ctx context.Context) {
	cfg := flush.Config{Queue: a.queue, Recorder: (*recorder)(a), Changed: a.notify, Settled: a.settled}
	for _, sig := range otlp.Signals() {
		d := &a.cfg.Destinations[sig]
		if d.Err == nil {
			cfg.Routes[sig], d.Err = a.firstRoute(sig, d)
		}
		if d.Err != nil {
			a.breakers[sig] = nil
			a.refusals[sig].Store(&d.Err)
			cfg.Routes[sig] = flush.Route{Refuse: d.Err} // of what came before
		}
	}
	a.flusher = flush.New(ctx, cfg)
	a.own = newSelfMetrics(a)
}

// firstRoute is a signal's route at the start, behind its breaker: one that opens later where it takes secrets.
func (a *app) firstRoute(sig otlp.Signal, d *Destination) (flush.Route, error) {
	g := a.gate(sig, d.place())
	a.breakers[sig] = g
	if len(d.Secrets) == 0 {
		r, err := a.route(sig, d, g)
		return r, a.cfg.named(sig, err)
	}
	// A file that cannot be read is known now.
	_, err := a.pems.load(d)
	return flush.Route{Ready: g.Ready, Open: a.open(sig, g)}, a.cfg.named(sig, err)
}

// route makes the chain of Sinks to a destination: breaker, retry, client.
func (a *app) route(sig otlp.Signal, d *Destination, g *gate) (flush.Route, error) {
	client, err := a.client(sig, d)
	if err != nil {
		return flush.Route{}, err
	}
	limit := d.Timeout
	if limit > 0 {
		limit += a.cfg.FlushTimeout // what the retry may begin within
	}
	g.normal.Sink = a.watch.Over(a.retry(client), limit)
	g.probe.Sink = a.watch.Over(client, limit)
	return flush.Route{
		Sink:        g,
		Compression: d.Compression,
		NoJSON:      d.Protocol == GRPC,
		MaxBytes:    d.maxBytes(),
		BatchBytes:  min(a.settings.BufferBytes/otlp.SignalCount, maxBatchBytes),
		Ready:       g.Ready,
	}, nil
}

// retry is a client that tries again once, at once: the invocation may be held meanwhile, the data stays queued, and
// the breaker's windows do the rest. At SHUTDOWN nothing comes later, and it goes on for as long as there is time.
func (a *app) retry(client otlp.Sink) *export.Retry {
	return export.NewRetry(client, export.RetryConfig{
		Budget: a.cfg.FlushTimeout,
		More:   func(failures int) bool { return failures == 1 || a.ending.Load() },
	})
}

// backendWarning logs what a backend says beside a success, each text once in a row.
func (a *app) backendWarning(sig otlp.Signal) func(string) {
	last := "" // only the signal's one export at a time calls
	return func(text string) {
		if text != last {
			last = text
			a.log.Warn("the backend took the data with a warning", "signal", sig.String(), "warning", text)
		}
	}
}

// breakerLog logs a destination's changes of state, and nothing in between. At SHUTDOWN a breaker is closed
// only to try once more, which is no news of the backend.
func (a *app) breakerLog(sig otlp.Signal, host string) func(open bool, cause error) {
	log := a.log.With("signal", sig.String(), "host", host)
	return func(open bool, cause error) {
		if open {
			a.openings[sig].Add(1)
		}
		switch {
		case a.ending.Load():
		case open && errors.As(cause, new(*secretError)):
			log.Warn("a secret cannot be read for now: data stays queued, invocations are not held", "error", cause)
		case open:
			log.Warn("backend out of order: data stays queued, invocations are not held", "error", cause)
		default:
			log.Info("backend works again")
		}
	}
}

// recorder writes what the flush reports into the ledger.
type recorder app

// Delivered counts what the backend took.
func (r *recorder) Delivered(sig otlp.Signal, records, bytes int) {
	r.ledger.deliver(sig, records, bytes)
}

// Dropped counts what is lost for good.
func (r *recorder) Dropped(sig otlp.Signal, why otlp.Reason, records, bytes int, cause error) {
	r.ledger.drop(sig, why, records, bytes, cause)
}

// telemetryBatch is the subscription's least maxBytes; with it a batch costs the platform the least memory.
const telemetryBatch = 262144

// subscribe asks for platform events, in the modes that wait for runtimeDone. It says whether these can be
// expected; where they cannot, the extension carries on without. In the other modes nobody would read what every
// invocation would then have to pay for.
func (a *app) subscribe(ctx context.Context) bool {
	if m := a.mode(); m != flush.End && m != flush.Auto {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	l, err := lambdaapi.ListenTelemetry("", telemetryBatch, a.telemetryEvent)
	if err != nil {
		a.log.Warn("cannot listen for the Telemetry API: invocations are not held for runtimeDone", "error", err)
		return false
	}
	err = a.api.Subscribe(ctx, lambdaapi.Subscription{
		SchemaVersion: "2022-12-13", Types: []string{"platform"},
		MaxItems: 1000, MaxBytes: telemetryBatch, Timeout: 25 * time.Millisecond, URI: l.URI(),
	})
	switch {
	case err == nil:
		return true
	case errors.Is(err, lambdaapi.ErrTelemetryUnsupported):
		a.log.Info("no Telemetry API here (a local emulator): invocations are not held for runtimeDone")
	default:
		a.log.Warn("the Telemetry API refused the subscription: invocations are not held for runtimeDone", "error", err)
	}
	l.Close()
	return false
}

// telemetryEvent passes runtimeDone on to the loop; all else only tells that the subscription works.
func (a *app) telemetryEvent(ev lambdaapi.PlatformEvent) {
	if !a.heard.Swap(true) {
		a.notify()
	}
	if ev.Type != "platform.runtimeDone" {
		return
	}
	select {
	case a.done <- ev:
	default: // the loop has ended, or is far behind: it waits no longer than its budget
	}
}

// announce logs the one line at start, and a line for each mistake in the configuration.
func (a *app) announce() {
	for _, w := range a.cfg.Warnings {
		a.log.Warn(w)
	}
	backends := a.backends()
	var said []string
	for i := range a.cfg.Destinations {
		err := a.cfg.Destinations[i].Err
		if err == nil || slices.Contains(said, err.Error()) {
			continue
		}
		said = append(said, err.Error())
		if err == ErrNoEndpoint && len(backends) > 0 { // as meant, it may well be
			a.log.Info("these signals have no backend: what comes is dropped", "signal", a.signalsWith(err.Error()))
		} else {
			a.log.Error(degraded, "signal", a.signalsWith(err.Error()), "error", err)
		}
	}
	a.log.Info("started", "version", Version, "flush", a.mode().String(), "backend", backends,
		"buffer", a.settings.BufferBytes, "vcpus", fmt.Sprintf("%.2f", a.settings.VCPUs))
}

// signalsWith is the signals that share a mistake.
func (a *app) signalsWith(mistake string) (names []string) {
	for _, sig := range otlp.Signals() {
		if err := a.cfg.Destinations[sig].Err; err != nil && err.Error() == mistake {
			names = append(names, sig.String())
		}
	}
	return names
}

// mode is the flush mode in force.
func (a *app) mode() flush.Mode {
	if a.cfg.ManagedInstances() {
		return flush.Interval // there is no INVOKE to do anything at, and no freeze to fear
	}
	return a.cfg.Flush
}

// hosts is each signal's backend; empty where it has none.
func (a *app) hosts() (hosts [otlp.SignalCount]string) {
	for sig := range a.cfg.Destinations {
		if d := &a.cfg.Destinations[sig]; d.Err == nil {
			hosts[sig] = d.place()
		}
	}
	return hosts
}

// backends is the hosts that telemetry goes to, without repetition.
func (a *app) backends() (hosts []string) {
	for _, host := range a.hosts() {
		if host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

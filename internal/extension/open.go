package extension

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// gate is a destination's circuit breaker, made before what it guards. Where there turns out to be no destination
// it is never closed again: no invocation is held for it.
type gate struct {
	*export.Breaker
	normal, probe late
	refused       atomic.Bool
}

// late is a Sink that is set after what wraps it is made, and before its first use.
type late struct{ otlp.Sink }

func (a *app) gate(sig otlp.Signal, place string) *gate {
	g := &gate{}
	g.Breaker = export.NewBreaker(&g.normal, &g.probe, a.now)
	g.OnChange = a.breakerLog(sig, place)
	return g
}

// Closed says whether the destination is believed to be there and well.
func (g *gate) Closed() bool { return !g.refused.Load() && g.Breaker.Closed() }

// openVault is the vault of all secrets that destinations refer to, or nil where there are none.
func (a *app) openVault(read func(context.Context, reference) (string, error)) *vault {
	v := newVault()
	for _, d := range a.cfg.Destinations {
		for _, r := range d.Secrets {
			if !slices.Contains(v.all, r) {
				v.all = append(v.all, r)
			}
		}
	}
	if len(v.all) == 0 {
		return nil
	}
	v.fetch = func(ctx context.Context, r reference) (string, error) { return a.fetch(ctx, r, read) }
	v.known, v.refused = a.redactor.hide, a.secretRefused
	return v
}

// hidden is what keeps secrets out of the log, or nil where there are none to come.
func (a *app) hidden() func([]string, slog.Attr) slog.Attr {
	if a.vault == nil {
		return nil
	}
	return a.redactor.attr
}

// fetch reads a secret. White space around it is what a careless paste has left. Errors name the variable and the
// reference, never a secret.
func (a *app) fetch(ctx context.Context, r reference, read func(context.Context, reference) (string, error)) (string, error) {
	secret, err := read(ctx, r)
	if secret = strings.TrimSpace(secret); err == nil && secret == "" {
		err = errors.New("it is empty: store the value there")
	}
	if err != nil {
		return "", &secretError{a.cfg.holder(r), r, err}
	}
	return secret, nil
}

// secretError is the failure to read a secret.
type secretError struct {
	variable string // that refers to it
	reference
	err error
}

// Error names the variable, the reference and the cause.
func (e *secretError) Error() string {
	return fmt.Sprintf("%s: %s: %v", e.variable, e.reference, e.err)
}

// Unwrap is the cause.
func (e *secretError) Unwrap() error { return e.err }

// open makes a signal's route once the secrets that it takes are there. Where they cannot be had for the moment the
// breaker opens as it does for a backend that is down, and the next try is left to it; where they cannot be had for
// good, or make no destination, the signal is degraded.
func (a *app) open(sig otlp.Signal, g *gate) func(context.Context) (flush.Route, error) {
	return func(ctx context.Context) (flush.Route, error) {
		secrets, err := a.vault.resolve(ctx, a.cfg.Destinations[sig].Secrets)
		switch {
		case err != nil && ctx.Err() != nil: // called off, which says nothing of the secret
			a.late.Do(func() {
				a.log.Warn("data waits for secrets that have not come: can the services that keep them be reached from here?",
					"secrets", a.cfg.Destinations[sig].Secrets, "error", err)
			})
			return flush.Route{}, err
		case err != nil && maySucceed(err):
			g.Trip(err)
			return flush.Route{}, err
		case err != nil:
			return flush.Route{Refuse: err}, nil // secretRefused has said it
		}
		d, warnings := a.cfg.resolve(sig, secrets)
		for _, w := range warnings {
			a.log.Warn(w)
		}
		route := flush.Route{Refuse: d.Err}
		if d.Err == nil {
			if route, err = a.route(sig, &d, g); err != nil {
				route.Refuse = a.cfg.named(sig, err)
			}
		}
		if route.Refuse != nil {
			a.degrade(route.Refuse, sig)
		}
		return route, nil
	}
}

// secretRefused degrades the signals that need a secret that cannot be had.
func (a *app) secretRefused(r reference, err error) {
	var signals []otlp.Signal
	for _, sig := range otlp.Signals() {
		if slices.Contains(a.cfg.Destinations[sig].Secrets, r) {
			signals = append(signals, sig)
		}
	}
	a.degrade(err, signals...)
}

// degrade takes the destination from signals for good.
func (a *app) degrade(err error, signals ...otlp.Signal) {
	var names []string
	for _, sig := range signals {
		if a.refusals[sig].CompareAndSwap(nil, &err) {
			names = append(names, sig.String())
		}
		if g, ok := a.breakers[sig].(*gate); ok {
			g.refused.Store(true)
		}
	}
	if len(names) > 0 {
		a.log.Error(degraded, "signal", names, "error", err)
	}
	a.notify()
}

// degraded is what the log says of signals without a destination.
const degraded = "degraded: telemetry is accepted and dropped"

// next calls the Extensions API. Secrets are fetched from when it is first called: before that, TLS would take the
// CPU that everybody's init waits for; later, the first data would wait for them.
func (a *app) next(ctx context.Context) (lambdaapi.Event, error) {
	if a.vault != nil {
		a.prefetch.Do(func() {
			go a.vault.resolve(ctx, a.vault.all) // an error is dealt with where a secret is needed
		})
	}
	ev, err := a.api.Next(ctx)
	if err == nil && a.spool != nil {
		a.spool.begin(a)
	}
	return ev, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// runSim is relayctl sim.
func runSim(ctx context.Context, args []string, out io.Writer) error {
	o, err := parseSim(args, out)
	if err != nil {
		return err
	}
	var backend *otlptest.Backend
	destination := o.backend
	if o.backend == builtInBackend && !o.elsewhere() {
		if backend, err = otlptest.StartBackend(otlptest.Options{}); err != nil {
			return fmt.Errorf("start the built-in backend: %w", err)
		}
		defer backend.Close()
		destination = "http://" + backend.Addr()
	}
	o.route(destination)
	if o.logs {
		o.cfg.Log = os.Stderr
	}
	return simulate(ctx, o, backend, out)
}

// elsewhere says whether the user's variables send the extension past the built-in backend.
func (o simOptions) elsewhere() bool {
	return len(o.cfg.Extensions) > 0 && o.cfg.Env[envDestination] != ""
}

// route points function and extension at where they send, unless the user did.
func (o simOptions) route(destination string) {
	exporter := "http://localhost:" + receiverPort
	if len(o.cfg.Extensions) == 0 {
		exporter = destination
	} else if _, ok := o.cfg.Env[envDestination]; !ok {
		o.cfg.Env[envDestination] = destination
	}
	if _, ok := o.cfg.Env[envExporter]; !ok {
		o.cfg.Env[envExporter] = exporter
	}
}

// simulate runs one environment from its init to its shutdown, and shows both and all in between.
func simulate(ctx context.Context, o simOptions, backend *otlptest.Backend, out io.Writer) (err error) {
	env, err := lambdasim.Start(ctx, o.cfg)
	if env == nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Close()) }()
	if err != nil {
		printLogs(out, env)
		return err
	}
	table := newTable(out, o)
	table.init(env.Init())
	runErr := invokeAll(ctx, o, env, table)
	table.summary()
	rep, err := env.Shutdown(context.Background(), "")
	if err != nil && !errors.Is(err, lambdasim.ErrClosed) {
		return errors.Join(runErr, err)
	}
	printShutdown(out, rep)
	printLedger(out, readLedger(env.Record()), backend)
	return runErr
}

// invokeAll runs the invocations, one after another, on Managed Instances each at its time. An interrupt
// ends it early without an error.
func invokeAll(ctx context.Context, o simOptions, env *lambdasim.Env, table *table) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex // guards table and failed
	var failed error
	one := func(i int) {
		inv, err := env.Invoke(ctx, lambdasim.Request{Payload: []byte(o.payload)})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = errors.Join(failed, err)
			return
		}
		table.row(i, inv)
	}
	for i := range o.invocations {
		if i > 0 && !sleepFrozen(ctx, o.interval) {
			return nil
		}
		if o.cfg.ManagedInstances {
			wg.Go(func() { one(i) })
		} else {
			one(i)
		}
		mu.Lock()
		err := failed
		mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
	wg.Wait()
	return failed
}

// sleepFrozen waits; it says whether ctx let it.
func sleepFrozen(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// counts is a number of records for each signal.
type counts [otlp.SignalCount]int

// demoRun is everything that happened.
type demoRun struct {
	Mode      string
	Start     time.Time
	Init      lambdasim.InitReport
	Phases    []demoPhase
	Outages   []outage
	Shutdown  lambdasim.ShutdownReport
	Events    []lambdasim.Event
	Handed    []exchange // SDK to extension
	Delivered []exchange // extension to backend
	Problems  []error    // what the demo's own instruments could not read
}

// demoPhase is one act of the scenario.
type demoPhase struct {
	Name        string
	From, To    time.Time
	Invocations []demoInvocation
}

// demoInvocation is one invocation and how much telemetry the function made in it.
type demoInvocation struct {
	lambdasim.Invocation
	Hung bool // it was told to hang
	Made counts
}

// outage is a time in which the backend was out of order.
type outage struct {
	From, To time.Time
	What     string
}

// order is the event that examples/go takes.
type order struct {
	ID     string `json:"id"`
	Spans  int    `json:"spans"`
	WorkMS int    `json:"work_ms"`
	Hang   bool   `json:"hang,omitempty"`
}

// receipt is its response.
type receipt struct {
	Spans  int `json:"spans"`
	Logs   int `json:"logs"`
	Points int `json:"points"`
}

// The acts.
const (
	phaseCold     = "Cold start"
	phaseFrequent = "Frequent"
	phaseRare     = "Rare"
	phaseFailing  = "Backend answers 503"
	phaseRefusing = "Connections refused"
	phaseRecovery = "Recovery"
	phaseTimeout  = "Timeout"
	phaseNewStart = "New start"
	phaseShutdown = "Shutdown"
)

const (
	demoSpans  = 3  // child spans an invocation
	demoWorkMS = 40 // of the handler
)

// play runs the scenario: some 20 s.
func (s *demoStage) play(ctx context.Context) error {
	acts := []func(context.Context) error{
		s.coldStart, s.frequent, s.rare, s.failing, s.refusing, s.recovery, s.timeout, s.newStart,
	}
	for _, act := range acts {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return s.shutdown(ctx)
}

func (s *demoStage) coldStart(ctx context.Context) error {
	return s.phase(ctx, phaseCold, func() error { return s.invoke(ctx, false) })
}

func (s *demoStage) frequent(ctx context.Context) error {
	return s.phase(ctx, phaseFrequent, func() error { return s.repeat(ctx, 30, 60*time.Millisecond, 0) })
}

func (s *demoStage) rare(ctx context.Context) error {
	return s.phase(ctx, phaseRare, func() error { return s.repeat(ctx, 5, time.Second, 250*time.Millisecond) })
}

func (s *demoStage) failing(ctx context.Context) error {
	s.outage("the backend answers 503", otlptest.Fault{Kind: otlptest.Status, Code: 503, Message: "down for the demo"})
	return s.phase(ctx, phaseFailing, func() error { return s.repeat(ctx, 4, 300*time.Millisecond, 0) })
}

func (s *demoStage) refusing(ctx context.Context) error {
	s.outage("nobody listens", otlptest.Fault{Kind: otlptest.Refuse})
	return s.phase(ctx, phaseRefusing, func() error { return s.repeat(ctx, 4, 300*time.Millisecond, 0) })
}

// recovery heals the backend and invokes until all that waited has arrived: the extension tries a broken
// backend again in growing intervals, and only while an invocation runs.
func (s *demoStage) recovery(ctx context.Context) error {
	s.backend.Heal()
	s.run.Outages[len(s.run.Outages)-1].To = time.Now()
	before, _ := s.tap.account()
	return s.phase(ctx, phaseRecovery, func() error {
		for range 20 {
			if err := s.repeat(ctx, 1, 400*time.Millisecond, 0); err != nil {
				return err
			}
			arrived, err := backendExchanges(s.backend.Requests(), demoDelay)
			if err != nil {
				return err
			}
			if len(missing(before, arrived)) == 0 {
				return s.repeat(ctx, 2, 400*time.Millisecond, 0)
			}
		}
		return nil // what is still missing then shows in the account
	})
}

func (s *demoStage) timeout(ctx context.Context) error {
	return s.phase(ctx, phaseTimeout, func() error { return s.invoke(ctx, true) })
}

func (s *demoStage) newStart(ctx context.Context) error {
	return s.phase(ctx, phaseNewStart, func() error { return s.repeat(ctx, 3, 200*time.Millisecond, 0) })
}

func (s *demoStage) shutdown(ctx context.Context) error {
	if err := pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	return s.phase(ctx, phaseShutdown, func() (err error) {
		s.run.Shutdown, err = s.env.Shutdown(ctx, "")
		if err != nil {
			return fmt.Errorf("shut the environment down: %w", err)
		}
		return nil
	})
}

// phase notes the time of an act and shows its progress.
func (s *demoStage) phase(ctx context.Context, name string, act func() error) error {
	s.run.Phases = append(s.run.Phases, demoPhase{Name: name, From: time.Now()})
	s.show(false)
	err := act()
	s.current().To = time.Now()
	s.show(true)
	return err
}

func (s *demoStage) current() *demoPhase { return &s.run.Phases[len(s.run.Phases)-1] }

// outage has the backend meet every request with f from now on.
func (s *demoStage) outage(what string, f otlptest.Fault) {
	now := time.Now()
	if n := len(s.run.Outages); n > 0 && s.run.Outages[n-1].To.IsZero() {
		s.run.Outages[n-1].To = now
	}
	s.run.Outages = append(s.run.Outages, outage{From: now, What: what})
	s.backend.Fail(f)
}

// repeat invokes n times, each after a pause that grows.
func (s *demoStage) repeat(ctx context.Context, n int, first, more time.Duration) error {
	for i := range n {
		if err := pause(ctx, first+time.Duration(i)*more); err != nil {
			return err
		}
		if err := s.invoke(ctx, false); err != nil {
			return err
		}
	}
	return nil
}

// invoke runs one invocation.
func (s *demoStage) invoke(ctx context.Context, hang bool) error {
	number := 1
	for _, p := range s.run.Phases {
		number += len(p.Invocations)
	}
	event, err := json.Marshal(order{ID: fmt.Sprintf("A-%03d", number), Spans: demoSpans, WorkMS: demoWorkMS, Hang: hang})
	if err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	inv, err := s.env.Invoke(ctx, lambdasim.Request{Payload: event})
	if err != nil {
		return fmt.Errorf("invoke the function: %w", err)
	}
	made := counts{otlp.Traces: demoSpans, otlp.Logs: demoSpans + 1} // of one that hangs: its root span never ends
	if !hang {
		var r receipt
		if err := json.Unmarshal(inv.Response, &r); err != nil && inv.Status == lambdasim.StatusSuccess {
			return fmt.Errorf("read the function's response: %w", err)
		}
		made = counts{otlp.Traces: r.Spans, otlp.Metrics: r.Points, otlp.Logs: r.Logs}
	}
	p := s.current()
	p.Invocations = append(p.Invocations, demoInvocation{Invocation: inv, Hung: hang, Made: made})
	s.show(false)
	return nil
}

// show tells how the current phase goes.
func (s *demoStage) show(done bool) {
	seen, _ := s.tap.account()
	delivered := 0
	for _, sig := range otlp.Signals() {
		delivered += s.backend.Totals(sig).Records
	}
	p := s.current()
	s.progress.phase(done, "%6.1f s  %-20s invocations %2d   added %s   records waiting %d",
		time.Since(s.run.Start).Seconds(), p.Name, len(p.Invocations), addedStats(p.Invocations), max(0, records(seen)-delivered))
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

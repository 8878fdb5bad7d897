package main

import (
	"context"
	"fmt"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

const (
	handlerMS = 50
	roundTrip = 20 * time.Millisecond // to the backend and back
	between   = 10 * time.Millisecond // invocations: frozen
)

// bill is what was seen of invocations with one extension.
type bill struct {
	billed, held, first sample // ms; first is the billed time of each environment's first invocation
}

// variant is an extension with its settings.
type variant struct {
	name, extension string
	vars            map[string]string
	settle          int // invocations after which it has found its way: those before do not count
}

// Auto takes invocations for rare or frequent by its flush interval.
const (
	rareInterval     = 10 * time.Millisecond  // less than twice the time between invocations
	frequentInterval = 200 * time.Millisecond // more, and it need not run for the default's 10 s to see it gather
)

// variants are the floor and each flush mode.
func variants() []variant {
	flush := func(name, mode string, interval time.Duration, settle int) variant {
		vars := map[string]string{"OTLP_RELAY_FLUSH": mode}
		if interval > 0 {
			vars["OTLP_RELAY_FLUSH_INTERVAL"] = interval.String()
		}
		return variant{name, ours, vars, settle}
	}
	return []variant{
		{floor, floor, nil, 1},
		flush("end", "end", 0, 1),
		flush("next", "next", 0, 1),
		flush("interval", "interval", 0, 1),
		flush("auto, rare", "auto", rareInterval, 1),
		flush("auto, frequent", "auto", frequentInterval, 16),
	}
}

// measureBilled compares the billed time of every mode with the floor's.
func measureBilled(ctx context.Context, l *lab) ([]table, error) {
	rounds, invocations := l.n(4, 1), l.n(26, 4)
	t := table{
		title: "Added billed time of an invocation",
		method: fmt.Sprintf("Handler of %d ms that ends with one request of 20 spans; backend %v away; %v frozen between invocations; %d environments "+
			"of %d invocations each, modes in turns. Milliseconds, p50 / p99, without the environment's first invocation, whose billed time has its own column. "+
			"\"Added\" is billed time less the floor's at the same quantile; \"held\" is the part of it after the runtime was done.",
			handlerMS, roundTrip, between, rounds, invocations),
		columns: []string{"memory", "mode", "goal, added", "billed", "added", "held", "first", "verdict"},
	}
	sizes := l.memorySizes()
	if len(sizes) == 0 {
		sizes = []int{0} // full CPU
	}
	vs := variants()
	for _, size := range sizes {
		seen, err := l.billEach(ctx, vs, size, rounds, invocations)
		if err != nil {
			return nil, err
		}
		base := seen[floor]
		for _, v := range vs {
			s := seen[v.name]
			p50, p99 := s.billed.median()-base.billed.median(), s.billed.p99()-base.billed.p99()
			goal, said := billedGoal(v.name, size, p50, p99)
			t.row(memoryName(size), v.name, goal, s.billed.spread(), number(p50)+" / "+number(p99), s.held.spread(), number(s.first.median()), said)
		}
	}
	t.note("`auto` tells rare invocations from frequent ones by `OTLP_RELAY_FLUSH_INTERVAL`: %v here for rare, so that these are, and %v for frequent, "+
		"so that one need not wait for the default's 10 s to see it gather; its first %d invocations, held as `end` holds them, are not counted.",
		rareInterval, frequentInterval, vs[len(vs)-1].settle)
	t.note("`end` waits for `runtimeDone`, which the Telemetry API gives out 25 ms after it happened, and for the export. " +
		"The goal of the others is the floor: what they export leaves while the next handler runs.")
	return []table{t}, nil
}

func memoryName(size int) string {
	if size == 0 {
		return "full CPU"
	}
	return fmt.Sprintf("%d MB", size)
}

// billedGoal is a mode's goal, which is for one whole vCPU, and the verdict.
func billedGoal(mode string, size int, p50, p99 float64) (goal, said string) {
	if size != 1769 && size != 0 {
		return "", ""
	}
	switch mode {
	case "next", "interval":
		return "≤ 1 ms", verdict(p50, 1)
	case "auto, frequent":
		return "≤ 1 / 5 ms", verdict(p50, 1) + " / " + verdict(p99, 5)
	case "end", "auto, rare": // max(round trip, 25 ms) + 5 ms
		return "≤ 30 ms", verdict(p50, 30)
	}
	return "", ""
}

// billEach runs every variant in turns: the extension's telemetry port allows one environment at a time.
func (l *lab) billEach(ctx context.Context, vs []variant, size, rounds, invocations int) (map[string]*bill, error) {
	seen := map[string]*bill{}
	for _, v := range vs {
		seen[v.name] = &bill{}
	}
	for round := range rounds {
		l.say("  %s: round %d of %d", memoryName(size), round+1, rounds)
		for i := range vs {
			v := vs[(i+round)%len(vs)] // nobody is always the first
			if err := l.billOnce(ctx, v, size, invocations, seen[v.name]); err != nil {
				return nil, fmt.Errorf("%s at %s: %w", v.name, memoryName(size), err)
			}
		}
	}
	return seen, nil
}

// billOnce runs one environment, and checks that what it exported has arrived.
func (l *lab) billOnce(ctx context.Context, v variant, size, invocations int, to *bill) error {
	b, err := backend(roundTrip)
	if err != nil {
		return err
	}
	defer b.Close()
	env, err := l.start(ctx, setup{extension: v.extension, memoryMB: max(size, 128), share: size > 0, backend: b, vars: v.vars})
	if err != nil {
		return err
	}
	defer env.Close()
	for i := range invocations + v.settle - 1 {
		inv, err := invoke(ctx, env, work{handlerMS, 20, 1})
		if err != nil {
			return err
		}
		switch {
		case i == 0:
			to.first.addTime(inv.Billed())
		case i >= v.settle:
			to.billed.addTime(inv.Billed())
			to.held.addTime(inv.Added())
		}
		pause(ctx, between)
	}
	if _, err := env.Shutdown(ctx, ""); err != nil {
		return err
	}
	if v.extension != ours {
		return nil
	}
	return arrived(b, 20*(invocations+v.settle-1))
}

func arrived(b *otlptest.Backend, want int) error {
	if got := b.Totals(otlp.Traces).Records; got != want {
		return fmt.Errorf("%d of %d spans arrived", got, want)
	}
	return nil
}

// measureDead compares the billed time with a backend that is out of order with the floor's.
func measureDead(ctx context.Context, l *lab) ([]table, error) {
	rounds, invocations := l.n(3, 1), l.n(35, 4)
	size := 0
	if l.shares {
		size = 1769
	}
	t := table{
		title: "A dead backend",
		method: fmt.Sprintf("As above, at %s; the backend refuses connections, or takes requests and never answers; %d environments of %d invocations. "+
			"\"Held at the first failure\" is the longest that any invocation was held; milliseconds. Budget: 1,000 ms (`OTLP_RELAY_FLUSH_TIMEOUT`).",
			memoryName(size), rounds, invocations),
		columns: []string{"backend", "mode", "goal, added p50", "billed p50 / p99", "added p50", "held p50", "held at the first failure", "verdict"},
	}
	base := &bill{}
	for _, fault := range []otlptest.FaultKind{otlptest.Refuse, otlptest.Hang} {
		for round := range rounds {
			l.say("  %s: round %d of %d", fault, round+1, rounds)
			if err := l.billOnce(ctx, variants()[0], size, invocations, base); err != nil {
				return nil, err
			}
		}
		for _, v := range variants()[1:] {
			s := &bill{}
			for range rounds {
				if err := l.deadOnce(ctx, v, size, invocations, fault, s); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", fault, v.name, err)
				}
			}
			added := s.billed.median() - base.billed.median()
			t.row(fault.String(), v.name, "≤ 1 ms", s.billed.spread(), number(added), number(s.held.median()), number(s.first.median()), verdict(added, 1))
		}
	}
	t.note("The floor's billed time in this run: %s.", base.billed.spread())
	return []table{t}, nil
}

// deadOnce runs one environment with a backend out of order. The longest hold is the first failure's; the
// invocations up to it are not counted with the rest.
func (l *lab) deadOnce(ctx context.Context, v variant, size, invocations int, fault otlptest.FaultKind, to *bill) error {
	b, err := backend(roundTrip)
	if err != nil {
		return err
	}
	defer b.Close()
	b.Fail(otlptest.Fault{Kind: fault})
	env, err := l.start(ctx, setup{extension: v.extension, memoryMB: max(size, 128), share: size > 0, backend: b, vars: v.vars})
	if err != nil {
		return err
	}
	defer env.Close()
	const settled = 2 // the first failure is the first invocation's, or the second's where its data waits for that
	var longest time.Duration
	for i := range invocations {
		inv, err := invoke(ctx, env, work{handlerMS, 20, 1})
		if err != nil {
			return err
		}
		longest = max(longest, inv.Added())
		if i >= settled {
			to.billed.addTime(inv.Billed())
			to.held.addTime(inv.Added())
		}
		pause(ctx, between)
	}
	to.first.addTime(longest)
	return nil
}

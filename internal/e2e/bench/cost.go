package main

import (
	"context"
	"fmt"
	"time"
)

// gatherInterval is the flush interval with which the cost of gathering is measured: ten times shorter than the default,
// as is the time until data waits for all of it.
const gatherInterval = 500 * time.Millisecond

// measureCost compares the CPU time of invocations, and takes the slope over the number of spans.
func measureCost(ctx context.Context, l *lab) ([]table, error) {
	const few, many = 20, 420
	rounds, invocations := l.n(5, 1), l.n(40, 4)
	cpu := map[string]*sample{}
	key := func(v variant, spans int) string { return fmt.Sprintf("%s/%d", v.name, spans) }
	all := variants()
	vs := append(all[:3:3], all[len(all)-1]) // floor, end, next, auto
	for i := range vs {
		vs[i].settle = 2 // the first ones connect, and make the encoder
	}
	gathers := &vs[len(vs)-1]
	gathers.name, gathers.vars = "auto, gathering", map[string]string{"OTLP_RELAY_FLUSH_INTERVAL": gatherInterval.String()}
	gathers.settle = l.n(int(20*gatherInterval/(30*time.Millisecond))+1, 16) // from then on data waits for the whole interval
	for round := range rounds {
		l.say("  round %d of %d", round+1, rounds)
		for _, v := range vs {
			for _, spans := range []int{few, many} {
				s := cpu[key(v, spans)]
				if s == nil {
					s = &sample{}
					cpu[key(v, spans)] = s
				}
				if err := l.costOnce(ctx, v, spans, invocations, s); err != nil {
					return nil, fmt.Errorf("%s, %d spans: %w", v.name, spans, err)
				}
			}
		}
	}
	t := table{
		title: "CPU time of an invocation",
		method: fmt.Sprintf("The extension's process alone, full CPU, 20 ms frozen between invocations; the median of %d environments' means over %d invocations each, in turns; one request of %d or %d spans "+
			"an invocation, received, queued, compressed with gzip and sent to a backend at once. From freeze to freeze.", rounds, invocations, few, many),
		columns: []string{"mode", "goal", fmt.Sprintf("%d spans, ms", few), fmt.Sprintf("%d spans, ms", many), "goal", "per further span, µs", "verdict"},
	}
	for _, v := range vs {
		a, b := cpu[key(v, few)].median(), cpu[key(v, many)].median()
		slope := 1000 * (b - a) / (many - few)
		switch v.name {
		case floor:
			t.row(v.name, "", number(a), number(b), "", number(slope), "")
		case gathers.name:
			base := cpu[key(vs[0], few)].median()
			t.row(v.name, "≤ 1.30× floor", fmt.Sprintf("%s (%s)", number(a), ratio(a, base)), number(b), "≤ 2 µs", number(slope),
				verdict(a/base, 1.3)+", "+verdict(slope, 2))
		default:
			t.row(v.name, "≤ 1.1 ms", number(a), number(b), "≤ 2 µs", number(slope), verdict(a, 1.1)+", "+verdict(slope, 2))
		}
	}
	t.note("`auto` has a flush interval of %v here: one export for 16 invocations, where the default of 5 s would have one for 170. Its first %d invocations are "+
		"not counted.", gatherInterval, gathers.settle)
	t.note("In `end` the Telemetry API delivers twice an invocation, with `next` the freeze gathers it; the floor has no subscription. " +
		"A mean holds its share of the garbage collections (1.3 ms, one every 200 invocations or so).")
	t.note("The floor does not validate, keep, compress or send: it shows what the handshake and the receiving of an invocation cost.")
	return []table{t}, nil
}

func (l *lab) costOnce(ctx context.Context, v variant, spans, invocations int, to *sample) error {
	b, err := backend(0)
	if err != nil {
		return err
	}
	defer b.Close()
	env, err := l.start(ctx, setup{extension: v.extension, memoryMB: 1769, backend: b, vars: v.vars})
	if err != nil {
		return err
	}
	defer env.Close()
	var each sample
	for i := range v.settle + invocations {
		inv, err := invoke(ctx, env, work{10, spans, 1})
		if err != nil {
			return err
		}
		if i >= v.settle {
			each.addTime(inv.CPU[v.extension])
		}
		pause(ctx, 20*time.Millisecond)
	}
	to.add(each.mean()) // not the median: a garbage collection is in few of them
	if _, err := env.Shutdown(ctx, ""); err != nil || v.extension != ours {
		return err
	}
	return arrived(b, spans*(v.settle+invocations))
}

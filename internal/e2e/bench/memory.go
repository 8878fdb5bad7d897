package main

import (
	"context"
	"fmt"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// load10k is ten thousand spans in requests of one size.
type load10k struct{ posts, spans int }

// footprint is the resident set of a process through an outage, MB.
type footprint struct{ rest, queued, sent, peak, floor sample }

// measureMemory queues ten thousand spans for a backend that is down, and lets it recover.
func measureMemory(ctx context.Context, l *lab) ([]table, error) {
	t := table{
		title: "Memory",
		method: "128 MB function, default settings. 10,000 spans arrive while the backend refuses connections, then it recovers and takes " +
			"them all. Resident set, MB of 10⁶ bytes.",
		columns: []string{"10,000 spans in", "goal", "floor, peak", "at rest", "all queued", "all sent", "peak", "verdict"},
	}
	// 512 is the batch of an SDK; one request of 10 spans an invocation is what a small function sends.
	for _, load := range []load10k{{20, 500}, {1000, 10}} {
		var f footprint
		for range l.n(5, 1) {
			if err := l.outage(ctx, load, &f); err != nil {
				return nil, err
			}
		}
		said := verdict(f.queued.median(), 14)
		if r := verdict(f.rest.median(), 8); r != said {
			said = "at rest " + r + ", queued " + said
		}
		t.row(fmt.Sprintf("%d requests of %d", load.posts, load.spans), "≤ 8 at rest, ≤ 14 queued", number(f.floor.median()), number(f.rest.median()),
			number(f.queued.median()), number(f.sent.median()), number(f.peak.median()), said)
	}
	t.note("The floor throws the requests away: its figure is what receiving them alone costs. The bodies alone are 5.3 MB and 5.9 MB.")
	return []table{t}, nil
}

// outage is one environment's life through it.
func (l *lab) outage(ctx context.Context, load load10k, to *footprint) error {
	b, err := backend(0)
	if err != nil {
		return err
	}
	defer b.Close()
	b.Fail(otlptest.Fault{Kind: otlptest.Refuse})
	if err := l.discard(ctx, load, b, to); err != nil {
		return err
	}
	env, err := l.start(ctx, setup{extension: ours, memoryMB: 128, backend: b})
	if err != nil {
		return err
	}
	defer env.Close()
	to.rest.add(float64(process(env, ours).RSS) / mb)
	if _, err := invoke(ctx, env, work{spans: load.spans, posts: load.posts}); err != nil {
		return err
	}
	to.queued.add(float64(process(env, ours).RSS) / mb)
	b.Heal()
	pause(ctx, 1500*time.Millisecond) // the breaker's first window
	if _, err := invoke(ctx, env, work{ms: 300, spans: load.spans, posts: 1}); err != nil {
		return err
	}
	p := process(env, ours)
	to.peak.add(float64(p.PeakRSS) / mb)
	to.sent.add(float64(p.RSS) / mb)
	if _, err := env.Shutdown(ctx, ""); err != nil {
		return err
	}
	return arrived(b, (load.posts+1)*load.spans)
}

// discard gives the same requests to the floor.
func (l *lab) discard(ctx context.Context, load load10k, b *otlptest.Backend, to *footprint) error {
	env, err := l.start(ctx, setup{extension: floor, memoryMB: 128, backend: b})
	if err != nil {
		return err
	}
	defer env.Close()
	_, err = invoke(ctx, env, work{spans: load.spans, posts: load.posts})
	to.floor.add(float64(process(env, floor).PeakRSS) / mb)
	return err
}

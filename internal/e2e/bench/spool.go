package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// spoolLife is what was seen of environments with or without a spool.
type spoolLife struct {
	start, rest, few, many, split, queued, reset sample
}

// measureSpool compares OTLP_RELAY_SPOOL=tmp with the default.
func measureSpool(ctx context.Context, l *lab) ([]table, error) {
	var off, on spoolLife
	rounds, invocations := l.n(7, 1), l.n(32, 3)
	for round := range rounds {
		l.say("  round %d of %d", round+1, rounds)
		for _, spool := range []bool{false, true} {
			to := map[bool]*spoolLife{false: &off, true: &on}[spool]
			if err := l.spoolOnce(ctx, spool, invocations, to); err != nil {
				return nil, fmt.Errorf("spool %v: %w", spool, err)
			}
		}
	}
	t := table{
		title: "What the spool costs",
		method: fmt.Sprintf("`OTLP_RELAY_SPOOL=tmp` beside the default, mode `next`, full CPU, 128 MB function, the machine's own /tmp. CPU time is the extension's process alone, kernel included; "+
			"the median of %d environments, in turns, each a mean over %d invocations. At last the backend refuses connections, 1,000 requests of 10 spans are queued, and the "+
			"extension is killed: the invocation after the reset starts a new one, which with a spool reads them all back.", rounds, invocations-2),
		columns: []string{"", "off", "on", "more"},
	}
	row := func(what string, pick func(*spoolLife) sample) {
		a, b := pick(&off).median(), pick(&on).median()
		t.row(what, number(a), number(b), number(b-a))
	}
	row("CPU until first `next`, ms", func(s *spoolLife) sample { return s.start })
	row("resident at rest, MB", func(s *spoolLife) sample { return s.rest })
	row("CPU of an invocation, 1 request of 20 spans, ms", func(s *spoolLife) sample { return s.few })
	row("CPU of an invocation, 1 request of 420 spans, ms", func(s *spoolLife) sample { return s.many })
	row("CPU of an invocation, 42 requests of 10 spans, ms", func(s *spoolLife) sample { return s.split })
	row("resident with 10,000 spans queued, MB", func(s *spoolLife) sample { return s.queued })
	row("CPU of the invocation after a reset, ms", func(s *spoolLife) sample { return s.reset })
	perSpan := func(s *spoolLife) float64 { return 1000 * (s.many.median() - s.few.median()) / 400 }
	t.row("CPU per further span in a request, µs", number(perSpan(&off)), number(perSpan(&on)), number(perSpan(&on)-perSpan(&off)))
	perRequest := 1000 * (on.split.median() - off.split.median() - on.many.median() + off.many.median()) / 41
	t.row("CPU per further request, µs", "", "", number(perRequest))
	return []table{t}, nil
}

// spoolOnce is the life of one environment.
func (l *lab) spoolOnce(ctx context.Context, spool bool, invocations int, to *spoolLife) error {
	b, err := backend(0)
	if err != nil {
		return err
	}
	defer b.Close()
	tmp := filepath.Join(l.dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	vars := map[string]string{"OTLP_RELAY_FLUSH": "next"}
	if spool {
		maps.Copy(vars, map[string]string{"OTLP_RELAY_SPOOL": "tmp", "TMPDIR": tmp})
	}
	env, err := l.start(ctx, setup{extension: ours, memoryMB: 128, backend: b, vars: vars})
	if err != nil {
		return err
	}
	defer env.Close()
	p := process(env, ours)
	to.start.addTime(p.CPUToFirstNext)
	to.rest.add(float64(p.RSS) / mb)
	sent := 0
	for _, load := range []struct {
		work
		to *sample
	}{{work{10, 20, 1}, &to.few}, {work{10, 420, 1}, &to.many}, {work{10, 10, 42}, &to.split}} {
		var each sample
		for i := range invocations {
			inv, err := invoke(ctx, env, load.work)
			if err != nil {
				return err
			}
			sent += load.spans * load.posts
			if i >= 2 {
				each.addTime(inv.CPU[ours])
			}
			pause(ctx, 20*time.Millisecond)
		}
		load.to.add(each.mean())
	}
	if err := l.spoolReset(ctx, env, b, to); err != nil {
		return err
	}
	if _, err := env.Shutdown(ctx, ""); err != nil || !spool {
		return err
	}
	return arrived(b, sent+10_000+20)
}

// spoolReset queues 10,000 spans for a backend that is down, and kills the extension.
func (l *lab) spoolReset(ctx context.Context, env *lambdasim.Env, b *otlptest.Backend, to *spoolLife) error {
	b.Fail(otlptest.Fault{Kind: otlptest.Refuse})
	defer b.Heal()
	if _, err := invoke(ctx, env, work{0, 10, 1000}); err != nil {
		return err
	}
	p := process(env, ours)
	to.queued.add(float64(p.RSS) / mb)
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		return err
	}
	if inv, err := env.Invoke(ctx, lambdasim.Request{}); err != nil || inv.Reset == nil {
		return fmt.Errorf("killing the extension made no reset: %v %v", inv.Status, err)
	}
	inv, err := invoke(ctx, env, work{100, 20, 1})
	to.reset.addTime(inv.CPU[ours])
	return err
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

const mb = 1e6 // sizes are in decimal megabytes, as the goals are

// starts is what was seen of one extension's starts.
type starts struct {
	register, next, cpu, faults, rss, peak, init sample
}

// measureStart compares cold starts, and the sizes that they have to load.
func measureStart(ctx context.Context, l *lab) ([]table, error) {
	sizes, err := measureSizes(ctx, l)
	if err != nil {
		return nil, err
	}
	full, err := l.starts(ctx, 0, l.n(40, 2))
	if err != nil {
		return nil, err
	}
	f, o := full[floor], full[ours]
	t := table{
		title: "Cold start at full CPU",
		method: fmt.Sprintf("From exec, %d starts each in turns, warm page cache. CPU time is the process's own (all threads, to the nanosecond) until "+
			"its first `event/next` arrives. The function starts beside the extension once that has registered. Resident memory and "+
			"minor page faults: at the freeze after init.", len(o.cpu)),
		columns: []string{"", "goal", "floor", "otlp-relay", "ratio", "verdict"},
	}
	line := func(what string, f, o sample) {
		t.row(what, "", number(f.median()), number(o.median()), ratio(o.median(), f.median()), "")
	}
	line("exec → `register`, ms", f.register, o.register)
	line("exec → first `next`, ms", f.next, o.next)
	relative := o.cpu.median() / f.cpu.median()
	t.row("CPU until first `next`, ms", "≤ 1.30×", number(f.cpu.median()), number(o.cpu.median()), ratio(relative, 1), verdict(relative, 1.3))
	line("minor page faults", f.faults, o.faults)
	t.row("resident at rest, MB", "≤ 8", number(f.rss.median()), number(o.rss.median()), ratio(o.rss.median(), f.rss.median()), verdict(o.rss.median(), 8))
	line("init with the function, ms", f.init, o.init)
	t.note("Init of the function alone: %s ms.", number(full[""].init.median()))
	shares, err := measureShares(ctx, l)
	return append([]table{sizes, t}, shares...), err
}

// measureShares compares cold starts at the CPU shares of memory sizes.
func measureShares(ctx context.Context, l *lab) ([]table, error) {
	if !l.shares {
		return nil, nil
	}
	t := table{
		title: "Cold start at the CPU share of a memory size",
		method: "As above. `init` is the whole init phase with the function, whose start runs beside the extension's on the same share; " +
			"\"alone\" is the function without any extension. Median, and 90th percentile behind the slash.",
		columns: []string{"memory", "figure, ms", "alone", "floor", "otlp-relay", "ratio"},
	}
	for _, size := range l.memorySizes() {
		s, err := l.starts(ctx, size, l.n(24, 2))
		if err != nil {
			return nil, err
		}
		line := func(what string, pick func(*starts) sample) {
			show := func(x sample) string {
				if len(x) == 0 {
					return "–"
				}
				return number(x.median()) + " / " + number(x.quantile(0.9))
			}
			f, o := pick(s[floor]), pick(s[ours])
			t.row(fmt.Sprintf("%d MB", size), what, show(pick(s[""])), show(f), show(o), ratio(o.median(), f.median()))
		}
		line("exec → `register`", func(s *starts) sample { return s.register })
		line("exec → first `next`", func(s *starts) sample { return s.next })
		line("CPU until first `next`", func(s *starts) sample { return s.cpu })
		line("init", func(s *starts) sample { return s.init })
	}
	return []table{t}, nil
}

// starts cold-starts the floor, the extension and the bare function n times each, in turns; at full CPU
// where memoryMB is 0.
func (l *lab) starts(ctx context.Context, memoryMB, n int) (map[string]*starts, error) {
	all := map[string]*starts{ours: {}, floor: {}, "": {}}
	b, err := backend(0)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	s := setup{memoryMB: 1769, backend: b}
	if memoryMB > 0 {
		s.memoryMB, s.share = memoryMB, true
	}
	l.say("  %d starts each, memory %d MB, share %v", n, s.memoryMB, s.share)
	for i := range n {
		order := []string{floor, ours, ""}
		if i%2 == 1 {
			order = []string{"", ours, floor}
		}
		for _, name := range order {
			s.extension = name
			if err := l.startOnce(ctx, s, all[name]); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// startOnce cold-starts one environment and adds what it took.
func (l *lab) startOnce(ctx context.Context, s setup, to *starts) error {
	env, err := l.start(ctx, s)
	if err != nil {
		return err
	}
	defer env.Close()
	to.init.addTime(env.Init().Duration())
	if s.extension == "" {
		return nil
	}
	p := process(env, s.extension)
	to.register.addTime(p.Registered.Sub(p.Started))
	to.next.addTime(p.FirstNext.Sub(p.Started))
	to.cpu.addTime(p.CPUToFirstNext)
	to.faults.add(minorFaults(p))
	to.rss.add(float64(p.RSS) / mb)
	to.peak.add(float64(p.PeakRSS) / mb)
	return nil
}

// minorFaults is field 10 of /proc/<pid>/stat (proc_pid_stat(5)), counted behind the name in parentheses.
func minorFaults(p lambdasim.ProcessStats) float64 {
	stat := text(fmt.Sprintf("/proc/%d/stat", p.PID))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 8 {
		return 0
	}
	n, _ := strconv.ParseFloat(fields[7], 64)
	return n
}

// measureSizes compares binaries and zips for both architectures.
func measureSizes(ctx context.Context, l *lab) (table, error) {
	t := table{
		title:   "Size",
		method:  "Stripped Linux binaries, and each alone in a zip as a layer has it; in MB of 10⁶ bytes.",
		columns: []string{"", "goal", "floor", "otlp-relay", "ratio", "verdict"},
	}
	for _, arch := range []struct {
		goarch, name string
		binary, zip  float64 // goals
	}{{"amd64", "x86_64", 8.0, 3.4}, {"arm64", "arm64", 7.5, 3.2}} {
		var binary, zip [2]float64
		for i, pkg := range []string{"./internal/e2e/floor", "./extension"} {
			out := filepath.Join(l.dir, "size")
			if err := l.build(ctx, out, pkg, "linux", arch.goarch); err != nil {
				return t, err
			}
			info, err := os.Stat(out)
			if err != nil {
				return t, err
			}
			z, err := zipped(out)
			if err != nil {
				return t, err
			}
			binary[i], zip[i] = float64(info.Size())/mb, float64(z)/mb
		}
		line := func(what string, goal float64, v [2]float64) {
			t.row(what, fmt.Sprintf("≤ %.1f", goal), number(v[0]), number(v[1]), ratio(v[1], v[0]), verdict(v[1], goal))
		}
		line("binary, "+arch.name, arch.binary, binary)
		line("zip, "+arch.name, arch.zip, zip)
	}
	return t, l.measureSymbols(ctx, &t)
}

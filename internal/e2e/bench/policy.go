package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// figure is a strategy's outcome with one pattern of invocations, as TestFlushPolicy of internal/extension prints it.
type figure struct {
	mean, p99, most   float64 // added billed time, ms
	late, latest      float64 // delivery delay, p50 and p99, s
	requests, records float64 // requests per 1,000 invocations, records lost
}

// measurePolicy runs the simulation of the flush policy.
func measurePolicy(ctx context.Context, l *lab) ([]table, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^TestFlushPolicy$", "./internal/extension")
	cmd.Dir = l.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("simulate the flush policy: %w\n%s", err, out)
	}
	patterns, strategies, figures, err := parseFigures(string(out))
	if err != nil {
		return nil, err
	}
	t := table{
		title: "When `auto` sends",
		method: "Simulated time: the real loop, queue, flusher, breakers and retries, in an environment that is frozen between invocations and shut down after 10 minutes " +
			"without one; the backend is 20 ms away where nothing else is said. Each cell: " + strings.Join(strategies, " / ") + ". `every 20` is the strategy of exporting at each " +
			"20th INVOKE. Added: billed beyond the handler, mean and 99th percentile of invocations. Delay: from the SDK's request to the backend's taking it, median and " +
			"99th percentile of records, those that waited for SHUTDOWN included.",
		columns: []string{"invocations", "added, mean, ms", "added, p99, ms", "delay, p50", "delay, p99", "requests per 1,000", "records lost"},
	}
	for _, p := range patterns {
		cells := func(format func(figure) string) string {
			var all []string
			for _, s := range strategies {
				all = append(all, format(figures[p+"\t"+s]))
			}
			return strings.Join(all, " / ")
		}
		t.row(p,
			cells(func(f figure) string { return number(f.mean) }),
			cells(func(f figure) string { return number(f.p99) }),
			cells(func(f figure) string { return seconds(f.late) }),
			cells(func(f figure) string { return seconds(f.latest) }),
			cells(func(f figure) string { return count(f.requests) }),
			cells(func(f figure) string { return count(f.records) }))
	}
	t.note("\"Poisson\" is independent invocations, \"one after the other\" has no time between them. Handlers take 50 ms (20 ms where there are 10 a second) and send at their end, " +
		"where nothing else is said. \"Recorded\" is 90 minutes of three functions of the Azure Functions trace 2019 (Shahrad et al., \"Serverless in the Wild\", USENIX ATC 2020; CC BY 4.0), " +
		"which counts by the minute; the moments within a minute are drawn, and so is all else: it is synthetic.")
	t.note("In `auto` the first 10 s of a run of frequent invocations are held: that is the 99th percentile of added time where it is 25 ms and the mean is near 0.")
	t.note("A delay of 10 minutes is that of SHUTDOWN. What is left behind when the traffic stops is a twentieth of a run of invocations at most in `auto`. " +
		"A backend that takes 1.2 s may lose a record at SHUTDOWN, which leaves 1.4 s: nothing can be asked of it twice.")
	return []table{t}, nil
}

// parseFigures reads the lines that begin with "figures": the pattern's place, its name, the strategy and numbers,
// separated by tabs. Patterns ran side by side, so they come in any order.
func parseFigures(out string) (patterns, strategies []string, figures map[string]figure, err error) {
	figures = map[string]figure{}
	places := map[string]string{}
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if fields[0] != "figures" || len(fields) != 11 {
			continue
		}
		place, pattern, strategy := fields[1], fields[2], fields[3]
		var v [7]float64
		for i := range v {
			if v[i], err = strconv.ParseFloat(fields[4+i], 64); err != nil {
				return nil, nil, nil, fmt.Errorf("read the figures of %s with %s: %w", pattern, strategy, err)
			}
		}
		figures[pattern+"\t"+strategy] = figure{v[0], v[1], v[2], v[3], v[4], v[5], v[6]}
		places[pattern] = place
		if !slices.Contains(strategies, strategy) {
			strategies = append(strategies, strategy)
		}
	}
	patterns = slices.Collect(maps.Keys(places))
	slices.SortFunc(patterns, func(a, b string) int { return strings.Compare(places[a], places[b]) })
	if len(figures) == 0 || len(figures) != len(patterns)*len(strategies) {
		return nil, nil, nil, fmt.Errorf("%d figures for %d patterns and %d strategies", len(figures), len(patterns), len(strategies))
	}
	return patterns, strategies, figures, nil
}

// seconds is a delay with its unit.
func seconds(s float64) string {
	switch {
	case s < 1:
		return number(1000*s) + " ms"
	case s < 120:
		return number(s) + " s"
	}
	return number(s/60) + " min"
}

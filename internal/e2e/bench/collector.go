package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// collector is the name of the OpenTelemetry Collector as an extension.
const collector = "collector"

// batchTimeout is how long the batch processor gathers where its configuration says nothing.
const batchTimeout = 200 * time.Millisecond

// collectorConfig is its configuration, but for the processors of the pipeline: what the benchmark's function sends passes
// it as in the OpenTelemetry Lambda layer, which turns the exporter's queue off.
const collectorConfig = `
receivers:
  otlp:
    protocols:
      http: {endpoint: "${env:OTLP_RELAY_HTTP_ADDR}"}
      grpc: {endpoint: "${env:OTLP_RELAY_GRPC_ADDR}"}
processors:
  batch:
exporters:
  otlp_http:
    endpoint: "${env:OTLP_RELAY_ENDPOINT}"
    sending_queue: {enabled: false}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], processors: [%s], exporters: [otlp_http]}
`

// contender is one of those that are compared.
type contender struct {
	variant
	size                                   float64 // of the binary, MB
	start, rest, few, many, resident, peak sample
}

// contenders are two pairs: the collector, and behind it the extension in the mode that does the same.
func contenders() []contender {
	config := func(processors string) map[string]string {
		return map[string]string{"COLLECTOR_CONFIG": fmt.Sprintf(collectorConfig, processors)}
	}
	gathers := map[string]string{"OTLP_RELAY_FLUSH": "auto", "OTLP_RELAY_FLUSH_INTERVAL": batchTimeout.String()}
	// From then on data waits for the whole interval, with 30 ms from one invocation to the next.
	settle := int(20*batchTimeout/(30*time.Millisecond)) + 1
	return []contender{
		{variant: variant{"collector", collector, config(""), 4}},
		{variant: variant{"otlp-relay, end", ours, map[string]string{"OTLP_RELAY_FLUSH": "end"}, 4}},
		{variant: variant{"collector with batch", collector, config("batch"), 4}},
		{variant: variant{"otlp-relay, gathering", ours, gathers, settle}},
	}
}

// measureCollector compares the extension with an OpenTelemetry Collector.
func measureCollector(ctx context.Context, l *lab) ([]table, error) {
	t := table{title: "Beside the OpenTelemetry Collector"}
	if err := l.buildCollector(ctx); errors.Is(err, errNoModules) && os.Getenv("CI") != "true" {
		l.say("SKIPPED: the comparison with the OpenTelemetry Collector: %v", err)
		t.method = "**Left out**: the collector's modules could not be had when this was written. `go build` in internal/e2e/bench/collector fetches them."
		return []table{t}, nil
	} else if err != nil {
		return nil, err
	}
	rounds, invocations := l.n(5, 1), l.n(80, 2)
	all := contenders()
	for i := range all {
		info, err := os.Stat(filepath.Join(l.dir, all[i].extension))
		if err != nil {
			return nil, err
		}
		all[i].size = float64(info.Size()) / mb
	}
	for round := range rounds {
		l.say("  round %d of %d", round+1, rounds)
		for i := range all {
			if err := l.contend(ctx, &all[i], invocations); err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].name, err)
			}
		}
	}
	fillCollector(&t, all, rounds, invocations)
	return []table{t}, nil
}

// fillCollector writes the table of what was seen.
func fillCollector(t *table, all []contender, rounds, invocations int) {
	t.method = fmt.Sprintf("An OpenTelemetry Collector with OTLP receiver (HTTP and gRPC), batch processor and OTLP/HTTP exporter, built in this run from its published modules "+
		"(internal/e2e/bench/collector). It registers as an extension, starts before its first `event/next` and shuts down at SHUTDOWN. The median of %d environments each, in turns; full CPU, "+
		"128 MB function; %d invocations with a request of 20 spans and then %d with one of 420, each means; 20 ms frozen between invocations; gzip to a backend at once. CPU time is the extension's process alone.",
		rounds, invocations, invocations)
	t.columns = []string{"", "goal", "collector", "otlp-relay, `end`", "ratio", "collector, `batch`", "otlp-relay, gathering", "ratio", "verdict"}
	line := func(what string, share float64, pick func(*contender) float64) {
		var v [4]float64
		for i := range all {
			v[i] = pick(&all[i])
		}
		goal, said := "", ""
		if share > 0 {
			goal, said = fmt.Sprintf("≤ 1/%.0f", 1/share), verdict(v[1]/v[0], share)
			if with := verdict(v[3]/v[2], share); with != said {
				said += ", with `batch` " + with
			}
		}
		t.row(what, goal, number(v[0]), number(v[1]), ratio(v[1], v[0]), number(v[2]), number(v[3]), ratio(v[3], v[2]), said)
	}
	line("binary, MB", 0, func(c *contender) float64 { return c.size })
	line("CPU until first `next`, ms", 0, func(c *contender) float64 { return c.start.median() })
	line("resident at rest, MB", 1.0/4, func(c *contender) float64 { return c.rest.median() })
	line("resident after the invocations, MB", 1.0/4, func(c *contender) float64 { return c.resident.median() })
	line("peak resident, MB", 1.0/4, func(c *contender) float64 { return c.peak.median() })
	line("CPU of an invocation, 20 spans, ms", 0, func(c *contender) float64 { return c.few.median() })
	line("CPU of an invocation, 420 spans, ms", 0, func(c *contender) float64 { return c.many.median() })
	line("CPU per further span, µs", 1.0/5, func(c *contender) float64 { return 1000 * (c.many.median() - c.few.median()) / 400 })
	t.note("The collector's exporter has no queue, as the Lambda layer sets it: without `batch` it exports while the function waits for the answer, where `end` exports once the function is done. "+
		"With `batch` it gathers for its default of %v; `otlp-relay, gathering` is `auto` with that flush interval, after its first %d invocations.", batchTimeout, all[3].settle)
	t.note("In the collector's favour: only the components of this pipeline, where the layer has dozens (its own figures are under \"Others, for reference\"); no metrics of its own, which " +
		"the default configuration has; no Telemetry API, to which the extension subscribes. It has Go's default settings. Nor does it keep anything for a backend that is down; what that costs the extension is under \"Memory\".")
	t.note("The collector decodes every span and encodes it again, so that processors can change it; the extension validates and forwards the bytes: " +
		"who needs to change spans on their way needs a collector.")
}

// errNoModules says that what the collector is built from is not there.
var errNoModules = errors.New("its modules could not be fetched")

// buildCollector builds it from its own module, as what is compared with it is built.
func (l *lab) buildCollector(ctx context.Context) error {
	dir := filepath.Join(l.root, "internal", "e2e", "bench", "collector")
	list := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-deps", ".")
	list.Dir = dir
	if msg, err := list.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %v\n%s", errNoModules, err, msg)
	}
	return buildIn(ctx, dir, release, filepath.Join(l.dir, collector), ".", "linux", goarch())
}

// contend is the life of one environment: its start, and then invocations with a request of few and of many spans.
func (l *lab) contend(ctx context.Context, c *contender, invocations int) error {
	b, err := backend(0)
	if err != nil {
		return err
	}
	defer b.Close()
	env, err := l.start(ctx, setup{extension: c.extension, memoryMB: 128, backend: b, vars: c.vars})
	if err != nil {
		return err
	}
	defer env.Close()
	p := process(env, c.extension)
	c.start.addTime(p.CPUToFirstNext)
	c.rest.add(float64(p.RSS) / mb)
	sent := 0
	for _, load := range []struct {
		spans, settle int
		to            *sample
	}{{20, c.settle, &c.few}, {420, 8, &c.many}} {
		var each sample
		for i := range load.settle + invocations {
			inv, err := invoke(ctx, env, work{10, load.spans, 1})
			if err != nil {
				return err
			}
			sent += load.spans
			if i >= load.settle {
				each.addTime(inv.CPU[c.extension])
			}
			pause(ctx, 20*time.Millisecond)
		}
		load.to.add(each.mean())
	}
	p = process(env, c.extension)
	c.resident.add(float64(p.RSS) / mb)
	c.peak.add(float64(p.PeakRSS) / mb)
	if _, err := env.Shutdown(ctx, ""); err != nil {
		return err
	}
	return arrived(b, sent)
}

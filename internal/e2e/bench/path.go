package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
)

// figures is what Go's benchmarks printed: by benchmark, by unit, one value a run.
type figures map[string]map[string]sample

// get is the median of a figure; NaN where the benchmark or the unit is not there.
func (f figures) get(name, unit string) float64 { return f[name][unit].median() }

// goBench runs the benchmarks of a package and reads what they print.
func (l *lab) goBench(ctx context.Context, into figures, pkg, pattern string) error {
	l.say("  go test -bench %s %s", pattern, pkg)
	args := []string{"test", "-run", "^$", "-bench", pattern, "-cpu", "1", "-count", strconv.Itoa(l.n(3, 1)), "-benchtime", "200ms", pkg}
	if l.quick {
		args[len(args)-2] = "5x"
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = l.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run benchmarks of %s: %w\n%s", pkg, err, out)
	}
	into.parse(out)
	return nil
}

// parse reads lines such as "BenchmarkX/case  123  45.6 ns/op  7 B/op".
func (f figures) parse(out []byte) {
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if f[name] == nil {
			f[name] = map[string]sample{}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				f[name][fields[i+1]] = append(f[name][fields[i+1]], v)
			}
		}
	}
}

// measurePath runs the packages' own benchmarks of the way from socket to socket.
func measurePath(ctx context.Context, l *lab) ([]table, error) {
	f := figures{}
	for _, b := range []struct{ pkg, pattern string }{
		{"./internal/otlp", "^Benchmark(ValidateProtobuf|ValidateJSON|Merge|Compress)$"},
		{"./internal/buffer", "^BenchmarkQueue$"},
		{"./internal/flush", "^BenchmarkFlush$"},
		{"./internal/receiver", "^Benchmark(Handler|Loopback)$"},
		{"./internal/export", "^BenchmarkPost$"},
		{"./internal/lambdaapi", "^BenchmarkNext$"},
		{"./internal/tcp", "^BenchmarkWake$"},
	} {
		if err := l.goBench(ctx, f, b.pkg, b.pattern); err != nil {
			return nil, err
		}
	}
	return []table{validateTable(f), stepsTable(f)}, nil
}

// validateTable is what the receiver does with each body, beside what decodes it.
func validateTable(f figures) table {
	t := table{
		title: "Looking at a body",
		method: "One core, the same bytes for all (14 resource attributes, 10 a span, ~490 bytes a span). `Validate` is all that the receiver does with a body " +
			"besides reading it: one pass over every nested message, which also counts the records. Nanoseconds per span, allocations per request.",
		columns: []string{"request", "goal", "`otlp.Validate`", "its allocs", "pdata", "its allocs", "`proto.Unmarshal`", "its allocs", "pdata / ours"},
	}
	for _, enc := range []struct{ title, name string }{{"protobuf", "ValidateProtobuf"}, {"JSON", "ValidateJSON"}} {
		for _, n := range []int{1, 10, 100, 512} {
			cell := func(who, unit string) float64 { return f.get(fmt.Sprintf("%s/%s/%dspans", enc.name, who, n), unit) }
			v, p, u := cell("ours", "ns/span"), cell("pdata", "ns/span"), cell("proto.Unmarshal", "ns/span")
			t.row(fmt.Sprintf("%s, %d spans", enc.title, n), "0 allocs", number(v), count(cell("ours", "allocs/op")),
				number(p), count(cell("pdata", "allocs/op")), number(u), count(cell("proto.Unmarshal", "allocs/op")), ratio(p, v))
		}
	}
	return t
}

// stepsTable is the steps behind it.
func stepsTable(f figures) table {
	t := table{
		title: "From the queue to the wire",
		method: "One core, requests of 10 spans (5.5 KB). The benchmarks are those of the packages: `go test -bench . ./internal/...`. " +
			"\"net/http\" is the same exchange with its Transport; CPU of both ends.",
		columns: []string{"step", "figure", "unit", "allocs", "net/http"},
	}
	us := func(ns float64) string { return number(ns / 1e3) }
	t.row("queue one request", number(f.get("Queue", "ns/op")), "ns", count(f.get("Queue", "allocs/op")), "")
	t.row("merge 1,000 requests, protobuf", us(f.get("Merge/protobuf", "ns/op")), "µs", count(f.get("Merge/protobuf", "allocs/op")), "")
	t.row("merge 1,000 requests, JSON", us(f.get("Merge/json", "ns/op")), "µs", count(f.get("Merge/json", "allocs/op")), "")
	t.row("queue, take, merge and send 1,000 requests, no compression", us(f.get("Flush/none", "ns/op")), "µs", count(f.get("Flush/none", "allocs/op")), "")
	t.row("the same with gzip", us(f.get("Flush/gzip", "ns/op")), "µs", count(f.get("Flush/gzip", "allocs/op")), "")
	for _, to := range []string{"gzip"} {
		name := "Compress/" + to + "/50x10spans"
		t.row(fmt.Sprintf("%s of 50 merged requests (ratio %s)", to, number(f.get(name, "ratio"))),
			number(f.get(name, "ns/span")), "ns/span", count(f.get(name, "allocs/op")), "")
	}
	t.row("receive: handler alone", us(f.get("Handler", "ns/op")), "µs", count(f.get("Handler", "allocs/op")), "")
	t.row("receive: over a kept loopback connection", us(f.get("Loopback/10_spans", "ns/op")), "µs", count(f.get("Loopback/10_spans", "allocs/op")), "")
	t.row("export over a kept loopback connection, CPU", us(f.get("Post/ours", "cpu-ns/op")), "µs", count(f.get("Post/ours", "allocs/op")),
		us(f.get("Post/net/http", "cpu-ns/op"))+" µs, "+count(f.get("Post/net/http", "allocs/op"))+" allocs")
	t.row("be woken by 1 KiB after 2 ms of sleep, and answer: CPU", us(f.get("Wake/ours", "cpu-ns/op")), "µs", "", us(f.get("Wake/net", "cpu-ns/op"))+" µs with package net")
	return t
}

// count is a whole number; a dash for what was not measured.
func count(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// progress shows what the benchmark says in the test's log.
type progress struct{ t *testing.T }

func (p progress) Write(b []byte) (int, error) {
	p.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// TestQuick runs the whole benchmark, with too few repetitions for its figures to mean anything: only that it
// runs and that the document has every table is asserted.
func TestQuick(t *testing.T) {
	out := filepath.Join(t.TempDir(), "docs", "benchmarks.md")
	if err := run(t.Context(), options{out: out, quick: true, progress: progress{t}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, title := range []string{"Size", "Cold start at full CPU", "Memory", "First request over TLS", "Looking at a body", "From the queue to the wire",
		"Added billed time of an invocation", "A dead backend", "When `auto` sends", "CPU time of an invocation", "Beside the OpenTelemetry Collector", "What the spool costs", "First request after a freeze",
		"What telemetry costs the handler", "Others, for reference", "What these figures are not"} {
		_, section, found := strings.Cut(doc, "\n## "+title+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		if !found || title != "What these figures are not" && strings.Count(section, "\n|") < 3 {
			t.Errorf("the document has no table %q", title)
		}
	}
	if !strings.Contains(doc, "Its figures mean nothing") {
		t.Error("a quick run's document does not say that it is one")
	}
}

func TestQuantile(t *testing.T) {
	s := sample{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.2: 1, 0.5: 3, 0.9: 5, 0.99: 5, 1: 5} {
		if got := s.quantile(q); got != want {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if got := number(sample{}.median()); got != "–" {
		t.Errorf("nothing measured shows as %q", got)
	}
}

func TestParseFigures(t *testing.T) {
	out := "=== RUN   TestFlushPolicy\n    figures\t001\tb\tauto\t1\t2\t3\t4\t5\t6\t7\n    figures\t000\ta\tauto\t0.5\t2\t3\t4\t5\t6\t0\nok\n"
	patterns, strategies, figures, err := parseFigures(out)
	if err != nil || strings.Join(patterns, " ") != "a b" || strings.Join(strategies, " ") != "auto" || figures["a\tauto"].mean != 0.5 || figures["b\tauto"].records != 7 {
		t.Errorf("%v %v %v %v", patterns, strategies, figures, err)
	}
	for _, out := range []string{"ok", out + "figures\t001\tb\tend\t1\t2\t3\t4\t5\t6\t7\n", strings.Replace(out, "0.5", "x", 1)} {
		if _, _, _, err := parseFigures(out); err == nil {
			t.Errorf("no error for %q", out)
		}
	}
}

func TestParseGoBench(t *testing.T) {
	f := figures{}
	f.parse([]byte("goos: linux\nBenchmarkX/a_b-2  100  12.5 ns/op  3.00 MB/s  7 B/op  2 allocs/op\nBenchmarkX/a_b-2  100  10.5 ns/op\nPASS\nok  x 1.2s\n"))
	if got := f.get("X/a_b-2", "ns/op"); got != 10.5 || len(f["X/a_b-2"]["ns/op"]) != 2 {
		t.Errorf("ns/op: got %v of %v", got, f)
	}
	if got := f.get("X/a_b-2", "allocs/op"); got != 2 {
		t.Errorf("allocs/op: got %v", got)
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		figure, most float64
		want         string
	}{{1, 1, "met"}, {1.01, 1, "**missed**"}, {sample{}.median(), 1, "not measured"}} {
		if got := verdict(tt.figure, tt.most); got != tt.want {
			t.Errorf("%v of at most %v: got %q, want %q", tt.figure, tt.most, got, tt.want)
		}
	}
}

package main

import (
	"fmt"
	"io"
	"strings"
)

// report is the document: what was measured, in tables.
type report struct {
	machine machine
	quick   bool
	tables  []table
}

// table is one table with what must be known to read it.
type table struct {
	title   string
	method  string
	columns []string
	rows    [][]string
	notes   []string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// note says something below the table.
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

const intro = `# Benchmarks

Written by ` + "`make bench`" + `; figures are medians where nothing else is said, and are never asserted by a test.
"Floor" is the least that a Go extension can be with net/http: it registers, calls ` + "`event/next`" + ` and throws away what it
receives (internal/e2e/floor). It is built and measured in the same run, in turns with the extension, so compare a
figure with its floor rather than with another day's figure.

`

const epilogue = `## What these figures are not

- Not real Lambda. The emulator runs real processes, freezes them between invocations and limits their CPU to the
  share of a memory size (period 20 ms), but the network is loopback, a layer's pages come warm from the page cache,
  and the CPU boost that init has on demand is not given. Read ratios and CPU time first; wall time at 128 MB moves in steps of
  the 20 ms period.
- The emulator and the backend run on the same cores as what they serve. That adds to wall times and hardly to CPU
  times. Other load on the machine shows in the 99th percentiles first.
- Not measured: arm64, memory as Lambda's report counts it.
`

// write renders the document as Markdown.
func (r report) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString(intro)
	r.machine.describe(&b)
	if r.quick {
		b.WriteString("\n**A quick run: it shows that the benchmark works. Its figures mean nothing.**\n")
	}
	for _, t := range r.tables {
		t.write(&b)
	}
	b.WriteString("\n" + epilogue)
	_, err := io.WriteString(w, b.String())
	return err
}

func (t table) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s\n\n", t.title)
	if t.method != "" {
		fmt.Fprintf(b, "%s\n\n", t.method)
	}
	if len(t.columns) == 0 {
		return // left out, as the method says
	}
	writeRow(b, t.columns)
	rule := make([]string, len(t.columns))
	for i := range rule {
		if rule[i] = "--:"; i == 0 {
			rule[i] = "---"
		}
	}
	writeRow(b, rule)
	for _, row := range t.rows {
		writeRow(b, row)
	}
	for i, note := range t.notes {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "- %s\n", note)
	}
}

func writeRow(b *strings.Builder, cells []string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

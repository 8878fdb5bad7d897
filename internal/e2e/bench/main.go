// Command bench measures the extension against the floor, a handshake-only extension, in an emulated Lambda,
// and writes the figures as a document.
//
//	go run ./internal/e2e/bench --out docs/benchmarks.md
//
// It takes about ten minutes; --quick about one, for figures that mean nothing. It runs on Linux; as root it
// can also give processes the CPU share of a memory size.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/e2e/exclusive"
)

func main() {
	out := flag.String("out", "docs/benchmarks.md", "file to write")
	quick := flag.Bool("quick", false, "only show that the benchmark works: about a minute")
	only := flag.String("only", "", "comma-separated parts to run: "+strings.Join(partNames(), ", "))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, options{out: *out, quick: *quick, only: *only, progress: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	out      string
	quick    bool
	only     string
	progress io.Writer
}

// part measures one thing and tells it in tables.
type part struct {
	name string
	run  func(context.Context, *lab) ([]table, error)
}

// parts is in the order of the document.
func parts() []part {
	return []part{
		{"start", measureStart},
		{"memory", measureMemory},
		{"tls", measureTLS},
		{"path", measurePath},
		{"billed", measureBilled},
		{"dead", measureDead},
		{"policy", measurePolicy},
		{"cost", measureCost},
		{"collector", measureCollector},
		{"spool", measureSpool},
		{"thaw", measureThaw},
		{"sdks", measureSDKs},
	}
}

func partNames() (names []string) {
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

// run measures and writes the document.
func run(ctx context.Context, o options) error {
	unlock, err := exclusive.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	r := report{machine: inspect(l.shares), quick: o.quick}
	for _, p := range parts() {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), p.name) {
			continue
		}
		begin := time.Now()
		l.say("%s …", p.name)
		tables, err := p.run(ctx, l)
		if err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
		l.say("%s: %.0f s", p.name, time.Since(begin).Seconds())
		r.tables = append(r.tables, tables...)
	}
	r.tables = append(r.tables, peers())
	r.machine.after = load()
	if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
		return err
	}
	f, err := os.Create(o.out)
	if err != nil {
		return err
	}
	return errors.Join(r.write(f), f.Close())
}

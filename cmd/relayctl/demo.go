package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// demoOptions is what the command line says to `relayctl demo`.
type demoOptions struct {
	extension string // path of the extension's binary; its base name is the extension's name
	function  string // path of the function's binary (examples/go)
	html      string // where to write the picture; empty: nowhere
	flush     string // OTLP_RELAY_FLUSH
	logs      bool   // show what the processes print
}

const (
	demoMemoryMB = 512
	demoTimeout  = 1500 * time.Millisecond // of the function
	demoDelay    = 20 * time.Millisecond   // the backend's distance
)

// runDemo is `relayctl demo`: it plays the demo, prints its report and writes its picture. An error is a mistake
// on the command line, a fault of the demo itself, or a check that failed.
func runDemo(ctx context.Context, args []string, out io.Writer) error {
	opts, err := parseDemo(args, out)
	if err != nil {
		return err
	}
	run, err := playDemo(ctx, opts, newProgress(out))
	if err != nil {
		return err
	}
	report := newDemoReport(run)
	report.print(out)
	if opts.html != "" {
		if err := writeDemoPage(opts.html, run, report); err != nil {
			return err
		}
		fmt.Fprintf(out, "\nPicture: %s\n", opts.html)
	}
	return report.err()
}

// parseDemo reads and checks the command line. Every mistake is a usageError.
func parseDemo(args []string, out io.Writer) (demoOptions, error) {
	var o demoOptions
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprint(out, "Usage: relayctl demo --extension BIN --function BIN [FLAGS]\n\n"+
			"Runs an instrumented function with the extension in an emulated Lambda, through an outage of the backend\n"+
			"and a timeout of the function, and accounts for every record. `make demo` builds both and runs it.\n\nFlags:\n")
		fs.PrintDefaults()
	}
	fs.StringVar(&o.extension, "extension", "", "the extension's `executable`")
	fs.StringVar(&o.function, "function", "", "the function's `executable`, built from examples/go")
	fs.StringVar(&o.html, "html", "", "`file` to write the timeline picture to")
	fs.StringVar(&o.flush, "flush", "auto", "flush `mode` of the extension: auto, end, next or interval")
	fs.BoolVar(&o.logs, "logs", false, "show what the processes print")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, usageError{err}
	}
	if fs.NArg() > 0 {
		return o, misuse("demo takes no argument %q: see relayctl demo --help", fs.Arg(0))
	}
	if !slices.Contains([]string{"auto", "end", "next", "interval"}, o.flush) {
		return o, misuse("--flush=%q is not one of auto, end, next, interval", o.flush)
	}
	for _, b := range []struct{ flag, path string }{{"--extension", o.extension}, {"--function", o.function}} {
		if info, err := os.Stat(b.path); err != nil || info.IsDir() {
			return o, misuse("%s: there is no executable %q: run `make demo`, which builds both", b.flag, b.path)
		}
	}
	var err error
	if o.function, err = filepath.Abs(o.function); err != nil { // a bare name would be looked for in PATH
		return o, fmt.Errorf("resolve --function: %w", err)
	}
	return o, nil
}

// demoStage is what stands while the demo plays: the backend, the tap and the environment.
type demoStage struct {
	backend  *otlptest.Backend
	tap      *tap
	env      *lambdasim.Env
	progress *progress
	run      *demoRun
}

// playDemo sets the stage, plays every phase and gathers what happened.
func playDemo(ctx context.Context, opts demoOptions, p *progress) (*demoRun, error) {
	backend, err := otlptest.StartBackend(otlptest.Options{Keep: true, Delay: demoDelay})
	if err != nil {
		return nil, err
	}
	defer backend.Close()
	if l, err := net.Listen("tcp", telemetryAddr); err != nil {
		return nil, fmt.Errorf("%s, where the extension hears from Lambda when a handler is done, is in use: another extension runs on this machine (make test runs some); try again when it has ended", telemetryAddr)
	} else {
		l.Close()
	}
	receiver, err := freeAddr()
	if err != nil {
		return nil, err
	}
	tap, err := startTap(receiver)
	if err != nil {
		return nil, err
	}
	defer tap.close()

	p.line("An instrumented Go function of %d MB, the extension and a backend %v away, in an emulated Lambda.", demoMemoryMB, demoDelay)
	p.line("Flush mode %s, flush interval %v in place of 5s, as a demo is short. Between invocations all processes are frozen, as on Lambda.\n", opts.flush, demoInterval)
	run := &demoRun{Mode: opts.flush, Start: time.Now()}
	cfg := demoConfig(opts, tap.url(), receiver, backend.URL())
	if opts.logs {
		cfg.Log = p.out
	}
	env, err := lambdasim.Start(ctx, cfg)
	if env != nil {
		defer env.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("start the emulated environment: %w", err)
	}
	run.Init = env.Init()
	s := &demoStage{backend: backend, tap: tap, env: env, progress: p, run: run}
	if err := s.play(ctx); err != nil {
		return nil, err
	}
	return run, s.gather()
}

// demoConfig is the environment: the function's SDK sends to sdk, the extension receives there and sends to
// the backend.
func demoConfig(opts demoOptions, sdk, receiver, backend string) lambdasim.Config {
	return lambdasim.Config{
		Function:   []string{opts.function},
		Extensions: []string{opts.extension},
		Name:       "orders",
		MemoryMB:   demoMemoryMB,
		Timeout:    demoTimeout,
		Env: map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT":    sdk,    // http://localhost:4318 outside a demo
			"OTEL_EXPORTER_OTLP_COMPRESSION": "none", // the tap reads along
			"OTLP_RELAY_ENDPOINT":            backend,
			"OTLP_RELAY_HTTP_ADDR":           receiver,
			"OTLP_RELAY_FLUSH":               opts.flush,
			"OTLP_RELAY_FLUSH_INTERVAL":      demoInterval.String(),
			"AWS_LAMBDA_LOG_FORMAT":          "JSON",
		},
	}
}

// gather takes down what happened.
func (s *demoStage) gather() error {
	var err error
	s.run.Events = s.env.Record()
	s.run.Handed, s.run.Problems = s.tap.account()
	s.run.Delivered, err = backendExchanges(s.backend.Requests(), demoDelay)
	return err
}

const (
	// telemetryAddr is where the extension listens for the Telemetry API. It is fixed (ARCHITECTURE.md).
	telemetryAddr = "127.0.0.1:4319"

	// demoInterval is short, so that auto learns within a second what frequent is.
	demoInterval = 300 * time.Millisecond
)

// freeAddr is a loopback address that nobody listens on just now, for the extension's receiver: the demo must
// not stumble over a collector that runs on the standard port.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port for the extension: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

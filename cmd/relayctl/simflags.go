package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

const (
	builtInBackend = "built-in"
	receiverPort   = "4318" // where the extension receives OTLP/HTTP unless told otherwise

	envDestination = "OTLP_RELAY_ENDPOINT"
	envReceiver    = "OTLP_RELAY_HTTP_ADDR"
	envExporter    = "OTEL_EXPORTER_OTLP_ENDPOINT"
)

// simOptions are the flags of relayctl sim.
type simOptions struct {
	cfg         lambdasim.Config
	invocations int
	interval    time.Duration
	payload     string
	backend     string // a URL, or builtInBackend
	logs        bool
}

// parseSim reads and checks the command line. Every mistake is a usageError.
func parseSim(args []string, out io.Writer) (simOptions, error) {
	o := simOptions{cfg: lambdasim.Config{Env: map[string]string{}}}
	fs := flag.NewFlagSet("sim", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Usage = func() {
		fmt.Fprint(out, "Usage: relayctl sim --function BIN [FLAGS] [-- ARGUMENTS OF THE FUNCTION]\n\n"+
			"Runs a function, and an extension beside it, in an emulated Lambda execution environment, and shows\n"+
			"what each invocation took. Without --extension it is a baseline: the function sends to the backend itself.\n\nFlags:\n")
		fs.PrintDefaults()
	}
	function := fs.String("function", "", "the function's `executable`: a bootstrap, or any client of the Runtime API")
	o.define(fs)
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, usageError{err}
	}
	if *function == "" {
		return o, misuse("--function is missing: name the function's executable")
	}
	o.cfg.Function = append([]string{*function}, fs.Args()...)
	return o, o.check()
}

// define declares the flags that go straight into the options.
func (o *simOptions) define(fs *flag.FlagSet) {
	fs.Func("extension", "an extension's `executable`; may be repeated", func(s string) error {
		o.cfg.Extensions = append(o.cfg.Extensions, s)
		return nil
	})
	fs.Func("env", "a variable `K=V` for function and extension; may be repeated", func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want K=V")
		}
		o.cfg.Env[k] = v
		return nil
	})
	fs.Func("telemetry", "what the Telemetry API does: `MODE` is on (default), 202 (not supported), refused or silent", func(s string) error {
		modes := map[string]lambdasim.TelemetryMode{
			"on": lambdasim.TelemetryOn, "202": lambdasim.TelemetryNotSupported,
			"refused": lambdasim.TelemetryRefused, "silent": lambdasim.TelemetrySilent,
		}
		mode, ok := modes[s]
		if !ok {
			return errors.New("want on, 202, refused or silent")
		}
		o.cfg.Telemetry = mode
		return nil
	})
	fs.BoolFunc("no-freeze", "let processes run between invocations", func(string) error {
		o.cfg.Freeze = lambdasim.FreezeOff
		return nil
	})
	fs.StringVar(&o.cfg.Wrapper, "wrapper", "", "a wrapper `script` for the function, as AWS_LAMBDA_EXEC_WRAPPER")
	fs.IntVar(&o.cfg.MemoryMB, "memory", 512, "memory size in `MB`")
	fs.DurationVar(&o.cfg.Timeout, "timeout", 3*time.Second, "the function's timeout")
	fs.BoolVar(&o.cfg.ManagedInstances, "managed", false, "Lambda Managed Instances: no freeze, invocations may overlap")
	fs.BoolVar(&o.cfg.CPUShare, "cpu", false, "limit the CPU to the share of the memory size (needs root)")
	fs.IntVar(&o.invocations, "invocations", 20, "how many invocations")
	fs.DurationVar(&o.interval, "interval", 100*time.Millisecond, "the pause between two invocations, spent frozen")
	fs.StringVar(&o.payload, "payload", "{}", "the event, as `JSON`")
	fs.StringVar(&o.backend, "backend", builtInBackend, "where the extension sends: a `URL`, or built-in for one that counts")
	fs.BoolVar(&o.logs, "logs", false, "show what the processes print")
}

// check finds what would otherwise fail later and less clearly.
func (o simOptions) check() error {
	if o.invocations < 0 || o.interval < 0 {
		return misuse("--invocations and --interval cannot be negative")
	}
	if o.cfg.Timeout <= 0 {
		return misuse("--timeout %v: want a positive duration", o.cfg.Timeout)
	}
	if !json.Valid([]byte(o.payload)) {
		return misuse("--payload is not JSON: %s", o.payload)
	}
	if o.cfg.CPUShare && os.Geteuid() != 0 {
		return misuse("--cpu needs root: it limits the CPU with a cgroup")
	}
	if o.backend != builtInBackend && !strings.Contains(o.backend, ":") {
		return misuse("--backend %s: want a URL, or %s", o.backend, builtInBackend)
	}
	if err := checkExecutable("--function", o.cfg.Function[0]); err != nil {
		return err
	}
	if o.cfg.Wrapper != "" {
		if err := checkExecutable("--wrapper", o.cfg.Wrapper); err != nil {
			return err
		}
	}
	for _, path := range o.cfg.Extensions {
		if err := checkExecutable("--extension", path); err != nil {
			return err
		}
	}
	return o.checkPort()
}

// checkExecutable says what is wrong with a file, if anything is. A function may also be a command on PATH.
func checkExecutable(name, path string) error {
	if name == "--function" && !strings.Contains(path, "/") {
		if _, err := exec.LookPath(path); err == nil {
			return nil
		}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return misuse("%s %s: there is no such file: build it first", name, path)
	case err != nil:
		return misuse("%s: %w", name, err)
	case info.IsDir():
		return misuse("%s %s: this is a directory: name the executable in it", name, path)
	case info.Mode()&0o111 == 0:
		return misuse("%s %s: the file is not executable: chmod +x it, or name its interpreter", name, path)
	}
	return nil
}

// checkPort makes sure that the extension's port is free, where it uses the usual one.
func (o simOptions) checkPort() error {
	if len(o.cfg.Extensions) == 0 || o.cfg.Env[envReceiver] != "" || o.cfg.Env[envExporter] != "" {
		return nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", receiverPort))
	if errors.Is(err, syscall.EADDRINUSE) {
		return misuse("port %[1]s, on which the extension receives, is in use: stop what listens there, or move both sides: "+
			"--env %[2]s=127.0.0.1:PORT --env %[3]s=http://localhost:PORT", receiverPort, envReceiver, envExporter)
	}
	if err != nil {
		return fmt.Errorf("listen on port %s: %w", receiverPort, err)
	}
	return ln.Close()
}

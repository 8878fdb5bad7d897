package main

import (
	"archive/zip"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// Names of the extensions that are compared.
const (
	ours  = "otlp-relay"
	floor = "floor"
)

// lab is what every part of the benchmark needs.
type lab struct {
	quick    bool
	shares   bool // the CPU share of a memory size can be set
	progress io.Writer
	dir      string // with the built binaries
	root     string // of the module
}

// newLab builds what is measured.
func newLab(ctx context.Context, o options) (*lab, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	l := &lab{quick: o.quick, progress: o.progress, dir: dir, root: filepath.Dir(strings.TrimSpace(string(mod)))}
	for name, pkg := range map[string]string{ours: "./extension", floor: "./internal/e2e/floor", "function": "./internal/e2e/bench/function"} {
		if err := l.build(ctx, filepath.Join(dir, name), pkg, "linux", goarch()); err != nil {
			l.close()
			return nil, err
		}
	}
	if err := l.prepare(); err != nil {
		l.close()
		return nil, err
	}
	if err := l.probe(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// probe finds out whether CPU shares can be set: as root, where the cgroup tree can be written to. Where not,
// the document says so.
func (l *lab) probe(ctx context.Context) error {
	env, err := l.start(ctx, setup{extension: floor, memoryMB: 1769, share: true})
	if err != nil && strings.Contains(err.Error(), "CPUShare") {
		l.say("without CPU shares: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	l.shares = true
	return env.Close()
}

func (l *lab) close() { os.RemoveAll(l.dir) }

func (l *lab) say(format string, args ...any) { fmt.Fprintf(l.progress, format+"\n", args...) }

// n is how often to measure: full times, or quick times where it is only about whether it works.
func (l *lab) n(full, quick int) int {
	if l.quick {
		return quick
	}
	return full
}

// memorySizes are those at whose CPU share to measure; none where shares cannot be set.
func (l *lab) memorySizes() []int {
	switch {
	case !l.shares:
		return nil
	case l.quick:
		return []int{512}
	}
	return []int{128, 512, 1769}
}

// release are the linker's flags of make build.
const release = "-s -w"

// build makes a stripped release binary, as make build does.
func (l *lab) build(ctx context.Context, out, pkg, goos, arch string) error {
	return buildIn(ctx, l.root, release, out, pkg, goos, arch)
}

// buildIn is build in the folder of any module, with any flags for the linker.
func buildIn(ctx context.Context, dir, ldflags, out, pkg, goos, arch string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags="+ldflags, "-o", out, pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}

func goarch() string {
	out, _ := exec.Command("go", "env", "GOHOSTARCH").Output()
	return strings.TrimSpace(string(out))
}

// prepare writes the requests that the function sends.
func (l *lab) prepare() error {
	b := &otlptest.Builder{Name: "bench"}
	for _, spans := range []int{10, 20, 420, 500} {
		body := b.Build(otlp.Traces, otlp.Protobuf, spans).Body
		if err := os.WriteFile(filepath.Join(l.dir, strconv.Itoa(spans)), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// setup is an environment to measure.
type setup struct {
	extension string // ours, floor, or empty for none
	memoryMB  int
	share     bool // with the CPU share of that size
	backend   *otlptest.Backend
	vars      map[string]string
	change    func(*lambdasim.Config) // to run another function than the benchmark's; may be nil
}

// start starts an environment with the benchmark's function. Close it.
func (l *lab) start(ctx context.Context, s setup) (*lambdasim.Env, error) {
	addr, err := freeAddr()
	grpc, err2 := freeAddr()
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	cfg := lambdasim.Config{
		Function: []string{filepath.Join(l.dir, "function")},
		MemoryMB: s.memoryMB,
		CPUShare: s.share,
		Timeout:  30 * time.Second,
		Env:      map[string]string{"OTLP_RELAY_HTTP_ADDR": addr, "OTLP_RELAY_GRPC_ADDR": grpc, "BENCH_OTLP": addr, "BENCH_BODIES": l.dir},
	}
	if s.extension != "" {
		cfg.Extensions = []string{filepath.Join(l.dir, s.extension)}
	}
	if s.backend != nil {
		cfg.Env["OTLP_RELAY_ENDPOINT"] = s.backend.URL()
	}
	for k, v := range s.vars {
		cfg.Env[k] = v
	}
	if s.change != nil {
		s.change(&cfg)
	}
	env, err := lambdasim.Start(ctx, cfg)
	if err != nil {
		if env != nil {
			_ = env.Close()
		}
		return nil, fmt.Errorf("start the environment: %w", err)
	}
	if err := l.checkTelemetry(env); err != nil {
		_ = env.Close()
		return nil, err
	}
	return env, nil
}

// checkTelemetry refuses to measure an extension that could not have its telemetry port: it would hold no
// invocation. A quick run may happen beside other tests that have it.
func (l *lab) checkTelemetry(env *lambdasim.Env) error {
	for _, ev := range env.Record() {
		if !l.quick && ev.Kind == lambdasim.KindLog && strings.Contains(ev.Text, "cannot listen") {
			return fmt.Errorf("something else on this machine uses a port of the extension's: %s", ev.Text)
		}
	}
	return nil
}

// work is what the function does in an invocation.
type work struct {
	ms, spans, posts int
}

// invoke runs the function once and checks that it was not harmed.
func invoke(ctx context.Context, env *lambdasim.Env, w work) (lambdasim.Invocation, error) {
	inv, err := env.Invoke(ctx, lambdasim.Request{
		Payload: fmt.Appendf(nil, `{"work_ms":%d,"spans":%d,"posts":%d}`, w.ms, w.spans, w.posts),
	})
	if err == nil && inv.Status != lambdasim.StatusSuccess {
		err = fmt.Errorf("the function was harmed: %v %w", inv.Status, inv.Error)
	}
	return inv, err
}

// process is what the extension used so far.
func process(env *lambdasim.Env, name string) lambdasim.ProcessStats {
	for _, p := range env.Processes() {
		if p.Name == name {
			return p
		}
	}
	return lambdasim.ProcessStats{}
}

// backend is a healthy backend that answers after delay.
func backend(delay time.Duration) (*otlptest.Backend, error) {
	return otlptest.StartBackend(otlptest.Options{Delay: delay})
}

// pause waits between invocations, while the environment is frozen.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// freeAddr is a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// zipped is the size of a file in a zip, best compression, as a layer is shipped.
func zipped(path string) (int64, error) {
	in, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	var n counter
	z := zip.NewWriter(&n)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	w, err := z.Create(filepath.Base(path))
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(w, in); err != nil {
		return 0, err
	}
	return int64(n), z.Close()
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

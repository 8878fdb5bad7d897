package lambdasim

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// TelemetryMode is what the Telemetry API does with a subscription.
type TelemetryMode int

// The Telemetry API as it may be met.
const (
	TelemetryOn           TelemetryMode = iota // it delivers
	TelemetryNotSupported                      // 202 with Telemetry.NotSupported: what local emulators answer
	TelemetryRefused                           // 403
	TelemetrySilent                            // 200, and then nothing ever comes
)

// FreezeMode is how processes are stopped between invocations.
type FreezeMode int

// The ways to freeze.
const (
	FreezeAuto   FreezeMode = iota // FreezeCgroup where that works, else FreezeSignal
	FreezeCgroup                   // the cgroup freezer, v1 or v2: the processes cannot notice; needs root
	FreezeSignal                   // SIGSTOP and SIGCONT to every process group
	FreezeOff                      // processes go on running
)

// Limits and defaults of the platform (Lambda developer guide).
const (
	maxExtensions     = 10
	maxEnvironment    = 4 << 10
	minMemoryMB       = 128
	maxMemoryMB       = 10240
	defaultTimeout    = 3 * time.Second
	initLimit         = 10 * time.Second
	managedInitLimit  = 130 * time.Second
	defaultConcurrent = 16
)

// Config describes a function and the layer around it. Only Function is required.
type Config struct {
	Function   []string // command of the runtime process: a bootstrap, or an interpreter with arguments
	Extensions []string // executables as a layer has them in extensions/; the base name is the extension's name
	Name       string   // AWS_LAMBDA_FUNCTION_NAME; default: the base name of Function[0]
	TaskRoot   string   // LAMBDA_TASK_ROOT and working directory of the function; default: the current one
	Handler    string   // _HANDLER, the function's own name for its entry; default "bootstrap"
	Wrapper    string   // AWS_LAMBDA_EXEC_WRAPPER: the function's command is run through it

	MemoryMB       int           // default 128
	Timeout        time.Duration // of an invocation; default 3 s
	InitTimeout    time.Duration // default 10 s, on Managed Instances 130 s
	ShutdownWindow time.Duration // default 2 s, 500 ms with internal extensions only; without any it is always 0

	Env       map[string]string // the customer's variables: function and extensions see them
	Telemetry TelemetryMode
	Freeze    FreezeMode
	CPUShare  bool // limit the CPU to what MemoryMB buys (MB/1769 of a core, period 20 ms); needs root

	ManagedInstances bool // Lambda Managed Instances: no freeze, several invocations at once
	MaxConcurrency   int  // AWS_LAMBDA_MAX_CONCURRENCY on Managed Instances; default 16

	Log io.Writer // gets every line the processes print, with the process's name in front; may be nil
}

// withDefaults is c with every zero value replaced, or an error that names the field at fault.
func (c Config) withDefaults() (Config, error) {
	if len(c.Function) == 0 || c.Function[0] == "" {
		return c, errors.New("lambdasim: Config.Function is empty: name the function's executable")
	}
	if c.Name == "" {
		c.Name = filepath.Base(c.Function[0])
	}
	if c.Handler == "" {
		c.Handler = defaultHandler
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = minMemoryMB
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.ManagedInstances && c.MaxConcurrency == 0 {
		c.MaxConcurrency = defaultConcurrent
	}
	if c.InitTimeout == 0 {
		c.InitTimeout = initLimit
		if c.ManagedInstances {
			c.InitTimeout = max(managedInitLimit, c.Timeout)
		}
	}
	exts := make([]string, len(c.Extensions))
	for i, path := range c.Extensions {
		abs, err := filepath.Abs(path)
		if err != nil {
			return c, fmt.Errorf("lambdasim: resolve extension %s: %w", path, err)
		}
		exts[i] = abs
	}
	// The platform starts them in the order of the directory.
	slices.SortFunc(exts, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	c.Extensions = exts
	return c, c.check()
}

func (c Config) check() error {
	size := 0
	for k, v := range c.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			return fmt.Errorf("lambdasim: Config.Env: %q is no variable name", k)
		}
		if reservedEnv[k] {
			return fmt.Errorf("lambdasim: Config.Env: %s is reserved: Lambda sets it", k)
		}
		size += len(k) + len(v)
	}
	for i, path := range c.Extensions[:max(0, len(c.Extensions)-1)] {
		if name := filepath.Base(path); name == filepath.Base(c.Extensions[i+1]) {
			return fmt.Errorf("lambdasim: Config.Extensions: two are named %s", name)
		}
	}
	switch {
	case c.MemoryMB < minMemoryMB || c.MemoryMB > maxMemoryMB:
		return fmt.Errorf("lambdasim: Config.MemoryMB is %d: Lambda takes %d to %d", c.MemoryMB, minMemoryMB, maxMemoryMB)
	case c.Timeout < 0 || c.InitTimeout < 0 || c.ShutdownWindow < 0:
		return errors.New("lambdasim: Config: a duration is negative")
	case size > maxEnvironment:
		return fmt.Errorf("lambdasim: Config.Env is %d bytes: Lambda takes %d", size, maxEnvironment)
	case c.ManagedInstances && c.CPUShare:
		return errors.New("lambdasim: Config.CPUShare: on Managed Instances CPU does not follow from memory")
	case !c.ManagedInstances && c.MaxConcurrency != 0:
		return errors.New("lambdasim: Config.MaxConcurrency is for Managed Instances only")
	}
	return nil
}

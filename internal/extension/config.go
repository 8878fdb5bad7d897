package extension

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Config is all that the outside world says to the extension. ParseConfig makes it.
type Config struct {
	RuntimeAPI         string // host:port of AWS_LAMBDA_RUNTIME_API
	Name               string // the extension's: the base name of its executable
	InitializationType string
	MemoryMB           int // 0 where AWS_LAMBDA_FUNCTION_MEMORY_SIZE does not say

	Flush         flush.Mode
	FlushInterval time.Duration
	FlushTimeout  time.Duration
	BufferBytes   int // 0: by memory size
	BufferItems   int // 0: by BufferBytes
	HTTPAddr      string
	LogLevel      string // debug, info, warn, error
	LogJSON       bool
	SelfMetrics   bool // queue the extension's own metrics beside the function's

	// Resource describes the environment in the extension's own metrics.
	Resource []otlp.Attribute

	Destinations [otlp.SignalCount]Destination

	// Warnings are settings that were not understood, and what is done instead: to be logged.
	Warnings []string
}

// managedInstances is the AWS_LAMBDA_INITIALIZATION_TYPE of an environment that is never frozen.
const managedInstances = "lambda-managed-instances"

// ManagedInstances says whether the environment runs on Lambda Managed Instances: no freeze, no INVOKE events.
func (c *Config) ManagedInstances() bool { return c.InitializationType == managedInstances }

const (
	prefix = "OTLP_RELAY_"

	defaultHTTPAddr      = "127.0.0.1:4318"
	defaultFlushInterval = 5 * time.Second
	defaultFlushTimeout  = time.Second
	defaultTimeout       = 10 * time.Second

	// bytesPerItem is the size of record that the default number of records is made for.
	bytesPerItem = 512

	// maxRequestBytes is the most one request may hold (OTLP specification 1.11, recommended limit).
	maxRequestBytes = 64 << 20
)

// environment reads variables and keeps what has to be said about them.
type environment struct {
	vars     map[string]string
	warnings []string
}

func (e *environment) warn(format string, args ...any) {
	w := fmt.Sprintf(format, args...)
	if !slices.Contains(e.warnings, w) { // what all signals share is said once
		e.warnings = append(e.warnings, w)
	}
}

// ParseConfig reads the configuration from environ, which has the form of os.Environ. name is the path or
// the base name of the executable. It never fails: what it does not understand it replaces by the default and
// reports in Warnings, and a destination that is wrong carries its error.
func ParseConfig(name string, environ []string) Config {
	e := &environment{vars: make(map[string]string, len(environ))}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			e.vars[k] = strings.TrimSpace(v) // an empty value is an unset one (OTel specification, "Parsing empty value")
		}
	}
	c := Config{
		RuntimeAPI:         e.vars["AWS_LAMBDA_RUNTIME_API"],
		Name:               name[strings.LastIndexByte(name, '/')+1:],
		InitializationType: e.vars["AWS_LAMBDA_INITIALIZATION_TYPE"],
		Flush:              e.mode(),
		FlushInterval:      e.duration(prefix+"FLUSH_INTERVAL", defaultFlushInterval),
		FlushTimeout:       e.duration(prefix+"FLUSH_TIMEOUT", defaultFlushTimeout),
		BufferBytes:        e.count(prefix + "BUFFER_BYTES"),
		BufferItems:        e.count(prefix + "BUFFER_ITEMS"),
		HTTPAddr:           e.httpAddr(),
		LogLevel:           e.logLevel(),
		LogJSON:            strings.EqualFold(e.vars["AWS_LAMBDA_LOG_FORMAT"], "JSON"),
	}
	c.MemoryMB, _ = strconv.Atoi(e.vars["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])
	if c.SelfMetrics = e.flag(prefix + "SELF_METRICS"); c.SelfMetrics {
		c.Resource = e.resource(c.MemoryMB)
	}
	for _, sig := range otlp.Signals() {
		c.Destinations[sig] = e.destination(sig, c.HTTPAddr)
	}
	e.reportUnknown()
	c.Warnings = e.warnings
	return c
}

func (e *environment) mode() flush.Mode {
	v := e.vars[prefix+"FLUSH"]
	if v == "" {
		return flush.Auto
	}
	m, ok := flush.ParseMode(strings.ToLower(v))
	if !ok {
		e.warn("OTLP_RELAY_FLUSH=%q is not one of end, next, interval, auto: using auto", v)
	}
	return m
}

// duration reads a Go duration or an integer in milliseconds, as OTLP's own variables have it.
func (e *environment) duration(name string, fallback time.Duration) time.Duration {
	v := e.vars[name]
	if v == "" {
		return fallback
	}
	d, err := time.ParseDuration(v)
	if ms, intErr := strconv.ParseInt(v, 10, 32); intErr == nil {
		d, err = time.Duration(ms)*time.Millisecond, nil
	}
	if err != nil || d < 0 {
		e.warn("%s=%q is neither a duration such as 5s nor a number of milliseconds: using %v", name, v, fallback)
		return fallback
	}
	return d
}

// flag reads a boolean as the OpenTelemetry specification has it: only "true", in any case, is true.
func (e *environment) flag(name string) bool {
	v := strings.ToLower(e.vars[name])
	if v != "" && v != "true" && v != "false" {
		e.warn("%s=%q is neither true nor false: using false", name, v)
	}
	return v == "true"
}

// count reads a positive number; 0 means the default.
func (e *environment) count(name string) int {
	v := e.vars[name]
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		e.warn("%s=%q is not a positive whole number: using the default", name, v)
		return 0
	}
	return n
}

func (e *environment) httpAddr() string {
	v := e.vars[prefix+"HTTP_ADDR"]
	if v == "" {
		return defaultHTTPAddr
	}
	if _, port, err := net.SplitHostPort(v); err != nil || port == "" {
		e.warn("OTLP_RELAY_HTTP_ADDR=%q is not host:port: using %s", v, defaultHTTPAddr)
		return defaultHTTPAddr
	}
	return v
}

func (e *environment) logLevel() string {
	switch v := strings.ToLower(e.vars[prefix+"LOG_LEVEL"]); v {
	case "debug", "info", "warn", "error":
		return v
	case "":
		return "info"
	default:
		e.warn("OTLP_RELAY_LOG_LEVEL=%q is not one of debug, info, warn, error: using info", v)
		return "info"
	}
}

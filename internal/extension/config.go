package extension

import (
	"cmp"
	"errors"
	"maps"
	"net"
	"path/filepath"
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
	BufferBytes   int    // 0: by memory size
	BufferItems   int    // 0: by BufferBytes
	Spool         string // directory of the copies that survive the process; empty: none are kept
	HTTPAddr      string
	GRPCAddr      string
	LogLevel      string // debug, info, warn, error
	LogJSON       bool
	RootsFile     string // SSL_CERT_FILE: where the system's root certificates are, if not where they usually are
	SelfMetrics   bool   // queue the extension's own metrics beside the function's

	// Resource describes the environment in the extension's own metrics.
	Resource []otlp.Attribute

	Destinations [otlp.SignalCount]Destination

	// Warnings are settings that were not understood, and what is done instead: to be logged.
	Warnings []string

	// Sources are the variables that the settings in force were taken from, by the setting's name as it follows
	// OTLP_RELAY_; those of destinations with their signal, as TRACES_ENDPOINT. Defaults are not in it.
	Sources map[string]string

	vars map[string]string // for resolve and env
}

// managedInstances is the AWS_LAMBDA_INITIALIZATION_TYPE of an environment that is never frozen.
const managedInstances = "lambda-managed-instances"

// ManagedInstances says whether the environment runs on Lambda Managed Instances: no freeze, no INVOKE events.
func (c *Config) ManagedInstances() bool { return c.InitializationType == managedInstances }

const (
	prefix = "OTLP_RELAY_"

	defaultHTTPAddr      = "127.0.0.1:4318"
	defaultGRPCAddr      = "127.0.0.1:4317"
	defaultFlushInterval = 5 * time.Second
	defaultFlushTimeout  = time.Second
	defaultTimeout       = 10 * time.Second
	maxDuration          = time.Hour // what is longer was meant in another unit

	minBufferBytes = 4 << 10

	// bytesPerItem is the size of record that the default number of records is made for.
	bytesPerItem = 512

	// maxRequestBytes is the most one request may hold (OTLP specification 1.11, recommended limit).
	maxRequestBytes = 64 << 20
)

// ParseConfig reads the configuration from environ, which has the form of os.Environ. name is the path or
// the base name of the executable. It never fails: what it does not understand it replaces by the default and
// reports in Warnings, and a destination that is wrong carries its error.
func ParseConfig(name string, environ []string) Config {
	vars := make(map[string]string, len(environ))
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			vars[k] = v
		}
	}
	e := newEnvironment(vars, nil)
	c := Config{
		RuntimeAPI:         e.get("AWS_LAMBDA_RUNTIME_API"),
		Name:               name[strings.LastIndexByte(name, '/')+1:],
		InitializationType: e.get("AWS_LAMBDA_INITIALIZATION_TYPE"),
		FlushInterval:      e.duration(e.read("FLUSH_INTERVAL"), defaultFlushInterval, maxDuration),
		FlushTimeout:       e.duration(e.read("FLUSH_TIMEOUT"), defaultFlushTimeout, maxDuration),
		HTTPAddr:           e.addr(e.read("HTTP_ADDR"), defaultHTTPAddr),
		GRPCAddr:           e.addr(e.read("GRPC_ADDR"), defaultGRPCAddr),
		LogLevel:           e.oneOf(e.read("LOG_LEVEL"), "info", "debug", "info", "warn", "error"),
		LogJSON:            strings.EqualFold(e.get("AWS_LAMBDA_LOG_FORMAT"), "JSON"),
		RootsFile:          vars["SSL_CERT_FILE"],
		Sources:            e.sources,
		vars:               vars,
	}
	c.Flush, _ = flush.ParseMode(e.oneOf(e.read("FLUSH"), "auto", "auto", "end", "next", "interval"))
	c.MemoryMB, _ = strconv.Atoi(e.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
	c.BufferBytes = e.count(e.read("BUFFER_BYTES"), "bytes", minBufferBytes, c.maxBufferBytes())
	c.BufferItems = e.count(e.read("BUFFER_ITEMS"), "records", 1, 1<<30)
	// As the OpenTelemetry specification has it: only "true", in any case, is true.
	if c.SelfMetrics = e.oneOf(e.read("SELF_METRICS"), "false", "true", "false") == "true"; c.SelfMetrics {
		c.Resource = e.resource(c.MemoryMB)
	}
	c.Spool = e.spool(c.ManagedInstances())
	for _, sig := range otlp.Signals() {
		c.Destinations[sig] = e.destination(sig, &c)
	}
	if _, port, _ := net.SplitHostPort(c.HTTPAddr); strings.HasSuffix(c.GRPCAddr, ":"+port) {
		e.warn("%[1]sGRPC_ADDR has the port of %[1]sHTTP_ADDR, %[2]s: set one of them to another", prefix, port)
	}
	e.reportUnknown()
	c.Warnings = e.warnings
	return c
}

// spool is the directory of OTLP_RELAY_SPOOL=tmp: a name that is the same in every process of an environment.
func (e *environment) spool(managed bool) string {
	v := e.read("SPOOL")
	switch word := e.oneOf(v, "off", "off", "tmp"); {
	case word == "off":
		return ""
	case managed:
		e.reject(v, "has no use on Managed Instances, where an environment that failed is replaced", "off", "remove it")
		return ""
	}
	return filepath.Join(cmp.Or(e.get("TMPDIR"), "/tmp"), "otlp-relay")
}

// maxBufferBytes is the largest queue that leaves room for what else takes memory in proportion to it
// (tune.Settings.MemoryLimit).
func (c *Config) maxBufferBytes() int {
	if c.MemoryMB <= 0 {
		return 1 << 30
	}
	return c.MemoryMB << 20 / 4
}

// resolve is a signal's destination with what its references stand for, and what has to be said about it. It may
// be called from any goroutine.
func (c *Config) resolve(sig otlp.Signal, secrets map[reference]string) (d Destination, warnings []string) {
	e := newEnvironment(c.vars, secrets)
	d = e.destination(sig, c)
	return d, slices.DeleteFunc(e.warnings, func(w string) bool { return slices.Contains(c.Warnings, w) })
}

// env reads an environment variable.
func (c *Config) env(name string) string { return strings.TrimSpace(c.vars[name]) }

// named is an error about a destination, in which each setting that is called by its general variable is called by
// the one that it was taken from.
func (c *Config) named(sig otlp.Signal, err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, name := range destinationSettings {
		if v := c.Sources[upper(sig)+"_"+name]; v != "" {
			text = strings.ReplaceAll(text, prefix+name, v)
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// holder is the variable in force that refers to a secret.
func (c *Config) holder(r reference) string {
	for _, name := range slices.Sorted(maps.Values(c.Sources)) {
		if strings.Contains(c.vars[name], string(r)) {
			return name
		}
	}
	return ""
}

package lambdasim

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	functionVersion = "$LATEST"
	defaultHandler  = "bootstrap"
	accountID       = "123456789012"
	defaultRegion   = "us-east-1"

	onDemand         = "on-demand"
	managedInstances = "lambda-managed-instances"
)

// reservedEnv are the variables that Lambda sets and a customer may not. Region and credentials, reserved
// too, may be set here: a test needs its own.
var reservedEnv = map[string]bool{
	"_HANDLER":                        true,
	"LAMBDA_RUNTIME_DIR":              true,
	"LAMBDA_TASK_ROOT":                true,
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": true,
	"AWS_LAMBDA_FUNCTION_NAME":        true,
	"AWS_LAMBDA_FUNCTION_VERSION":     true,
	"AWS_LAMBDA_INITIALIZATION_TYPE":  true,
	"AWS_LAMBDA_LOG_GROUP_NAME":       true,
	"AWS_LAMBDA_LOG_STREAM_NAME":      true,
	"AWS_LAMBDA_MAX_CONCURRENCY":      true,
	"AWS_LAMBDA_RUNTIME_API":          true,
}

// runtimeOnlyEnv are the variables that extensions do not see (Lambda developer guide, "Runtime Extensions
// API", "Lambda extensions environment variables"), beside all that begin with an underscore.
var runtimeOnlyEnv = map[string]bool{
	"AWS_EXECUTION_ENV":          true,
	"AWS_LAMBDA_LOG_GROUP_NAME":  true,
	"AWS_LAMBDA_LOG_STREAM_NAME": true,
	"AWS_LAMBDA_MAX_CONCURRENCY": true,
	"AWS_XRAY_CONTEXT_MISSING":   true,
	"AWS_XRAY_DAEMON_ADDRESS":    true,
	"LAMBDA_RUNTIME_DIR":         true,
	"LAMBDA_TASK_ROOT":           true,
}

// identity is what the platform calls this function and environment.
type identity struct {
	region   string
	arn      string
	instance string // also the name of the log stream
	initType string
}

func newIdentity(cfg Config) identity {
	id := identity{region: defaultRegion, initType: onDemand}
	if r := cfg.Env["AWS_REGION"]; r != "" {
		id.region = r
	}
	if cfg.ManagedInstances {
		id.initType = managedInstances
	}
	id.arn = fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", id.region, accountID, cfg.Name)
	id.instance = time.Now().UTC().Format("2006/01/02/") + "[" + functionVersion + "]" + randomHex(16)
	return id
}

// environ is what the function's process sees, or an extension's.
func (e *Env) environ(runtime bool) []string {
	vars := map[string]string{
		"AWS_REGION":                      e.id.region,
		"AWS_DEFAULT_REGION":              e.id.region,
		"AWS_ACCESS_KEY_ID":               "LAMBDASIM",
		"AWS_SECRET_ACCESS_KEY":           "not-a-secret",
		"AWS_SESSION_TOKEN":               "not-a-token",
		"AWS_LAMBDA_FUNCTION_NAME":        e.cfg.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     functionVersion,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(e.cfg.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  e.id.initType,
		"AWS_LAMBDA_RUNTIME_API":          e.addr,
		"TZ":                              ":UTC",
	}
	if e.cfg.Wrapper != "" {
		vars["AWS_LAMBDA_EXEC_WRAPPER"] = e.cfg.Wrapper
	}
	if runtime {
		maps.Copy(vars, map[string]string{
			"_HANDLER":                   e.cfg.Handler,
			"_AWS_XRAY_DAEMON_ADDRESS":   "127.0.0.1",
			"_AWS_XRAY_DAEMON_PORT":      "2000",
			"AWS_XRAY_CONTEXT_MISSING":   "LOG_ERROR",
			"AWS_XRAY_DAEMON_ADDRESS":    "127.0.0.1:2000",
			"AWS_LAMBDA_LOG_GROUP_NAME":  "/aws/lambda/" + e.cfg.Name,
			"AWS_LAMBDA_LOG_STREAM_NAME": e.id.instance,
			"LAMBDA_TASK_ROOT":           e.taskRoot(),
			"LAMBDA_RUNTIME_DIR":         "/var/runtime",
			"LANG":                       "en_US.UTF-8",
			"PATH":                       os.Getenv("PATH"), // where interpreters are on this machine
		})
	}
	if runtime && e.cfg.ManagedInstances {
		vars["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.Itoa(e.cfg.MaxConcurrency)
	}
	for k, v := range e.cfg.Env {
		if runtime || !runtimeOnlyEnv[k] && !strings.HasPrefix(k, "_") {
			vars[k] = v
		}
	}
	env := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, k+"="+vars[k])
	}
	return env
}

// taskRoot is the function's working directory.
func (e *Env) taskRoot() string {
	if e.cfg.TaskRoot != "" {
		return e.cfg.TaskRoot
	}
	dir, err := os.Getwd()
	if err != nil {
		return "/"
	}
	return dir
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// newUUID is a random UUID (RFC 9562, version 4).
func newUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newTraceHeader is what the platform passes where active tracing is off: a trace that is not sampled.
func newTraceHeader(now time.Time) string {
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", now.Unix(), randomHex(12), randomHex(8))
}

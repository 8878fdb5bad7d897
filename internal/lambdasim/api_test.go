package lambdasim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

func TestRuntimeAPI(t *testing.T) {
	e := start(t, scripted(t, nil))
	tests := []struct {
		answer  string
		status  lambdasim.Status
		reply   string // the client's response, or the error
		printed string // the runtime's own view
	}{
		{"error", "error", "Function.Asked: as asked", "answer: 202"},
		{"twice", "success", "first", "answer: 403 InvalidStateTransition"},
		{"wrong-id", "success", "right", "answer: 400 InvalidRequestID"},
		{"next-first", "success", "late", "answer: the same invocation again: true"},
		{"huge", "error", "Function.ResponseSizeTooLarge", "answer: 413 RequestEntityTooLarge"},
	}
	for _, tt := range tests {
		t.Run(tt.answer, func(t *testing.T) {
			inv := invoke(t, e, `{"answer":"`+tt.answer+`"}`)
			got := string(inv.Response)
			if inv.Error != nil {
				got = inv.Error.Error()
			}
			if inv.Status != tt.status || !strings.Contains(got, tt.reply) || inv.Reset != nil {
				t.Errorf("%s %q, want %s %q", inv.Status, got, tt.status, tt.reply)
			}
		})
	}
	shutdown(t, e)
	for _, tt := range tests {
		wantLine(t, e, "function", tt.printed)
	}
}

func TestRefusedCalls(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop"}))
	const unknown = "01234567-89ab-cdef-0123-456789abcdef"
	tests := []struct{ method, path, body, header, want string }{
		{"POST", "/2020-01-01/extension/register", `{}`, "", "403 Extension.InvalidExtensionName"},
		{"POST", "/2020-01-01/extension/register", `{"events":["BREAKFAST"]}`, "Lambda-Extension-Name: x", "403 Extension.InvalidEventType"},
		{"POST", "/2020-01-01/extension/register", `{"events":["SHUTDOWN"]}`, "Lambda-Extension-Name: internal", "403 Extension.InvalidEventType"},
		{"POST", "/2020-01-01/extension/register", `{`, "Lambda-Extension-Name: x", "403 InvalidRequestFormat"},
		{"POST", "/2020-01-01/extension/register", `{"configurationKeys":["x"]}`, "Lambda-Extension-Name: x", "403 InvalidRequestFormat"},
		{"POST", "/2020-01-01/extension/register", `{}`, "Lambda-Extension-Name: ext", "403 Extension.InvalidExtensionState"},
		{"POST", "/2020-01-01/extension/register", `{}`, "Lambda-Extension-Name: x", "403 Extension.RegistrationClosed"},
		{"GET", "/2020-01-01/extension/event/next", ``, "", "403 Extension.MissingExtensionIdentifier"},
		{"GET", "/2020-01-01/extension/event/next", ``, "Lambda-Extension-Identifier: 7", "403 Extension.InvalidExtensionIdentifier"},
		{"GET", "/2020-01-01/extension/event/next", ``, "Lambda-Extension-Identifier: " + unknown, "403 Extension.UnknownExtensionIdentifier"},
		{"POST", "/2020-01-01/extension/exit/error", ``, "Lambda-Extension-Identifier: " + unknown, "403 Extension.UnknownExtensionIdentifier"},
		{"PUT", "/2022-07-01/telemetry", `{}`, "Lambda-Extension-Identifier: " + unknown, "403 Extension.UnknownExtensionIdentifier"},
		{"POST", "/2018-06-01/runtime/invocation/nobody/error", `{}`, "", "400 InvalidRequestID"},
		{"POST", "/2018-06-01/runtime/init/error", `{}`, "", "403 InvalidStateTransition"},
		{"GET", "/2018-06-01/nothing", ``, "", "404 "},
	}
	for _, tt := range tests {
		if got := raw(t, e, tt.method, tt.path, tt.body, tt.header); got != tt.want {
			t.Errorf("%s %s %s [%s]: %s, want %s", tt.method, tt.path, tt.body, tt.header, got, tt.want)
		}
	}
	shutdown(t, e)
}

// raw makes a call of its own and answers the status with the error type.
func raw(t *testing.T, e *lambdasim.Env, method, path, body, header string) string {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+e.Addr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if k, v, ok := strings.Cut(header, ": "); ok {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ ErrorType, ErrorMessage string }
	json.Unmarshal(data, &answer)
	if answer.ErrorType != "" && answer.ErrorMessage == "" {
		t.Errorf("%s %s: an error without a message: %s", method, path, data)
	}
	return fmt.Sprint(resp.StatusCode, " ", answer.ErrorType)
}

func TestExtensionStates(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "flag")
	tests := map[string]struct {
		script string
		want   string
	}{
		"register twice":             {"register INVOKE; register INVOKE; loop", `register: 403 {"errorMessage":"State transition from Registered to Registered failed for extension ext. Error: State transition is not allowed","errorType":"Extension.InvalidExtensionState"}`},
		"two nexts at once":          {"register INVOKE,SHUTDOWN; two-nexts " + flag + "; loop", "two-nexts: 403 Extension.InvalidExtensionState"},
		"init/error after next":      {"register INVOKE; next; init-error Extension.Late; loop", "init-error: 403 Extension.InvalidExtensionState"},
		"exit/error without a type":  {"register INVOKE; exit-error; loop", "exit-error: 403 Extension.MissingHeader"},
		"what a registration says":   {"register INVOKE,SHUTDOWN; loop", `register: 200 {"accountId":"123456789012","functionName":"probe","functionVersion":"$LATEST","handler":"bootstrap"}`},
		"an internal one beside it":  {"register-as inner; async-next; register INVOKE; loop", `register: 200 {"accountId":"123456789012","functionName":"probe","functionVersion":"$LATEST","handler":"bootstrap"}`},
		"unknown event is a refusal": {"register LUNCH; register INVOKE; loop", `register: 403 {"errorMessage":"LUNCH: ErrorInvalidEventType","errorType":"Extension.InvalidEventType"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := scripted(t, map[string]string{"ext": tt.script})
			if name == "two nexts at once" {
				cfg.Env["SCRIPT_function"] = "await-file " + flag // no event before both have come
			}
			e := start(t, cfg)
			succeed(t, e, "")
			shutdown(t, e)
			wantLine(t, e, "ext", tt.want)
		})
	}
}

func TestEvents(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop"}))
	inv, err := e.Invoke(t.Context(), lambdasim.Request{TraceHeader: "Root=1-2-3"})
	if err != nil {
		t.Fatal(err)
	}
	rep := shutdown(t, e)
	var events []map[string]any
	for _, l := range lines(e, "ext") {
		if ev, ok := strings.CutPrefix(l, "event: "); ok {
			body, id, _ := strings.Cut(ev, " event-id: ")
			var m map[string]any
			if err := json.Unmarshal([]byte(body), &m); err != nil {
				t.Fatal(err)
			}
			m["has id"] = id
			events = append(events, m)
		}
	}
	want := []map[string]any{
		{"eventType": "INVOKE", "requestId": inv.RequestID, "invokedFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:probe",
			"deadlineMs": float64(inv.Start.Add(20 * time.Second).UnixMilli()), "tracing": map[string]any{"type": "X-Amzn-Trace-Id", "value": "Root=1-2-3"}, "has id": "true"},
		{"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": float64(rep.Start.Add(2 * time.Second).UnixMilli()), "has id": "false"},
	}
	if fmt.Sprint(events) != fmt.Sprint(want) {
		t.Errorf("events:\n got %v\nwant %v", events, want)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("LEAKED_FROM_THE_EMULATOR", "1")
	cfg := scripted(t, map[string]string{"ext": "environ; register; next", "function": "environ"})
	cfg.Env["CUSTOM"], cfg.Env["_UNDERSCORE"], cfg.Env["AWS_XRAY_CONTEXT_MISSING"], cfg.Env["TZ"] = "yes", "1", "IGNORE", ":Europe/Paris"
	cfg.MemoryMB = 512
	e := start(t, cfg)
	succeed(t, e, "")
	shutdown(t, e)
	both := "AWS_ACCESS_KEY_ID AWS_DEFAULT_REGION AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_NAME AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE " +
		"AWS_LAMBDA_RUNTIME_API AWS_REGION AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN"
	function := "AWS_ACCESS_KEY_ID AWS_DEFAULT_REGION AWS_LAMBDA_FUNCTION_MEMORY_SIZE AWS_LAMBDA_FUNCTION_NAME AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE " +
		"AWS_LAMBDA_LOG_GROUP_NAME AWS_LAMBDA_LOG_STREAM_NAME AWS_LAMBDA_RUNTIME_API AWS_REGION AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_XRAY_CONTEXT_MISSING AWS_XRAY_DAEMON_ADDRESS"
	want := map[string]string{
		"ext":      both + " CUSTOM SCRIPT_ext SCRIPT_function TZ",
		"function": function + " CUSTOM LAMBDA_RUNTIME_DIR LAMBDA_TASK_ROOT LANG PATH SCRIPT_ext SCRIPT_function TZ _AWS_XRAY_DAEMON_ADDRESS _AWS_XRAY_DAEMON_PORT _HANDLER _UNDERSCORE",
	}
	for process, names := range want {
		env := environ(t, e, process)
		var got []string
		for _, kv := range env {
			k, _, _ := strings.Cut(kv, "=")
			got = append(got, k)
		}
		if s := strings.Join(got, " "); s != names {
			t.Errorf("%s sees\n%s\nwant\n%s", process, s, names)
		}
		for _, kv := range []string{"CUSTOM=yes", "TZ=:Europe/Paris", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512", "AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "AWS_LAMBDA_RUNTIME_API=" + e.Addr()} {
			wantContains(t, strings.Join(env, "|"), kv)
		}
	}
}

func environ(t *testing.T, e *lambdasim.Env, process string) []string {
	t.Helper()
	for _, l := range lines(e, process) {
		if env, ok := strings.CutPrefix(l, "environ: "); ok {
			return strings.Split(env, "|")
		}
	}
	t.Fatalf("%s printed no environment", process)
	return nil
}

func TestConfigErrors(t *testing.T) {
	ok := lambdasim.Config{Function: []string{"true"}}
	tests := map[string]func(*lambdasim.Config){
		"Function is empty":         func(c *lambdasim.Config) { c.Function = nil },
		"MemoryMB is 64":            func(c *lambdasim.Config) { c.MemoryMB = 64 },
		"a duration is negative":    func(c *lambdasim.Config) { c.Timeout = -1 },
		"_HANDLER is reserved":      func(c *lambdasim.Config) { c.Env = map[string]string{"_HANDLER": "x"} },
		"is no variable name":       func(c *lambdasim.Config) { c.Env = map[string]string{"A=B": "x"} },
		"Lambda takes 4096":         func(c *lambdasim.Config) { c.Env = map[string]string{"A": strings.Repeat("x", 5000)} },
		"two are named x":           func(c *lambdasim.Config) { c.Extensions = []string{"a/x", "b/x"} },
		"does not follow from memo": func(c *lambdasim.Config) { c.ManagedInstances, c.CPUShare = true, true },
		"for Managed Instances on":  func(c *lambdasim.Config) { c.MaxConcurrency = 2 },
	}
	for want, change := range tests {
		t.Run(want, func(t *testing.T) {
			cfg := ok
			change(&cfg)
			e, err := lambdasim.Start(t.Context(), cfg)
			if e != nil || err == nil {
				t.Fatalf("got %v, %v", e, err)
			}
			wantContains(t, err.Error(), want)
		})
	}
}

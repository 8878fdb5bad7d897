package lambdasim_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

func pid() string { return strconv.Itoa(os.Getpid()) }

func managed(t *testing.T, scripts map[string]string) lambdasim.Config {
	cfg := scripted(t, scripts)
	cfg.Function = []string{lambdaGoBin}
	cfg.ManagedInstances, cfg.MaxConcurrency = true, 4
	return cfg
}

func TestManagedInstances(t *testing.T) {
	addr := freeAddr(t)
	sub := strings.Replace(subscription(addr, `"platform"`), "2022-12-13", "2025-01-29", 1)
	e := start(t, managed(t, map[string]string{
		"ext": "environ; register INVOKE; listen " + addr + "; register SHUTDOWN; subscribe " + sub + "; loop finally hold 1ms",
	}))
	var wg sync.WaitGroup
	for range 2 { // each waits inside for the other
		wg.Go(func() {
			inv, err := e.Invoke(t.Context(), lambdasim.Request{Payload: []byte(`{"name":"both","meet":true}`)})
			if err != nil || inv.Status != lambdasim.StatusSuccess || !strings.Contains(string(inv.Response), "both "+inv.RequestID) {
				t.Errorf("%+v: %v", inv, err)
			}
		})
	}
	wg.Wait()
	if inv := invoke(t, e, `{"fail":true}`); inv.Status != lambdasim.StatusError || inv.Error.Message != "asked to fail" {
		t.Errorf("%+v: %v", inv, inv.Error)
	}
	shutdown(t, e)
	env := strings.Join(environ(t, e, "ext"), "|")
	wantContains(t, env, "AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances")
	if strings.Contains(env, "MAX_CONCURRENCY") {
		t.Error("the extension sees AWS_LAMBDA_MAX_CONCURRENCY")
	}
	wantContains(t, strings.Join(lines(e, "ext"), "\n"), "INVOKE: ErrorInvalidEventType")
	if got := kinds(e, lambdasim.KindFreeze, lambdasim.KindThaw); len(got) != 0 {
		t.Errorf("frozen: %q", got)
	}
	// What waits is delivered before the SHUTDOWN event.
	events := strings.Join(telemetry(e, "ext"), "\n")
	if n := strings.Count(events, "platform.report"); n != 3 || strings.Contains(events, "platform.runtimeDone") {
		t.Errorf("%d reports in\n%s", n, events)
	}
	wantContains(t, events, `"status":"error","errorType":"errorString","metrics":{"durationMs"`)
}

func TestManagedTimeoutIsTheClientsAlone(t *testing.T) {
	cfg := managed(t, nil)
	cfg.Timeout = time.Second
	e := start(t, cfg)
	inv := invoke(t, e, `{"stuck":true}`)
	if inv.Status != lambdasim.StatusTimeout || inv.Reset != nil {
		t.Errorf("%+v", inv)
	}
	if inv := succeed(t, e, `{"name":"x"}`); inv.Init != nil {
		t.Error("reset after a timeout")
	}
}

func TestManagedCrashEndsTheEnvironment(t *testing.T) {
	e := start(t, managed(t, map[string]string{"ext": "register SHUTDOWN; loop"}))
	inv := invoke(t, e, `{"exit":true}`)
	if inv.Status != lambdasim.StatusError || inv.Error.Type != "Runtime.ExitError" || inv.Reset == nil || inv.Reset.Reason != "failure" {
		t.Errorf("%+v", inv)
	}
	if _, err := e.Invoke(t.Context(), lambdasim.Request{}); !errors.Is(err, lambdasim.ErrClosed) {
		t.Errorf("invoke after a crash: %v", err)
	}
}

func TestAWSClient(t *testing.T) {
	e := start(t, lambdasim.Config{Function: []string{lambdaGoBin}, Name: "greeter"})
	inv := succeed(t, e, `{"name":"Ada"}`)
	if got, want := string(inv.Response), fmt.Sprintf("%q", "Ada "+inv.RequestID+" greeter"); got != want {
		t.Errorf("response %s, want %s", got, want)
	}
	if inv := invoke(t, e, `{"fail":true}`); inv.Status != lambdasim.StatusError || inv.Reset != nil || inv.Error.Message != "asked to fail" {
		t.Errorf("%+v: %v", inv, inv.Error)
	}
	rep := shutdown(t, e)
	if rep.Window != 500*time.Millisecond { // its internal extension, registered for SIGTERM's sake
		t.Errorf("window %v", rep.Window)
	}
	wantLine(t, e, "function", "SIGTERM handler")
}

func TestWrapperAndLog(t *testing.T) {
	wrapper := filepath.Join(t.TempDir(), "wrapper")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\necho wrapped by $AWS_LAMBDA_EXEC_WRAPPER\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cfg := scripted(t, map[string]string{"function": "print hello"})
	cfg.Wrapper, cfg.Log, cfg.TaskRoot = wrapper, &log, t.TempDir()
	e := start(t, cfg)
	succeed(t, e, "")
	shutdown(t, e)
	if want := "[function] wrapped by " + wrapper + "\n[function] hello\n"; log.String() != want {
		t.Errorf("log %q, want %q", log.String(), want)
	}
}

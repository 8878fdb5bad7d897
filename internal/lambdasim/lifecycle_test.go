package lambdasim_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

func TestOrderOfLife(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop hold 20ms", "late": "register SHUTDOWN; loop"}))
	for i := range 2 {
		inv := succeed(t, e, `{"n":1}`)
		if got := string(inv.Response); got != `{"n":1}` {
			t.Errorf("response %q", got)
		}
		if inv.ColdStart != (i == 0) || inv.Init != nil {
			t.Errorf("invocation %d: cold start %v, init %v", i, inv.ColdStart, inv.Init)
		}
		for _, order := range [][2]time.Time{
			{inv.Start, inv.ResponseAt}, {inv.ResponseAt, inv.RuntimeDone},
			{inv.RuntimeDone, inv.ExtensionsDone}, {inv.ExtensionsDone, inv.End.Add(1)},
		} {
			if !order[0].Before(order[1]) {
				t.Errorf("times out of order: %+v", inv)
			}
		}
		if inv.Added() < 10*time.Millisecond || inv.Billed() < inv.ResponseTime() {
			t.Errorf("added %v, billed %v, response %v", inv.Added(), inv.Billed(), inv.ResponseTime())
		}
	}
	rep := shutdown(t, e)
	for i, name := range []string{"function", "ext", "late"} {
		x := rep.Exits[i]
		if x.Process != name || x.Forced || x.Asked.IsZero() || x.Took <= 0 {
			t.Errorf("exit %d: %+v", i, x)
		}
	}
	got := kinds(e, lambdasim.KindExec, lambdasim.KindRegister, lambdasim.KindInitEnd, lambdasim.KindStart, lambdasim.KindInvoke,
		lambdasim.KindResponse, lambdasim.KindEnd, lambdasim.KindSignal, lambdasim.KindShutdown, lambdasim.KindFreeze, lambdasim.KindThaw)
	sortRuns(got, "register", "shutdown")
	invocation := []string{"thaw", "start", "invoke ext", "invoke function", "response function", "end", "freeze"}
	want := slices.Concat(
		[]string{"exec ext", "exec late", "register ext", "register late", "exec function", "init_end", "freeze"},
		invocation, invocation,
		[]string{"thaw", "signal function", "shutdown ext", "shutdown late"})
	if !slices.Equal(got, want) {
		t.Errorf("order:\n got %q\nwant %q", got, want)
	}
}

// sortRuns sorts neighbours that begin with the same word: two processes do these in either order.
func sortRuns(events []string, words ...string) {
	for _, w := range words {
		i := slices.IndexFunc(events, func(s string) bool { return strings.HasPrefix(s, w) })
		j := i
		for j >= 0 && j < len(events) && strings.HasPrefix(events[j], w) {
			j++
		}
		if i >= 0 {
			slices.Sort(events[i:j])
		}
	}
}

func TestFailedInit(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "README")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	good := "register INVOKE,SHUTDOWN; loop"
	tests := map[string]struct {
		scripts map[string]string
		change  func(*lambdasim.Config)
		status  lambdasim.Status
		want    string // of the error
	}{
		"extension exits before it registers": {map[string]string{"ext": "exit 0"}, nil, "error", "Extension.Crash: ext exited: exit status 0"},
		"extension exits after it registered": {map[string]string{"ext": "register INVOKE; exit 7"}, nil, "error", "Extension.Crash: ext exited: exit status 7"},
		"extension never registers":           {map[string]string{"ext": "forever"}, short, "timeout", "Sandbox.Timedout: init timed out"},
		"extension never asks for next":       {map[string]string{"ext": "register; forever"}, short, "timeout", "Sandbox.Timedout"},
		"extension registers by another name": {map[string]string{"ext": "register-as other INVOKE; forever"}, short, "timeout", "Sandbox.Timedout"},
		"extension reports init/error":        {map[string]string{"ext": "register INVOKE; init-error Extension.Broken; exit 1"}, nil, "error", "Extension.InitError: Extension.Broken: said so"},
		"extension reports exit/error":        {map[string]string{"ext": "register INVOKE; exit-error Extension.Broken; exit 1"}, nil, "error", "Extension.ExitError: Extension.Broken: said so"},
		"function exits":                      {map[string]string{"ext": good, "function": "exit 0"}, nil, "error", "Runtime.ExitError: Runtime exited with error: exit status 0"},
		"function reports init/error":         {map[string]string{"ext": good, "function": "runtime-init-error Function.Broken; exit 1"}, nil, "error", "Function.Broken: said so"},
		"function never asks for next":        {map[string]string{"function": "forever"}, short, "timeout", "Sandbox.Timedout"},
		"a file is not executable": {nil, func(c *lambdasim.Config) { c.Extensions = []string{plain} },
			"error", "Extension.LaunchError: PermissionDenied"},
		"a file is missing": {nil, func(c *lambdasim.Config) { c.Extensions = []string{filepath.Join(dir, "nobody")} },
			"error", "Extension.LaunchError: UnknownError"},
		"no such function": {nil, func(c *lambdasim.Config) { c.Function = []string{filepath.Join(dir, "nobody")} },
			"error", "Runtime.InvalidEntrypoint"},
		"too many extensions": {nil, func(c *lambdasim.Config) {
			for _, n := range "abcdefghijk" {
				c.Extensions = append(c.Extensions, extension(t, string(n)))
				c.Env["SCRIPT_"+string(n)] = good
			}
		}, "error", "Extension.LaunchError: TooManyExtensions"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := scripted(t, tt.scripts)
			if tt.change != nil {
				tt.change(&cfg)
			}
			_, failed := startFailing(t, cfg)
			if failed.Status != tt.status {
				t.Errorf("status %q, want %q", failed.Status, tt.status)
			}
			wantContains(t, failed.InitReport.Error.Error(), tt.want)
		})
	}
}

// short lets an init that hangs fail soon.
func short(c *lambdasim.Config) {
	c.InitTimeout = 300 * time.Millisecond
	c.ShutdownWindow = 100 * time.Millisecond
}

func TestInitIsRepeatedInInvoke(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "flag")
	e, failed := startFailing(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop", "function": "once " + flag + " exit 1"}))
	if failed.Reset == nil || failed.Phase != "init" {
		t.Errorf("failed init: %+v", failed.InitReport)
	}
	inv := succeed(t, e, "")
	if inv.ColdStart || inv.Init == nil || inv.Init.Phase != "invoke" || inv.Init.Start.Before(inv.Start) {
		t.Errorf("suppressed init: %+v of %+v", inv.Init, inv)
	}
	if succeed(t, e, "").Init != nil {
		t.Error("a second suppressed init")
	}
}

func TestTimeout(t *testing.T) {
	file := filepath.Join(t.TempDir(), "survives")
	cfg := scripted(t, map[string]string{
		"ext":      "once " + file + " print first; register INVOKE,SHUTDOWN; loop",
		"function": "on-term exit 4",
	})
	cfg.Timeout = time.Second
	e := start(t, cfg)
	inv := invoke(t, e, `{"do":"hold 1h"}`)
	if inv.Status != lambdasim.StatusTimeout || inv.Error.Type != "Sandbox.Timedout" || !inv.ResponseAt.IsZero() {
		t.Errorf("%+v", inv)
	}
	if inv.Billed().Round(time.Millisecond) != cfg.Timeout || inv.ResponseTime() != inv.Billed() {
		t.Errorf("billed %v, response %v", inv.Billed(), inv.ResponseTime())
	}
	if inv.Reset == nil || inv.Reset.Reason != "timeout" {
		t.Fatalf("reset: %+v", inv.Reset)
	}
	if x, _ := inv.Reset.Exit("function"); x.Code != 4 || x.Forced {
		t.Errorf("function: %+v", x)
	}
	if x, _ := inv.Reset.Exit("ext"); x.Code != 0 || x.Forced || x.Asked.IsZero() {
		t.Errorf("extension: %+v", x)
	}
	if inv := succeed(t, e, ""); inv.Init == nil {
		t.Error("no suppressed init after a timeout")
	}
	wantLine(t, e, "ext", "first")
	if n := strings.Count(strings.Join(lines(e, "ext"), "\n"), "first"); n != 1 {
		t.Errorf("the file did not survive the reset: %d", n)
	}
}

func TestTimeoutBelongsToExtensionsToo(t *testing.T) {
	cfg := scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop hold 700ms"})
	cfg.Timeout = 400 * time.Millisecond
	e := start(t, cfg)
	inv := invoke(t, e, `"answer"`)
	if inv.Status != lambdasim.StatusTimeout || string(inv.Response) != `"answer"` || inv.RuntimeDone.IsZero() {
		t.Errorf("%+v", inv)
	}
	// The SHUTDOWN event waited for the next that came late.
	if x, _ := inv.Reset.Exit("ext"); x.Forced || x.Code != 0 || x.Asked.Sub(inv.Reset.Start) < 100*time.Millisecond {
		t.Errorf("extension: %+v", x)
	}
}

func TestCrash(t *testing.T) {
	tests := map[string]struct {
		scripts map[string]string
		payload string
		errType string
	}{
		"function exits with 0":        {map[string]string{"ext": "register INVOKE,SHUTDOWN; loop"}, `{"do":"exit 0"}`, "Runtime.ExitError"},
		"function exits after it said": {nil, `{"after":"exit 3"}`, "Runtime.ExitError"},
		"extension exits with 0":       {map[string]string{"ext": "register INVOKE,SHUTDOWN; loop exit 0", "other": "register SHUTDOWN; loop"}, `{"do":"hold 1m"}`, "Extension.Crash"},
		"extension reports exit/error": {map[string]string{"ext": "register INVOKE; loop exit-error Extension.Tired then forever"}, `{"do":"hold 1m"}`, "Extension.ExitError"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := scripted(t, tt.scripts)
			cfg.ShutdownWindow = 200 * time.Millisecond
			e := start(t, cfg)
			inv := invoke(t, e, tt.payload)
			if inv.Status != lambdasim.StatusError || inv.Error.Type != tt.errType || inv.Reset == nil || inv.Reset.Reason != "failure" {
				t.Errorf("%+v: %v", inv, inv.Error)
			}
			if len(inv.Reset.Exits) != len(cfg.Extensions)+1 {
				t.Errorf("exits: %+v", inv.Reset.Exits)
			}
			if inv := invoke(t, e, tt.payload); inv.Init == nil {
				t.Error("no suppressed init after a crash")
			}
		})
	}
}

func TestShutdownWindow(t *testing.T) {
	tests := map[string]struct {
		scripts map[string]string
		want    time.Duration
		signal  string
	}{
		"no extension":  {nil, 0, "killed"},
		"internal only": {map[string]string{"function": "register-as inside; async-next"}, 500 * time.Millisecond, "terminated"},
		"external":      {map[string]string{"ext": "register SHUTDOWN; loop"}, 2 * time.Second, "terminated"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := start(t, scripted(t, tt.scripts))
			rep := shutdown(t, e)
			if rep.Window != tt.want || rep.Reason != "spindown" {
				t.Errorf("window %v, reason %q", rep.Window, rep.Reason)
			}
			if x, _ := rep.Exit("function"); x.Signal != tt.signal || x.Forced != (tt.want == 0) {
				t.Errorf("function: %+v", x)
			}
		})
	}
}

func TestShutdownOfTheUnwilling(t *testing.T) {
	cfg := scripted(t, map[string]string{
		"function": "ignore-term",
		"stays":    "register SHUTDOWN; next; forever",
		"unasked":  "register INVOKE; loop",
	})
	e := start(t, cfg)
	rep, err := e.Shutdown(context.Background(), "failure")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range rep.Exits {
		if !x.Forced || x.Signal != "killed" || x.Asked.IsZero() != (x.Process == "unasked") {
			t.Errorf("%+v", x)
		}
	}
	fn, _ := rep.Exit("function")
	stays, _ := rep.Exit("stays")
	unasked, _ := rep.Exit("unasked")
	if share := fn.At.Sub(rep.Start); share < 600*time.Millisecond || stays.Asked.Before(fn.At) {
		t.Errorf("the function's share was %v of %v; SHUTDOWN %v", share, rep.Window, stays.Asked.Sub(rep.Start))
	}
	if stays.At.Sub(rep.Start) < rep.Window || unasked.At.After(stays.At) {
		t.Errorf("killed after %v and %v", stays.At.Sub(rep.Start), unasked.At.Sub(rep.Start))
	}
	wantLine(t, e, "stays", "next: SHUTDOWN failure")
	if _, err := e.Invoke(t.Context(), lambdasim.Request{}); !errors.Is(err, lambdasim.ErrClosed) {
		t.Errorf("invoke after shutdown: %v", err)
	}
	if _, err := e.Shutdown(t.Context(), ""); !errors.Is(err, lambdasim.ErrClosed) {
		t.Errorf("second shutdown: %v", err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop"}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Invoke(ctx, lambdasim.Request{Payload: []byte(`{"do":"hold 1h"}`)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("invoke: %v", err)
	}
	if inv := succeed(t, e, ""); inv.Init == nil {
		t.Error("the abandoned incarnation is still there")
	}
}

func TestCloseInterruptsInvoke(t *testing.T) {
	file := filepath.Join(t.TempDir(), "started")
	e := start(t, scripted(t, nil))
	result := make(chan error)
	go func() {
		_, err := e.Invoke(t.Context(), lambdasim.Request{Payload: []byte(`{"do":"once ` + file + ` print x; hold 1h"}`)})
		result <- err
	}()
	for _, err := os.Stat(file); err != nil; _, err = os.Stat(file) {
		time.Sleep(time.Millisecond)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, lambdasim.ErrClosed) {
		t.Errorf("invoke: %v", err)
	}
}

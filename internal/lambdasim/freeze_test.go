package lambdasim_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
)

// A counter that a process advances as fast as it can stands still while the environment is frozen.
func TestFreezeStopsProcesses(t *testing.T) {
	modes := map[string]lambdasim.FreezeMode{
		"auto": lambdasim.FreezeAuto, "cgroup": lambdasim.FreezeCgroup, "signal": lambdasim.FreezeSignal, "off": lambdasim.FreezeOff,
	}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := []string{filepath.Join(dir, "ext"), filepath.Join(dir, "function")}
			cfg := scripted(t, map[string]string{
				"ext":      "count " + files[0] + "; register INVOKE,SHUTDOWN; loop hold 20ms",
				"function": "count " + files[1],
			})
			cfg.Freeze = mode
			e, err := lambdasim.Start(t.Context(), cfg)
			if mode == lambdasim.FreezeCgroup && os.Getuid() != 0 {
				if err == nil {
					t.Fatal("the cgroup freezer without root")
				}
				wantContains(t, err.Error(), "FreezeSignal")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			closeAfter(t, e)
			for range 2 {
				inv := succeed(t, e, "")
				for _, f := range files {
					before := read(t, f)
					for mode == lambdasim.FreezeOff && read(t, f) == before { // it must move at last
					}
					if observe(); mode != lambdasim.FreezeOff && read(t, f) != before {
						t.Errorf("%s moved", filepath.Base(f))
					}
					if before == "" {
						t.Error("it never ran")
					}
				}
				if inv.CPU["function"] <= 0 || inv.CPU["ext"] <= 0 {
					t.Errorf("CPU: %v", inv.CPU)
				}
			}
			shutdown(t, e)
		})
	}
}

// observe is the time for which a frozen process must not move; it waits for nothing.
func observe() { time.Sleep(30 * time.Millisecond) }

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCPUShare(t *testing.T) {
	cfg := scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; loop"})
	cfg.CPUShare = true
	e, err := lambdasim.Start(t.Context(), cfg)
	if os.Getuid() != 0 {
		if err == nil {
			t.Fatal("a CPU share without root")
		}
		wantContains(t, err.Error(), "needs root")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, e)
	// 128 MB is 1.45 ms of CPU in 20 ms: 15 ms take 200 ms. Half of that is allowed for what periods grant at once.
	inv := succeed(t, e, `{"do":"burn 15ms"}`)
	if inv.CPU["function"] < 15*time.Millisecond || inv.ResponseTime() < 100*time.Millisecond {
		t.Errorf("%v of CPU in %v", inv.CPU["function"], inv.ResponseTime())
	}
	shutdown(t, e)
}

func TestProcesses(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register INVOKE,SHUTDOWN; burn 5ms; loop"}))
	succeed(t, e, "")
	check := func(running bool) {
		t.Helper()
		ps := e.Processes()
		if len(ps) != 2 || ps[0].Name != lambdasim.FunctionProcess || ps[1].Name != "ext" {
			t.Fatalf("%+v", ps)
		}
		for _, p := range ps {
			if p.Running != running || p.PID == 0 || p.RSS < 1<<20 || p.PeakRSS < p.RSS || p.CPU <= 0 || !p.FirstNext.After(p.Started) {
				t.Errorf("%+v", p)
			}
		}
		ext := ps[1]
		if ext.CPUToRegister <= 0 || ext.CPUToFirstNext < ext.CPUToRegister+5*time.Millisecond || !ext.FirstNext.After(ext.Registered) {
			t.Errorf("%+v", ext)
		}
	}
	check(true)
	shutdown(t, e)
	check(false)
}

func TestCgroupsAreRemoved(t *testing.T) {
	e := start(t, scripted(t, map[string]string{"ext": "register; loop"}))
	succeed(t, e, "")
	if err := e.Close(); err != nil { // without a shutdown, while frozen
		t.Fatal(err)
	}
	left, err := filepath.Glob("/sys/fs/cgroup/*/lambdasim-*-" + pid() + "-*")
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

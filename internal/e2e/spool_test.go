package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// spoolVars is faultVars with a spool in a /tmp of the test's own.
func spoolVars(t *testing.T, mode string) (vars map[string]string, tmp string) {
	tmp = t.TempDir()
	vars = faultVars(mode)
	maps.Copy(vars, map[string]string{"OTLP_RELAY_SPOOL": "tmp", "TMPDIR": tmp})
	return vars, tmp
}

func mustBeEmpty(t *testing.T, tmp string) {
	t.Helper()
	if entries, err := os.ReadDir(tmp); err != nil || len(entries) > 0 {
		t.Errorf("left behind in /tmp: %v %v", entries, err)
	}
}

// replayed and spooled are sums over the incarnations.
func (a account) replayed(sig otlp.Signal) int { return a[sig.String()+".replayed"] }
func (a account) spooled(sig otlp.Signal) int  { return a[sig.String()+".spooled"] }

// The function times out or crashes while the backend is dead, twice. The environment is reset, and what one
// process could not deliver, a later one does: once, and the sum of their accounts says so.
func TestSpoolSurvivesResets(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode+"/timeout", func(t *testing.T) {
			vars, tmp := spoolVars(t, mode)
			c := newChain(t, setup{vars: vars, change: func(cfg *lambdasim.Config) { cfg.Timeout = time.Second }})
			c.invoke(2)
			c.backend.Fail(otlptest.Fault{Kind: otlptest.Refuse})
			for range 2 {
				c.invoke(3)
				if inv := c.send(order{Spans: 2, Hang: true, FlushFirst: true}); inv.Reset == nil {
					t.Fatalf("the invocation ended with %v, %v; want a timeout", inv.Status, inv.Error)
				} else {
					c.mustEndWell(*inv.Reset)
				}
				c.count(usual(2))
			}
			c.backend.Heal()
			c.invoke(2)
			c.mustHaveReplayed(tmp)
		})
		t.Run(mode+"/crash", func(t *testing.T) {
			vars, tmp := spoolVars(t, mode)
			c, b := posters(t, setup{vars: vars})
			c.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 503})
			for range 2 {
				c.post(several(b, otlp.Traces, 3, 7)...)
				inv := c.send(posting{Wires: [][]byte{wire(b.Build(otlp.Logs, otlp.JSON, 5))}, Exit: true})
				if inv.Reset == nil {
					t.Fatalf("the invocation ended with %v, %v; want a crash", inv.Status, inv.Error)
				}
				c.made[otlp.Logs] += 5
				c.mustEndWell(*inv.Reset)
			}
			c.backend.Heal()
			c.post(b.Build(otlp.Metrics, otlp.Protobuf, 5))
			c.mustHaveReplayed(tmp)
		})
	}
}

// mustHaveReplayed ends a chain of processes, the last of which has delivered everything.
func (c *chain) mustHaveReplayed(tmp string) {
	c.t.Helper()
	a := c.shutdown()
	c.mustArrive(a)
	found := 0
	for _, sig := range otlp.Signals() {
		found += a.replayed(sig)
		if a.replayed(sig) != a.spooled(sig) {
			c.t.Errorf("%s: %d records were left in the spool, %d found there", sig, a.spooled(sig), a.replayed(sig))
		}
	}
	if found == 0 {
		c.t.Error("nothing was found in the spool: this test proves nothing")
	}
	mustBeEmpty(c.t, tmp)
}

// All processes of the environment are killed at once, as when it runs out of memory. What the function had
// handed over arrives all the same.
func TestSpoolSurvivesOutOfMemory(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			vars, tmp := spoolVars(t, mode)
			c := newChain(t, setup{vars: vars})
			c.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 503})
			for range 3 {
				c.invoke(2)
				died := make(chan lambdasim.Invocation)
				held := onDisk(t, tmp)
				go func() { died <- c.send(order{Spans: 4, Hang: true, FlushFirst: true}) }()
				for onDisk(t, tmp) < held+3 { // one of each signal has been taken
					time.Sleep(time.Millisecond)
				}
				for _, p := range c.env.Processes() {
					if p.Running {
						syscall.Kill(p.PID, syscall.SIGKILL)
					}
				}
				if inv := <-died; inv.Reset == nil {
					t.Fatalf("the invocation ended with %v, %v; want a crash", inv.Status, inv.Error)
				}
				c.count(usual(4))
			}
			c.backend.Heal()
			c.invoke(2)
			a := c.shutdown() // of the last process: the others could not say anything any more
			for _, sig := range threeSignals {
				if taken := c.backend.Totals(sig).Records; taken != c.made[sig] || a.delivered(sig) != taken || a.accepted(sig)+a.replayed(sig) != a.delivered(sig) {
					t.Errorf("%s: made %d, the backend took %d; account: %v", sig, c.made[sig], taken, a)
				}
			}
			if d := c.backend.Duplicates(); len(d) > 0 {
				t.Errorf("%d records arrived twice", len(d))
			}
			mustBeEmpty(t, tmp)
		})
	}
}

// onDisk is how many payloads the spool in tmp holds: by the magic number of each.
func onDisk(t *testing.T, tmp string) (n int) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(tmp, "otlp-relay", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range segments {
		image, _ := os.ReadFile(path) // it may be gone by now
		n += strings.Count(string(image), "otr1")
	}
	return n
}

// At a SHUTDOWN that ends the environment nothing stays behind, whether it was delivered or not.
func TestSpoolEndsWithTheEnvironment(t *testing.T) {
	for name, dead := range map[string]bool{"delivered": false, "undelivered": true} {
		t.Run(name, func(t *testing.T) {
			vars, tmp := spoolVars(t, "next")
			c := newChain(t, setup{vars: vars})
			if dead {
				c.backend.Fail(otlptest.Fault{Kind: otlptest.Refuse})
			}
			for range 3 {
				c.invoke(2)
			}
			a := c.shutdown()
			c.mustBalance(a)
			for _, sig := range threeSignals {
				if want := map[bool]int{true: c.made[sig]}[dead]; a.dropped(sig, otlp.DroppedShutdown) != want || a.lost(sig) != want {
					t.Errorf("%s: account %v, want %d dropped at shutdown", sig, a, want)
				}
			}
			mustBeEmpty(t, tmp)
		})
	}
}

// Where there can be no spool there is one warning, and all is as without one.
func TestSpoolThatCannotBe(t *testing.T) {
	for name, harm := range map[string]func(tmp string) error{
		"a file in its place": func(tmp string) error { return os.WriteFile(filepath.Join(tmp, "otlp-relay"), nil, 0o600) },
		"a symbolic link":     func(tmp string) error { return os.Symlink("/", filepath.Join(tmp, "otlp-relay")) },
		"no such directory":   os.Remove,
		"read-only":           func(tmp string) error { return syscall.Mount("tmpfs", tmp, "tmpfs", syscall.MS_RDONLY, "") },
		"full": func(tmp string) error {
			if err := syscall.Mount("tmpfs", tmp, "tmpfs", 0, "size=64k"); err != nil {
				return err
			}
			_ = os.WriteFile(filepath.Join(tmp, "the function's"), make([]byte, 64<<10), 0o600) // as much as there is room
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			vars, tmp := spoolVars(t, "end")
			if err := harm(tmp); err == syscall.EPERM {
				t.Log("SKIPPED: needs root")
				return
			} else if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(tmp, syscall.MNT_DETACH) })
			c := newChain(t, setup{vars: vars, change: func(cfg *lambdasim.Config) { cfg.Timeout = time.Second }})
			for range 3 {
				c.invoke(2)
			}
			c.send(order{Spans: 2, Hang: true, FlushFirst: true})
			c.count(usual(2))
			c.invoke(2)
			c.mustArrive(c.shutdown())
			if lines := c.logged("kept in memory only"); len(lines) != 2 { // once in each process
				t.Errorf("logged %d times, want once in each of two processes: %q", len(lines), lines)
			}
		})
	}
}

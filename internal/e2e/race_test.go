package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// The extension, built with the race detector, goes through load, an outage, freezes and SHUTDOWN. A race ends
// it with exit code 66 and a report in its log.
func TestRaces(t *testing.T) {
	extension := raceExtension(t)
	use := func(cfg *lambdasim.Config) { cfg.Extensions = []string{extension} }
	noRaces := func(t *testing.T, c *chain) {
		c.mustHaveEverything(c.shutdown())
		if n := len(c.logged("DATA RACE")); n > 0 {
			t.Errorf("%d data races", n)
		}
	}
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			f := newFront(t, otlptest.Options{})
			vars := faultVars(mode)
			vars["OTLP_RELAY_ENDPOINT"], vars["OTLP_RELAY_LOG_LEVEL"] = f.URL, "debug"
			c := newChain(t, setup{backend: f.backend, vars: vars, change: use})
			for _, fault := range []otlptest.Fault{{}, {Kind: otlptest.ResetAfterRead}, {Kind: otlptest.Hang}} {
				f.backend.Fail(fault)
				for range 5 {
					c.invoke(5)
					f.cut(true)
				}
				f.backend.Heal()
			}
			noRaces(t, c)
		})
	}
	t.Run("managed instances", func(t *testing.T) {
		c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_FLUSH_INTERVAL": "5ms"}, change: func(cfg *lambdasim.Config) {
			use(cfg)
			cfg.ManagedInstances, cfg.MaxConcurrency = true, 4
		}})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					c.send(order{Spans: 5, WorkMS: 2})
				}
			})
		}
		wg.Wait()
		for range 40 {
			c.count(usual(5))
		}
		noRaces(t, c)
	})
}

// raceExtension builds the extension with the race detector, which needs a C compiler.
func raceExtension(t *testing.T) string {
	t.Helper()
	cc, err := goTool("env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(strings.TrimSpace(string(cc))); err != nil {
		t.Skipf("SKIPPED: the race detector: no C compiler: %v", err)
	}
	out := filepath.Join(t.TempDir(), extensionName)
	cmd := goTool("build", "-race", "-o", out, "./extension") // with the flags of go test, to share its cache
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the extension with the race detector: %v\n%s", err, msg)
	}
	return out
}

package e2e

import (
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// A destination whose endpoint, headers and key are kept in SSM and Secrets Manager.
func TestSecretsAreResolved(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			b := newBackend(t, otlptest.Options{Keep: true})
			k := newKeeper(t, map[string]string{
				"ssm /otlp/endpoint": b.URL() + "/hidden-path\n", "ssm /otlp/key": "50%-of-the-key", "secretsmanager backend": `{"token":"tok,en=1234567"}`,
			})
			vars := k.vars()
			vars["OTLP_RELAY_FLUSH"], vars["OTLP_RELAY_LOG_LEVEL"] = mode, "debug"
			vars["OTLP_RELAY_ENDPOINT"] = "${ssm:/otlp/endpoint}"
			vars["OTLP_RELAY_HEADERS"] = "x-key=a%20${ssm:/otlp/key},authorization=Bearer%20${secretsmanager:backend#token}"
			c := newChain(t, setup{backend: b, vars: vars})
			for range 3 {
				c.invoke(2)
			}
			c.mustArrive(c.shutdown())
			for _, r := range b.Requests() {
				if r.Header.Get("X-Key") != "a 50%-of-the-key" || r.Header.Get("Authorization") != "Bearer tok,en=1234567" || !strings.HasPrefix(r.Path, "/hidden-path/v1/") {
					t.Errorf("%s with %v", r.Path, r.Header)
				}
			}
			c.mustHide("50%-of-the-key", "en=1234567", "hidden-path", strings.TrimPrefix(b.URL(), "http://"))
			for _, name := range []string{"ssm /otlp/endpoint", "ssm /otlp/key", "secretsmanager backend"} {
				if n, first := k.times(name); n != 1 || first.Before(c.registered()) {
					t.Errorf("asked %d times for %s, first %v after register", n, name, first.Sub(c.registered()))
				}
			}
		})
	}
}

// registered is when the extension had called register.
func (c *chain) registered() time.Time {
	for _, ev := range c.env.Record() {
		if ev.Kind == lambdasim.KindRegister {
			return ev.At
		}
	}
	c.t.Fatal("the extension has not registered")
	return time.Time{}
}

// secretVars is faultVars with a header that is kept in SSM.
func (k *keeper) secretVars(mode string) map[string]string {
	vars := faultVars(mode)
	maps.Copy(vars, k.vars())
	vars["OTLP_RELAY_HEADERS"] = "x-key=${ssm:/key}"
	return vars
}

// A secret that is late delays the data, not the function, and loses nothing.
func TestSecretsThatAreLate(t *testing.T) {
	for name, meet := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"slow": func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(150 * time.Millisecond) // the service's own time
			return false
		},
		"throttled":    throttled,
		"hanging":      hangs,
		"out of order": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusBadGateway); return true },
	} {
		for _, mode := range []string{"end", "next"} {
			t.Run(name+", "+mode, func(t *testing.T) {
				k := newKeeper(t, map[string]string{"ssm /key": "s3cret-value"})
				times := int32(2)
				if name == "hanging" { // until the attempt's own timeout of 2 s
					times = 1
				}
				var met atomic.Int32
				k.set(func(w http.ResponseWriter, r *http.Request) bool { return met.Add(1) <= times && meet(w, r) })
				c := newChain(t, setup{vars: k.secretVars(mode)})
				c.mustNotNotice(5)
				late := c.made[otlp.Traces]
				for end := time.Now().Add(30 * time.Second); c.backend.Totals(otlp.Traces).Records < late; {
					if time.Now().After(end) {
						t.Fatal("the data does not leave")
					}
					c.gap(100 * time.Millisecond)
					c.invoke(2)
				}
				c.mustArrive(c.shutdown())
				c.mustHide("s3cret-value")
			})
		}
	}
}

// A secret that cannot be had costs the telemetry that needs it, never the function: it is counted, and one line
// says what to do.
func TestSecretsThatCannotBeHad(t *testing.T) {
	for name, r := range map[string]struct {
		meet    func(w http.ResponseWriter, r *http.Request) bool
		headers string
		log     string
	}{
		"denied":       {denied, "x-key=${ssm:/key}", "allow ssm:GetParameter to the function's role"},
		"no parameter": {nil, "x-key=${ssm:/gone}", "OTLP_RELAY_LOGS_HEADERS: ${ssm:/gone}: "},
		"no secret":    {nil, "x-key=${secretsmanager:gone}", "check its name, its account and its region, us-east-1"},
		"no key":       {nil, "x-key=${secretsmanager:object#gone}", `it has no key \"gone\"`},
		"empty":        {nil, "x-key=${ssm:/empty}", "it is empty: store the value there"},
		"a line break": {nil, "x-key=${ssm:/broken}", "check OTLP_RELAY_LOGS_HEADERS"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t, map[string]string{"ssm /key": "s3cret", "ssm /empty": " ", "ssm /broken": "s3cret\nvalue", "secretsmanager object": `{"a":"s3cret"}`})
			k.set(r.meet)
			vars := faultVars("end")
			maps.Copy(vars, k.vars())
			vars["OTLP_RELAY_LOGS_HEADERS"] = r.headers
			c := newChain(t, setup{vars: vars})
			c.mustNotNotice(3)
			a := c.shutdown()
			c.mustBalance(a)
			if n := a.dropped(otlp.Logs, otlp.DroppedMisconfigured); n != c.made[otlp.Logs] {
				t.Errorf("%d of %d log records dropped as misconfigured", n, c.made[otlp.Logs])
			}
			if n := a.lost(otlp.Traces) + a.lost(otlp.Metrics); n > 0 {
				t.Errorf("%d records of other signals lost", n)
			}
			if lines := c.logged("level=ERROR"); len(lines) != 1 || !strings.Contains(lines[0], r.log) || !strings.Contains(lines[0], "signal=[logs]") {
				t.Errorf("logged %q, want one error with %q", lines, r.log)
			}
			c.mustHide("s3cret")
		})
	}
}

// What waits for a secret when the environment ends is lost, and counted.
func TestShutdownWithoutSecrets(t *testing.T) {
	for name, meet := range map[string]func(w http.ResponseWriter, r *http.Request) bool{"hanging": hangs, "throttled": throttled} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper(t, nil)
			k.set(meet)
			c := newChain(t, setup{vars: k.secretVars("end")})
			c.mustNotNotice(3)
			a := c.shutdown()
			c.mustBalance(a)
			for _, sig := range threeSignals {
				if n := a.dropped(sig, otlp.DroppedShutdown); n != c.made[sig] {
					t.Errorf("%s: %d of %d records dropped at shutdown", sig, n, c.made[sig])
				}
			}
		})
	}
}

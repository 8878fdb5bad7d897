package e2e

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// budget is the OTLP_RELAY_FLUSH_TIMEOUT of these tests: the most that one invocation may be held.
const budget = 300 * time.Millisecond

// gathering is the OTLP_RELAY_FLUSH_INTERVAL of the chains whose invocations are frequent.
const gathering = 150 * time.Millisecond

// faultVars makes a chain in which waits are short, but still in their usual order: an attempt outlasts what an
// invocation may be held. In mode "auto" invocations are rare by its interval, in "auto, frequent" they are not.
func faultVars(mode string) map[string]string {
	vars := map[string]string{
		"OTLP_RELAY_FLUSH":          mode,
		"OTLP_RELAY_FLUSH_INTERVAL": "10", // ms
		"OTLP_RELAY_FLUSH_TIMEOUT":  budget.String(),
		"OTLP_RELAY_TIMEOUT":        "500ms",
	}
	switch mode {
	case "auto":
		vars["OTLP_RELAY_FLUSH_INTERVAL"] = "1"
	case "auto, frequent":
		vars["OTLP_RELAY_FLUSH"], vars["OTLP_RELAY_FLUSH_INTERVAL"] = "auto", gathering.String()
		vars["OTLP_RELAY_LOG_LEVEL"] = "debug"
	}
	return vars
}

var modes = []string{"end", "next", "interval", "auto"}

// becomeFrequent runs invocations until the extension gathers their data.
func (c *chain) becomeFrequent() {
	c.t.Helper()
	for range 100 {
		if len(c.logged("data is gathered, and they are not held")) > 0 {
			return
		}
		for range 20 {
			c.invoke(1)
		}
	}
	c.t.Fatal("data is not gathered after 2,000 invocations in a row")
}

// fate is what becomes of the data that meets a fault.
type fate int

const (
	arrives  fate = iota // once the backend is well again, once
	taken                // at once: the backend took it, and its answer says so
	doubled              // it may arrive twice: the backend took it and did not answer
	refused              // dropped{refused}
	rejected             // one record of each request is dropped{rejected}
)

// fateOf is a fault, and what becomes of the data that meets it.
type fateOf struct {
	otlptest.Fault
	fate
}

// commonFaults end alike over every protocol.
func commonFaults() map[string]fateOf {
	return map[string]fateOf{
		"refused connection":   {otlptest.Fault{Kind: otlptest.Refuse}, arrives},
		"hang":                 {otlptest.Fault{Kind: otlptest.Hang}, arrives},
		"hang after taking":    {otlptest.Fault{Kind: otlptest.Hang, Take: true}, doubled},
		"reset before reading": {otlptest.Fault{Kind: otlptest.ResetBeforeRead}, arrives},
		"reset after reading":  {otlptest.Fault{Kind: otlptest.ResetAfterRead}, arrives},
		"reset after taking":   {otlptest.Fault{Kind: otlptest.ResetAfterRead, Take: true}, doubled},
		"half-close":           {otlptest.Fault{Kind: otlptest.HalfClose}, arrives},
		"garbage":              {otlptest.Fault{Kind: otlptest.Garbage}, arrives},
		"partial success":      {otlptest.Fault{Kind: otlptest.Partial, Rejected: 1, Message: "too old"}, rejected},
		"warning":              {otlptest.Fault{Kind: otlptest.Partial, Message: "clock skew"}, taken},
	}
}

// answering is a fault that says so; code is an HTTP status or gRPC's code.
func answering(code int, retryAfter string) otlptest.Fault {
	return otlptest.Fault{Kind: otlptest.Status, Code: code, RetryAfter: retryAfter, Message: "not now"}
}

func httpFaults() map[string]fateOf {
	date := time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
	rows := map[string]fateOf{
		"reset in the answer":         {otlptest.Fault{Kind: otlptest.ResetMidAnswer}, taken},
		"slow body of a 200":          {otlptest.Fault{Kind: otlptest.SlowBody, Every: 10 * time.Millisecond}, taken},
		"slow body of a 503":          {otlptest.Fault{Kind: otlptest.SlowBody, Code: 503, Every: 10 * time.Millisecond}, arrives},
		"endless body of a 503":       {otlptest.Fault{Kind: otlptest.EndlessBody}, arrives},
		"endless body of a 400":       {otlptest.Fault{Kind: otlptest.EndlessBody, Code: 400}, refused},
		"redirect":                    {otlptest.Fault{Kind: otlptest.Redirect}, refused},
		"429":                         {answering(429, ""), arrives},
		"429, Retry-After in seconds": {answering(429, "1"), arrives},
		"429, Retry-After a date":     {answering(429, date), arrives},
		"429, Retry-After garbage":    {answering(429, "soon"), arrives},
		"429, Retry-After negative":   {answering(429, "-5"), arrives},
		"502":                         {answering(502, ""), arrives},
		"503":                         {answering(503, ""), arrives},
		"503, Retry-After 0":          {answering(503, "0"), arrives},
		"504":                         {answering(504, ""), arrives},
		"500":                         {answering(500, ""), refused},
		"401":                         {answering(401, ""), refused},
	}
	maps.Copy(rows, commonFaults())
	return rows
}

// A fault of the backend is met by three invocations at least and then over. The function never notices; the data
// arrives; the account is exact.
func TestBackendFaults(t *testing.T) {
	for name, f := range httpFaults() {
		for _, mode := range append(modes, "auto, frequent") {
			t.Run(name+"/"+mode, func(t *testing.T) { meet(t, f, mode, otlptest.Options{}) })
		}
	}
}

// meet runs a chain through a fault of its backend.
func meet(t *testing.T, f fateOf, mode string, backend otlptest.Options) {
	s := setup{vars: faultVars(mode), backend: newBackend(t, backend)}
	if backend.GRPC {
		s.vars["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc" // then both ends are grpc-go's
		s.change = func(cfg *lambdasim.Config) {
			cfg.Env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://" + cfg.Env["OTLP_RELAY_GRPC_ADDR"]
		}
	}
	c := newChain(t, s)
	c.invoke(2)
	enough := 15 * time.Millisecond // for interval mode to send
	if mode == "auto, frequent" {
		c.becomeFrequent()
		enough = 2 * gathering
	}
	c.backend.Fail(f.Fault)
	c.mustNotNoticeFor(3, enough)
	c.backend.Heal()
	c.mustEndAs(f.fate, c.shutdown())
}

// mustNotNotice runs n invocations while something is wrong behind the extension: no response waits for it,
// and at most one invocation is held.
func (c *chain) mustNotNotice(n int) {
	c.t.Helper()
	c.mustNotNoticeFor(n, 0)
}

// mustNotNoticeFor is mustNotNotice for n invocations and as many more as fit into d.
func (c *chain) mustNotNoticeFor(n int, d time.Duration) {
	c.t.Helper()
	held, fastest := 0, time.Hour
	for begin, i := time.Now(), 0; i < n || time.Since(begin) < d; i++ {
		inv, _ := c.invoke(2)
		if inv.Added() >= budget*9/10 {
			held++
		}
		fastest = min(fastest, inv.ResponseTime())
	}
	if held > 1 {
		c.t.Errorf("%d invocations were held for the budget, want one at most", held)
	}
	if fastest >= budget {
		c.t.Errorf("the fastest response took %v: it waited for the backend", fastest)
	}
}

// mustEndAs checks the account of a chain whose data has met a fault.
func (c *chain) mustEndAs(want fate, a account) {
	c.t.Helper()
	if want == doubled {
		c.mustHaveEverything(a)
		return
	}
	c.mustBalance(a)
	why := map[fate]otlp.Reason{refused: otlp.DroppedRefused, rejected: otlp.DroppedRejected}[want]
	for _, sig := range threeSignals {
		if lost := a.lost(sig, why); lost > 0 {
			c.t.Errorf("%s: %d records lost for another reason than %q", sig, lost, why)
		}
		if why != "" && a.dropped(sig, why) == 0 {
			c.t.Errorf("%s: nothing was dropped as %s", sig, why)
		}
		if gone := len(c.logged("signal=" + sig.String())); want == taken && gone > 1 {
			c.t.Errorf("%s: %d log lines although all was well", sig, gone)
		}
	}
	if n := len(c.logged("backend out of order")); n > len(threeSignals) {
		c.t.Errorf("the outage was logged %d times, want once for each signal", n)
	}
}

// mustHaveEverything checks that nothing was lost where the backend may have taken something twice.
func (c *chain) mustHaveEverything(a account) {
	c.t.Helper()
	for _, sig := range threeSignals {
		taken := c.backend.Totals(sig).Records
		if a.accepted(sig) != c.made[sig] || a.delivered(sig) != c.made[sig] || taken < c.made[sig] {
			c.t.Errorf("%s: made %d, the backend took %d; account: accepted %d, delivered %d",
				sig, c.made[sig], taken, a.accepted(sig), a.delivered(sig))
		}
	}
	distinct := map[string]bool{}
	for _, r := range c.backend.Requests() {
		if r.Decoded == nil {
			continue // cut on its way
		}
		for _, id := range r.IDs {
			distinct[id] = distinct[id] || r.Taken && r.Signal == otlp.Traces
		}
	}
	delete(distinct, "") // logs and points have no id here
	if len(distinct) != c.made[otlp.Traces] {
		c.t.Errorf("%d distinct spans arrived of %d", len(distinct), c.made[otlp.Traces])
	}
}

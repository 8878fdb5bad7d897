package e2e

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// queueUp posts requests while the backend is down, one an invocation, so that they wait in the queue and
// would leave as one.
func (c *chain) queueUp(requests ...otlptest.Built) {
	c.t.Helper()
	c.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 503})
	for _, r := range requests {
		c.post(r)
	}
	c.backend.Heal()
}

// build makes n requests of a signal with so many records each.
func several(b *otlptest.Builder, sig otlp.Signal, n, records int) (requests []otlptest.Built) {
	for range n {
		requests = append(requests, b.Build(sig, otlp.Protobuf, records))
	}
	return requests
}

// mustHaveRefused checks that the backend refused a request of at least so many records: a merged one.
func (c *chain) mustHaveRefused(status, records int) {
	c.t.Helper()
	for _, q := range c.backend.Requests() {
		if q.Status == status && (records == 0 || q.Decoded != nil && q.Records >= records) {
			return
		}
	}
	c.t.Errorf("the backend never answered %d to %d records: this test proves nothing", status, records)
}

func TestOnePoisonedRequestDoesNotTakeTheOthersWithIt(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c, b := posters(t, setup{vars: faultVars(mode)})
			requests := several(b, otlp.Traces, 8, 2)
			c.queueUp(requests...)
			c.backend.PoisonIf(holding(requests[3]))
			a := c.shutdown()
			c.mustBalance(a)
			c.mustHaveRefused(400, 4)
			c.mustKnow(false, requests[3])
			c.mustKnow(true, append(requests[:3:3], requests[4:]...)...)
			if n := a.dropped(otlp.Traces, otlp.DroppedRefused); n != 2 {
				t.Errorf("dropped %d as refused, want the 2 of the poisoned request", n)
			}
		})
	}
}

func TestABackendWithASmallLimitGetsSmallerRequests(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c, b := posters(t, setup{vars: faultVars(mode)})
			requests := several(b, otlp.Logs, 6, 20)
			b.Pad = 3000
			tooLarge := b.Build(otlp.Logs, otlp.Protobuf, 1) // no smaller request can hold it
			c.queueUp(append(requests, tooLarge)...)
			c.backend.SetMaxBody(len(requests[0].Body) * 2 / 3)
			a := c.shutdown()
			c.mustBalance(a)
			c.mustHaveRefused(413, 0) // of what it does not read it cannot count the records
			c.mustKnow(true, requests...)
			if n := a.dropped(otlp.Logs, otlp.DroppedTooLarge); n != 1 || a.lost(otlp.Logs) != 1 {
				t.Errorf("dropped %d as too large and %d in all, want the one large record", n, a.lost(otlp.Logs))
			}
		})
	}
}

// A backend that says how long to wait is left alone for so long, in every mode.
func TestRetryAfterIsKept(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := newChain(t, setup{vars: faultVars(mode)})
			c.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 429, RetryAfter: "3600"})
			for range 4 {
				c.invoke(1)
				c.gap(budget / 3)
			}
			for _, sig := range threeSignals {
				if n := c.backend.Totals(sig).Requests; n != 1 {
					t.Errorf("%s: %d requests to a backend that wants none for an hour", sig, n)
				}
			}
			c.backend.Heal()
			c.mustArrive(c.shutdown())
		})
	}
}

// An outage that outlasts breaker windows holds one invocation, costs few requests, and ends by itself.
func TestRecoveryNeedsNoShutdown(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := newChain(t, setup{vars: faultVars(mode)})
			c.invoke(1)
			c.backend.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 503})
			c.mustNotNotice(3)
			c.gap(1100 * time.Millisecond) // the first window: one probe a signal may follow
			before := c.backend.Totals(otlp.Traces).Requests
			c.mustNotNotice(3)
			if n := c.backend.Totals(otlp.Traces).Requests - before; n > 1 {
				t.Errorf("%d probes in one window", n)
			}
			c.backend.Heal()
			c.gap(2100 * time.Millisecond) // the second window
			for i := 0; i < 20 && len(c.logged("backend works again")) < len(threeSignals); i++ {
				c.invoke(1)
			}
			made := maps.Clone(c.made)
			for range 2 {
				c.gap(20 * time.Millisecond) // more than the interval
				c.invoke(1)
			}
			for _, sig := range threeSignals {
				if got := c.backend.Totals(sig).Records; got < made[sig] {
					t.Errorf("%s: %d of %d records arrived by the end of the outage", sig, got, made[sig])
				}
			}
			c.mustArrive(c.shutdown())
			for _, text := range []string{"backend out of order", "backend works again"} {
				if n := len(c.logged(text)); n != len(threeSignals) {
					t.Errorf("%q was logged %d times, want once for each signal", text, n)
				}
			}
		})
	}
}

// A queue that overflows in an outage keeps the newest data, and counts what goes to the record.
func TestAnOverflowKeepsTheNewest(t *testing.T) {
	const limit = 10_000 // bytes
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			vars := faultVars(mode)
			vars["OTLP_RELAY_BUFFER_BYTES"] = "10000"
			c, b := posters(t, setup{vars: vars})
			c.backend.Fail(otlptest.Fault{Kind: otlptest.Refuse})
			requests := several(b, otlp.Traces, 20, 3)
			for _, r := range requests {
				c.post(r)
			}
			c.backend.Heal()
			a := c.shutdown()

			kept, size := 0, 0
			for kept < len(requests) && size+len(requests[len(requests)-1-kept].Body) <= limit {
				size += len(requests[len(requests)-1-kept].Body)
				kept++
			}
			c.mustBalance(a)
			c.mustKnow(false, requests[:len(requests)-kept]...)
			c.mustKnow(true, requests[len(requests)-kept:]...)
			if n := a.dropped(otlp.Traces, otlp.DroppedQueueFull); n != 3*(len(requests)-kept) || a.lost(otlp.Traces) != n {
				t.Errorf("dropped %d as queue_full and %d in all, want %d", n, a.lost(otlp.Traces), 3*(len(requests)-kept))
			}
			if lines := c.logged("reason=queue_full"); len(lines) == 0 || len(lines) > 3 {
				t.Errorf("the overflow was logged %d times, want the first loss and each tenfold:\n%s", len(lines), strings.Join(lines, "\n"))
			}
		})
	}
}

package flush

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// A route that takes the network to make: everything stays queued until it is made, and then leaves by it.
func TestRouteThatOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		made := Route{MaxBytes: 1 << 20, Sink: sinkFunc(func(_ context.Context, p otlp.Payload) error {
			sent = append(sent, string(p.Body))
			return nil
		})}
		notYet := errors.New("not yet")
		opens, open := 0, func(context.Context) (Route, error) {
			time.Sleep(time.Second)
			return Route{}, notYet
		}
		r := newRig(t, nil, func(r *Route) {
			*r = Route{Open: func(ctx context.Context) (Route, error) {
				opens++
				return open(ctx)
			}}
		})
		r.put(otlp.Traces, "a", "b")
		r.Start(buffer.Everything)
		if !r.Busy(otlp.Traces) || r.Busy(otlp.Logs) {
			t.Error("a signal whose route is being made is not busy, or one without data is")
		}
		if err := r.Flush(t.Context()); !errors.Is(err, notYet) || opens != 1 {
			t.Errorf("flush: %v after %d tries", err, opens)
		}
		if n, _ := r.queue.Queued(otlp.Traces); n != 2 {
			t.Errorf("%d records queued, want both", n)
		}
		open = func(context.Context) (Route, error) { return made, nil }
		for range 2 {
			if err := r.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.put(otlp.Traces, "c")
		}
		if strings.Join(sent, " ") != "ab c" || opens != 2 {
			t.Errorf("sent %q, opened %d times", sent, opens)
		}
	})
}

// Where there turns out to be no destination what is queued is dropped, and so is what comes later.
func TestRouteThatRefuses(t *testing.T) {
	for name, open := range map[string]func(context.Context) (Route, error){
		"a mistake": func(context.Context) (Route, error) { return Route{Refuse: errors.New("no such parameter")}, nil },
		"a bug":     func(context.Context) (Route, error) { panic("no such parameter") },
	} {
		r := newRig(t, nil, func(r *Route) { *r = Route{Open: open} })
		for want := range 3 {
			r.put(otlp.Logs, "x")
			if err := r.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.counts.dropped[otlp.DroppedMisconfigured]; got != want+1 || !strings.Contains(r.counts.causes[0].Error(), "no such parameter") {
				t.Errorf("%s: dropped %v, %v", name, r.counts.dropped, r.counts.causes)
			}
		}
	}
}

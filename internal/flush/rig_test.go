package flush

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// sinkFunc is a Sink made of a function.
type sinkFunc func(ctx context.Context, p otlp.Payload) error

func (f sinkFunc) Send(ctx context.Context, p otlp.Payload) error { return f(ctx, p) }

// counts is a Recorder that adds up.
type counts struct {
	mu        sync.Mutex
	delivered int // bytes
	records   int // delivered
	dropped   map[otlp.Reason]int
	lost      int // bytes
	causes    []error
}

func (c *counts) Delivered(_ otlp.Signal, records, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records += records
	c.delivered += bytes
}

func (c *counts) Dropped(_ otlp.Signal, why otlp.Reason, records, bytes int, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped == nil {
		c.dropped = map[otlp.Reason]int{}
	}
	c.dropped[why] += records
	c.lost += bytes
	c.causes = append(c.causes, cause)
}

// rig is a flusher with a queue, one sink for every signal, and what they recorded.
type rig struct {
	*Flusher
	queue  *buffer.Queue
	counts counts
}

func newRig(t *testing.T, sink sinkFunc, change func(*Route)) *rig {
	r := &rig{queue: buffer.New(buffer.Limits{Bytes: 1 << 20, Records: 1 << 20}, nil, func(buffer.Item) { t.Error("queue full") })}
	cfg := Config{Queue: r.queue, Recorder: &r.counts, Settled: spoil}
	for _, sig := range otlp.Signals() {
		cfg.Routes[sig] = Route{Sink: sink, MaxBytes: 1 << 20}
		if change != nil {
			change(&cfg.Routes[sig])
		}
	}
	r.Flusher = New(t.Context(), cfg)
	t.Cleanup(func() { r.Stop(errors.New("test over")) })
	return r
}

// put queues one payload per body, one record each. Protobuf bodies merge by concatenation, so any bytes do.
func (r *rig) put(sig otlp.Signal, bodies ...string) {
	for _, b := range bodies {
		_ = r.queue.Send(context.Background(), otlp.Payload{Signal: sig, Body: []byte(b), Size: len(b), Records: 1, Lent: true})
	}
}

// spoil does to a settled payload's body what its next use would do: whoever still needs it, sends it wrong.
func spoil(p otlp.Payload) {
	if p.Lent {
		for i := range p.Body {
			p.Body[i] = '#'
		}
	}
}

// take empties the queue of a signal.
func (r *rig) left(sig otlp.Signal) string {
	var out []string
	for _, it := range r.queue.Take(sig, 1<<20, buffer.Everything) {
		out = append(out, string(it.Body))
	}
	return strings.Join(out, " ")
}

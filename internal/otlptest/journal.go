package otlptest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Request is what the backend saw of one request.
type Request struct {
	Signal   otlp.Signal
	Encoding otlp.Encoding
	Method   string
	Path     string
	Header   http.Header
	Coding   string    // Content-Encoding, or a compressed message's grpc-encoding; "" for none
	Arrived  time.Time // when its head was read
	Wire     int       // bytes of the body as sent
	Size     int       // bytes of the body without compression
	Taken    bool      // the backend kept the records
	Status   int       // what it answers; 0 where it cuts or hangs. gRPC answers 200, whatever its code
	Code     otlp.Code // what it answers with gRPC
	*Decoded           // nil where nothing could be decoded; Message and Tree only with Options.Keep
	Body     []byte    // uncompressed; only with Options.Keep
}

// Totals of one signal.
type Totals struct {
	Requests int // that reached the backend, whatever came of them
	Taken    int // requests whose records it kept
	Records  int // kept, duplicates included
	Wire     int // bytes of all bodies as sent
	Size     int // bytes of the bodies it kept, without compression
	Parallel int // the most requests at once
}

// journal is what the backend remembers. Backend.mu guards it.
type journal struct {
	requests []*Request
	totals   [otlp.SignalCount]Totals
	parallel [otlp.SignalCount]int
	times    map[string]int // id of a record -> how often it was kept
	changed  chan struct{}  // closed and replaced when a request is added
}

func (j *journal) addLocked(q *Request) {
	j.requests = append(j.requests, q)
	t := &j.totals[q.Signal]
	t.Requests++
	t.Wire += q.Wire
	if q.Taken {
		t.Taken++
		t.Records += q.Records
		t.Size += q.Size
		if j.times == nil {
			j.times = map[string]int{}
		}
		for _, id := range q.IDs {
			if id != "" {
				j.times[id]++
			}
		}
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

// Requests are all requests so far, in the order in which they were read. Do not change them.
func (b *Backend) Requests() []*Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.journal.requests)
}

// Totals are the sums of one signal so far.
func (b *Backend) Totals(sig otlp.Signal) Totals {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.journal.totals[sig]
}

// Bodies are the uncompressed bodies that were taken, for Equal. Options.Keep must be set.
func (b *Backend) Bodies(sig otlp.Signal, enc otlp.Encoding) [][]byte {
	var bodies [][]byte
	for _, q := range b.Requests() {
		if q.Taken && q.Signal == sig && q.Encoding == enc {
			bodies = append(bodies, q.Body)
		}
	}
	return bodies
}

// Lost are those of the made ids that were never kept.
func (b *Backend) Lost(made []string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var lost []string
	for _, id := range made {
		if b.journal.times[id] == 0 {
			lost = append(lost, id)
		}
	}
	return lost
}

// Duplicates are the ids that were kept more than once, sorted.
func (b *Backend) Duplicates() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var twice []string
	for id, n := range b.journal.times {
		if n > 1 {
			twice = append(twice, id)
		}
	}
	slices.Sort(twice)
	return twice
}

// WaitRecords waits until the backend has kept n records of the signal, duplicates included.
func (b *Backend) WaitRecords(ctx context.Context, sig otlp.Signal, n int) error {
	return b.wait(ctx, fmt.Sprintf("%d records of %s", n, sig), func(t Totals) int { return t.Records }, sig, n)
}

// WaitRequests waits until n requests of the signal have come, whatever became of them.
func (b *Backend) WaitRequests(ctx context.Context, sig otlp.Signal, n int) error {
	return b.wait(ctx, fmt.Sprintf("%d requests of %s", n, sig), func(t Totals) int { return t.Requests }, sig, n)
}

func (b *Backend) wait(ctx context.Context, what string, of func(Totals) int, sig otlp.Signal, n int) error {
	for {
		b.mu.Lock()
		have, changed := of(b.journal.totals[sig]), b.journal.changed
		b.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s, have %d: %w", what, have, context.Cause(ctx))
		case <-changed:
		}
	}
}

// Package buffer is the bounded queue between the receiver and the flush: a pure data structure, without
// goroutine, clock or I/O.
package buffer

import (
	"context"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Item is a payload in the queue.
type Item struct {
	otlp.Payload

	// Accounted is how many of the accepted bytes the payload stands for. It is Payload.Size, unless the
	// payload is what remains of a split one: a part repeats what encloses its records.
	Accounted int

	// Copy is the payload's copy outside of memory; nil where there is none. The parts of a payload share it.
	Copy Copy

	// Alone keeps the payload from being merged with others: it may be what an earlier process died of, and
	// must take nothing else with it.
	Alone bool

	seq Mark

	squeezed []byte // where Body is while it is nil, with others; never set outside of the queue
	at       int    // the place of its first byte among theirs
}

// Copy is what outlives the process of a payload, until it is settled.
type Copy interface {
	// Settle says that so many of the payload's records were delivered or dropped. It waits for nothing.
	Settle(records int)

	// Begin and End enclose work on the payload that might kill the process.
	Begin()
	End()
}

// A Mark is a point in the order of arrival: a later payload has a higher one.
type Mark uint64

// Everything is the mark behind every payload, those yet to come included.
const Everything = ^Mark(0)

// inherited is the mark before every payload of this process; those of earlier ones have lower ones.
const inherited Mark = 1 << 32

// Limits bounds what a queue holds.
type Limits struct {
	Bytes   int // uncompressed
	Records int

	// Loose is how many bytes of bodies are kept as they came. Of what comes on top the queue keeps a squeezed form, a
	// ninth of the size, which costs 2 µs of CPU for each span. 0: no limit.
	Loose int
}

// Queue holds payloads until they are delivered, in order of arrival for each signal, within its limits.
// When it is full, the oldest payload of all signals goes: a fresh record is worth more than a stale one,
// and the function must never wait for a backend. A payload that is over a limit by itself is held alone.
//
// What Take handed out does not count towards the limits until it is restored. It is a Sink and safe for
// concurrent use.
type Queue struct {
	limits  Limits
	bodies  *otlp.Bodies
	dropped func(Item)
	unit    int // squeezeUnit; less in tests

	mu      sync.Mutex
	fifos   [otlp.SignalCount]fifo
	bytes   int
	records int
	last    Mark

	squeezer squeezer
}

// New makes an empty queue. Memory of bodies that it can do without it returns to bodies, which may be nil. It calls
// dropped for each payload that had to go to make room, while it holds its lock: dropped must only count.
func New(limits Limits, bodies *otlp.Bodies, dropped func(Item)) *Queue {
	return &Queue{limits: limits, bodies: bodies, dropped: dropped, unit: squeezeUnit, last: inherited}
}

// Send queues p, which the queue then owns. It never fails and waits for nothing.
func (q *Queue) Send(_ context.Context, p otlp.Payload) error {
	q.Add(p, nil)
	return nil
}

// Add is Send for a payload that has a copy; nil for one that has none.
func (q *Queue) Add(p otlp.Payload, c Copy) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	q.fifos[p.Signal].pushBack(Item{Payload: p, Accounted: p.Size, Copy: c, seq: q.last})
	q.bytes += p.Size
	q.records += p.Records
	q.evictLocked()
	q.squeezeLocked(&q.fifos[p.Signal])
}

// Inherit queues what an earlier process has left, in order of arrival, before everything of this process. It is
// called once.
func (q *Queue) Inherit(items []Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var signals [otlp.SignalCount][]Item
	for i, it := range items {
		it.seq = Mark(i + 1)
		signals[it.Signal] = append(signals[it.Signal], it)
		q.bytes += it.Size
		q.records += it.Records
	}
	for sig := range signals {
		q.fifos[sig].pushFront(signals[sig])
	}
	q.evictLocked()
}

// Take removes the oldest payloads of a signal that can leave as one request: at most maxBytes
// uncompressed (or one payload, whatever its size), of one encoding, none of them younger than upto, and none
// that is Alone with others. The caller settles each of them or gives it back to Restore. It is nil where there is nothing to take.
func (q *Queue) Take(sig otlp.Signal, maxBytes int, upto Mark) []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &q.fifos[sig]
	n, size := 0, 0
	for _, it := range f.items[f.head:] {
		first := &f.items[f.head]
		if it.seq > upto || n > 0 && (!sig.Mergeable() || it.Encoding != first.Encoding || it.Alone || first.Alone || size+it.Size > maxBytes) {
			break
		}
		n++
		size += it.Size
	}
	if n == 0 {
		return nil
	}
	batch := f.popFront(n)
	for _, it := range batch {
		q.bytes -= it.Size
		q.records -= it.Records
	}
	q.unsqueezeLocked(batch)
	return batch
}

// Restore gives back what Take handed out and could not be delivered, in the order it had. It becomes the
// oldest of its signal again, and so the first to go if it no longer fits.
func (q *Queue) Restore(items []Item) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fifos[items[0].Signal].pushFront(items)
	for _, it := range items {
		q.bytes += it.Size
		q.records += it.Records
	}
	q.evictLocked()
}

// evictLocked drops the oldest payloads until the rest is within the limits; the last one stays.
func (q *Queue) evictLocked() {
	for q.bytes > q.limits.Bytes || q.records > q.limits.Records {
		f := q.oldestLocked()
		if f == nil || q.lenLocked() == 1 {
			return
		}
		it := f.popFront(1)[0]
		q.bytes -= it.Size
		q.records -= it.Records
		q.dropped(it)
	}
}

// oldestLocked is the fifo whose first payload came first; nil where the queue is empty.
func (q *Queue) oldestLocked() *fifo {
	var oldest *fifo
	for i := range q.fifos {
		f := &q.fifos[i]
		if f.len() > 0 && (oldest == nil || f.items[f.head].seq < oldest.items[oldest.head].seq) {
			oldest = f
		}
	}
	return oldest
}

func (q *Queue) lenLocked() int {
	n := 0
	for i := range q.fifos {
		n += q.fifos[i].len()
	}
	return n
}

// Mark is the mark of the youngest payload so far.
func (q *Queue) Mark() Mark {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last
}

// Has says whether a payload of the signal, no younger than upto, is queued.
func (q *Queue) Has(sig otlp.Signal, upto Mark) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &q.fifos[sig]
	return f.len() > 0 && f.items[f.head].seq <= upto
}

// Bytes is how much is queued, uncompressed.
func (q *Queue) Bytes() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// Queued is what the queue holds of a signal, in records and accepted bytes, as the ledger counts them.
func (q *Queue) Queued(sig otlp.Signal) (records, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &q.fifos[sig]
	for _, it := range f.items[f.head:] {
		records += it.Records
		bytes += it.Accounted
	}
	return records, bytes
}

// Waiting is how much of a signal is queued, in uncompressed bytes, and when its oldest payload arrived (wall
// time); false where there is nothing.
func (q *Queue) Waiting(sig otlp.Signal) (bytes int, oldest time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &q.fifos[sig]
	if f.len() == 0 {
		return 0, time.Time{}, false
	}
	return f.bytes, f.items[f.head].Received, true
}

package receiver

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// errClosed is what a request gets that waits for memory when the Receiver is closed.
var errClosed = errors.New("the receiver is closed")

// gate shares out memory among the requests in flight.
//
// A request enters once, grows its share before it allocates, and leaves when its memory is no longer its own.
// grow waits while the limit is reached, except for the oldest request: that one always goes on. So
// somebody always can, whoever waits for more will one day be the oldest, and no set of half-read bodies can block itself.
// Whoever is not the oldest is only ever granted what fits under limit, so that all of those together hold
// at most limit, and the sum is limit plus what the oldest holds.
//
// A wait ends with the memory, the request's context, or close. net/http watches a connection only when its
// body was read to the end: a client that goes away while its request waits is noticed when the wait is over.
type gate struct {
	limit int // bytes; set before use

	mu     sync.Mutex // guards all below
	used   int        // bytes: the sum of held
	last   uint64     // the newest id
	shares []share    // the requests in flight, oldest first
	closed bool
}

// share is one request's part of the memory.
type share struct {
	id   uint64
	held int           // bytes
	want int           // bytes more that it waits for; 0 when it does not
	wake chan struct{} // closed when want is granted or the gate closes; nil unless want > 0
}

// enter adds the newest request, which holds nothing yet.
func (g *gate) enter() (id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	g.shares = append(g.shares, share{id: g.last})
	return g.last
}

// grow adds n bytes to the request's share, and waits until that is possible. An error is the cause of ctx
// or errClosed; the share is then as it was, or already granted, and leave returns it either way.
func (g *gate) grow(ctx context.Context, id uint64, n int) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return errClosed
	}
	i := g.indexLocked(id)
	s := &g.shares[i]
	s.want = n
	if g.grantLocked(i) {
		g.mu.Unlock()
		return nil
	}
	wake := make(chan struct{})
	s.wake = wake
	g.mu.Unlock()

	select {
	case <-wake:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	return nil
}

// leave gives back all the request holds and lets go on whom that helps.
func (g *gate) leave(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.indexLocked(id)
	g.used -= g.shares[i].held
	g.shares = slices.Delete(g.shares, i, i+1)
	for i := range g.shares {
		if wake := g.shares[i].wake; wake != nil && g.grantLocked(i) {
			g.shares[i].wake = nil
			close(wake)
		}
	}
}

// close ends every wait, now and later.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for i := range g.shares {
		if s := &g.shares[i]; s.wake != nil {
			close(s.wake)
			s.wake, s.want = nil, 0
		}
	}
}

// grantLocked gives the i-th request what it wants, if it may have it now.
func (g *gate) grantLocked(i int) bool {
	s := &g.shares[i]
	if i > 0 && g.used+s.want > g.limit {
		return false
	}
	g.used += s.want
	s.held += s.want
	s.want = 0
	return true
}

func (g *gate) indexLocked(id uint64) int {
	i := slices.IndexFunc(g.shares, func(s share) bool { return s.id == id })
	if i < 0 {
		panic("BUG: a request left the memory gate twice")
	}
	return i
}

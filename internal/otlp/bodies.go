package otlp

import (
	"slices"
	"sync"
)

const (
	// heldBodies is how many bytes of memory that came back are held for the next bodies, in at most heldPieces pieces.
	heldBodies = 512 << 10
	heldPieces = 128
)

// Bodies lends the memory of request bodies, and takes it back: what one invocation brings mostly fits into what the
// one before left behind, and costs neither page faults nor its share of a garbage collection. Nothing has to
// come back. The zero value is ready; a nil Bodies only allocates. It is safe for concurrent use.
type Bodies struct {
	// Garbage is told how many bytes came back that are not held for another body; it must not block. nil: not
	// wanted. It is set before use.
	Garbage func(n int)

	mu   sync.Mutex
	free [][]byte // guarded by mu
	held int      // bytes; guarded by mu
}

// Lend is n bytes of memory. What is in them is left over from another body.
func (b *Bodies) Lend(n int) []byte {
	if b == nil {
		return make([]byte, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	best := -1
	for i, piece := range b.free {
		// One that is much too large would keep as much from being used.
		if c := cap(piece); c >= n && c <= 2*n && (best < 0 || c < cap(b.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]byte, n)
	}
	piece := b.free[best]
	b.free = slices.Delete(b.free, best, best+1)
	b.held -= cap(piece)
	return piece[:n]
}

// Return takes the memory of a body back; nobody may use it from then on.
func (b *Bodies) Return(body []byte) {
	if b != nil && !b.hold(body) && b.Garbage != nil {
		b.Garbage(cap(body))
	}
}

func (b *Bodies) hold(body []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+cap(body) > heldBodies || len(b.free) == heldPieces {
		return false
	}
	b.free = append(b.free, body[:0])
	b.held += cap(body)
	return true
}

package spool

import "github.com/otlp-relay/otlp-relay/internal/otlp"

// Record is the copy of one payload. Its methods may be called from any goroutine, also after Close, and write a
// few bytes at most: a failure shows in Spool.Close.
type Record struct {
	spool   *Spool
	segment *segment
	off     int64
	records int
	left    int // records that are neither delivered nor dropped; guarded by Spool.mu

	inherited bool // from an earlier process, so it may be what that one died of
	packs     int  // processes that died of packing it; guarded by Spool.mu
}

// Settle says that so many of the payload's records were delivered or dropped. When all were, the next process
// will not find them.
func (r *Record) Settle(records int) {
	s, g := r.spool, r.segment
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.left <= 0 {
		return
	}
	if r.left -= records; r.left > 0 {
		return
	}
	if g.live--; g.live > 0 || g == s.active[g.sig] && g.size < s.inSegment {
		s.noteLocked(g.set(r.off+settledAt, set))
		return
	}
	switch {
	case g.f == nil:
	case g == s.active[g.sig]:
		s.noteLocked(s.emptyLocked(g))
	default:
		s.noteLocked(s.dropLocked(g))
	}
}

// Keep sees to it that the next process finds p, which is what is left of r's payload or a part of that, and which
// stands for so many accepted bytes. Where it fails, r is as it was.
func (s *Spool) Keep(r *Record, p otlp.Payload, accounted int) error {
	if r.whole(p.Records) {
		return nil
	}
	if _, err := s.Append(p, accounted); err != nil {
		return err
	}
	r.Settle(p.Records)
	return nil
}

// whole says whether the copy is still there, and records all that the payload ever had.
func (r *Record) whole(records int) bool {
	r.spool.mu.Lock()
	defer r.spool.mu.Unlock()
	return r.left == r.records && records == r.records && !r.segment.removed()
}

// Begin says that the payload is about to be packed into a request. Where too many processes in a row do not
// survive that, the next one gives it up.
func (r *Record) Begin() { r.mark(true) }

// End says that the process has survived.
func (r *Record) End() { r.mark(false) }

func (r *Record) mark(begin bool) {
	if !r.inherited {
		return
	}
	r.spool.mu.Lock()
	defer r.spool.mu.Unlock()
	if r.left <= 0 {
		return
	}
	var b [maxTries]byte
	if r.packs++; !begin {
		r.packs = 0
	}
	for i := range min(r.packs, maxTries) {
		b[i] = set
	}
	r.spool.noteLocked(r.segment.set(r.off+packsAt, b[:]...))
}

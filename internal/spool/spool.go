// Package spool keeps copies of queued payloads in files, so that what was not delivered survives the process: a
// reset of the environment starts a new one and leaves /tmp as it is (Lambda Developer Guide, "Lambda runtime
// environment"). A payload is written when it arrives and settled when it was delivered or dropped; what is not
// settled is what the next process finds.
//
// The copies survive the process, killed at any instruction, but not the machine: written data is in the kernel's
// page cache, and nothing asks for it to be on the disk, since a microVM that is lost loses /tmp as well.
//
// The files hold telemetry as the function sent it, not encrypted, in a directory that only this user may read.
package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// A Lambda environment has 1,024 file descriptors for all: a spool at its limit has some 64 segments open.
const (
	segments   = 64
	leastInOne = 64 << 10  // bytes of a segment
	usualInOne = 256 << 10 // bytes; larger ones cost no less CPU time
)

// Spool is the files of this process and of those before it. It is safe for concurrent use.
type Spool struct {
	path      string
	limit     int64 // bytes of all segments
	inSegment int64 // bytes at which another one begins
	table     *crc32.Table

	mu      sync.Mutex
	dir     *os.File // open and locked; nil before the first use
	failed  error    // why there is no spool in this process
	closed  bool
	seq     uint64                     // of the last segment
	active  [otlp.SignalCount]*segment // what is appended to
	held    map[*segment]struct{}      // all that this process has open
	size    int64                      // bytes of all segments, those not opened yet included
	earlier []string                   // names of the segments of earlier processes, until Replay
	trouble error                      // the first write that failed and had nobody to tell
}

// New is a Spool in the directory path, whose files take limit bytes at most. It touches nothing yet: the
// directory is made and locked when it is first needed.
func New(path string, limit int) *Spool {
	return &Spool{
		path:      path,
		limit:     int64(limit),
		inSegment: max(min(int64(limit)/8, usualInOne), leastInOne, int64(limit)/segments),
		table:     crc32.MakeTable(crc32.Castagnoli),
		held:      map[*segment]struct{}{},
	}
}

// ErrFull is why a payload has no copy when the files have reached their limit.
var ErrFull = errors.New("the spool has reached its limit")

// Append keeps a copy of p, which stands for so many accepted bytes. When it returns, the copy survives
// the process. An error says why there is none: p is then as safe as it would be without a spool, and the next one may
// fare better.
func (s *Spool) Append(p otlp.Payload, accounted int) (*Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLocked(); err != nil {
		return nil, err
	}
	g, err := s.segmentLocked(p.Signal, span(int64(len(p.Body))))
	if err != nil {
		return nil, err
	}
	off, err := g.append(header{
		payload: p, accounted: accounted, length: int64(len(p.Body)), sum: crc32.Checksum(p.Body, s.table),
	}.encode(s.table), p.Body)
	if err != nil {
		return nil, err
	}
	s.size += span(int64(len(p.Body)))
	return &Record{spool: s, segment: g, off: off, records: p.Records, left: p.Records}, nil
}

// openLocked makes the spool usable, once. What it finds there is not looked into until Replay.
func (s *Spool) openLocked() (err error) {
	switch {
	case s.closed:
		return os.ErrClosed
	case s.dir != nil || s.failed != nil:
		return s.failed
	}
	defer func() { s.failed = err }()
	if s.dir, err = openDir(s.path); err != nil {
		return err
	}
	names, err := s.dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("list %s: %w", s.path, err)
	}
	slices.Sort(names)
	for _, name := range names {
		seq, _, ok := parseName(name)
		if !ok {
			continue
		}
		s.seq = max(s.seq, seq)
		s.earlier = append(s.earlier, name)
		if info, err := os.Lstat(filepath.Join(s.path, name)); err == nil {
			s.size += aligned(info.Size())
		}
	}
	return nil
}

// segmentLocked is the segment of a signal that has room for n bytes.
func (s *Spool) segmentLocked(sig otlp.Signal, n int64) (*segment, error) {
	g := s.active[sig]
	if g != nil && g.removed() {
		s.dropLocked(g) // with its copies
		g = nil
	}
	if g != nil && g.size > 0 && g.size+n > s.inSegment {
		if g.live > 0 {
			g = nil // its records keep it
		} else if err := s.emptyLocked(g); err != nil {
			return nil, err
		}
	}
	if s.size+n > s.limit && !s.shrinkLocked(n) {
		return nil, ErrFull
	}
	if g == nil {
		var err error
		if g, err = s.createLocked(sig); err != nil {
			return nil, err
		}
		s.active[sig] = g
		s.held[g] = struct{}{}
	}
	return g, nil
}

// createLocked begins a segment. Where the directory is gone it is made anew: a function may empty /tmp.
func (s *Spool) createLocked(sig otlp.Signal) (*segment, error) {
	s.seq++
	g, err := createSegment(s.path, s.seq, sig)
	if !errors.Is(err, fs.ErrNotExist) {
		return g, err
	}
	dir, err := openDir(s.path)
	if err != nil {
		return nil, err
	}
	s.dir.Close()
	s.dir = dir
	return createSegment(s.path, s.seq, sig)
}

// shrinkLocked empties the segments in which everything is settled, and says whether there is room for n bytes then.
func (s *Spool) shrinkLocked(n int64) bool {
	for _, g := range s.active {
		if g != nil && g.live == 0 {
			s.noteLocked(s.emptyLocked(g))
		}
	}
	return s.size+n <= s.limit
}

// emptyLocked starts a segment afresh, in which everything is settled.
func (s *Spool) emptyLocked(g *segment) error {
	if err := g.f.Truncate(0); err != nil {
		return err
	}
	s.size -= g.size
	g.size = 0
	return nil
}

// dropLocked gives a segment up, and its file.
func (s *Spool) dropLocked(g *segment) error {
	s.size -= g.size
	delete(s.held, g)
	if s.active[g.sig] == g {
		s.active[g.sig] = nil
	}
	return g.discard()
}

// noteLocked keeps the first error for Close.
func (s *Spool) noteLocked(err error) {
	if s.trouble == nil {
		s.trouble = err
	}
}

// Close gives the files up. Those with something unsettled stay for the next process; where nothing is, the
// directory goes as well. Copies that are settled later stay as they are. The error is the first one that a copy's
// settling met: what could not be marked as settled is what the next process finds.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.dir == nil {
		return nil
	}
	for g := range s.held {
		if g.live == 0 {
			s.noteLocked(s.dropLocked(g))
		} else {
			g.close()
		}
	}
	_ = os.Remove(s.path) // unless something is in it
	s.dir.Close()         // which unlocks it
	s.dir = nil
	return s.trouble
}

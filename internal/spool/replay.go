package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Left is a payload that an earlier process has left. Its Body shares memory with others that were in the same file.
type Left struct {
	otlp.Payload
	Accounted int         // accepted bytes that it stands for
	Record    *Record     // to be settled
	Lost      otlp.Reason // why it cannot be sent; its Body is nil then
	Suspect   bool        // the process that had it before died while it packed it
}

// Replay hands out what earlier processes left unsettled, in the order of arrival: once, to give, which may keep
// the slice. The error tells what could not be looked into; it may be there beside a result.
//
// A process that dies in Replay has changed nothing that matters: the next one finds the same. But what maxTries in a
// row died of is given up (otlp.DroppedFatal). Where bytes are not what was written, as far as can be told, what they
// were counts as one record (otlp.DroppedCorrupt).
func (s *Spool) Replay(give func([]Left)) error {
	s.mu.Lock()
	err := s.openLocked()
	names := s.earlier
	s.earlier = nil
	s.mu.Unlock()
	if err != nil {
		return err
	}
	var all []Left
	var read []*segment
	total := int64(0)
	for _, name := range names {
		g, err2 := s.adopt(name)
		if err2 != nil {
			err = errors.Join(err, err2)
			continue
		}
		if total += g.size; total > s.limit {
			err = errors.Join(err, fmt.Errorf("%s is more than a process leaves: deleted", g.path), s.drop(g))
			continue
		}
		found, err2 := s.read(g)
		if err2 != nil {
			err = errors.Join(err, fmt.Errorf("read back %s: %w", g.path, err2))
			continue // it stays for the next process
		}
		if all, read = append(all, found...), append(read, g); len(found) == 0 {
			err = errors.Join(err, s.drop(g))
		}
	}
	slices.SortStableFunc(all, func(a, b Left) int { return a.Received.Compare(b.Received) })
	if len(all) > 0 {
		give(all)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range read {
		s.noteLocked(g.set(readsAt, make([]byte, maxTries)...))
	}
	return err
}

// adopt opens a segment of an earlier process.
func (s *Spool) adopt(name string) (*segment, error) {
	_, sig, _ := parseName(name)
	g, err := openSegment(filepath.Join(s.path, name), sig)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[g] = struct{}{}
	return g, nil
}

func (s *Spool) drop(g *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropLocked(g)
}

// read is what a segment holds unsettled. Nobody else uses the segment yet. After an error it counts as holding
// something.
func (s *Spool) read(g *segment) (found []Left, err error) {
	g.live = 1
	var reads [maxTries]byte
	if _, err := g.f.ReadAt(reads[:], readsAt); err != nil && err != io.EOF {
		return nil, err
	}
	died := tries(reads[:])
	if died < maxTries && g.size > 0 {
		if err := g.set(readsAt+int64(died), set); err != nil {
			return nil, err
		}
	}
	b := make([]byte, g.size)
	n, err := g.f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for off, b := 0, b[:n]; ; {
		st, ok := next(b, off, s.table)
		if !ok {
			break
		}
		if off = st.end; !st.sound {
			if st.header, err = s.fill(g, st); err != nil {
				return nil, err
			}
		}
		if !st.header.settled {
			found = append(found, s.left(g, b, st, died == maxTries))
		}
	}
	g.live = len(found)
	return found, nil
}

// left is what can be said of a record of the segment with the bytes b.
func (s *Spool) left(g *segment, b []byte, st stretch, fatal bool) Left {
	h := st.header
	l := Left{Payload: h.payload, Accounted: h.accounted, Suspect: h.packs > 0, Record: &Record{
		spool: s, segment: g, off: int64(st.off), records: h.payload.Records, left: h.payload.Records, inherited: true, packs: h.packs,
	}}
	body := b[min(st.off+headerSize, len(b)):]
	switch {
	case fatal || h.packs == maxTries:
		l.Lost = otlp.DroppedFatal
	case h.damaged || h.length > int64(len(body)) || int64(h.payload.Size) > s.limit || crc32.Checksum(body[:h.length], s.table) != h.sum:
		l.Lost = otlp.DroppedCorrupt
	default:
		l.Body = body[:h.length:h.length]
	}
	return l
}

// fill makes a record of bytes that are none, so that they can be settled like one.
func (s *Spool) fill(g *segment, st stretch) (header, error) {
	n := st.end - st.off
	h := header{
		payload:   otlp.Payload{Signal: g.sig, Size: n, Records: 1},
		accounted: n,
		length:    int64(max(0, n-headerSize)),
		damaged:   true,
	}
	b := h.encode(s.table)
	return h, g.set(int64(st.off), b[:readsAt]...)
}

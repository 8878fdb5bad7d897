package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// segment is a file of records of one signal. Spool.mu guards it.
type segment struct {
	sig  otlp.Signal
	f    *os.File // nil once the segment is gone
	path string
	size int64 // of the file, up to a multiple of 64
	live int   // records that are not settled
}

// segmentName is a segment's file name. Of one signal a later segment has a higher sequence number.
func segmentName(seq uint64, sig otlp.Signal) string { return fmt.Sprintf("%016x-%s", seq, sig) }

// parseName reads what segmentName wrote.
func parseName(name string) (seq uint64, sig otlp.Signal, ok bool) {
	number, signal, _ := strings.Cut(name, "-")
	seq, err := strconv.ParseUint(number, 16, 64)
	for _, sig := range otlp.Signals() {
		if err == nil && name == segmentName(seq, sig) && signal == sig.String() {
			return seq, sig, true
		}
	}
	return 0, 0, false
}

// createSegment makes an empty segment; it follows no symbolic link.
func createSegment(dir string, seq uint64, sig otlp.Signal) (*segment, error) {
	path := filepath.Join(dir, segmentName(seq, sig))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return &segment{sig: sig, f: f, path: path}, nil
}

// openSegment opens a segment that an earlier process left. What such a process would not have left is deleted.
func openSegment(path string, sig otlp.Signal) (*segment, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !(info.Mode().IsRegular() && ownedByUs(info)) {
		err = errors.Join(fmt.Errorf("%s is no file of this process's user", path), os.Remove(path))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &segment{sig: sig, f: f, path: path, size: aligned(info.Size())}, nil
}

// append writes a record at the segment's end. Where it fails the segment is as it was.
func (g *segment) append(head [headerSize]byte, body []byte) (off int64, err error) {
	off = g.size
	if _, err = g.f.WriteAt(body, off+headerSize); err == nil {
		_, err = g.f.WriteAt(head[:], off)
	}
	if err != nil {
		return 0, errors.Join(err, g.f.Truncate(g.size))
	}
	g.size += span(int64(len(body)))
	g.live++
	return off, nil
}

// set writes bytes of a header's changing part.
func (g *segment) set(off int64, b ...byte) error {
	if g.f == nil {
		return nil
	}
	_, err := g.f.WriteAt(b, off)
	return err
}

// removed says whether the file was deleted, if only by somebody else: a function may empty /tmp.
func (g *segment) removed() bool {
	info, err := g.f.Stat()
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink == 0
}

func (g *segment) close() {
	g.f.Close()
	g.f = nil
}

// discard deletes the segment.
func (g *segment) discard() error {
	g.close()
	if err := os.Remove(g.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

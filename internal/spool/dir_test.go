package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// What lies where the directory belongs is not touched unless it is this user's and private: then there is no
// spool, and the error says why.
func TestForeignPlaces(t *testing.T) {
	tests := map[string]struct {
		make func(path string) error
		root bool // only root can make it
		want string
	}{
		"a file":            {func(p string) error { return os.WriteFile(p, []byte("mine"), 0o600) }, false, "not a directory"},
		"a symbolic link":   {func(p string) error { return os.Symlink(filepath.Dir(p), p) }, false, "not a directory"},
		"a dangling link":   {func(p string) error { return os.Symlink(p+"-nowhere", p) }, false, "not a directory"},
		"open to others":    {func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Chmod(p, 0o755)) }, false, "not private"},
		"another user's":    {func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Chown(p, 12345, 12345)) }, true, "not private"},
		"nowhere to put it": {func(p string) error { return os.Remove(filepath.Dir(p)) }, false, "no such file"},
		"a read-only place": {func(p string) error { return mount(filepath.Dir(p), syscall.MS_RDONLY, "") }, true, "read-only"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.root && os.Geteuid() != 0 {
				t.Log("SKIPPED: needs root")
				return
			}
			parent := filepath.Join(t.TempDir(), "tmp")
			if err := os.Mkdir(parent, 0o755); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(parent, "spool")
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Unmount(parent, 0) })
			before := list(parent)
			s := New(dir, limit)
			for range 2 {
				if _, err := s.Append(payload(1, 10), 10); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Append: %v, want an error with %q", err, tt.want)
				}
			}
			if err := s.Replay(func([]Left) { t.Error("something came back") }); err == nil {
				t.Error("Replay has no error")
			}
			mustClose(t, s)
			if after := list(parent); after != before {
				t.Errorf("what was there has changed: %s, now %s", before, after)
			}
		})
	}
}

// list is what a directory holds, with modes, sizes and times.
func list(dir string) string {
	var out strings.Builder
	entries, err := os.ReadDir(dir)
	fmt.Fprintln(&out, err)
	for _, e := range entries {
		info, _ := e.Info()
		fmt.Fprintln(&out, e.Name(), info.Mode(), info.Size(), info.ModTime())
	}
	return out.String()
}

// mount puts a file system in memory on a directory.
func mount(dir string, flags uintptr, options string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", flags, options)
}

// What is in the directory and is no segment of this user's goes, or stays unread; the rest comes back.
func TestForeignFiles(t *testing.T) {
	dir := place(t)
	s := New(dir, limit)
	mustAppend(t, s, payload(8, 100))
	s.die()
	secret := filepath.Join(t.TempDir(), "secret")
	image, _ := three(t)
	if err := errors.Join(
		os.WriteFile(secret, image, 0o600),
		os.Symlink(secret, filepath.Join(dir, segmentName(7, otlp.Traces))),
		os.Mkdir(filepath.Join(dir, segmentName(8, otlp.Traces)), 0o700),
		syscall.Mkfifo(filepath.Join(dir, segmentName(9, otlp.Logs)), 0o600),
		os.WriteFile(filepath.Join(dir, "notes.txt"), image, 0o600),
		os.WriteFile(filepath.Join(dir, "00000000000000AA-traces"), image, 0o600),
		os.WriteFile(filepath.Join(dir, segmentName(10, otlp.Logs)), nil, 0o600),
		os.Truncate(filepath.Join(dir, segmentName(10, otlp.Logs)), 1<<40),
	); err != nil {
		t.Fatal(err)
	}
	s = New(dir, limit)
	var all []Left
	if err := s.Replay(func(left []Left) { all = left }); err == nil {
		t.Error("nothing was said about them")
	}
	if len(all) != 1 {
		t.Fatalf("%d came back, want one: %+v", len(all), all)
	}
	mustBe(t, all[0], payload(8, 100), 108)
	all[0].Record.Settle(all[0].Records)
	mustClose(t, s)
	if now, err := os.ReadFile(secret); err != nil || string(now) != string(image) {
		t.Errorf("the file behind the link has changed: %v", err)
	}
	for _, name := range []string{"notes.txt", "00000000000000AA-traces", segmentName(8, otlp.Traces)} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}

// Of two processes one has the spool, until it ends, however that is.
func TestOneProcessAtATime(t *testing.T) {
	dir := place(t)
	first := New(dir, limit)
	mustAppend(t, first, payload(1, 10))
	second := New(dir, limit)
	if _, err := second.Append(payload(2, 10), 10); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("the second one: %v", err)
	}
	mustClose(t, second)
	first.die()
	third := New(dir, limit)
	left := mustReplay(t, third)
	if len(left) != 1 {
		t.Fatalf("%d came back", len(left))
	}
	left[0].Record.Settle(left[0].Records)
	// One that ends and deletes the directory is not in the way of one that already waits for it.
	waiting := make(chan error)
	go func() {
		_, err := New(dir, limit).Append(payload(3, 10), 10)
		waiting <- err
	}()
	mustClose(t, third)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// A function may delete everything in /tmp: later copies are kept all the same.
func TestEmptiedByTheFunction(t *testing.T) {
	dir := place(t)
	s := New(dir, limit)
	gone := mustAppend(t, s, payload(4, 100))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, payload(8, 100))
	mustAppend(t, s, payload(9, 100))
	gone.Settle(100)
	s.die()
	s = New(dir, limit)
	left := mustReplay(t, s)
	if len(left) != 2 {
		t.Fatalf("%d came back, want 2", len(left))
	}
	mustBe(t, left[0], payload(8, 100), 108)
	mustBe(t, left[1], payload(9, 100), 109)
}

// On a full disk a payload has no copy; those there are stay sound, and when there is room again, so is the next.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("SKIPPED: a small disk needs root to be mounted")
		return
	}
	tmp := t.TempDir()
	if err := mount(tmp, 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(tmp, syscall.MNT_DETACH) })
	dir := filepath.Join(tmp, "spool")
	s := New(dir, limit)
	var kept []otlp.Payload
	var rs []*Record
	failed := 0
	for n := range 100 {
		p := payload(4*n, 9_000)
		r, err := s.Append(p, p.Size)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			failed++
		case err != nil:
			t.Fatal(err)
		default:
			kept = append(kept, p)
			rs = append(rs, r)
		}
		if n%40 == 39 { // room for one
			for _, r := range rs {
				r.Settle(100)
			}
			kept, rs = nil, nil
		}
	}
	if failed < 20 || len(kept) < 5 {
		t.Fatalf("%d did not fit, %d are kept", failed, len(kept))
	}
	s.die()
	s = New(dir, limit)
	left := mustReplay(t, s)
	if len(left) != len(kept) {
		t.Fatalf("%d came back of %d", len(left), len(kept))
	}
	for i, l := range left {
		mustBe(t, l, kept[i], kept[i].Size)
		l.Record.Settle(l.Records)
	}
	mustClose(t, s)
	mustBeGone(t, dir)
}

package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const limit = 8 << 20

// payload is one that differs in everything from those of other numbers.
func payload(n, size int) otlp.Payload {
	return otlp.Payload{
		Signal:      otlp.Signal(n % otlp.SignalCount),
		Encoding:    otlp.Encoding(n % 2),
		Compression: otlp.Compression(n % 4),
		Body:        bytes.Repeat([]byte{byte(n), byte(n >> 8), 'x'}, size/3+1)[:size],
		Size:        size + n,
		Records:     1 + n%5,
		Received:    time.Unix(1_790_000_000+int64(n), 123_456_789),
	}
}

func place(t testing.TB) string { return filepath.Join(t.TempDir(), "spool") }

// die ends a process without notice: what the kernel does to its files when it is killed.
func (s *Spool) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.held {
		g.close()
	}
	if s.dir != nil {
		s.dir.Close()
	}
	s.closed = true
}

func mustAppend(t testing.TB, s *Spool, p otlp.Payload) *Record {
	t.Helper()
	r, err := s.Append(p, p.Size)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustReplay(t testing.TB, s *Spool) (all []Left) {
	t.Helper()
	if err := s.Replay(func(left []Left) { all = left }); err != nil {
		t.Fatal(err)
	}
	return all
}

func mustClose(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// mustBe checks that something left is p, whole.
func mustBe(t testing.TB, l Left, p otlp.Payload, accounted int) {
	t.Helper()
	if l.Lost != "" || !bytes.Equal(l.Body, p.Body) || !l.Received.Equal(p.Received) || l.Accounted != accounted {
		t.Fatalf("came back as %q, %d bytes, received %v, standing for %d", l.Lost, len(l.Body), l.Received, l.Accounted)
	}
	l.Body, p.Body, l.Received, p.Received = nil, nil, time.Time{}, time.Time{}
	if got, want := fmt.Sprintf("%+v", l.Payload), fmt.Sprintf("%+v", p); got != want {
		t.Fatalf("came back as %s, want %s", got, want)
	}
}

func mustBeGone(t testing.TB, path string) {
	t.Helper()
	if entries, err := os.ReadDir(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestWhatIsNotSettledComesBack(t *testing.T) {
	dir := place(t)
	s := New(dir, limit)
	var ps []otlp.Payload
	var rs []*Record
	for n := range 40 {
		ps = append(ps, payload(n, n*n*10)) // some fill a segment
		rs = append(rs, mustAppend(t, s, ps[n]))
	}
	for n, r := range rs {
		if n%3 == 0 {
			r.Settle(ps[n].Records)
		}
		if n%3 == 1 && ps[n].Records > 1 {
			r.Settle(ps[n].Records - 1) // a part of it went: all of it will be sent again
		}
	}
	s.die()
	for range 3 { // until it is settled
		s = New(dir, limit)
		left := mustReplay(t, s)
		for n, p := range ps {
			if n%3 != 0 {
				mustBe(t, left[0], p, p.Size)
				left = left[1:]
			}
		}
		if len(left) > 0 {
			t.Fatalf("%d more came back", len(left))
		}
		s.die()
	}
	s = New(dir, limit)
	for _, l := range mustReplay(t, s) {
		l.Record.Settle(l.Records)
	}
	mustClose(t, s)
	mustBeGone(t, dir)
}

func TestNothingIsTouchedBeforeItIsNeeded(t *testing.T) {
	dir := place(t)
	s := New(dir, limit)
	mustClose(t, s)
	mustBeGone(t, dir)
	if _, err := s.Append(payload(1, 10), 10); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
}

func TestClose(t *testing.T) {
	dir := place(t)
	s := New(dir, limit)
	kept, settled := mustAppend(t, s, payload(1, 100)), mustAppend(t, s, payload(2, 100))
	settled.Settle(100)
	mustClose(t, s)
	kept.Settle(100) // too late: the next process has it
	s = New(dir, limit)
	left := mustReplay(t, s)
	if len(left) != 1 {
		t.Fatalf("%d came back, want the one that was not settled", len(left))
	}
	mustBe(t, left[0], payload(1, 100), 101)
}

func TestKeep(t *testing.T) {
	dir := place(t)
	s := New(dir, limit)
	p := payload(4, 3000)
	p.Records = 10
	untouched, split := mustAppend(t, s, p), mustAppend(t, s, p)
	split.Settle(3)
	parts := []otlp.Payload{payload(5, 100), payload(6, 50)}
	parts[0].Records, parts[1].Records = 4, 3
	for i, err := range []error{s.Keep(untouched, p, p.Size), s.Keep(split, parts[0], 70), s.Keep(split, parts[1], 30)} {
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	mustClose(t, s)
	s = New(dir, limit)
	left := mustReplay(t, s)
	if len(left) != 3 {
		t.Fatalf("%d came back, want the whole one and two parts", len(left))
	}
	mustBe(t, left[0], p, p.Size)
	mustBe(t, left[1], parts[0], 70)
	mustBe(t, left[2], parts[1], 30)
}

// A function may empty /tmp: what is said to be kept must be there all the same.
func TestKeepWhereTheFilesWereDeleted(t *testing.T) {
	for _, noticed := range []bool{false, true} {
		dir := place(t)
		s := New(dir, limit)
		p := payload(4, 3000)
		r := mustAppend(t, s, p)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if noticed {
			mustAppend(t, s, p).Settle(p.Records)
		}
		if err := s.Keep(r, p, p.Size); err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		s = New(dir, limit)
		left := mustReplay(t, s)
		if len(left) != 1 {
			t.Fatalf("noticed before %v: %d came back of the one that was kept", noticed, len(left))
		}
		mustBe(t, left[0], p, p.Size)
		left[0].Record.Settle(p.Records)
		mustClose(t, s)
		mustBeGone(t, dir)
	}
}

func TestLimit(t *testing.T) {
	const small = 1 << 20
	s := New(place(t), small)
	var rs []*Record
	for {
		r, err := s.Append(payload(len(rs), 10_000), 1)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	if want := small/10_000 - 2; len(rs) < want {
		t.Errorf("room for %d, want %d", len(rs), want)
	}
	if n := onDisk(t, s.path); n > small {
		t.Errorf("%d bytes on the disk, over the limit of %d", n, small)
	}
	for _, r := range rs {
		r.Settle(100)
	}
	if n := onDisk(t, s.path); n > 4*leastInOne+4*10_000 {
		t.Errorf("%d bytes on the disk when all is settled", n)
	}
	// Little room for others is left where each signal has what is settled in its file: it must not stay so.
	for n := range 4 {
		mustAppend(t, s, payload(n, 200_000)).Settle(100)
	}
	mustClose(t, s)
	mustBeGone(t, s.path)
}

func onDisk(t *testing.T, dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	return sum
}

// Whatever happens in whatever order: what comes back is what was kept and not settled.
func TestAnyLife(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		dir := place(t)
		s := New(dir, limit)
		type kept struct {
			p otlp.Payload
			r *Record
		}
		live := map[int64]kept{} // by time of arrival
		for n := range 300 {
			switch rnd.IntN(20) {
			case 0: // the process dies, or ends
				if rnd.IntN(2) == 0 {
					s.die()
				} else {
					mustClose(t, s)
				}
				s = New(dir, limit)
				left := mustReplay(t, s)
				if len(left) != len(live) {
					t.Fatalf("seed %d: %d came back, want %d", seed, len(left), len(live))
				}
				for i, l := range left {
					k := live[l.Received.UnixNano()]
					mustBe(t, l, k.p, k.p.Size)
					if i > 0 && l.Received.Before(left[i-1].Received) {
						t.Fatalf("seed %d: out of order", seed)
					}
					live[l.Received.UnixNano()] = kept{k.p, l.Record}
				}
			case 1, 2, 3, 4, 5, 6, 7, 8, 9:
				p := payload(n, rnd.IntN(1<<(4+rnd.IntN(15))))
				live[p.Received.UnixNano()] = kept{p, mustAppend(t, s, p)}
			default:
				for at, k := range live {
					k.r.Begin()
					k.r.End()
					k.r.Settle(1)
					k.r.Settle(k.p.Records - 1)
					delete(live, at)
					break
				}
			}
		}
		for _, k := range live {
			k.r.Settle(k.p.Records)
		}
		mustClose(t, s)
		mustBeGone(t, dir)
	}
}

func TestUseFromManyGoroutines(t *testing.T) {
	dir := place(t)
	mustAppend(t, New(dir, limit), payload(0, 10)).spool.die()
	s := New(dir, limit)
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, l := range mustReplay(t, s) {
			l.Record.Settle(l.Records)
		}
	})
	for g := range 4 {
		wg.Go(func() {
			for n := range 200 {
				p := payload(1000*g+n, 1000)
				if r := mustAppend(t, s, p); n%2 == 0 {
					r.Settle(p.Records)
				}
			}
		})
	}
	wg.Wait()
	s.die()
	if left := mustReplay(t, New(dir, limit)); len(left) != 400 {
		t.Errorf("%d came back, want 400", len(left))
	}
}

func BenchmarkSpool(b *testing.B) {
	for _, size := range []int{500, 5500, 200_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := New(place(b), limit)
			p := payload(1, size)
			b.ReportAllocs()
			for b.Loop() {
				mustAppend(b, s, p).Settle(p.Records)
			}
		})
	}
}

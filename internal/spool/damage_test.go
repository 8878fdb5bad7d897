package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// three is a segment of three records, the second of them settled, and their payloads.
func three(t testing.TB) (image []byte, ps []otlp.Payload) {
	dir := place(t)
	s := New(dir, limit)
	for i, size := range []int{70, 1, 80} {
		p := payload(4*i, size)
		ps = append(ps, p)
		if r := mustAppend(t, s, p); i == 1 {
			r.Settle(p.Records)
		}
	}
	s.die()
	image, err := os.ReadFile(filepath.Join(dir, segmentName(1, otlp.Traces)))
	if err != nil {
		t.Fatal(err)
	}
	return image, ps
}

// replayImage replays a spool of one segment, as often as processes die in it, and settles what came back the last
// time, after which nothing may be left.
func replayImage(t testing.TB, dir string, image []byte, deaths int) (left []Left) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(1, otlp.Traces)), image, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range deaths + 1 {
		s := New(dir, limit)
		found := mustReplay(t, s)
		same := func(a, b Left) bool {
			return a.Lost == b.Lost && a.Records == b.Records && bytes.Equal(a.Body, b.Body)
		}
		if i > 0 && !slices.EqualFunc(left, found, same) {
			t.Fatalf("at first %+v came back, then %+v", left, found)
		}
		if left = found; i < deaths {
			s.die()
			continue
		}
		for _, l := range left {
			l.Record.Settle(l.Records)
		}
		mustClose(t, s)
		mustBeGone(t, dir)
	}
	return left
}

// A file that ends anywhere gives back what is whole, and what is cut in half is counted.
func TestCutAnywhere(t *testing.T) {
	image, ps := three(t)
	second := int(span(int64(len(ps[0].Body))))
	third := second + int(span(int64(len(ps[1].Body))))
	dir := place(t)
	for n := range len(image) + 1 {
		var whole []otlp.Payload
		lost := 0 // records
		switch {
		case n == 0:
		case n < headerSize: // how many it had is not known
			lost = 1
		case n < headerSize+len(ps[0].Body):
			lost = ps[0].Records
		case n <= second:
			whole = ps[:1]
		case n < second+headerSize: // that it is settled is not known
			whole, lost = ps[:1], 1
		case n <= third:
			whole = ps[:1]
		case n < third+headerSize:
			whole, lost = ps[:1], 1
		case n < len(image):
			whole, lost = ps[:1], ps[2].Records
		default:
			whole = []otlp.Payload{ps[0], ps[2]}
		}
		for _, l := range replayImage(t, dir, image[:n], 1) {
			if l.Lost != "" {
				lost -= l.Records
				continue
			}
			mustBe(t, l, whole[0], whole[0].Size)
			whole = whole[1:]
		}
		if lost != 0 || len(whole) > 0 {
			t.Fatalf("cut at %d: %d payloads are missing, and %d losses", n, len(whole), lost)
		}
	}
}

// Whichever bit is flipped, no payload comes back changed, and none is lost uncounted.
func TestFlipAnyBit(t *testing.T) {
	image, ps := three(t)
	dir := place(t)
	for bit := range 8 * len(image) {
		image[bit/8] ^= 1 << (bit % 8)
		want := []otlp.Payload{ps[0], ps[2]}
		lost := 0
		for _, l := range replayImage(t, dir, image, 0) {
			if l.Lost != "" {
				lost++
				continue
			}
			if len(want) == 2 && !bytes.Equal(l.Body, want[0].Body) {
				want = want[1:] // the first one is lost
			}
			mustBe(t, l, want[0], want[0].Size)
			want = want[1:]
		}
		image[bit/8] ^= 1 << (bit % 8)
		if lost > 1 || lost < len(want) {
			t.Fatalf("bit %d: %d losses, %d payloads missing at the end", bit, lost, len(want))
		}
	}
}

// A process that dies in Append leaves a body without a header, or a part of it.
func TestTornAppend(t *testing.T) {
	image, ps := three(t)
	third := span(int64(len(ps[0].Body))) + span(int64(len(ps[1].Body)))
	dir := place(t)
	for n := range len(ps[2].Body) + 1 {
		if left := replayImage(t, dir, append(make([]byte, headerSize), ps[2].Body[:n]...), 2); len(left) > 0 {
			t.Fatalf("nothing but %d bytes of a body: %+v came back", n, left)
		}
		torn := append(bytes.Clone(image[:third]), make([]byte, headerSize)...)
		left := replayImage(t, dir, append(torn, ps[2].Body[:n]...), 0)
		if len(left) != 1 {
			t.Fatalf("torn after %d bytes of the body: %+v came back", n, left)
		}
		mustBe(t, left[0], ps[0], ps[0].Size)
	}
}

// What kills one process after the other is given up, but not what a process has survived in between.
func TestWhatKillsIsGivenUp(t *testing.T) {
	dies := []bool{true, true, true, true, false, true, true, true, true, true}
	for name, deadly := range map[string]func(s *Spool, die func()) []Left{
		"reading": func(s *Spool, die func()) (all []Left) {
			_ = s.Replay(func(left []Left) { all = left; die() })
			return all
		},
		"packing": func(s *Spool, die func()) []Left {
			left := mustReplay(t, s)
			left[0].Record.Begin()
			die()
			left[0].Record.End()
			return left
		},
	} {
		dir := place(t)
		s := New(dir, limit)
		bad, good := mustAppend(t, s, payload(4, 100)), payload(8, 100)
		bad.Begin() // it is only with the next process that it is suspect
		mustAppend(t, s, good)
		for i, d := range dies {
			s.die()
			s = New(dir, limit)
			left := deadly(s, func() {
				if d {
					s.die()
				}
			})
			if len(left) != 2 || left[0].Lost != "" || left[1].Lost != "" {
				t.Fatalf("%s, process %d: given up too early: %+v", name, i, left)
			}
			if left[0].Suspect != (name == "packing" && i > 0 && dies[i-1]) || left[1].Suspect {
				t.Fatalf("%s, process %d: suspect is %v, %v", name, i, left[0].Suspect, left[1].Suspect)
			}
		}
		s.die()
		left := mustReplay(t, New(dir, limit))
		if len(left) != 2 || left[0].Lost != otlp.DroppedFatal || left[0].Records != payload(4, 100).Records {
			t.Fatalf("%s: not given up: %+v", name, left)
		}
		if name == "packing" { // the other one was never in its hands
			mustBe(t, left[1], good, good.Size)
		}
	}
}

// stamp makes the header of a fuzzed segment's first record pass, so that what follows is reached.
func stamp(data []byte) []byte {
	data = bytes.Clone(data)
	if len(data) >= headerSize {
		table := crc32.MakeTable(crc32.Castagnoli)
		copy(data, magic)
		binary.LittleEndian.PutUint32(data[4:], crc32.Checksum(data[8:40], table))
	}
	return data
}

// FuzzSegment reads arbitrary bytes as a segment: nothing panics, and no body comes back whose checksum is not its own.
func FuzzSegment(f *testing.F) {
	image, _ := three(f)
	f.Add(image, false)
	f.Add(image[:100], true)
	f.Add(image[64:], true)
	f.Add(append(bytes.Repeat([]byte{0}, 4096), image...), false)
	dir := place(f)
	f.Fuzz(func(t *testing.T, data []byte, sound bool) {
		if sound {
			data = stamp(data)
		}
		table := crc32.MakeTable(crc32.Castagnoli)
		total := int64(0)
		for _, l := range replayImage(t, dir, data, 0) {
			if l.Records < 0 || l.Accounted < 0 || l.Size < 0 || l.Signal >= otlp.SignalCount || l.Encoding > otlp.JSON || l.Compression > otlp.Zstd {
				t.Fatalf("came back as %+v", l)
			}
			if l.Lost != "" {
				continue
			}
			head := data[l.Record.off:]
			body := head[64:][:len(l.Body)]
			if string(head[:4]) != magic || crc32.Checksum(head[8:40], table) != binary.LittleEndian.Uint32(head[4:]) ||
				!bytes.Equal(body, l.Body) || crc32.Checksum(body, table) != binary.LittleEndian.Uint32(head[8:]) {
				t.Fatalf("a body that is not verified came back: %+v", l)
			}
			total += span(int64(len(l.Body)))
		}
		if total > aligned(int64(len(data))) {
			t.Fatalf("%d bytes came back of %d", total, len(data))
		}
	})
}

package receiver

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
)

// seen is a frame as the connection's count needs it.
type seen struct {
	kind, flags byte
	stream      uint32
	size        int
}

// whole is the frames that b holds, read at once.
func whole(b []byte) (all []seen) {
	for len(b) >= 9 {
		size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		if len(b) < 9+size {
			break
		}
		all = append(all, seen{b[3], b[4], binary.BigEndian.Uint32(b[5:]) & 0x7fffffff, size})
		b = b[9+size:]
	}
	return all
}

// FuzzFrames cuts bytes anywhere: the same frames are seen, and a connection that hears and says them never counts
// more requests than were begun, nor any when it is closed.
func FuzzFrames(f *testing.F) {
	request := "\x00\x00\x04\x01\x04\x00\x00\x00\x01head" + "\x00\x00\x03\x00\x00\x00\x00\x00\x01abc" + "\x00\x00\x00\x00\x01\x00\x00\x00\x01"
	f.Add([]byte(request), []byte("\x00\x00\x04\x01\x04\x00\x00\x00\x01head"+"\x00\x00\x02\x01\x05\x00\x00\x00\x01ok"), 1)
	f.Add([]byte(request+"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"), []byte("\x00\x00\x01\x01\x01\x00\x00\x00\x01o"+"\x00\x00\x01\x09\x04\x00\x00\x00\x01k"), 3)
	f.Add([]byte(request), []byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 9)
	f.Add([]byte(request), []byte("\x00\x00\x03\x07\x00\x00\x00\x00\x00\x00\x00\x00"), 2)
	f.Fuzz(func(t *testing.T, heard, said []byte, step int) {
		step = 1 + max(step, -step)%20
		if step < 1 {
			return
		}
		r := New(Config{})
		client, server := net.Pipe()
		go io.Copy(io.Discard, client)
		c := r.newConn(server)
		c.heard([]byte(clientPreface))
		for _, way := range []struct {
			bytes []byte
			feed  func([]byte)
		}{{heard, c.heard}, {said, func(b []byte) { c.Write(b) }}} {
			var got []seen
			pieces := new(frames)
			for piece := range slices.Chunk(way.bytes, step) {
				way.feed(piece)
				for {
					rest, ok := pieces.next(piece)
					if !ok {
						break
					}
					got = append(got, seen{pieces.kind(), pieces.head[4], pieces.stream(), pieces.size()})
					piece = rest
				}
			}
			if want := whole(way.bytes); !slices.Equal(got, want) {
				t.Fatalf("saw %v in steps of %d, want %v", got, step, want)
			}
			begun := map[uint32]bool{}
			for _, f := range whole(heard) {
				if f.kind == frameHeaders {
					begun[f.stream] = true
				}
			}
			if n := r.Active(); n < 0 || n > len(begun) {
				t.Fatalf("%d active of %d", n, len(begun))
			}
		}
		c.Close()
		if n := r.Active(); n != 0 {
			t.Fatalf("%d active on a closed connection", n)
		}
	})
}

// What begins as HTTP/1 is not looked at.
func TestHTTP1IsNotFollowed(t *testing.T) {
	for _, head := range []string{"POST ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r"} {
		r := New(Config{})
		c := &conn{r: r}
		c.heard([]byte(head))
		if c.preface != -1 {
			t.Errorf("%q: %d bytes of a preface", head, c.preface)
		}
	}
}

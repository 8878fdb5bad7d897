package receiver

import "encoding/binary"

// clientPreface is what an HTTP/2 client says first (RFC 9113, 3.4).
const clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// The types of frames that the count of requests needs, and their flags (RFC 9113, 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagEndHeaders = 0x4
)

// frameHead is the size of a frame's header, in bytes.
const frameHead = 9

// frames follows HTTP/2 frames through bytes that come in any pieces. Its zero value stands before a frame.
type frames struct {
	head [frameHead + 4]byte // the frame's header, and as much of what follows
	have int                 // bytes of head that are there; 0 between frames, once next has found none whole
	left int                 // bytes of the frame that are not in head, and still to come
	done bool                // the frame is whole; the next byte begins another
}

// next reads b up to the end of a frame, and returns what is left of b. Where b ends before the frame, whole is
// false. The frame's fields are those of the last whole one.
func (f *frames) next(b []byte) (rest []byte, whole bool) {
	if f.done {
		f.have, f.done = 0, false
	}
	for f.have < f.want() && len(b) > 0 {
		n := copy(f.head[f.have:f.want()], b)
		f.have += n
		b = b[n:]
		if f.have == frameHead {
			f.left = f.size() - (f.want() - frameHead)
		}
	}
	if f.have < f.want() {
		return nil, false
	}
	n := min(f.left, len(b))
	f.left -= n
	f.done = f.left == 0
	return b[n:], f.done
}

// want is how much of the frame belongs in head, as far as is known.
func (f *frames) want() int {
	if f.have < frameHead {
		return frameHead
	}
	return frameHead + min(f.size(), len(f.head)-frameHead)
}

func (f *frames) size() int          { return int(binary.BigEndian.Uint32(f.head[:]) >> 8) }
func (f *frames) kind() byte         { return f.head[3] }
func (f *frames) has(flag byte) bool { return f.head[4]&flag != 0 }
func (f *frames) stream() uint32     { return binary.BigEndian.Uint32(f.head[5:]) & (1<<31 - 1) }

// word is what follows the header: GOAWAY's last stream, WINDOW_UPDATE's increment.
func (f *frames) word() uint32 { return binary.BigEndian.Uint32(f.head[frameHead:]) & (1<<31 - 1) }

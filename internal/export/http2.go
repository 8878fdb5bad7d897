package export

import (
	"os"
	"sync"
)

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113 §3.4

	// bareWindow is what each side may send before it is told otherwise, of a stream and of all (RFC 9113 §6.9.2).
	bareWindow = 1<<16 - 1
	hugeWindow = 1<<31 - 1 // the largest there may be

	// answerWindow is what a peer may send of one answer: more than is read of it.
	answerWindow = 2 * maxBody

	maxStream  = 1 << 30 // of the 1<<31 that there are
	maxControl = 4 << 10 // bytes of acknowledgements that may wait for the next write
)

// h2 is HTTP/2 on a connection (RFC 9113), for one request at a time. There is no read loop: frames are read while
// an answer is awaited and, without waiting, before the connection is used again. So a connection that is idle or
// frozen costs nothing, and needs no goroutine. What the peer wants acknowledged meanwhile, it gets with the next
// request; a peer that does not wait for that closes, which alive sees.
type h2 struct {
	c *conn

	// Of what is read:
	fields  hpackReader
	buf     []byte // scratch for a frame
	greeted bool   // the peer's SETTINGS have come
	leaving bool   // the peer takes no more requests
	taken   int    // bytes of answers that the peer does not know to be read

	stream uint32 // of the last request; 0 before the first

	mu      sync.Mutex // guards what follows: a long body is written beside the reading
	more    sync.Cond  // on mu: a window has grown, or the exchange is over
	all     int64      // what the peer lets us send on the connection
	request int64      // … of the present request; below 0 where it has taken back what it let us
	initial int64      // … of a new request
	over    bool       // nobody reads an answer any more: nothing more is to be sent
	writing bool       // beside the reading
	control []byte     // frames that leave with the next write
	urgent  bool       // the peer may wait for one of them
}

// newH2 speaks HTTP/2 on c. Nothing is sent before the first request.
func newH2(c *conn) *h2 {
	h := &h2{c: c, fields: hpackReader{most: hpackTable}, all: bareWindow, initial: bareWindow}
	h.more.L = &h.mu
	return h
}

// begin opens a stream for a request whose header block is appended by fields, and whose body is m.
func (h *h2) begin(fields func(dst []byte) []byte, m *message) exchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.c.buf[:0]
	if h.stream == 0 {
		h.stream = 1
		out = append(out, preface...)
		out = appendFrameHead(out, 2*settingSize, frameSettings, 0, 0)
		out = appendSetting(out, settingPush, 0)
		out = appendSetting(out, settingWindow, answerWindow)
		out = appendWindow(out, 2*answerWindow-bareWindow)
	} else {
		h.stream += 2
	}
	if h.taken > answerWindow {
		out = appendWindow(out, h.taken)
		h.taken = 0
	}
	out = h.takeControlLocked(out)
	out = appendFrameHead(out, 0, frameHeaders, flagEndHeaders, h.stream)
	start := len(out)
	out = fields(out)
	setFrameSize(out[start-frameHead:], len(out)-start)
	h.over, h.request = false, h.initial
	h.writing = m.left() > inlineBody || int64(m.left()) > min(h.all, h.request)
	return exchange{
		long:  h.writing,
		write: func() error { return h.write(out, m) },
		read:  h.read,
	}
}

// write sends out and then m, as fast as the peer's windows allow.
func (h *h2) write(out []byte, m *message) error {
	defer h.written()
	for {
		n := h.grant(min(m.left(), firstWrite-frameHead-len(out)), len(out) == 0)
		if n > 0 {
			flags := byte(0)
			if n == m.left() {
				flags = flagEndStream
			}
			out = appendFrameHead(out, n, frameData, flags, h.stream)
			out = m.appendTo(out, n)
		} else if len(out) == 0 {
			return os.ErrDeadlineExceeded // as from a write after the end
		}
		h.c.buf = out
		if _, err := h.c.Write(out); err != nil || m.left() == 0 {
			return err
		}
		out = h.takeControl(out[:0])
	}
}

// grant takes up to n bytes out of the peer's windows. Where there are none it waits, if it may; 0 means none, or
// the end of the exchange.
func (h *h2) grant(n int, wait bool) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for min(h.all, h.request) <= 0 && wait && !h.over {
		h.more.Wait()
	}
	if h.over {
		return 0
	}
	n = int(max(0, min(int64(n), h.all, h.request)))
	h.all -= int64(n)
	h.request -= int64(n)
	return n
}

// takeControl appends the frames that wait for the next write.
func (h *h2) takeControl(dst []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takeControlLocked(dst)
}

// takeControlLocked is takeControl for a caller that holds mu.
func (h *h2) takeControlLocked(dst []byte) []byte {
	dst, h.control, h.urgent = append(dst, h.control...), h.control[:0], false
	return dst
}

// written notes that the request has been sent, or never will be.
func (h *h2) written() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing = false
}

// end makes write return.
func (h *h2) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.more.Signal()
}

// message is a gRPC message that is yet to be sent: the payload behind its prefix (gRPC over HTTP/2, "Requests").
type message struct {
	prefix [5]byte
	body   []byte
	sent   int // of both
}

func (m *message) left() int { return len(m.prefix) + len(m.body) - m.sent }

// appendTo appends the next n bytes.
func (m *message) appendTo(dst []byte, n int) []byte {
	m.sent += n
	if from := m.sent - n; from < len(m.prefix) {
		k := min(n, len(m.prefix)-from)
		dst = append(dst, m.prefix[from:from+k]...)
		n -= k
	}
	end := m.sent - len(m.prefix)
	return append(dst, m.body[max(0, end-n):max(0, end)]...)
}

package export

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

const (
	maxHead     = 64 << 10 // bytes of all response heads, informational ones included
	maxBody     = 64 << 10 // bytes of a response body that are read
	maxChunking = 64 << 10 // bytes that its chunked framing may add

	// inlineBody is the largest body that is written before anything is read: what fits into the peer's
	// initial receive window leaves without the peer reading it. While a larger one is written, an early
	// refusal is read, which the peer may follow by reading nothing more.
	inlineBody = 64 << 10

	firstWrite = 16 << 10 // bytes of head and body joined in one write, which is one TLS record at most

	// thawGrace is how long an answer is still looked for when the deadline passed during a freeze: it may
	// lie in the socket. Reading it takes no round trip, only a turn on the CPU.
	thawGrace = 250 * time.Millisecond

	digestTime = time.Millisecond // for reading a TLS record that is already there
)

var (
	errAnswerTooLarge = errors.New("the answer is larger than 64 KiB")

	longAgo = time.Unix(1, 0) // the deadline that ends every read and write at once
)

// conn is a connection to the backend, tunnelled and encrypted as the dialer made it. One exchange uses it
// at a time, in HTTP/1.1 or, where h2 is there, in HTTP/2.
type conn struct {
	net.Conn               // outermost: what HTTP is spoken over
	raw      net.Conn      // innermost: the socket
	br       *bufio.Reader // reads Conn through tap
	buf      []byte        // scratch for writing, kept from one exchange to the next
	used     time.Time     // wall time of the last exchange's end
	h2       *h2           // nil where HTTP/1.1 is spoken

	// Of the exchange under way:
	answered bool        // the answer has begun
	left     int         // bytes that may still be read
	readErr  error       // the first error of reading Conn, which parsers replace by their own
	frozen   func() bool // whether the deadline passed during a freeze; nil where there is none
}

func newConn(outer, raw net.Conn) *conn {
	c := &conn{Conn: outer, raw: raw}
	c.br = bufio.NewReader(tap{c})
	return c
}

// exchange is a request and its answer on a connection.
type exchange struct {
	long  bool                      // the peer may have to be heard before all is written
	write func() error              // of the request
	read  func() (*response, error) // of the answer; beside write where that is long
}

// exchange writes a request and reads the response. It returns when ctx ends, but for an answer that arrived in a
// freeze. After an error c is to be closed.
func (c *conn) exchange(ctx context.Context, x exchange) (*response, error) {
	c.answered, c.readErr = false, nil
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(longAgo) })
	var r *response
	var writeErr, err error
	if !x.long {
		writeErr = x.write()
		r, err = x.read() // even after a failed write: the peer may have answered before it closed
	} else {
		sent := make(chan error, 1)
		go func() { sent <- x.write() }()
		r, err = x.read()
		c.SetWriteDeadline(longAgo) // nobody reads the rest
		writeErr = <-sent
	}
	intact := stop() && writeErr == nil
	switch {
	case errors.Is(err, io.EOF) && writeErr != nil && !errors.Is(writeErr, os.ErrDeadlineExceeded):
		return nil, writeErr // it says more
	case err != nil:
		return nil, err
	}
	r.keep = r.keep && intact && c.SetDeadline(time.Time{}) == nil
	return r, nil
}

// write sends the head of an HTTP/1.1 request, which was appended to c.buf[:0], and its body, joined where they
// are small: one packet and one TLS record instead of two.
func (c *conn) write(head, body []byte) error {
	n := min(len(body), max(0, firstWrite-len(head)))
	c.buf = append(head, body[:n]...)
	if _, err := c.Write(c.buf); err != nil || n == len(body) {
		return err
	}
	_, err := c.Write(body[n:])
	return err
}

// socketState is what a look at an idle connection's socket shows.
type socketState uint8

const (
	dead    socketState = iota // closed or broken
	quiet                      // open, and nothing has come
	pending                    // something has come, unasked
)

// alive says whether c, idle so far, may be trusted with a request. It does not wait for the peer.
func (c *conn) alive() bool {
	if c.h2 != nil {
		return c.h2.alive()
	}
	switch peek(c.raw) {
	case quiet:
		return c.br.Buffered() == 0
	case pending:
		// The peer spoke unasked. In plain HTTP that is an error (408) or a desynchronised stream. In TLS it
		// may be a session ticket, which reading digests.
		return c.Conn != c.raw && c.digest()
	}
	return false
}

// digest reads what the peer's TLS sent since the last exchange. It says whether that was nothing but TLS's
// own business.
func (c *conn) digest() bool {
	c.SetReadDeadline(time.Now().Add(digestTime))
	n, err := c.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.SetReadDeadline(time.Time{}) == nil
}

// tap is conn's reader: it limits and notes what comes.
type tap struct{ c *conn }

func (t tap) Read(p []byte) (int, error) {
	c := t.c
	if c.left <= 0 {
		return 0, errAnswerTooLarge
	}
	n, err := c.Read(p[:min(len(p), c.left)])
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.frozen != nil && c.frozen() {
		c.frozen = nil // once
		c.SetReadDeadline(time.Now().Add(thawGrace))
		n, err = c.Read(p[:min(len(p), c.left)])
	}
	c.left -= n
	c.answered = c.answered || n > 0 && c.h2 == nil
	if err != nil && c.readErr == nil {
		c.readErr = err
	}
	return n, err
}

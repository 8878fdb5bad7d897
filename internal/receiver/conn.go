package receiver

import (
	"context"
	"math"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

// conn is a connection as the receiver needs it: it acknowledges at once, it reads and writes HTTP/2 in few pieces,
// and it knows which HTTP/2 requests have come and are not answered yet. net/http does none of that: it writes the
// end of an answer after the handler has returned, and without saying when.
//
// A request counts from when its head was read off the socket until the last byte of its answer is written to
// it, or the client has given it up and its handler has returned.
type conn struct {
	net.Conn
	raw syscall.RawConn // nil where acknowledging at once cannot be asked for
	r   *Receiver

	preface int    // bytes of clientPreface that the client has said; -1: it speaks HTTP/1. Set by the first Reads
	in      frames // only Read knows, as all up to writing
	buffer  *[readBuffer]byte
	unread  []byte // of buffer: what was read and not asked for yet

	writing  sync.Mutex // guards all up to mu; locked before it
	out      frames
	held     []byte      // to be written with what comes next
	credit   uint32      // the sum of WINDOW_UPDATEs in held: bytes that the client may send
	finished []uint32    // streams whose last frame is in held
	ending   uint32      // the stream whose last header block has begun and goes on; 0: none
	overdue  *time.Timer // writes held; nil until it is needed

	mu      sync.Mutex          // guards all below
	open    map[uint32]struct{} // streams; nil before the first
	newest  uint32              // the last stream that was opened
	last    uint32              // the last stream that will be answered
	running int                 // handlers
	counted int                 // requests of this connection that the receiver counts as active
}

// connKey is the key of a request's *conn in its context.
type connKey struct{}

func (r *Receiver) newConn(c net.Conn) *conn {
	return &conn{Conn: tcp.Wrap(c), raw: rawOf(c), r: r, last: math.MaxInt32}
}

// rawOf is the descriptor of a TCP connection, or nil.
func rawOf(c net.Conn) syscall.RawConn {
	if t, ok := c.(*net.TCPConn); ok {
		if raw, err := t.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// listener hands out conns.
type listener struct {
	net.Listener
	r *Receiver
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.r.newConn(c), nil
}

// withConn is http.Server's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf is the connection of a request; nil where the request came from another server than the Receiver's.
func connOf(req *http.Request) *conn {
	c, _ := req.Context().Value(connKey{}).(*conn)
	return c
}

// begun counts a stream, if it is a new one. What follows a request's body looks alike.
func (c *conn) begun(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stream > c.newest && stream <= c.last {
		c.newest = stream
		if c.open == nil {
			c.open = map[uint32]struct{}{}
		}
		c.open[stream] = struct{}{}
		c.settleLocked()
	}
}

func (c *conn) ended(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, stream)
	c.settleLocked()
}

// leaving forgets the streams after last: they will not be answered.
func (c *conn) leaving(last uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = min(c.last, last)
	for stream := range c.open {
		if stream > c.last {
			delete(c.open, stream)
		}
	}
	c.settleLocked()
}

// enter and leave are a handler's begin and end: it counts even where the client has given its request up.
func (c *conn) enter() { c.run(1) }
func (c *conn) leave() { c.run(-1) }

func (c *conn) run(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running += n
	c.settleLocked()
}

// Close ends the connection, and with it all its requests but those whose handlers still run.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.leaving(0)
	return err
}

// CloseWrite is what net/http asks for, so that a client can still read a refusal that ends the connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// settleLocked brings the receiver's count up to date.
func (c *conn) settleLocked() {
	now := max(len(c.open), c.running)
	for ; c.counted < now; c.counted++ {
		c.r.begin()
	}
	for ; c.counted > now; c.counted-- {
		c.r.end()
	}
}

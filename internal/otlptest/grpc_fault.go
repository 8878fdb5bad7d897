package otlptest

import (
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// actGRPC misbehaves until the client is gone, or the time that it gave is over: then there is an answer after all.
func (b *Backend) actGRPC(f Fault, q *Request, s grpc.ServerStream) error {
	gone := s.Context().Done() // the call was ended by the client, or its connection was
	c := b.connOf(s)
	if c == nil {
		return nil // closed meanwhile
	}
	switch f.Kind {
	case ResetBeforeRead, ResetAfterRead:
		reset(c)
	case ResetMidAnswer:
		c.wrote.wait(func() { s.SendMsg(&[]byte{0x0a, 0x00}) }, gone)
		reset(c)
	case HalfClose:
		c.CloseWrite()
	case Garbage:
		io.WriteString(c.TCPConn, "HTTP/1.1 400 Bad Request\r\n\r\nthis is not HTTP/2")
	case SlowBody:
		if f.Every <= 0 {
			f.Every = 100 * time.Millisecond
		}
		repeat(s, nil, f.Every)
	case EndlessBody:
		repeat(s, make([]byte, 64<<10), 0)
	}
	<-gone
	return s.Context().Err()
}

// repeat sends the message over and over, until the client is gone.
func repeat(s grpc.ServerStream, message []byte, every time.Duration) {
	for s.SendMsg(&message) == nil {
		select {
		case <-s.Context().Done():
			return
		case <-time.After(every):
		}
	}
}

// connOf is the connection of a call; nil where it is closed.
func (b *Backend) connOf(s grpc.ServerStream) *trackedConn {
	from, ok := peer.FromContext(s.Context())
	if !ok {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		if tc, ok := c.(*trackedConn); ok && tc.RemoteAddr().String() == from.Addr.String() {
			return tc
		}
	}
	return nil
}

// tracked is a listener whose connections the backend knows, as http.Server's ConnState lets it know its own.
type tracked struct {
	net.Listener
	b *Backend
}

// Accept is the next connection.
func (l tracked) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tc := &trackedConn{TCPConn: c.(*net.TCPConn), b: l.b, wrote: make(signal, 1)}
	l.b.connState(tc, http.StateNew)
	return tc, nil
}

// trackedConn is such a connection.
type trackedConn struct {
	*net.TCPConn
	b     *Backend
	wrote signal
}

// NetConn is the connection beneath, for reset.
func (c *trackedConn) NetConn() net.Conn { return c.TCPConn }

// Write tells that something was written.
func (c *trackedConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.wrote.send()
	return n, err
}

// Close ends the connection.
func (c *trackedConn) Close() error {
	c.b.connState(c, http.StateClosed)
	return c.TCPConn.Close()
}

// signal tells that something has happened at least once since it was last looked at.
type signal chan struct{}

func (s signal) send() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// wait does something and waits until it shows, or until gone.
func (s signal) wait(do func(), gone <-chan struct{}) {
	select {
	case <-s:
	default:
	}
	do()
	select {
	case <-s:
	case <-gone:
	}
}

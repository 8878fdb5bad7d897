package receiver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// memoryListener is a net.Listener without a network, for synctest: its connections are net.Pipes.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial is the client's end of a new connection.
func (l *memoryListener) Dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.New("dial: connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept is the server's end of the next connection.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and Dial.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is a name for errors.
func (l *memoryListener) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }

// writeAll writes in the background, as a client whose kernel has buffers; the error is that of a peer gone.
func writeAll(c net.Conn, wire string) { go io.WriteString(c, wire) }

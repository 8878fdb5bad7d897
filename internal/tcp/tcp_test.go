package tcp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

// pipe is two ends of one connection.
func pipe(t testing.TB) (dialed, accepted net.Conn) {
	t.Helper()
	l, err := tcp.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	dialed = tcp.Wrap(c)
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed, accepted
}

// It is a net.Conn in all that Go's own tests ask of one: deadlines, closing, concurrency.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := pipe(t)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

// A write that the peer takes bit by bit ends when all is written.
func TestWriteAll(t *testing.T) {
	a, b := pipe(t)
	want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20) // more than the sockets hold
	written := make(chan error, 1)
	go func() {
		n, err := a.Write(want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		written <- errors.Join(err, a.Close())
	}()
	got, err := io.ReadAll(b)
	if err := errors.Join(err, <-written); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came through, error %v", len(got), len(want), err)
	}
}

// The errors are those of package net: callers look into them, and users read them.
func TestErrors(t *testing.T) {
	a, b := pipe(t)
	a.SetDeadline(time.Unix(1, 0))
	_, readErr := a.Read(make([]byte, 1))
	n, writeErr := a.Write(make([]byte, 1))
	for op, err := range map[string]error{"read": readErr, "write": writeErr} {
		var e *net.OpError
		if !errors.As(err, &e) || e.Op != op || !e.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s past its deadline: %v", op, err)
		}
	}
	if n != 0 {
		t.Errorf("%d bytes were written past the deadline", n)
	}

	a.SetDeadline(time.Time{})
	b.(interface{ SetLinger(int) error }).SetLinger(0)
	b.Close()
	var e *net.OpError
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &e) || e.Op != "read" || e.Addr == nil {
		t.Errorf("read from a peer that reset the connection: %v", err)
	}
	if _, err := a.Write(make([]byte, 1)); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a peer that reset the connection: %v", err)
	}
	a.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read from a closed connection: %v", err)
	}
}

// What is not TCP of package net stays as it is.
func TestWrapOther(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if tcp.Wrap(a) != a {
		t.Error("a pipe was wrapped")
	}
}

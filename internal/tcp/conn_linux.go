//go:build !race

package tcp

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// Wrap is c with cheaper reads and writes, where c is of package net and over TCP; otherwise it is c. c itself is
// not to be used beside it.
func Wrap(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	w := &conn{TCPConn: t, raw: raw}
	w.in.step, w.out.step = w.in.read, w.out.write
	return w
}

// conn leaves waiting, deadlines and closing to the TCPConn.
type conn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
}

// transfer is the read or the write under way.
type transfer struct {
	mu    sync.Mutex
	step  func(fd uintptr) (done bool) // one of the methods below, made once
	b     []byte
	n     int // bytes of b done
	errno syscall.Errno
}

func (t *transfer) read(fd uintptr) (done bool) {
	n, errno := call(syscall.SYS_READ, fd, t.b)
	t.n, t.errno = n, errno
	return errno != syscall.EAGAIN
}

func (t *transfer) write(fd uintptr) (done bool) {
	for t.n < len(t.b) {
		n, errno := call(syscall.SYS_WRITE, fd, t.b[t.n:])
		if t.errno = errno; errno != 0 {
			return errno != syscall.EAGAIN
		}
		t.n += n
	}
	return true
}

// call reads or writes b, which is not empty.
func call(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// Read is as of a TCPConn.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := c.run(&c.in, "read", c.raw.Read, b)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

// Write is as of a TCPConn.
func (c *conn) Write(b []byte) (int, error) { return c.run(&c.out, "write", c.raw.Write, b) }

func (c *conn) run(t *transfer, op string, poll func(func(uintptr) bool) error, b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b, t.n, t.errno = b, 0, 0
	err := poll(t.step)
	t.b = nil // it is the caller's
	var raw *net.OpError
	switch {
	case errors.As(err, &raw):
		raw.Op = op // it says raw-read
	case err == nil && t.errno != 0:
		err = &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, t.errno)}
	}
	return t.n, err
}

package receiver

import (
	"fmt"
	"net"
)

// Listen opens a TCP listener at addr, host:port, for Serve.
//
// Its connections acknowledge what they read at once. Java's OkHttp writes a body in pieces of 8 KiB and, as
// Nagle's algorithm has it, holds back each until the one before is acknowledged; the kernel's delayed
// acknowledgement would add 40 ms to each of the function's flushes.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for OTLP on %s: %w", addr, err)
	}
	return listener{l.(*net.TCPListener)}, nil
}

// listener hands out connections that acknowledge at once.
type listener struct{ *net.TCPListener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return acknowledgeAtOnce(c), nil
}

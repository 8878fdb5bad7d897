package export

import (
	"net"
	"syscall"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

const (
	tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT of linux/tcp.h, which package syscall lacks

	// unackedMillis bounds how long a connection that is used again may leave data unacknowledged: a flow
	// that a NAT or a load balancer has forgotten fails after it, and a fresh connection is tried, instead
	// of burning the whole timeout. A fresh connection has no such bound: a backend that stops reading for a
	// while is slow, not gone.
	unackedMillis = 1500
)

// peek says what a look into raw's socket shows, without waiting and without taking anything out of it. On
// the same occasion it bounds unacknowledged data.
func peek(raw net.Conn) socketState {
	sc, ok := raw.(syscall.Conn)
	if !ok {
		return quiet
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return dead
	}
	state := dead
	err = rc.Control(func(fd uintptr) {
		// Failing is harmless: the attempt's timeout remains.
		_ = tcp.SetInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, unackedMillis)
		n, err := tcp.Peek(fd)
		switch {
		case err == syscall.EAGAIN:
			state = quiet
		case err == nil && n > 0:
			state = pending
		}
	})
	if err != nil {
		return dead
	}
	return state
}

package receiver

import (
	"net"
	"syscall"
)

// quickConn sets TCP_QUICKACK after each read: the kernel clears it by itself (tcp(7)).
type quickConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// acknowledgeAtOnce is c, or c itself where the option cannot be reached: it is only about speed.
func acknowledgeAtOnce(c *net.TCPConn) net.Conn {
	raw, err := c.SyscallConn()
	if err != nil {
		return c
	}
	return &quickConn{c, raw}
}

func (c *quickConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if err == nil {
		c.raw.Control(setQuickAck)
	}
	return n, err
}

func setQuickAck(fd uintptr) {
	syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
}

//go:build !linux

package receiver

import "net"

// acknowledgeAtOnce is c: TCP_QUICKACK is Linux's.
func acknowledgeAtOnce(c *net.TCPConn) net.Conn { return c }

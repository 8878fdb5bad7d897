//go:build !linux

package export

import "net"

// peek cannot look into a socket here: a connection that died is found out by using it.
func peek(net.Conn) socketState { return quiet }

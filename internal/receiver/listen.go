package receiver

import (
	"fmt"
	"net"
)

// Listen opens a TCP listener at addr, host:port, for Serve.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for OTLP on %s: %w", addr, err)
	}
	return l, nil
}

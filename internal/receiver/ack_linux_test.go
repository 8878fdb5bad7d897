package receiver

import (
	"io"
	"net"
	"syscall"
	"testing"
)

// After each read the connection is in quick-acknowledgement mode, which the kernel leaves when data is written.
func TestQuickAck(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener{l, New(Config{})}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	quick := server.(*conn)
	for range 3 {
		ping(t, client, quick.Conn) // without the option, many exchanges leave the mode off
	}
	before := quickAck(t, quick)
	ping(t, client, server)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if after := quickAck(t, quick); before != 0 || after != 1 {
		t.Errorf("TCP_QUICKACK is %d after plain reads and %d after a Read; want 0, 1", before, after)
	}
}

// ping sends a byte from a to b and back.
func ping(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := way[0].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func quickAck(t *testing.T, c *conn) (on int) {
	t.Helper()
	var sockErr error
	if err := c.raw.Control(func(fd uintptr) {
		on, sockErr = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK)
	}); err != nil || sockErr != nil {
		t.Fatal(err, sockErr)
	}
	return on
}

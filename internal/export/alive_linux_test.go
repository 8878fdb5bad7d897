package export

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func TestPeek(t *testing.T) {
	do := make(chan func(*peer))
	done := make(chan struct{})
	b := newBackend(t, func(p *peer) {
		for f := range do {
			f(p)
			done <- struct{}{}
		}
	})
	defer close(do)
	tests := []struct {
		name string
		act  func(*peer)
		want socketState
	}{
		{"nothing", func(*peer) {}, quiet},
		{"data", func(p *peer) { p.say("x") }, pending},
		{"FIN", func(p *peer) { p.Close() }, dead},
	}
	c, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, test := range tests {
		do <- test.act
		<-done
		if test.want == dead {
			c.Read(make([]byte, 1)) // peek took nothing out
		}
		if got := peek(c); got != test.want {
			t.Errorf("after %s: state %d, want %d", test.name, got, test.want)
		}
	}
	c.Close()
	if got := peek(c); got != dead {
		t.Errorf("our own end closed: state %d, want %d", got, dead)
	}
}

// Unacknowledged data is bounded on a connection that is used again, and only there.
func TestUserTimeout(t *testing.T) {
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, newBackend(t, answering(okAnswer)).url), Timeout: time.Minute})
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, newBackend(t, serving((*h2Peer).ok)).grpcURL()), Timeout: time.Minute})
	for _, client := range []struct {
		otlp.Sink
		*link
	}{{h, h.link}, {g, g.link}} {
		for i, want := range []int{0, unackedMillis} {
			if err := client.Send(t.Context(), payload(10)); err != nil {
				t.Fatal(err)
			}
			rc, err := client.idle.raw.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			rc.Control(func(fd uintptr) {
				got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
				if err != nil || got != want {
					t.Errorf("exchange %d: TCP_USER_TIMEOUT %d (%v), want %d", i+1, got, err, want)
				}
			})
		}
	}
}

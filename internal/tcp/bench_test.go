package tcp_test

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

// BenchmarkWake is the CPU time of being woken by 1 KiB and answering it, after 2 ms of sleep: what an invocation
// consists of. The peer is a process of its own.
func BenchmarkWake(b *testing.B) {
	for _, impl := range []struct {
		name string
		wrap func(net.Conn) net.Conn
	}{{"ours", tcp.Wrap}, {"net", func(c net.Conn) net.Conn { return c }}} {
		b.Run(impl.name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			peer := exec.Command(os.Args[0], "-test.run", "^TestWakePeer$")
			peer.Env = append(os.Environ(), "WAKE_PEER="+l.Addr().String())
			if err := peer.Start(); err != nil {
				b.Fatal(err)
			}
			defer peer.Wait()
			c, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			c = impl.wrap(c)
			buf := make([]byte, 1<<10)
			var used time.Duration
			for b.Loop() {
				before := cpu()
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				used += cpu() - before
			}
			b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpu is the CPU time of the process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestWakePeer is the peer of BenchmarkWake, in its process.
func TestWakePeer(t *testing.T) {
	addr := os.Getenv("WAKE_PEER")
	if addr == "" {
		return
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for buf := make([]byte, 1<<10); ; {
		time.Sleep(2 * time.Millisecond)
		if _, err := c.Write(buf); err != nil {
			return
		}
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

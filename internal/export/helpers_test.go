package export

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"

// payload is a request that the exporter need not understand.
func payload(size int) otlp.Payload {
	return otlp.Payload{Signal: otlp.Traces, Compression: otlp.Gzip, Body: make([]byte, size), Size: size, Records: 1}
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func newHTTP(t testing.TB, cfg HTTPConfig) *HTTP {
	t.Helper()
	h, err := NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// peer is one connection as the server sees it.
type peer struct {
	net.Conn
	br *bufio.Reader
	n  int // which connection this is, from 1
}

// request reads a request with its body; nil when the client has closed.
func (p *peer) request() *http.Request {
	req, err := http.ReadRequest(p.br)
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil
	}
	req.ContentLength = int64(len(body))
	return req
}

func (p *peer) say(s string) { io.WriteString(p, s) }

// reset closes the connection with an RST.
func (p *peer) reset() {
	p.Conn.(*net.TCPConn).SetLinger(0)
	p.Close()
}

// backend is a server on loopback whose every connection is handled by a script.
type backend struct {
	net.Listener
	url   string
	dials atomic.Int32
}

func newBackend(t testing.TB, script func(*peer)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Listener: l, url: "http://" + l.Addr().String() + "/v1/traces"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			n := int(b.dials.Add(1))
			wg.Go(func() {
				defer c.Close()
				script(&peer{Conn: c, br: bufio.NewReader(c), n: n})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return b
}

// answering is a script that gives each request the same answer.
func answering(answer string) func(*peer) {
	return func(p *peer) {
		for p.request() != nil {
			p.say(answer)
		}
	}
}

// pipeNet is a network in memory, for synctest: each dial is handled by the script.
type pipeNet struct {
	script func(*peer)
	wrap   func(net.Conn) net.Conn // the client's end; nil: as it is
	dials  int
	open   []net.Conn
}

func (n *pipeNet) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	n.dials++
	n.open = append(n.open, server)
	p := &peer{Conn: server, br: bufio.NewReader(server), n: n.dials}
	go func() {
		defer server.Close()
		n.script(p)
	}()
	if n.wrap != nil {
		return n.wrap(client), nil
	}
	return client, nil
}

// Close ends every connection, so that no goroutine stays in the bubble.
func (n *pipeNet) Close() {
	for _, c := range n.open {
		c.Close()
	}
}

// wallClock is the bubble's clock plus the time that a freeze took from the monotonic one.
type wallClock struct{ frozen atomic.Int64 }

func (w *wallClock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(w.frozen.Load()))
}

func (w *wallClock) freeze(d time.Duration) { w.frozen.Add(int64(d)) }

// refusal is err as an *otlp.Error.
func refusal(t testing.TB, err error) *otlp.Error {
	t.Helper()
	var e *otlp.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T (%v), want *otlp.Error", err, err)
	}
	return e
}

// sinkFunc is a Sink made of a function.
type sinkFunc func(ctx context.Context, p otlp.Payload) error

func (f sinkFunc) Send(ctx context.Context, p otlp.Payload) error { return f(ctx, p) }

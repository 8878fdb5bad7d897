package receiver_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// caller makes the same call over and over on one connection, and reads the answers, without allocating.
type caller struct {
	conn   net.Conn
	wire   []byte
	heads  []int // where in wire the frames begin
	stream uint32
	buf    [4096]byte
}

func newCaller(t testing.TB, conn net.Conn, encoding string, body []byte) *caller {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	c := &caller{conn: conn}
	f := newFrames().hello()
	f.WriteWindowUpdate(0, 1<<30) // it never says again that it has read
	if _, err := io.WriteString(conn, f.take()); err != nil {
		t.Fatal(err)
	}
	// Without a table each head has the same bytes.
	f.hpack.SetMaxDynamicTableSize(0)
	pairs := []string{"user-agent", "OTel-OTLP-Exporter-Python/1.45.1", "grpc-timeout", "10S"}
	var flag byte
	if encoding != "" {
		pairs, flag = append(pairs, "grpc-encoding", encoding), 1
	}
	f.head(1, false, pairs...)
	message := append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(body))), body...)
	for len(message) > 16<<10 {
		f.data(1, false, message[:16<<10])
		message = message[16<<10:]
	}
	c.wire = []byte(f.data(1, true, message).take())
	for at := 0; at < len(c.wire); at += 9 + int(binary.BigEndian.Uint32(c.wire[at:])>>8) {
		c.heads = append(c.heads, at)
	}
	return c
}

// call makes one call, and reads up to the end of its answer.
func (c *caller) call(t testing.TB) {
	t.Helper()
	c.stream += 2
	for _, at := range c.heads {
		binary.BigEndian.PutUint32(c.wire[at+5:], c.stream-1)
	}
	if _, err := c.conn.Write(c.wire); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := c.conn.Read(c.buf[:])
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(c.buf[:n], append([]byte{1, 5}, c.wire[5:9]...)) { // HEADERS, with END_STREAM
			return
		}
	}
}

// countingListener counts the writes of its connections.
type countingListener struct {
	net.Listener
	writes atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l}, err
}

type countingConn struct {
	net.Conn
	l *countingListener
}

func (c countingConn) Write(b []byte) (int, error) {
	c.l.writes.Add(1)
	return c.Conn.Write(b)
}

// BenchmarkCall is BenchmarkLoopback over OTLP/gRPC.
func BenchmarkCall(b *testing.B) {
	build := &otlptest.Builder{Name: "benchmark"}
	body := build.Build(otlp.Traces, otlp.Protobuf, 10).Body
	for _, bb := range []struct {
		name, encoding string
		body           []byte
	}{
		{"10 spans", "", body},
		{"10 spans gzip", "gzip", compress(b, otlp.Gzip, body)},
		{"empty", "", nil},
	} {
		b.Run(bb.name, func(b *testing.B) {
			_, base := serve(b, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil })})
			conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			c := newCaller(b, conn, bb.encoding, bb.body)
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.body)))
			for b.Loop() {
				c.call(b)
			}
		})
	}
}

// BenchmarkLargeCall is a message of 4 MB: 3 ms on one core with windows of 128 KiB, 2.5 ms with 256, 4.5 ms with 64.
func BenchmarkLargeCall(b *testing.B) {
	body := (&otlptest.Builder{Name: "benchmark", Pad: 100_000}).Build(otlp.Logs, otlp.Protobuf, 40).Body
	framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	_, base := serve(b, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil })})
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	defer client.CloseIdleConnections()
	b.SetBytes(int64(len(framed)))
	for b.Loop() {
		q, err := http.NewRequest(http.MethodPost, base+otlp.Logs.Method(), bytes.NewReader(framed))
		if err != nil {
			b.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/grpc")
		r, err := client.RoundTrip(q)
		if err != nil {
			b.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		if r.Body.Close(); err != nil || r.Trailer.Get("Grpc-Status") != "0" {
			b.Fatal(r.Header, r.Trailer, err)
		}
	}
}

// The answer to a call is one write, whatever it consists of: each further one would wake the client for nothing.
func TestAnswersAreOneWrite(t *testing.T) {
	build := &otlptest.Builder{Name: "writes"}
	var answer error
	for name, encoding := range map[string]string{"plain": "", "gzip": "gzip"} {
		for _, spans := range []int{0, 1, 20, 60} {
			for _, answer = range []error{nil, &otlp.Error{Code: otlp.Unavailable, Message: "down", Retryable: true}, &otlp.PartialSuccess{Rejected: 1}} {
				t.Run(fmt.Sprint(name, spans, answer), func(t *testing.T) {
					body := build.Build(otlp.Traces, otlp.Protobuf, spans).Body
					if encoding != "" {
						body = compress(t, otlp.Gzip, body)
					}
					synctest.Test(t, func(t *testing.T) { // time stands still: nothing is overdue
						const calls = 20
						got := writesFor(t, calls, answer, encoding, body)
						// What lets the client send more is held back only up to a point.
						if credit := int32(calls * 2 * len(body) / (64 << 10)); got < calls || got > calls+credit {
							t.Errorf("%d writes for %d calls, want one each, and %d at most to let the client send more", got, calls, credit)
						}
					})
				})
			}
		}
	}
}

// writesFor is how many writes a receiver needs for so many calls on a connection that has seen one.
func writesFor(t *testing.T, calls int, answer error, encoding string, body []byte) int32 {
	l := newMemoryListener()
	counting := &countingListener{Listener: l}
	r := receiver.New(receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return answer })})
	served := make(chan error, 1)
	go func() { served <- r.Serve(counting) }()
	defer func() { r.Close(); <-served }()
	conn, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := newCaller(t, conn, encoding, body)
	c.call(t)
	before := counting.writes.Load()
	for range calls {
		c.call(t)
	}
	return counting.writes.Load() - before
}

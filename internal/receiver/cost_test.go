package receiver_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// discard is a ResponseWriter that costs nothing.
type discard struct {
	header http.Header
	status int
}

// Header is the answer's header.
func (d *discard) Header() http.Header { return d.header }

// WriteHeader keeps the status.
func (d *discard) WriteHeader(status int) { d.status = status }

// Write drops the body.
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// request is a POST of traces as net/http hands it to a handler.
func request(contentType, coding string, body []byte) *http.Request {
	q := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: otlp.Traces.Path()}, Header: http.Header{"Content-Type": {contentType}},
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
	}
	if coding != "" {
		q.Header["Content-Encoding"] = []string{coding}
	}
	return q
}

// The handler allocates the body, which the sink keeps; never anything per span.
func TestAllocations(t *testing.T) {
	build := &otlptest.Builder{Name: "allocations"}
	for _, spans := range []int{1, 100} {
		for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
			for _, coding := range []otlp.Compression{otlp.None, otlp.Gzip, otlp.Deflate} {
				for _, chunked := range []bool{false, true} {
					plain := build.Build(otlp.Traces, enc, spans).Body
					body := compress(t, coding, plain)
					t.Run(fmt.Sprint(spans, enc.ContentType(), coding, chunked), func(t *testing.T) {
						want := 1.0
						if chunked {
							want = 7 // further segments, their list; and under -race sync.Pool loses some
						}
						if got := allocations(t, enc, coding, body, chunked); got > want {
							t.Errorf("%v allocations for a request of %d spans, want %v", got, spans, want)
						}
					})
				}
			}
		}
	}
}

func allocations(t *testing.T, enc otlp.Encoding, coding otlp.Compression, body []byte, chunked bool) float64 {
	taken := 0
	r := receiver.New(receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { taken++; return nil })})
	w := &discard{header: http.Header{}}
	reader := bytes.NewReader(body)
	q := request(enc.ContentType(), coding.String(), body)
	q.Body = io.NopCloser(reader)
	if chunked {
		q.ContentLength = -1
	}
	const runs = 100
	got := testing.AllocsPerRun(runs, func() {
		reader.Reset(body)
		clear(w.header)
		r.ServeHTTP(w, q)
	})
	if taken != runs+1 || w.status != 200 {
		t.Fatalf("%d requests taken, the last with status %d; want %d, 200", taken, w.status, runs+1)
	}
	return got
}

// BenchmarkLoopback is one request and its answer over a kept connection, with the client's share of the CPU
// but none of its allocations: it writes and reads the same bytes each time.
func BenchmarkLoopback(b *testing.B) {
	build := &otlptest.Builder{Name: "benchmark"}
	body := build.Build(otlp.Traces, otlp.Protobuf, 10).Body
	bodies := []struct {
		name, framing string
		body          []byte
	}{
		{"10 spans", "", body},
		{"10 spans gzip", "Content-Encoding: gzip\r\n", compress(b, otlp.Gzip, body)},
		{"10 spans chunked", "Transfer-Encoding: chunked\r\n", fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(body), body)},
		{"empty", "", nil},
	}
	for _, bb := range bodies {
		b.Run(bb.name, func(b *testing.B) {
			framing := bb.framing
			if !strings.Contains(framing, "chunked") {
				framing += fmt.Sprintf("Content-Length: %d\r\n", len(bb.body))
			}
			_, base := serve(b, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil })})
			c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			wire := append([]byte("POST /v1/traces HTTP/1.1\r\nHost: localhost:4318\r\nUser-Agent: OTel-OTLP-Exporter-Python/1.45.1\r\n"+
				"Content-Type: application/x-protobuf\r\n"+framing+"\r\n"), bb.body...)
			answer := make([]byte, 4096)
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.body)))
			for b.Loop() {
				if _, err := c.Write(wire); err != nil {
					b.Fatal(err)
				}
				n, err := c.Read(answer)
				if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200 ")) {
					b.Fatalf("read %q, %v", answer[:n], err)
				}
			}
		})
	}
}

// BenchmarkHandler is the handler alone: what is not net/http's.
func BenchmarkHandler(b *testing.B) {
	body := (&otlptest.Builder{Name: "benchmark"}).Build(otlp.Traces, otlp.Protobuf, 10).Body
	r := receiver.New(receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil })})
	w := &discard{header: http.Header{}}
	reader := bytes.NewReader(body)
	q := request("application/x-protobuf", "", body)
	q.Body = io.NopCloser(reader)
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		r.ServeHTTP(w, q)
	}
}

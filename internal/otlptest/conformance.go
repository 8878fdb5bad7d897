package otlptest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// suiteLimit is the maxBytes of the receivers that are not tested at their limit.
const suiteLimit = 1 << 20

// Protocol is one of OTLP's two.
type Protocol int

// The protocols that a receiver may be asked to speak.
const (
	HTTP Protocol = iota // OTLP/HTTP
	GRPC                 // OTLP/gRPC, over HTTP/2 without TLS
)

// Conformance puts a receiver through what the OTLP specification (1.11), HTTP/1.1, or gRPC and HTTP/2, and real SDKs
// demand of it, over sockets of its own.
//
// start runs a receiver that gives requests to sink as they came, takes at most maxBytes of each, as sent and
// decompressed, and ends with its test; it returns the URL that /v1/traces is appended to, or of gRPC a service's path.
func Conformance(t *testing.T, p Protocol, start func(t *testing.T, sink otlp.Sink, maxBytes int) (baseURL string)) {
	s := suite{protocol: p, start: start, build: &Builder{Name: "conformance"}}
	t.Run("accepts", s.accepts)
	t.Run("accepts squeezed", s.acceptsSqueezed)
	t.Run("accepts empty", s.acceptsEmpty)
	t.Run("refuses bodies", s.refusesBodies)
	t.Run("limits", s.limits)
	t.Run("bombs", s.bombs)
	t.Run("half a body, then the rest", s.halfBody)
	t.Run("byte by byte", s.byteByByte)
	t.Run("body cut short", s.cutShort)
	t.Run("client goes away", s.goesAway)
	t.Run("sink errors", s.sinkErrors)
	t.Run("sink panics", s.sinkPanics)
	t.Run("overload", s.overload)
	t.Run("exporters", s.exporters)
	if p == HTTP {
		t.Run("accepts real heads", s.acceptsHeads)
		t.Run("accepts no framing at all", s.acceptsNoFraming)
		t.Run("refuses heads", s.refusesHeads)
		t.Run("HTTP limits", s.httpLimits)
		t.Run("sockets", s.sockets)
		return
	}
	t.Run("calls", s.calls)
	t.Run("messages", s.messages)
	t.Run("streams", s.streams)
	t.Run("hostile", s.hostile)
}

// suite is one run of Conformance.
type suite struct {
	protocol Protocol
	start    func(*testing.T, otlp.Sink, int) string
	build    *Builder
}

// encodings are those that the protocol has.
func (s suite) encodings() []otlp.Encoding {
	if s.protocol == GRPC {
		return []otlp.Encoding{otlp.Protobuf}
	}
	return []otlp.Encoding{otlp.Protobuf, otlp.JSON}
}

// confSink records what reaches it.
type confSink struct {
	mu     sync.Mutex // guards all below
	answer func() error
	got    []otlp.Payload
}

// answers says what Send returns from now on; with nil, it takes everything.
func (s *confSink) answers(answer func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// Send keeps p.
func (s *confSink) Send(_ context.Context, p otlp.Payload) error {
	s.mu.Lock()
	s.got = append(s.got, p)
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		return answer()
	}
	return nil
}

// take is what came since the last take.
func (s *confSink) take() []otlp.Payload {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// target is a receiver under test.
type target struct {
	suite
	addr   string // host:port
	prefix string // of every path
	sink   *confSink
}

func (s suite) target(t *testing.T, maxBytes int) *target {
	t.Helper()
	sink := new(confSink)
	base := s.start(t, sink, maxBytes)
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		t.Fatalf("start returned %q: want http://host:port", base)
	}
	return &target{suite: s, addr: u.Host, prefix: strings.TrimSuffix(u.Path, "/"), sink: sink}
}

// message is one export request as it is sent, and what the receiver must make of it.
type message struct {
	Built
	coding otlp.Compression
	sent   []byte // Body in this coding
}

func (s suite) message(sig otlp.Signal, enc otlp.Encoding, coding otlp.Compression, records int) message {
	b := s.build.Build(sig, enc, records)
	return message{b, coding, compress(coding, b.Body)}
}

// checkTaken checks that exactly these requests reached the sink, in any order, as they were sent.
func (g *target) checkTaken(t *testing.T, want ...message) {
	t.Helper()
	got := g.sink.take()
	if len(got) != len(want) {
		t.Errorf("the sink got %d requests, want %d", len(got), len(want))
	}
	for _, m := range want {
		if err := m.among(got); err != nil {
			t.Error(err)
		}
	}
}

// among finds m's payload in got and compares it with what was sent.
func (m message) among(got []otlp.Payload) error {
	for _, p := range got {
		if !bytes.Equal(p.Body, m.sent) {
			continue
		}
		if p.Signal != m.Signal || p.Encoding != m.Encoding || p.Compression != m.coding {
			return fmt.Errorf("payload is %v, %v, %v; want %v, %v, %v", p.Signal, p.Encoding, p.Compression, m.Signal, m.Encoding, m.coding)
		}
		if p.Size != len(m.Body) || p.Records != len(m.IDs) {
			return fmt.Errorf("payload has Size %d, Records %d; want %d, %d", p.Size, p.Records, len(m.Body), len(m.IDs))
		}
		if p.Received.IsZero() || p.Received.After(time.Now()) {
			return fmt.Errorf("payload was received at %v", p.Received)
		}
		if cap(p.Body)-len(p.Body) > len(p.Body)/4+64 {
			return fmt.Errorf("payload of %d bytes holds %d", len(p.Body), cap(p.Body))
		}
		return nil
	}
	return fmt.Errorf("no payload has the %d bytes that were sent", len(m.sent))
}

// compress writes body in a coding, as a client would.
func compress(coding otlp.Compression, body []byte) []byte {
	var out bytes.Buffer
	switch coding {
	case otlp.None:
		return body
	case otlp.Gzip:
		z := gzip.NewWriter(&out)
		z.Write(body)
		z.Close()
	case otlp.Deflate:
		z := zlib.NewWriter(&out)
		z.Write(body)
		z.Close()
	case otlp.Zstd:
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic("BUG: make a zstd writer: " + err.Error())
		}
		z.Write(body)
		z.Flush() // or a short body's frame would announce its size
		z.Close()
	}
	return out.Bytes()
}

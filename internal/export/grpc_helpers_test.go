package export

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func newGRPC(t testing.TB, cfg GRPCConfig) *GRPC {
	t.Helper()
	g, err := NewGRPC(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// h2Peer is a connection as a server of HTTP/2 sees it, which does nothing that its script does not say.
type h2Peer struct {
	*peer
	*http2.Framer           // writes to out
	out           *outgoing // what was not flushed yet
	from          io.Reader
	in            *http2.Framer // reads from it
	greeted       bool
	calls         int
	acked         int // pings that the client has answered
	window        int // bytes that the client lets us send
	enc           *hpack.Encoder
	block         bytes.Buffer
}

// outgoing is what a server writes: it leaves when the script says so, in one piece.
type outgoing struct {
	bytes.Buffer
	to io.Writer
}

func (o *outgoing) flush() {
	o.to.Write(o.Bytes())
	o.Reset()
}

// grpcCall is a request that has come.
type grpcCall struct {
	stream  uint32
	header  map[string]string
	message []byte // with its prefix
}

func newH2Peer(p *peer) *h2Peer {
	h := &h2Peer{window: 1<<16 - 1, peer: p, out: &outgoing{to: p}, from: pump(p.br)}
	h.Framer = http2.NewFramer(h.out, nil)
	h.in = http2.NewFramer(io.Discard, h.from)
	h.in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.enc = hpack.NewEncoder(&h.block)
	return h
}

// pump reads r into memory without end, as a socket's buffer does for a while.
func pump(r io.Reader) io.Reader {
	b := &pumped{}
	b.come.L = &b.mu
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			b.mu.Lock()
			b.buf.Write(buf[:n])
			b.err = err
			b.come.Signal()
			b.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return b
}

type pumped struct {
	mu   sync.Mutex
	come sync.Cond
	buf  bytes.Buffer
	err  error
}

func (b *pumped) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.buf.Len() == 0 && b.err == nil {
		b.come.Wait()
	}
	if b.buf.Len() == 0 {
		return 0, b.err
	}
	return b.buf.Read(p)
}

// greet takes the client's preface and sends the server's settings.
func (h *h2Peer) greet(settings ...http2.Setting) bool {
	if h.greeted {
		return true
	}
	h.greeted = true
	got := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(h.from, got); err != nil || string(got) != http2.ClientPreface {
		return false
	}
	h.WriteSettings(settings...)
	return true
}

// call sends what the script has written, then reads a request and lets the client send as much as it wants; nil
// when the client has closed.
func (h *h2Peer) call() *grpcCall {
	if !h.greet() {
		return nil
	}
	if h.calls++; h.calls > 1 {
		h.out.flush()
	}
	c := &grpcCall{header: map[string]string{}}
	for {
		f, err := h.in.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				h.WriteSettingsAck()
			}
		case *http2.PingFrame:
			h.acked++
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				h.window += int(f.Increment)
			}
		case *http2.MetaHeadersFrame:
			c.stream = f.StreamID
			for _, field := range f.Fields {
				c.header[field.Name] = field.Value
			}
		case *http2.DataFrame:
			c.message = append(c.message, f.Data()...)
			if len(f.Data()) > 0 {
				h.WriteWindowUpdate(0, uint32(len(f.Data())))
				h.WriteWindowUpdate(c.stream, uint32(len(f.Data())))
			}
			if f.StreamEnded() {
				return c
			}
			h.out.flush()
		}
	}
}

// headers writes a header or a trailer: name, value, name, value, …
func (h *h2Peer) headers(stream uint32, last bool, fields ...string) {
	h.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.block.Bytes(), EndHeaders: true, EndStream: last})
}

// answer answers a call with a message, without its prefix, and a trailer.
func (h *h2Peer) answer(c *grpcCall, message string, trailer ...string) {
	h.headers(c.stream, false, ":status", "200", "content-type", "application/grpc")
	h.WriteData(c.stream, false, framed(message))
	h.headers(c.stream, true, trailer...)
}

func (h *h2Peer) ok(c *grpcCall) { h.answer(c, "", "grpc-status", "0") }

// framed is a gRPC message with its prefix.
func framed(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// h2 makes a script for HTTP/2 one for connections.
func h2Script(script func(*h2Peer)) func(*peer) {
	return func(p *peer) { script(newH2Peer(p)) }
}

// serving is a script that answers every call alike.
func serving(answer func(*h2Peer, *grpcCall)) func(*peer) {
	return h2Script(func(h *h2Peer) {
		for c := h.call(); c != nil; c = h.call() {
			answer(h, c)
		}
	})
}

// grpcURL is a backend's URL for a GRPC.
func (b *backend) grpcURL() string { return strings.TrimSuffix(b.url, "/v1/traces") }

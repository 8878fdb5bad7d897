package receiver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// frames makes the bytes of HTTP/2 frames.
type frames struct {
	*http2.Framer
	out    bytes.Buffer
	fields bytes.Buffer
	hpack  *hpack.Encoder
}

func newFrames() *frames {
	f := new(frames)
	f.Framer, f.hpack = http2.NewFramer(&f.out, nil), hpack.NewEncoder(&f.fields)
	return f
}

// hello is how a client begins.
func (f *frames) hello() *frames {
	f.out.WriteString(http2.ClientPreface)
	f.WriteSettings()
	return f
}

// head begins an Export of traces, with further header fields.
func (f *frames) head(stream uint32, end bool, pairs ...string) *frames {
	pairs = append([]string{":method", "POST", ":scheme", "http", ":path", otlp.Traces.Method(), "content-type", "application/grpc", "te", "trailers"}, pairs...)
	f.fields.Reset()
	for p := range slices.Chunk(pairs, 2) {
		f.hpack.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: end, EndHeaders: true, BlockFragment: f.fields.Bytes()})
	return f
}

// data is part of a body.
func (f *frames) data(stream uint32, end bool, b []byte) *frames {
	f.WriteData(stream, end, b)
	return f
}

// take is what was made since the last take.
func (f *frames) take() string {
	defer f.out.Reset()
	return f.out.String()
}

// message is spans in a gRPC message.
func message(spans int) []byte {
	body := (&otlptest.Builder{Name: "receiver"}).Build(otlp.Traces, otlp.Protobuf, spans).Body
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

// h2client is a connection to a bubble whose frames are read as they come.
type h2client struct {
	*frames
	t      *testing.T
	conn   net.Conn
	reader *http2.Framer
}

func (b *bubble) dialHTTP2() *h2client {
	c, in := b.dial()
	h := &h2client{newFrames().hello(), b.t, c, http2.NewFramer(io.Discard, in)}
	h.reader.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return h
}

// send writes what was made, in the background as a kernel does.
func (h *h2client) send() {
	writeAll(h.conn, h.take())
	synctest.Wait()
}

// status reads up to the end of a stream; it is the grpc-status, or how the stream was reset.
func (h *h2client) status(stream uint32) string {
	h.t.Helper()
	for {
		f, err := h.reader.ReadFrame()
		if err != nil {
			h.t.Fatalf("read the answer on stream %d: %v", stream, err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream && f.StreamEnded() {
				for _, field := range f.Fields {
					if field.Name == "grpc-status" {
						return field.Value
					}
				}
				return "none"
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return f.ErrCode.String()
			}
		}
	}
}

// A request counts from the arrival of its head until its answer is written whole: not when the handler has
// returned, because net/http writes the end of the answer only then.
func TestActiveOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent, ended atomic.Int32
		b := newBubble(t, receiver.Config{
			Sink:  sinkFunc(func(otlp.Payload) error { sent.Add(1); return nil }),
			Ended: func() { ended.Add(1) },
		})
		expect := func(what string, active, wantSent, wantEnded int) {
			t.Helper()
			synctest.Wait()
			if b.Active() != active || int(sent.Load()) != wantSent || int(ended.Load()) != wantEnded {
				t.Errorf("%s: %d active, %d sent, %d ended; want %d, %d, %d", what, b.Active(), sent.Load(), ended.Load(), active, wantSent, wantEnded)
			}
		}
		h := b.dialHTTP2()
		h.send()
		m := message(3)
		h.head(1, false).data(1, false, m[:20]).head(3, false)
		h.send()
		read := make(chan string, 10)
		go func() { read <- h.status(3) }()
		expect("two have begun", 2, 0, 0)
		h.data(3, true, m)
		h.send()
		if s := <-read; s != "0" {
			t.Errorf("grpc-status %s", s)
		}
		expect("one is answered", 1, 1, 1)
		h.data(1, true, m[20:])
		h.send()
		expect("nobody reads the answer of the other", 1, 2, 1)
		time.Sleep(3 * time.Hour)
		expect("nor after a freeze", 1, 2, 1)
		if s := h.status(1); s != "0" {
			t.Errorf("grpc-status %s", s)
		}
		expect("it was read", 0, 2, 2)
	})
}

// A client that lets the receiver send nothing still gets the head of its answer, and the rest when it may come.
func TestAnswerWithoutWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil })})
		h := b.dialHTTP2()
		h.take()
		h.out.WriteString(http2.ClientPreface)
		h.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		h.head(1, false).data(1, true, message(1))
		h.send()
		start := time.Now()
		for answered := false; !answered; {
			f, err := h.reader.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			head, ok := f.(*http2.MetaHeadersFrame)
			answered = ok && head.StreamID == 1 && !head.StreamEnded()
		}
		if took := time.Since(start); took > 10*time.Millisecond || b.Active() != 1 {
			t.Errorf("the head came after %v, %d active", took, b.Active())
		}
		h.WriteWindowUpdate(1, 100)
		h.send()
		if s := h.status(1); s != "0" || time.Since(start) > 10*time.Millisecond {
			t.Errorf("grpc-status %s after %v", s, time.Since(start))
		}
		synctest.Wait()
		if b.Active() != 0 {
			t.Errorf("%d active", b.Active())
		}
	})
}

// A client that gives its request up, or goes away, is not waited for; its handler is.
func TestGivenUpOverHTTP2(t *testing.T) {
	for name, giveUp := range map[string]func(h *h2client){
		"reset": func(h *h2client) { h.WriteRSTStream(1, http2.ErrCodeCancel); h.send() },
		"gone":  func(h *h2client) { h.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var ended atomic.Int32
				b := newBubble(t, receiver.Config{
					Sink:  sinkFunc(func(otlp.Payload) error { <-release; return nil }),
					Ended: func() { ended.Add(1) },
				})
				for _, whole := range []bool{false, true} {
					ended.Store(0)
					h := b.dialHTTP2()
					go io.Copy(io.Discard, h.conn)
					m := message(1)
					if h.head(1, false); whole {
						h.data(1, true, m)
					}
					h.send()
					if b.Active() != 1 {
						t.Errorf("%d active, want 1", b.Active())
					}
					giveUp(h)
					synctest.Wait()
					want := 0
					if whole {
						want = 1 // it is with the Sink
					}
					if b.Active() != want {
						t.Errorf("%d active after the client gave up, want %d", b.Active(), want)
					}
					if whole {
						close(release)
					}
					synctest.Wait()
					if b.Active() != 0 || ended.Load() != 1 {
						t.Errorf("%d active, %d ended; want 0, 1", b.Active(), ended.Load())
					}
				}
			})
		})
	}
}

// A freeze stops the world wherever it is: in a frame's head, in a message, before an answer is read, between
// requests. net/http gives up a connection whose preface is not followed by SETTINGS for 2 s: these come first here.
func TestFreezeAnywhereOverHTTP2(t *testing.T) {
	f := newFrames()
	m := message(1)
	wire := []byte(f.head(1, false, "grpc-timeout", "10S").data(1, false, m[:100]).data(1, true, m[100:]).take())
	second := []byte(f.head(3, false).data(3, true, m).take())
	for cut := 0; cut <= len(wire); cut += 7 {
		synctest.Test(t, func(t *testing.T) {
			var got atomic.Int32
			b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { got.Add(1); return nil })})
			h := b.dialHTTP2()
			h.send()
			answers := make(chan string)
			read := make(chan struct{})
			go func() {
				for _, stream := range []uint32{1, 3} {
					answers <- h.status(stream)
					<-read
				}
			}()
			for n, w := range [][]byte{wire, second} {
				at := min(cut, len(w))
				writeAll(h.conn, string(w[:at]))
				synctest.Wait()
				time.Sleep(3 * time.Hour)
				writeAll(h.conn, string(w[at:]))
				if s := <-answers; s != "0" || got.Load() != int32(n+1) {
					t.Errorf("cut at %d: grpc-status %s, %d requests taken; want 0, %d", cut, s, got.Load(), n+1)
				}
				time.Sleep(3 * time.Hour)
				read <- struct{}{}
			}
		})
	}
}

// A call waits for memory until its own time is over; then it may be sent again.
func TestTimeoutWhileWaitingForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := message(1)
		b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil }), MaxBytes: len(m) - 5})
		first := b.dialHTTP2()
		go io.Copy(io.Discard, first.conn)
		first.head(1, false).data(1, false, m[:20])
		first.send()
		second := b.dialHTTP2()
		start := time.Now()
		answer := make(chan string)
		go func() { answer <- second.status(1) }()
		second.head(1, false, "grpc-timeout", "250m").data(1, true, m)
		second.send()
		if s := <-answer; s != fmt.Sprint(int(otlp.DeadlineExceeded)) || time.Since(start) != 250*time.Millisecond {
			t.Errorf("grpc-status %s after %v; want %d after 250 ms", s, time.Since(start), otlp.DeadlineExceeded)
		}
	})
}

// Shutdown waits for calls that have begun, and says so to clients.
func TestShutdownOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { <-release; return nil })})
		idle := b.dialHTTP2()
		go io.Copy(io.Discard, idle.conn)
		idle.send()
		h := b.dialHTTP2()
		answer := make(chan string, 1)
		go func() { answer <- h.status(1) }()
		h.head(1, false).data(1, true, message(1))
		h.send()

		start := time.Now()
		cause := errors.New("2 s are over")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
		defer cancel()
		if err := b.Shutdown(ctx); !errors.Is(err, cause) || time.Since(start) != 2*time.Second {
			t.Errorf("Shutdown = %v after %v; want its context's cause after 2 s", err, time.Since(start))
		}
		h.head(3, false).data(3, true, message(1)) // after GOAWAY: it will not be answered, nor waited for
		h.send()
		if b.Active() != 1 {
			t.Errorf("%d active, want 1", b.Active())
		}
		start = time.Now()
		var all sync.WaitGroup
		all.Go(func() {
			if err := b.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(release)
		if s := <-answer; s != "0" {
			t.Errorf("grpc-status %s, want 0 for the call that had begun", s)
		}
		all.Wait()
		if took := time.Since(start); took != 0 || b.Active() != 0 {
			t.Errorf("Shutdown took %v after the last answer, %d active", took, b.Active())
		}
	})
}

// OTLP/HTTP works over HTTP/2 too, on one connection whatever is refused.
func TestOTLPHTTPOverHTTP2(t *testing.T) {
	var got []otlp.Payload
	const limit = 1000
	_, base := serve(t, receiver.Config{Sink: sinkFunc(func(p otlp.Payload) error { got = append(got, p); return nil }), MaxBytes: limit})
	dials := 0
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for _, r := range []struct {
		body   string
		status int
	}{{span, 200}, {strings.Repeat(" ", limit+1), 413}, {strings.Repeat(" ", 8<<20), 413}, {"[", 400}, {span, 200}} {
		resp, err := c.Post(base+"/v1/traces", "application/json", strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != r.status || resp.ProtoMajor != 2 || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%d bytes: %s in %s, %q (%v); want %d", len(r.body), resp.Status, resp.Proto, body, err, r.status)
		}
	}
	if len(got) != 2 || string(got[0].Body) != span || dials != 1 {
		t.Errorf("the sink got %d requests over %d connections, want 2 over 1", len(got), dials)
	}
}

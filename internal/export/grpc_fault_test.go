package export

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// Whatever a backend does short of a verdict leaves the request retryable, with an error that says what happened.
// Each fault is met on a fresh connection and on a kept one.
func TestGRPCFaults(t *testing.T) {
	reset := func(code http2.ErrCode) func(*h2Peer, *grpcCall) {
		return func(h *h2Peer, c *grpcCall) { h.WriteRSTStream(c.stream, code); h.call() }
	}
	begin := func(h *h2Peer, c *grpcCall) {
		h.headers(c.stream, false, ":status", "200", "content-type", "application/grpc")
	}
	raw := func(text string) func(*h2Peer, *grpcCall) {
		return func(h *h2Peer, c *grpcCall) { h.out.WriteString(text); h.call() }
	}
	tests := []struct {
		name  string
		fault func(*h2Peer, *grpcCall)
		want  string
		code  otlp.Code
	}{
		{"hang", func(h *h2Peer, c *grpcCall) { h.call() }, "no answer within", otlp.DeadlineExceeded},
		{"hang after a header", func(h *h2Peer, c *grpcCall) { begin(h, c); h.call() }, "no answer within", otlp.DeadlineExceeded},
		{"reset", func(h *h2Peer, c *grpcCall) { h.reset() }, "closed the connection without an answer", otlp.Unavailable},
		{"close", func(h *h2Peer, c *grpcCall) { h.Close() }, "closed the connection without an answer", otlp.Unavailable},
		{"half-close", func(h *h2Peer, c *grpcCall) { h.Conn.(*net.TCPConn).CloseWrite(); h.call() }, "closed the connection without an answer", otlp.Unavailable},
		{"close after a header", func(h *h2Peer, c *grpcCall) { begin(h, c); h.out.flush() }, "closed the connection", otlp.Unavailable},
		{"close in a frame", func(h *h2Peer, c *grpcCall) { h.ok(c); h.out.Truncate(h.out.Len() - 1); h.out.flush() }, "closed the connection", otlp.Unavailable},
		{"CANCEL", reset(http2.ErrCodeCancel), "the request was reset with CANCEL", otlp.Canceled},
		{"NO_ERROR", reset(http2.ErrCodeNo), "reset with NO_ERROR", otlp.Internal},
		{"INTERNAL_ERROR", reset(http2.ErrCodeInternal), "reset with INTERNAL_ERROR", otlp.Internal},
		{"REFUSED_STREAM", reset(http2.ErrCodeRefusedStream), "reset with REFUSED_STREAM", otlp.Unavailable},
		{"ENHANCE_YOUR_CALM", reset(http2.ErrCodeEnhanceYourCalm), "reset with ENHANCE_YOUR_CALM", otlp.ResourceExhausted},
		{"INADEQUATE_SECURITY", reset(http2.ErrCodeInadequateSecurity), "reset with INADEQUATE_SECURITY", otlp.PermissionDenied},
		{"unknown reset", reset(77), "reset with code 77", otlp.Internal},
		{"reset after a header", func(h *h2Peer, c *grpcCall) { begin(h, c); reset(http2.ErrCodeNo)(h, c) }, "reset with NO_ERROR", otlp.Internal},
		{"goes away", func(h *h2Peer, c *grpcCall) {
			h.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
			h.call()
		}, "the connection was ended with ENHANCE_YOUR_CALM", otlp.Unavailable},
		{"a frame that is too long", raw("\x00\x40\x01\x00\x00\x00\x00\x00\x01" + strings.Repeat("x", 1<<14+1)), "breaks the rules", otlp.Unavailable},
		{"a header that cannot be read", raw("\x00\x00\x01\x01\x05\x00\x00\x00\x01\xff"), "breaks the rules", otlp.Unavailable},
		{"a header without a status", func(h *h2Peer, c *grpcCall) { h.headers(c.stream, true, "grpc-status", "0"); h.call() }, "breaks the rules", otlp.Unavailable},
		{"switching protocols", func(h *h2Peer, c *grpcCall) { h.headers(c.stream, false, ":status", "101"); h.call() }, "breaks the rules", otlp.Unavailable},
		{"another frame within a header", func(h *h2Peer, c *grpcCall) {
			h.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: []byte{0x88}})
			h.WritePing(false, [8]byte{})
			h.call()
		}, "breaks the rules", otlp.Unavailable},
		{"a body first", func(h *h2Peer, c *grpcCall) { h.WriteData(c.stream, true, framed("")); h.call() }, "breaks the rules", otlp.Unavailable},
		{"an answer nobody asked for", func(h *h2Peer, c *grpcCall) { h.ok(&grpcCall{stream: c.stream + 2}); h.call() }, "breaks the rules", otlp.Unavailable},
		{"a push", func(h *h2Peer, c *grpcCall) {
			h.WritePushPromise(http2.PushPromiseParam{StreamID: c.stream, PromiseID: 2, BlockFragment: []byte{0x88}, EndHeaders: true})
			h.call()
		}, "breaks the rules", otlp.Unavailable},
		{"a window of nothing", raw("\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "breaks the rules", otlp.Unavailable},
		{"a window beyond all", func(h *h2Peer, c *grpcCall) { h.WriteWindowUpdate(0, 1<<31-1); h.call() }, "breaks the rules", otlp.Unavailable},
		{"settings beyond all", raw("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x80\x00\x00\x00"), "breaks the rules", otlp.Unavailable},
		{"cut settings", raw("\x00\x00\x05\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00"), "breaks the rules", otlp.Unavailable},
		{"a message of 64 MiB", func(h *h2Peer, c *grpcCall) {
			begin(h, c)
			h.WriteData(c.stream, false, []byte{0, 4, 0, 0, 0})
			h.flood(func() { h.WriteData(c.stream, false, make([]byte, 1<<14)) })
		}, "larger than 64 KiB", otlp.Unavailable},
		{"endless header", func(h *h2Peer, c *grpcCall) {
			h.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: []byte{0x88}})
			h.flood(func() { h.WriteContinuation(c.stream, false, bytes.Repeat([]byte{0x88}, 1000)) })
		}, "larger than 64 KiB", otlp.Unavailable},
		{"endless pings", func(h *h2Peer, c *grpcCall) { h.flood(func() { h.WritePing(false, [8]byte{}) }) }, "breaks the rules", otlp.Unavailable},
		{"endless nothings", func(h *h2Peer, c *grpcCall) { h.flood(func() { h.WriteRawFrame(0xee, 0, 0, nil) }) }, "larger than 64 KiB", otlp.Unavailable},
	}
	for _, test := range tests {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kept %v", test.name, kept), func(t *testing.T) {
				b := newBackend(t, h2Script(func(h *h2Peer) {
					if kept && h.n == 1 {
						h.ok(h.call())
					}
					if c := h.call(); c != nil {
						test.fault(h, c)
					}
				}))
				g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: timeoutFor(test.name)})
				if kept {
					if err := g.Send(t.Context(), payload(10)); err != nil {
						t.Fatal(err)
					}
				}
				err := g.Send(t.Context(), payload(10))
				e := refusal(t, err)
				if !e.Retryable || e.HTTPStatus != 0 || e.Code != test.code || e.Err == nil {
					t.Errorf("error is %+v", e)
				}
				if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), b.Addr().String()) {
					t.Errorf("error says %q, want %q and the host", err, test.want)
				}
				if g.take() != nil {
					t.Error("the connection was kept")
				}
			})
		}
	}
}

// flood writes the same again and again until the client has had enough.
func (h *h2Peer) flood(write func()) {
	for err := error(nil); err == nil; {
		for range 100 {
			write()
		}
		_, err = h.Write(h.out.Bytes())
		h.out.Reset()
	}
}

// What is known when an answer breaks off is its verdict.
func TestGRPCVerdictOfABrokenAnswer(t *testing.T) {
	for name, then := range map[string]func(*h2Peer, *grpcCall){
		"slow":   func(h *h2Peer, c *grpcCall) { h.call() },
		"closed": func(h *h2Peer, c *grpcCall) { h.out.flush() },
		"reset":  func(h *h2Peer, c *grpcCall) { h.WriteRSTStream(c.stream, http2.ErrCodeNo); h.call() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, h2Script(func(h *h2Peer) {
				c := h.call()
				h.headers(c.stream, false, ":status", "503", "content-type", "text/plain", "retry-after", "3")
				h.WriteData(c.stream, false, []byte("maintenance"))
				then(h, c)
			}))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: timeoutFor(map[bool]string{true: "hang"}[name == "slow"])})
			err := g.Send(t.Context(), payload(10))
			if e := refusal(t, err); e.HTTPStatus != 503 || !e.Retryable || e.RetryAfter != 3*time.Second || e.Message != "maintenance" {
				t.Errorf("error is %+v", e)
			}
			if g.take() != nil {
				t.Error("the connection was kept")
			}
		})
	}
}

// Who is not a server of gRPC is told so, whatever it answers to a client of gRPC.
func TestGRPCOfOthers(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for name, test := range map[string]struct {
		script func(*peer)
		want   string
	}{
		"HTTP/1.1":      {func(p *peer) { p.br.Peek(1); p.say("HTTP/1.1 400 Bad Request\r\n\r\n"); p.request() }, "is it an OTLP/gRPC endpoint? OTLP/HTTP's port is another one"},
		"HTTP/1.1, cut": {func(p *peer) { p.br.Peek(1); p.say("HTTP/1"); p.Conn.(*net.TCPConn).CloseWrite(); p.request() }, "is it an OTLP/gRPC endpoint"},
		"TLS": {func(p *peer) {
			p.br.Peek(1)
			p.say("\x15\x03\x01\x00\x02\x02\x46")
			p.Conn.(*net.TCPConn).CloseWrite()
			p.request()
		}, "is it a grpcs:// endpoint?"},
		"text":              {func(p *peer) { p.say("220 smtp.example.com ESMTP\r\n"); p.request() }, "is it an OTLP/gRPC endpoint"},
		"an echo":           {func(p *peer) { io.Copy(p, p) }, "is it an OTLP/gRPC endpoint"},
		"a frame, no greet": {func(p *peer) { p.say("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"); p.request() }, "is it an OTLP/gRPC endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, test.script)
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Header: http.Header{"Api-Key": {"s3cr3t-k3y"}}, Timeout: time.Minute})
			err := g.Send(t.Context(), payload(10))
			if e := refusal(t, err); !e.Retryable || e.HTTPStatus != 0 || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("error is %v (%+v)", err, e)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want %q", err, test.want)
			}
		})
	}
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, plain.URL), Timeout: time.Minute})
	if err := g.Send(t.Context(), payload(10)); err == nil || !strings.Contains(err.Error(), "is it an OTLP/gRPC endpoint") {
		t.Errorf("net/http's server: %v", err)
	}
}

// A server that refuses a large request before it has read it ends the call while we write, or reads nothing more.
func TestGRPCEarlyRefusal(t *testing.T) {
	for name, after := range map[string]func(*h2Peer, *grpcCall, context.Context){
		"closes": func(h *h2Peer, c *grpcCall, _ context.Context) {
			h.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, io.LimitReader(h.from, 1<<20))
		},
		"stops reading": func(_ *h2Peer, _ *grpcCall, over context.Context) { <-over.Done() },
		"gives no more window": func(h *h2Peer, c *grpcCall, over context.Context) {
			h.WriteRSTStream(c.stream, http2.ErrCodeNo)
			h.out.flush()
			<-over.Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			over, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := newBackend(t, h2Script(func(h *h2Peer) {
				h.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 64 << 20})
				h.WriteWindowUpdate(0, 64<<20)
				if name == "gives no more window" {
					h.out.Reset()
					h.WriteSettings()
				}
				h.out.flush()
				c := &grpcCall{stream: 1}
				h.headers(c.stream, true, ":status", "200", "grpc-status", "8", "grpc-message", "too big")
				h.out.flush()
				after(h, c, over)
			}))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
			err := g.Send(t.Context(), payload(32<<20))
			cancel()
			if e := refusal(t, err); e.Code != otlp.ResourceExhausted || e.Retryable || e.Message != "too big" {
				t.Errorf("error is %+v", e)
			}
			if g.take() != nil {
				t.Error("the connection was kept")
			}
		})
	}
}

// The faults of a real server of gRPC.
func TestGRPCFaultsOfGRPCGo(t *testing.T) {
	var build otlptest.Builder
	p := build.Build(otlp.Traces, otlp.Protobuf, 20).Payload(time.Now())
	for _, fault := range []otlptest.Fault{
		{Kind: otlptest.Refuse}, {Kind: otlptest.ResetBeforeRead}, {Kind: otlptest.ResetAfterRead}, {Kind: otlptest.ResetMidAnswer},
		{Kind: otlptest.HalfClose}, {Kind: otlptest.Garbage}, {Kind: otlptest.EndlessBody}, {Kind: otlptest.Hang}, {Kind: otlptest.SlowBody, Every: time.Millisecond},
	} {
		t.Run(fault.Kind.String(), func(t *testing.T) {
			b := grpcBackend(t, otlptest.Options{})
			timeout := time.Minute
			if fault.Kind == otlptest.Hang || fault.Kind == otlptest.SlowBody {
				timeout = 100 * time.Millisecond
			}
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://"+b.Addr()), Timeout: timeout})
			for _, kept := range []bool{false, true} {
				b.Fail(fault)
				if e := refusal(t, g.Send(t.Context(), p)); !e.Retryable || e.HTTPStatus != 0 {
					t.Errorf("kept %v: %+v", kept, e)
				}
				b.Heal()
				if err := g.Send(t.Context(), p); err != nil {
					t.Errorf("kept %v, healed: %v", kept, err)
				}
			}
		})
	}
}

package export

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// grpcBackend is grpc-go's own server.
func grpcBackend(t testing.TB, opts otlptest.Options) *otlptest.Backend {
	t.Helper()
	opts.GRPC = true
	b, err := otlptest.StartBackend(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// What is sent is what grpc-go's server takes, of each signal, in each coding, and of sizes below and beyond
// each limit on the way: one write, one frame, the windows.
func TestGRPCRequests(t *testing.T) {
	b := grpcBackend(t, otlptest.Options{Keep: true})
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://"+b.Addr()), Timeout: time.Minute})
	var build otlptest.Builder
	var enc otlp.Compressor
	var want [][]byte
	for _, sig := range otlp.Signals() {
		for _, records := range []int{1, 40, 120, 1000, 5000} {
			p := build.Build(sig, otlp.Protobuf, records).Payload(time.Now())
			for _, coding := range []otlp.Compression{otlp.None, otlp.Gzip} {
				sent := p
				if coding == otlp.Gzip {
					body, err := enc.Append(nil, p.Body, otlp.Gzip)
					if err != nil {
						t.Fatal(err)
					}
					sent.Body, sent.Compression = body, otlp.Gzip
				}
				if err := g.Send(t.Context(), sent); err != nil {
					t.Fatalf("%s of %d records, %s: %v", sig, records, coding, err)
				}
				want = append(want, p.Body)
			}
		}
	}
	got := b.Requests()
	if len(got) != len(want) {
		t.Fatalf("%d requests came, want %d", len(got), len(want))
	}
	for i, q := range got {
		if !bytes.Equal(q.Body, want[i]) {
			t.Errorf("request %d, %s in %q: %d bytes came, want %d", i, q.Signal, q.Coding, len(q.Body), len(want[i]))
		}
	}
	if n := b.Conns(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestGRPCMetadata(t *testing.T) {
	calls := make(chan *grpcCall, 9)
	b := newBackend(t, serving(func(h *h2Peer, c *grpcCall) { calls <- c; h.ok(c) }))
	tests := []struct {
		name   string
		user   *url.Userinfo
		header http.Header
		ctx    time.Duration
		p      otlp.Payload
		want   map[string]string // "-" for none
	}{
		{"plain", nil, nil, 0, otlp.Payload{Signal: otlp.Logs, Body: []byte("abc")},
			map[string]string{
				":method": "POST", ":scheme": "http", ":path": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
				":authority": b.Addr().String(), "content-type": "application/grpc", "te": "trailers", "user-agent": "relay/1",
				"grpc-encoding": "-", "grpc-timeout": "-", "authorization": "-",
			}},
		{"gzip and a deadline", nil, nil, 1500 * time.Hour, otlp.Payload{Compression: otlp.Gzip},
			map[string]string{"grpc-encoding": "gzip", "grpc-timeout": "5399999S"}},
		{"headers", nil, http.Header{"Api-KEY": {" k 1 "}, "User-Agent": {"mine"}, "Content-Type": {"text/plain"}, "Te": {"gzip"}, "Grpc-Timeout": {"1m"}, "Host": {"x"}, "Connection": {"close"}}, 0,
			otlp.Payload{Body: []byte("a")},
			map[string]string{"api-key": "k 1", "user-agent": "mine", "content-type": "application/grpc", "te": "trailers", "grpc-timeout": "-", "host": "-", "connection": "-"}},
		{"userinfo", url.UserPassword("us@er", "p:w"), nil, 0, otlp.Payload{Body: []byte("a")},
			map[string]string{"authorization": "Basic dXNAZXI6cDp3"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u := &url.URL{Scheme: "http", Host: b.Addr().String(), User: test.user, Path: "/ignored", RawQuery: "too"}
			g := newGRPC(t, GRPCConfig{URL: u, Header: test.header, UserAgent: "relay/1"})
			ctx := t.Context()
			if test.ctx > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.ctx)
				defer cancel()
			}
			if err := g.Send(ctx, test.p); err != nil {
				t.Fatal(err)
			}
			c := <-calls
			for name, want := range test.want {
				if v, ok := c.header[name]; want == "-" && ok || want != "-" && v != want {
					t.Errorf("%s is %q, want %q", name, v, want)
				}
			}
			flag := byte(0)
			if test.p.Compression == otlp.Gzip {
				flag = 1
			}
			if want := append([]byte{flag}, framed(string(test.p.Body))[1:]...); !bytes.Equal(c.message, want) {
				t.Errorf("message is %q, want %q", c.message, want)
			}
		})
	}
}

func TestGRPCTimeoutIsWrittenAsGRPCDoes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "1m", 0: "1m", time.Microsecond: "1m", 9999 * time.Microsecond: "9m", 10 * time.Second: "10000m",
		99_999_999 * time.Millisecond: "99999999m", 100_000 * time.Second: "100000S", 1<<63 - 1: "99999999S",
	} {
		if got := grpcTimeout(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

// What must have been converted on the way is not sent, and never can be.
func TestGRPCRefusesWhatItCannotSend(t *testing.T) {
	b := newBackend(t, serving((*h2Peer).ok))
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
	for want, p := range map[string]otlp.Payload{
		"BUG: JSON":    {Encoding: otlp.JSON, Body: []byte("{}")},
		"BUG: deflate": {Compression: otlp.Deflate, Body: []byte("x")},
		"BUG: zstd":    {Compression: otlp.Zstd, Body: []byte("x")},
	} {
		if e := refusal(t, g.Send(t.Context(), p)); e.Retryable || !strings.HasPrefix(e.Message, want) {
			t.Errorf("error is %v, want %s", e, want)
		}
	}
	if b.dials.Load() != 0 {
		t.Error("a connection was opened for it")
	}
}

func TestGRPCConfigErrors(t *testing.T) {
	const secret = "hunter2secret"
	for want, cfg := range map[string]GRPCConfig{
		"no endpoint URL":      {},
		"https://":             {URL: &url.URL{Scheme: "grpc", Host: "h", User: url.User(secret)}},
		"no host":              {URL: &url.URL{Scheme: "http", Path: "/" + secret}},
		"header Api-Key":       {URL: mustURL(t, "http://h"), Header: http.Header{"Api-Key": {secret + "\n"}}},
		"shorten OTLP_RELAY_H": {URL: mustURL(t, "http://h"), Header: http.Header{"Api-Key": {strings.Repeat(secret, 1000)}}},
		"not a URL":            {URL: mustURL(t, "http://h"), Proxy: func(*url.URL) (*url.URL, error) { return nil, errors.New(secret) }},
	} {
		_, err := NewGRPC(cfg)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("error is %v, want one with %q and without the secret", err, want)
		}
	}
}

// A flush has one request in flight, but nothing breaks when there are more.
func TestGRPCConcurrentSends(t *testing.T) {
	b := grpcBackend(t, otlptest.Options{})
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://"+b.Addr()), Timeout: time.Minute})
	var build otlptest.Builder
	p := build.Build(otlp.Traces, otlp.Protobuf, 500).Payload(time.Now())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := g.Send(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	opened := b.Conns()
	if err := g.Send(t.Context(), p); err != nil || b.Conns() != opened {
		t.Errorf("no connection was kept: error %v, %d connections", err, b.Conns())
	}
	g.Close()
	if err := g.Send(t.Context(), p); err != nil || b.Conns() != opened+1 {
		t.Errorf("after Close: error %v, %d connections, want %d", err, b.Conns(), opened+1)
	}
}

// A server may let us send little at a time, change its mind about it, and take it back.
func TestGRPCWindows(t *testing.T) {
	window := func(n uint32) http2.Setting {
		return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n}
	}
	tests := []struct {
		name  string
		size  int
		greet func(*h2Peer)
	}{
		{"three bytes at a time", 1000, func(h *h2Peer) { h.greet(window(3)) }},
		{"a hundred bytes at a time", 70_000, func(h *h2Peer) { h.greet(window(100)) }},
		{"nothing at first", 70_000, func(h *h2Peer) { h.greet(window(0)); h.WriteSettings(window(1000)) }},
		{"taken back", 70_000, func(h *h2Peer) {
			h.greet()
			h.WriteSettings(window(3))
			h.WriteSettings(window(0))
			h.WriteSettings(window(1 << 20))
			h.WritePing(false, [8]byte{1})
			h.out.flush()
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sent := make([]byte, test.size)
			for i := range sent {
				sent[i] = byte(i * 7)
			}
			b := newBackend(t, h2Script(func(h *h2Peer) {
				test.greet(h)
				for c := h.call(); c != nil; c = h.call() {
					if !bytes.Equal(c.message, framed(string(sent))) {
						t.Errorf("%d bytes came", len(c.message))
					}
					h.ok(c)
				}
			}))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
			for range 3 {
				if err := g.Send(t.Context(), otlp.Payload{Body: sent}); err != nil {
					t.Fatal(err)
				}
			}
			if n := b.dials.Load(); n != 1 {
				t.Errorf("%d dials, want 1", n)
			}
		})
	}
}

func TestGRPCCancelledByCaller(t *testing.T) {
	asked := make(chan struct{}, 9)
	b := newBackend(t, h2Script(func(h *h2Peer) {
		h.call()
		asked <- struct{}{}
		h.call()
	}))
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL())})
	shutdown := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(shutdown)
	}()
	err := g.Send(ctx, payload(10))
	if e := refusal(t, err); !e.Retryable || e.Code != otlp.Canceled || e.HTTPStatus != 0 || !errors.Is(err, shutdown) {
		t.Errorf("error is %v (%+v)", err, e)
	}
}

// A secret header goes where the calls go, and into no table on the way.
func TestGRPCHeadersAreNeverIndexed(t *testing.T) {
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://h"), Header: http.Header{"Api-Key": {"secret-key"}}})
	block := g.metadata.appendTo(nil, t.Context(), payload(1))
	at := bytes.Index(block, []byte("\x07api-key\x0asecret-key"))
	if at < 1 || block[at-1] != 0x10 {
		t.Errorf("block is %s", base64.StdEncoding.EncodeToString(block))
	}
}

package export

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// overTLS makes a script for a connection one for what TLS carries.
func overTLS(conf *tls.Config, script func(*peer)) func(*peer) {
	return func(p *peer) {
		if s := tls.Server(p.Conn, conf); s.Handshake() == nil {
			script(&peer{Conn: s, br: bufio.NewReader(s), n: p.n})
		}
	}
}

// writeFiles writes each content to a file of its own and returns the names.
func writeFiles(t *testing.T, contents ...[]byte) (names []string) {
	for _, c := range contents {
		name := filepath.Join(t.TempDir(), "file.pem")
		if err := os.WriteFile(name, c, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func TestGRPCMutualTLS(t *testing.T) {
	b := grpcBackend(t, otlptest.Options{TLS: true, ClientCert: true, Keep: true})
	cert, key := b.ClientCert()
	files := writeFiles(t, b.CA(), cert, key)
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, "https://"+b.Addr()), TLS: mustLoadTLS(t, files[0], files[1], files[2]), Timeout: time.Minute})
	var build otlptest.Builder
	var made []string
	for _, records := range []int{1, 100, 3000} {
		for _, sig := range otlp.Signals() {
			r := build.Build(sig, otlp.Protobuf, records)
			made = append(made, r.IDs...)
			if err := g.Send(t.Context(), r.Payload(time.Now())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lost := b.Lost(made); len(lost) > 0 || b.Conns() != 1 {
		t.Errorf("%d records lost, %d connections", len(lost), b.Conns())
	}
	g = newGRPC(t, GRPCConfig{URL: mustURL(t, "https://"+b.Addr()), TLS: mustLoadTLS(t, files[0], "", ""), Timeout: time.Minute})
	err := g.Send(t.Context(), payload(10))
	if e := refusal(t, err); !e.Retryable || !strings.Contains(err.Error(), "OTLP_RELAY_CLIENT_CERTIFICATE") {
		t.Errorf("without a certificate: %v", err)
	}
}

// The session is resumed, whatever the version, and no server is needed that knows ALPN: grpc-go insists on it, gRPC
// does not.
func TestGRPCOverTLSOfAllKinds(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, alpn := range [][]string{nil, {"h2"}, {"h2", "http/1.1"}} {
			conf := &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, MaxVersion: version, NextProtos: alpn}
			b := newBackend(t, overTLS(conf, serving((*h2Peer).ok)))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, "https://"+b.Addr().String()), TLS: mustLoadTLS(t, ca.file, "", ""), Timeout: time.Minute})
			for _, size := range []int{0, 5500, 100 << 10, 10} {
				if err := g.Send(t.Context(), payload(size)); err != nil {
					t.Fatal(err)
				}
			}
			if n := b.dials.Load(); n != 1 {
				t.Errorf("TLS %x, %v: %d dials, want 1", version, alpn, n)
			}
			g.Close()
			if err := g.Send(t.Context(), payload(10)); err != nil || !g.idle.Conn.(*tls.Conn).ConnectionState().DidResume {
				t.Errorf("TLS %x, %v: error %v, or not resumed", version, alpn, err)
			}
		}
	}
}

// Session tickets and frames that came while the connection was idle are no reason to reconnect; a leave is.
func TestGRPCTLSWhileIdle(t *testing.T) {
	ca := newAuthority(t)
	// A Go server that asks for a client certificate sends its tickets after the client's last flight.
	conf := &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2"}}
	act, acted := make(chan func(*h2Peer)), make(chan struct{})
	b := newBackend(t, overTLS(conf, h2Script(func(h *h2Peer) {
		for c := h.call(); c != nil; c = h.call() {
			h.ok(c)
			h.out.flush()
			select {
			case f := <-act:
				f(h)
				h.out.flush()
				acted <- struct{}{}
			case <-t.Context().Done():
			}
		}
	})))
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, "https://"+b.Addr().String()), TLS: mustLoadTLS(t, ca.file, "", ""), Timeout: time.Minute})
	for i, test := range []struct {
		idle  func(*h2Peer)
		dials int32
	}{
		{func(h *h2Peer) {}, 1},
		{func(h *h2Peer) { h.WritePing(false, [8]byte{}); h.WriteSettings() }, 1},
		{func(h *h2Peer) { h.WritePing(false, [8]byte{}); h.out.flush(); h.WriteWindowUpdate(0, 1) }, 1},
		{func(h *h2Peer) { h.WriteGoAway(9, http2.ErrCodeNo, nil) }, 2},
		{func(h *h2Peer) { h.Conn.(*tls.Conn).CloseWrite() }, 3},
		{func(h *h2Peer) { h.WritePing(false, [8]byte{}); h.out.flush(); h.Close() }, 4},
	} {
		if err := g.Send(t.Context(), payload(10)); err != nil {
			t.Fatal(i, err)
		}
		act <- test.idle
		<-acted
		alive := g.take()
		if alive != nil {
			g.keep(alive)
		}
		if kept := i < 3; runtime.GOOS == "linux" && kept != (alive != nil) {
			t.Errorf("idle %d: kept %v, want %v", i, alive != nil, kept)
		}
	}
	if n := b.dials.Load(); n != 3 {
		t.Errorf("%d dials, want 3", n)
	}
}

func TestGRPCTLSErrorsNameTheRemedy(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	cert := []tls.Certificate{ca.server(t, time.Time{})}
	good := newBackend(t, overTLS(&tls.Config{Certificates: cert, NextProtos: []string{"h2"}}, serving((*h2Peer).ok)))
	expired := newBackend(t, overTLS(&tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Now().Add(-time.Minute))}}, serving((*h2Peer).ok)))
	http1 := newBackend(t, overTLS(&tls.Config{Certificates: cert, NextProtos: []string{"http/1.1"}}, answering(okAnswer)))
	older := newBackend(t, overTLS(&tls.Config{Certificates: cert}, func(p *peer) { p.br.Peek(1); p.say("HTTP/1.1 400 Bad Request\r\n\r\n") }))
	plain := newBackend(t, serving((*h2Peer).ok))
	deaf := newBackend(t, func(p *peer) { p.br.Peek(1); p.say("HTTP/1.1 400 Bad Request\r\n\r\n") })
	for _, test := range []struct {
		name string
		b    *backend
		host string
		ca   string
		want string
	}{
		{"wrong authority", good, "127.0.0.1", other.file, "OTLP_RELAY_CERTIFICATE"},
		{"expired", expired, "127.0.0.1", ca.file, "renew it"},
		{"another host's", good, "localhost", ca.file, "another host's"},
		{"HTTP/1.1 alone", http1, "127.0.0.1", ca.file, "is it an OTLP/gRPC endpoint? OTLP/HTTP's port is another one"},
		{"HTTP/1.1 that knows no ALPN", older, "127.0.0.1", ca.file, "is it an OTLP/gRPC endpoint? OTLP/HTTP's port is another one"},
		{"no TLS", deaf, "127.0.0.1", ca.file, "is it a grpc:// endpoint?"},
		{"no TLS, but HTTP/2", plain, "127.0.0.1", ca.file, "closed the connection without an answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, test.b.Addr().String())
			}
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, "https://"+test.host), TLS: mustLoadTLS(t, test.ca, "", ""), Timeout: time.Minute, Dial: dial})
			err := g.Send(t.Context(), payload(10))
			if e := refusal(t, err); !e.Retryable || e.HTTPStatus != 0 || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

// gRPC goes through a tunnel, TLS or not: no proxy forwards it.
func TestGRPCTunnel(t *testing.T) {
	ca := newAuthority(t)
	for scheme, script := range map[string]func(*peer){
		"http":  serving((*h2Peer).ok),
		"https": overTLS(&tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, NextProtos: []string{"h2"}}, serving((*h2Peer).ok)),
	} {
		b := newBackend(t, script)
		asked := make(chan *http.Request, 9)
		proxy := newBackend(t, tunnelling(t, asked, established))
		g := newGRPC(t, GRPCConfig{
			URL: mustURL(t, scheme+"://"+b.Addr().String()), TLS: mustLoadTLS(t, ca.file, "", ""),
			Proxy: via(t, "http://user:pw@"+proxy.Addr().String()), Header: http.Header{"Api-Key": {"secret"}}, Timeout: time.Minute,
		})
		for range 3 {
			if err := g.Send(t.Context(), payload(5500)); err != nil {
				t.Fatal(err)
			}
		}
		r := <-asked
		if r.Method != "CONNECT" || r.RequestURI != b.Addr().String() || r.Header.Get("Proxy-Authorization") != "Basic dXNlcjpwdw==" || r.Header.Get("Api-Key") != "" {
			t.Errorf("%s: proxy got %s %s, %v", scheme, r.Method, r.RequestURI, r.Header)
		}
		if n := proxy.dials.Load(); n != 1 {
			t.Errorf("%s: %d dials, want 1", scheme, n)
		}
	}
}

package export

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func via(t *testing.T, proxy string) func(*url.URL) (*url.URL, error) {
	u := mustURL(t, proxy)
	return func(*url.URL) (*url.URL, error) { return u, nil }
}

const established = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"

// tunnelling is a proxy's script: it gives the answer to CONNECT and, if that is established, copies.
func tunnelling(t *testing.T, asked chan<- *http.Request, answer string) func(*peer) {
	return func(p *peer) {
		req, err := http.ReadRequest(p.br)
		if err != nil {
			return
		}
		asked <- req
		p.say(answer)
		if answer != established {
			return
		}
		out, err := net.Dial("tcp", req.RequestURI)
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		go func() {
			io.Copy(out, p.br)
			out.Close()
		}()
		io.Copy(p, out)
	}
}

func TestPlainProxy(t *testing.T) {
	asked := make(chan *http.Request, 9)
	proxy := newBackend(t, func(p *peer) {
		for {
			req := p.request()
			if req == nil {
				return
			}
			asked <- req
			p.say(okAnswer)
		}
	})
	h := newHTTP(t, HTTPConfig{
		URL:     mustURL(t, "http://backend.example:4318/v1/traces?k=v"),
		Proxy:   via(t, "http://us%40er:pw@"+proxy.Addr().String()),
		Timeout: time.Minute,
	})
	for range 2 {
		if err := h.Send(t.Context(), payload(10)); err != nil {
			t.Fatal(err)
		}
		req := <-asked
		if req.RequestURI != "http://backend.example:4318/v1/traces?k=v" || req.Host != "backend.example:4318" || req.Header.Get("Proxy-Authorization") != "Basic dXNAZXI6cHc=" {
			t.Errorf("proxy got %s, host %s, %v", req.RequestURI, req.Host, req.Header)
		}
	}
	if n := proxy.dials.Load(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}

func TestTunnel(t *testing.T) {
	ca := newAuthority(t)
	for _, overTLS := range []bool{false, true} {
		b := newTLSBackend(t, &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}})
		asked := make(chan *http.Request, 9)
		script, scheme := tunnelling(t, asked, established), "http"
		if overTLS {
			scheme = "https"
			cert, inner := ca.server(t, time.Time{}), script
			script = func(p *peer) {
				s := tls.Server(p.Conn, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert})
				if err := s.Handshake(); err != nil {
					t.Error(err)
					return
				}
				if len(s.ConnectionState().PeerCertificates) > 0 {
					t.Error("the proxy was shown the backend's client certificate")
				}
				inner(&peer{Conn: s, br: bufio.NewReader(s)})
			}
		}
		proxy := newBackend(t, script)
		cert, key := ca.client(t)
		h := newHTTP(t, HTTPConfig{
			URL:       mustURL(t, b.URL),
			TLS:       mustLoadTLS(t, ca.file, cert, key),
			Proxy:     via(t, scheme+"://user:pw@"+proxy.Addr().String()),
			UserAgent: "relay/1",
			Header:    http.Header{"Api-Key": {"secret"}},
			Timeout:   time.Minute,
		})
		for range 2 {
			if err := h.Send(t.Context(), payload(5500)); err != nil {
				t.Fatal(err)
			}
		}
		req := <-asked
		if req.Method != "CONNECT" || req.RequestURI != b.Listener.Addr().String() || req.Header.Get("Proxy-Authorization") != "Basic dXNlcjpwdw==" || req.UserAgent() != "relay/1" {
			t.Errorf("proxy got %s %s, %v", req.Method, req.RequestURI, req.Header)
		}
		if req.Header.Get("Api-Key") != "" {
			t.Error("the proxy was shown the backend's key")
		}
		if n := proxy.dials.Load(); n != 1 {
			t.Errorf("%d dials, want 1", n)
		}
	}
}

// What a proxy refuses says nothing about the data: it stays sendable, and the error names the proxy.
func TestTunnelRefused(t *testing.T) {
	tests := []struct{ name, answer, want string }{
		{"credentials", "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "http://user:password@host:port"},
		{"forbidden", "HTTP/1.1 403 Forbidden\r\n\r\n", "refuses a tunnel with HTTP 403"},
		{"bad gateway", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 9999999\r\n\r\n", "HTTP 502"},
		{"garbage", "SSH-2.0-OpenSSH\r\n", "not HTTP"},
		{"closed", "", "closed the connection"},
		{"half a head", "HTTP/1.1 200 OK\r\nA", "closed the connection"},
		{"endless head", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 2*maxHead), "proxy"},
		{"speaks first", "HTTP/1.1 200 OK\r\n\r\nsurprise", "before it is spoken to"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := make(chan *http.Request, 9)
			proxy := newBackend(t, tunnelling(t, asked, test.answer))
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, "https://backend.example/secret-path"), Proxy: via(t, "http://user:hunter2@"+proxy.Addr().String()), Timeout: time.Minute})
			err := h.Send(t.Context(), payload(10))
			e := refusal(t, err)
			if !e.Retryable || e.HTTPStatus != 0 || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "backend.example:443 through proxy "+proxy.Addr().String()) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "secret-path") {
				t.Errorf("error holds a secret: %v", err)
			}
			if n := proxy.dials.Load(); n != 1 {
				t.Errorf("%d dials, want 1", n)
			}
		})
	}
}

func TestTunnelIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &pipeNet{script: swallowing(false)}
		defer n.Close()
		h := newHTTP(t, HTTPConfig{URL: mustURL(t, "https://backend/"), Proxy: via(t, "http://proxy:3128"), Timeout: 10 * time.Second, Dial: n.dial})
		start := time.Now()
		err := h.Send(t.Context(), payload(10))
		if took := time.Since(start); took != 10*time.Second || !strings.Contains(err.Error(), "OTLP_RELAY_TIMEOUT") {
			t.Errorf("took %v: %v", took, err)
		}
	})
}

func TestProxyConfig(t *testing.T) {
	const secret = "hunter2"
	for proxy, want := range map[string]string{
		"socks5://u:" + secret + "@proxy:1080": `"socks5" is not supported`,
		"ftp://proxy":                          `"ftp" is not supported`,
		"http://":                              "no host",
	} {
		_, err := NewHTTP(HTTPConfig{URL: mustURL(t, "http://backend/"), Proxy: via(t, proxy)})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error is %v, want one with %q", proxy, err, want)
		}
	}
	broken := func(*url.URL) (*url.URL, error) { return nil, errors.New("parse " + secret) }
	if _, err := NewHTTP(HTTPConfig{URL: mustURL(t, "http://backend/"), Proxy: broken}); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error is %v", err)
	}
	none := func(*url.URL) (*url.URL, error) { return nil, nil }
	if h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Proxy: none}); h.dialer.proxy != nil {
		t.Error("a proxy out of nothing")
	}
}

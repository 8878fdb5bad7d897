package export

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// authority issues certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	der, key := issue(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key, a.file = cert, key, writePEM(t, "CERTIFICATE", der)
	return a
}

// issue makes a certificate, self-signed where a is nil.
func issue(t *testing.T, a *authority, c *x509.Certificate) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := c, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	if der, err = x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer); err != nil {
		t.Fatal(err)
	}
	return der, key
}

// server is a certificate for 127.0.0.1.
func (a *authority) server(t *testing.T, expires time.Time) tls.Certificate {
	der, key := issue(t, a, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: expires})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client writes a client certificate and its key.
func (a *authority) client(t *testing.T) (certFile, keyFile string) {
	der, key := issue(t, a, &x509.Certificate{Subject: pkix.Name{CommonName: "the function"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", der), writePEM(t, "PRIVATE KEY", keyDER)
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mustLoadTLS(t *testing.T, ca, cert, key string) *tls.Config {
	t.Helper()
	conf, err := LoadTLS(ca, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// tlsBackend is an HTTPS server that counts its connections and handshakes that were resumed.
type tlsBackend struct {
	*httptest.Server
	dials, resumed atomic.Int32
}

func newTLSBackend(t *testing.T, conf *tls.Config) *tlsBackend {
	t.Helper()
	b := &tlsBackend{}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("Content-Type", "text/plain")
			http.Error(w, "hello "+r.TLS.PeerCertificates[0].Subject.CommonName, http.StatusTeapot)
		}
		if r.TLS.DidResume {
			b.resumed.Add(1)
		}
	}))
	b.TLS = conf
	b.EnableHTTP2 = true // must not be chosen
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			b.dials.Add(1)
		}
	}
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

func TestTLSOwnAuthority(t *testing.T) {
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b := newTLSBackend(t, &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, MaxVersion: version})
		conf := mustLoadTLS(t, ca.file, "", "")
		h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL), TLS: conf, Timeout: time.Minute})
		for range 5 {
			for _, size := range []int{0, 5500, 100 << 10} {
				if err := h.Send(t.Context(), payload(size)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n := b.dials.Load(); n != 1 {
			t.Errorf("TLS %x: %d dials, want 1", version, n)
		}
		h.Close()
		if err := h.Send(t.Context(), payload(10)); err != nil || b.resumed.Load() != 1 {
			t.Errorf("TLS %x: error %v, %d resumed sessions, want 1", version, err, b.resumed.Load())
		}
		if conf.ServerName != "" || conf.NextProtos != nil {
			t.Error("the caller's configuration was changed")
		}
	}
}

// A peer that closed its TLS while the connection was idle costs one handshake.
func TestTLSClosedWhileIdle(t *testing.T) {
	ca := newAuthority(t)
	b := newTLSBackend(t, &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}})
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL), TLS: mustLoadTLS(t, ca.file, "", ""), Timeout: time.Minute})
	const rounds = 50
	for range rounds {
		if err := h.Send(t.Context(), payload(100)); err != nil {
			t.Fatal(err)
		}
		b.CloseClientConnections()
	}
	if n := b.dials.Load(); n != rounds {
		t.Errorf("%d dials, want %d", n, rounds)
	}
}

// A session ticket that comes while the connection is idle is TLS's own business, not a reason to reconnect.
func TestTLSTicketWhileIdle(t *testing.T) {
	ca := newAuthority(t)
	// A Go server that asks for a client certificate sends its tickets after the client's last flight.
	conf := &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, ClientAuth: tls.RequestClientCert}
	handshaken, leave, left := make(chan struct{}, 9), make(chan struct{}, 1), make(chan struct{}, 9)
	b := newBackend(t, func(p *peer) {
		s := tls.Server(p.Conn, conf)
		if s.Handshake() != nil {
			return
		}
		handshaken <- struct{}{}
		q := &peer{Conn: s, br: bufio.NewReader(s)}
		q.request()
		q.say(okAnswer)
		select {
		case <-leave:
		case <-t.Context().Done():
		}
		s.CloseWrite()
		left <- struct{}{}
		q.request()
	})
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, "https://"+b.Addr().String()), TLS: mustLoadTLS(t, ca.file, "", ""), Timeout: time.Minute})
	c, err := h.dialer.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-handshaken
	if runtime.GOOS == "linux" && peek(c.raw) != pending {
		t.Fatal("no ticket has come: the test shows nothing")
	}
	c.used = h.now()
	h.swapIdle(c)
	if err := h.Send(t.Context(), payload(10)); err != nil || b.dials.Load() != 1 {
		t.Errorf("error %v, %d dials, want 1", err, b.dials.Load())
	}
	leave <- struct{}{}
	<-left
	if c := h.take(); runtime.GOOS == "linux" && c != nil {
		t.Error("a connection whose peer took leave is trusted")
	}
}

func TestClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	b := newTLSBackend(t, &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	cert, key := ca.client(t)

	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL), TLS: mustLoadTLS(t, ca.file, cert, key), Timeout: time.Minute})
	if e := refusal(t, h.Send(t.Context(), payload(10))); e.HTTPStatus != http.StatusTeapot || e.Message != "hello the function" {
		t.Errorf("answer is %v", e)
	}
	h = newHTTP(t, HTTPConfig{URL: mustURL(t, b.URL), TLS: mustLoadTLS(t, ca.file, "", ""), Timeout: time.Minute})
	err := h.Send(t.Context(), payload(10))
	if e := refusal(t, err); !e.Retryable || e.HTTPStatus != 0 || !strings.Contains(err.Error(), "OTLP_RELAY_CLIENT_CERTIFICATE") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestTLSErrorsNameTheRemedy(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	good := newTLSBackend(t, &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Time{})}})
	expired := newTLSBackend(t, &tls.Config{Certificates: []tls.Certificate{ca.server(t, time.Now().Add(-time.Minute))}})
	plain := newBackend(t, func(p *peer) { p.br.Peek(1); p.say("HTTP/1.1 400 Bad Request\r\n\r\n") })
	tests := []struct {
		name, url, ca, want string
	}{
		{"wrong authority", good.URL, other.file, "OTLP_RELAY_CERTIFICATE"},
		{"expired", expired.URL, ca.file, "renew it"},
		{"another host's", strings.Replace(good.URL, "127.0.0.1", "localhost", 1), ca.file, "another host's"},
		{"no TLS", "https://" + plain.Addr().String(), ca.file, "http://"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, strings.Replace(addr, "localhost", "127.0.0.1", 1))
			}
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, test.url), TLS: mustLoadTLS(t, test.ca, "", ""), Timeout: time.Minute, Dial: dial})
			err := h.Send(t.Context(), payload(10))
			if e := refusal(t, err); !e.Retryable || e.Code != otlp.Unavailable || e.HTTPStatus != 0 || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestLoadTLS(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.client(t)
	_, otherKey := ca.client(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if conf, err := LoadTLS("", "", ""); conf != nil || err != nil {
		t.Errorf("without files: %v, %v", conf, err)
	}
	for name, test := range map[string]struct{ ca, cert, key, want string }{
		"no such file":         {"no-such.pem", "", "", "OTLP_RELAY_CERTIFICATE: read the authorities: open no-such.pem"},
		"no certificate in it": {empty, "", "", "empty.pem holds no PEM certificate"},
		"certificate alone":    {"", cert, "", "OTLP_RELAY_CLIENT_KEY"},
		"key alone":            {"", "", key, "OTLP_RELAY_CLIENT_CERTIFICATE"},
		"no such certificate":  {"", "no-such.pem", key, "no-such.pem"},
		"key of another":       {"", cert, otherKey, "does not match"},
		"certificate as key":   {"", cert, cert, "OTLP_RELAY_CLIENT_KEY"},
	} {
		if _, err := LoadTLS(test.ca, test.cert, test.key); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, test.want)
		}
	}
}

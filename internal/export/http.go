package export

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// HTTPConfig says where and how an HTTP sends. The zero value of every field but URL is usable.
type HTTPConfig struct {
	// URL takes the signal's requests and is used as it is. Its userinfo becomes Basic authorization.
	URL *url.URL

	// Header goes with each request. What frames a message (Content-Length, Content-Type, Connection, …) is
	// not the user's to set: it is left out. Values appear in no error.
	Header http.Header

	// Signer signs each attempt, unless the user's own Authorization goes with it. nil: nothing is signed.
	Signer *Signer

	// TLS is cloned at the first TLS dial; nil means the system's roots. A proxy spoken to over TLS is
	// verified by the same roots and shown no client certificate.
	TLS *tls.Config

	// Roots are the system's, for where TLS names no others. Clients share them; with nil crypto/tls loads all.
	Roots *Roots

	// Timeout is the most that one Send may take, a second try on a fresh connection included. 0: no limit
	// but the context's.
	Timeout time.Duration

	UserAgent string

	// Proxy names the proxy for a URL, or none with nil, as http.ProxyFromEnvironment does for a request. It
	// is asked once, by NewHTTP.
	Proxy func(*url.URL) (*url.URL, error)

	// Warn takes a backend's warnings: the message of a partial success that rejects nothing. nil drops them.
	Warn func(message string)

	// Now is the wall clock; nil is the system's.
	Now func() time.Time

	// Dial opens TCP connections; nil is a net.Dialer's.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// HTTP is a Sink that posts each payload as it is to an OTLP/HTTP endpoint. It keeps one connection between
// requests; of concurrent Sends each further one dials its own.
//
// Send's error is a *otlp.PartialSuccess or an *otlp.Error. Without an answer (refused, reset, timed out,
// not HTTP) it is retryable, has no HTTPStatus, and its Err is the cause. A success without a readable body
// is a success: what the backend took must not be sent again.
type HTTP struct{ client }

// NewHTTP returns an HTTP, or an error that says which setting is wrong. It opens no connection.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	return &HTTP{c}, nil
}

// Send posts p.Body, compressed as p.Compression says, and reports the backend's verdict.
func (h *HTTP) Send(ctx context.Context, p otlp.Payload) error {
	ctx, cancel := h.within(ctx)
	defer cancel()
	coding := ""
	if p.Compression != otlp.None {
		coding = p.Compression.String()
	}
	r, err := h.post(ctx, p.Encoding.ContentType(), coding, p.Body)
	if err != nil {
		return h.noAnswer(ctx, err)
	}
	return h.verdict(r, p)
}

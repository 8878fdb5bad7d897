package export

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const (
	// maxIdle is how long a connection may have been idle, by the wall clock, to be used again: below the
	// 60 s after which AWS load balancers, the most impatient of the usual peers, forget a flow.
	maxIdle = 50 * time.Second

	// frozenFor is how much later than it should a timeout must come, by the wall clock, to be the mark of a
	// freeze rather than of a busy machine.
	frozenFor = time.Second
)

// HTTPConfig says where and how an HTTP sends. The zero value of every field but URL is usable.
type HTTPConfig struct {
	// URL takes the signal's requests and is used as it is. Its userinfo becomes Basic authorization.
	URL *url.URL

	// Header goes with each request. What frames a message (Content-Length, Content-Type, Connection, …) is
	// not the user's to set: it is left out. Values appear in no error.
	Header http.Header

	// TLS is cloned at the first TLS dial; nil means the system's roots. A proxy spoken to over TLS is
	// verified by the same roots and shown no client certificate.
	TLS *tls.Config

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
type HTTP struct {
	head    head
	dialer  *dialer
	timeout time.Duration
	tooLate error // the cause of an attempt that timed out
	warn    func(string)
	now     func() time.Time

	mu   sync.Mutex
	idle *conn // the kept connection, or nil; guarded by mu
}

// NewHTTP returns an HTTP, or an error that says which setting is wrong. It opens no connection.
func NewHTTP(cfg HTTPConfig) (*HTTP, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, err
	}
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	head, err := newHead(cfg, d.proxy)
	if err != nil {
		return nil, err
	}
	h := &HTTP{
		head:    head,
		dialer:  d,
		timeout: cfg.Timeout,
		tooLate: fmt.Errorf("no answer within %v (OTLP_RELAY_TIMEOUT): %w", cfg.Timeout, context.DeadlineExceeded),
		warn:    cfg.Warn,
		now:     cfg.Now,
	}
	if h.now == nil {
		h.now = func() time.Time { return time.Now().Round(0) }
	}
	return h, nil
}

// Send posts p.Body, compressed as p.Compression says, and reports the backend's verdict.
func (h *HTTP) Send(ctx context.Context, p otlp.Payload) error {
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.timeout, h.tooLate)
		defer cancel()
	}
	r, err := h.roundTrip(ctx, p)
	if err != nil {
		return h.noAnswer(ctx, err)
	}
	return h.verdict(r, p)
}

// Close drops the kept connection. An HTTP may be used again after it.
func (h *HTTP) Close() {
	if c := h.swapIdle(nil); c != nil {
		c.Close()
	}
}

// roundTrip sends p on the kept connection if that still lives. Where it dies before the first byte of an
// answer, the peer has most likely dropped it before the request came: p is sent once more on a fresh one.
func (h *HTTP) roundTrip(ctx context.Context, p otlp.Payload) (*response, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if c := h.take(); c != nil {
		r, err := h.exchange(ctx, c, p)
		if err == nil || c.answered || ctx.Err() != nil {
			return r, err
		}
	}
	c, err := h.dialer.dial(ctx)
	if err != nil {
		return nil, err
	}
	return h.exchange(ctx, c, p)
}

// exchange sends p over c and reads the answer, then keeps or closes c.
func (h *HTTP) exchange(ctx context.Context, c *conn, p otlp.Payload) (*response, error) {
	c.frozen = h.freezeDetector(ctx)
	r, err := c.exchange(ctx, h.head.appendTo(c.buf[:0], p), p.Body)
	if err != nil || !r.keep {
		c.Close()
		return r, err
	}
	c.used = h.now()
	if old := h.swapIdle(c); old != nil {
		old.Close()
	}
	return r, nil
}

// freezeDetector returns a function that says whether ctx's deadline was noticed so much later than it was
// due that the process must have been frozen.
func (h *HTTP) freezeDetector(ctx context.Context) func() bool {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	start, left := h.now(), time.Until(deadline)
	return func() bool {
		return errors.Is(ctx.Err(), context.DeadlineExceeded) && h.now().Sub(start) > left+frozenFor
	}
}

// take returns the kept connection if it may be trusted with a request, else nil.
func (h *HTTP) take() *conn {
	c := h.swapIdle(nil)
	if c == nil {
		return nil
	}
	// An idle time below 0 means that the clock was set back: the true one is unknown.
	if idle := h.now().Sub(c.used); idle < 0 || idle > maxIdle || !c.alive() {
		c.Close()
		return nil
	}
	return c
}

// swapIdle makes c the kept connection and returns the one that was.
func (h *HTTP) swapIdle(c *conn) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.idle
	h.idle = c
	return old
}

// Package otlptest is what tests of telemetry need: an OTLP backend that decodes with the official types
// and misbehaves on demand, builders of requests, a comparison that merging and splitting do not disturb, and
// the corpus of requests as real SDKs sent them.
//
// It shares no code with what it tests but the vocabulary of package otlp.
package otlptest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// maxBody bounds what the backend reads of a request, compressed or not, where Options say nothing.
const maxBody = 256 << 20

// Options of a Backend. The zero value is a healthy one that speaks plain HTTP.
type Options struct {
	GRPC       bool                   // OTLP/gRPC, over grpc-go's own server, in place of OTLP/HTTP
	TLS        bool                   // https, with a certificate of the backend's own CA
	ClientCert bool                   // with TLS: only clients that show a certificate of that CA
	Keep       bool                   // keep the body and the decoded message of each request
	Paths      map[string]otlp.Signal // further paths; those of the protocol always work, those of OTLP/HTTP also under a prefix
	Delay      time.Duration          // between a request read and its answer
	MaxBody    int                    // bytes after decompression; beyond: 413. 0 means 256 MiB
}

// Backend is an OTLP backend for tests, on a loopback port of its own (Listen) or behind any server
// (of OTLP/HTTP it is an http.Handler). All its methods may be called at any time from any goroutine.
type Backend struct {
	opts   Options
	pki    *pki // nil without TLS
	server *http.Server
	grpc   *grpc.Server    // nil without GRPC
	closed context.Context // done once the backend is closed
	close  context.CancelFunc
	served sync.WaitGroup // goroutines in server.Serve

	mu       sync.Mutex
	addr     *net.TCPAddr // nil before Listen
	listener net.Listener // nil while refusing
	reserved int          // the socket that keeps the port while refusing, else 0
	conns    map[net.Conn]struct{}
	opened   int // connections ever accepted
	fault    Fault
	left     int // requests that the fault still meets; -1: until changed
	poison   func(*Request) bool
	journal  journal
}

// NewBackend makes a backend that does not listen yet. Close it.
func NewBackend(opts Options) (*Backend, error) {
	if opts.MaxBody == 0 {
		opts.MaxBody = maxBody
	}
	b := &Backend{opts: opts, conns: map[net.Conn]struct{}{}}
	b.journal.changed = make(chan struct{})
	b.closed, b.close = context.WithCancel(context.Background())
	b.server = &http.Server{
		Handler:      b,
		ConnState:    b.connState,
		ErrorLog:     log.New(io.Discard, "", 0),                               // failed handshakes are the tests' business
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only: faults need the connection
	}
	if opts.TLS {
		var err error
		if b.pki, err = newPKI(); err != nil {
			return nil, fmt.Errorf("make the backend's certificates: %w", err)
		}
		b.server.TLSConfig = b.pki.serverConfig(opts.ClientCert)
	}
	if opts.GRPC {
		b.grpc = newGRPC(b)
	}
	return b, nil
}

// StartBackend is NewBackend and Listen on a free port of 127.0.0.1.
func StartBackend(opts Options) (*Backend, error) {
	b, err := NewBackend(opts)
	if err != nil {
		return nil, err
	}
	return b, b.Listen("127.0.0.1:0")
}

// Listen serves on a loopback address until Close.
func (b *Backend) Listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for the backend: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addr = l.Addr().(*net.TCPAddr)
	b.serveLocked(l)
	return nil
}

func (b *Backend) serveLocked(l net.Listener) {
	b.listener = l
	b.served.Go(func() {
		switch {
		case b.opts.GRPC:
			b.grpc.Serve(tracked{l, b})
		case b.opts.TLS:
			b.server.Serve(tls.NewListener(l, b.server.TLSConfig))
		default:
			b.server.Serve(l)
		}
	})
}

// URL is where the backend listens, without a path: of scheme http or grpc, with an s for TLS.
func (b *Backend) URL() string {
	scheme := "http"
	if b.opts.GRPC {
		scheme = "grpc"
	}
	if b.opts.TLS {
		scheme += "s"
	}
	return scheme + "://" + b.Addr()
}

// Addr is where the backend listens, as host:port. It stays the same while the backend refuses.
func (b *Backend) Addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addr.String()
}

// CA is the certificate that the backend's own is signed by, in PEM.
func (b *Backend) CA() []byte { return b.pki.caPEM }

// ClientCert is a certificate that the backend accepts, and its key, in PEM.
func (b *Backend) ClientCert() (cert, key []byte) { return b.pki.clientPEM, b.pki.clientKeyPEM }

// Close cuts every connection and ends every request.
func (b *Backend) Close() {
	b.close()
	b.mu.Lock()
	b.releasePortLocked()
	b.mu.Unlock()
	b.server.Close()
	b.CutConns()
	if b.opts.GRPC {
		b.grpc.Stop()
	}
	b.served.Wait()
}

// CutConns closes every connection, as a backend or a load balancer does with those that idled for long.
func (b *Backend) CutConns() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cutLocked()
}

func (b *Backend) cutLocked() {
	for c := range b.conns {
		if tc, ok := c.(*trackedConn); ok {
			c = tc.TCPConn // its own Close would lock b
		}
		c.Close()
	}
}

// Conns is how many connections were ever accepted.
func (b *Backend) Conns() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}

// Fail makes every request meet the fault until the next Fail, FailNext or Heal.
// Requests that are being answered go on as they began.
func (b *Backend) Fail(f Fault) { b.FailNext(-1, f) }

// FailNext makes the next n requests meet the fault; then the backend is healthy again.
func (b *Backend) FailNext(n int, f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.Kind == Redirect && b.opts.GRPC {
		panic("BUG: gRPC has no redirects")
	}
	b.fault, b.left = f, n
	if b.addr == nil || b.closed.Err() != nil {
		return
	}
	switch refusing := b.listener == nil; {
	case f.Kind == Refuse && !refusing:
		b.refuseLocked()
	case f.Kind != Refuse && refusing:
		b.acceptLocked()
	}
}

// Heal ends a fault.
func (b *Backend) Heal() { b.Fail(Fault{}) }

// SetDelay changes Options.Delay.
func (b *Backend) SetDelay(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opts.Delay = d
}

// SetMaxBody changes Options.MaxBody.
func (b *Backend) SetMaxBody(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opts.MaxBody = bytes
}

// PoisonIf makes the backend answer 400 to each request that bad says is bad; nil ends it. bad sees the
// request with its body and message, and must not change it.
func (b *Backend) PoisonIf(bad func(*Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.poison = bad
}

// connState keeps the set of open connections. A hijacked one stays in it until its fault is over.
func (b *Backend) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		b.accepted(c)
	case http.StateClosed:
		b.forget(c)
	}
}

// accepted counts and keeps a new connection.
func (b *Backend) accepted(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	b.conns[c] = struct{}{}
}

func (b *Backend) track(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = struct{}{}
}

func (b *Backend) forget(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

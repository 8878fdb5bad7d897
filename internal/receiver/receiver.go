// Package receiver is the server of OTLP/HTTP and of unary OTLP/gRPC: it reads export requests off the socket,
// refuses what no backend would take, and gives the rest to an otlp.Sink exactly as it came.
//
// One handler takes both protocols on every listener, told apart by what the client says first, so that an SDK
// that was given the other port works all the same. HTTP/2, by prior knowledge and without TLS, is net/http's; what
// makes a request a gRPC call is here.
//
// It works for SDKs that run in a sandbox which may be frozen between any two instructions, so no read, write or
// idle time is bounded by the clock: a body that a freeze cut in half is completed after the thaw. The exceptions are
// net/http's own: an HTTP/2 client that has said its preface must say something more within 2 s, and a connection
// that broke HTTP/2's rules, or that Shutdown has ended, is closed after 1 s. The receiver is
// never too busy: it waits for memory, but answers neither 429 nor 503 on its own account, because an SDK
// would hold the function's handler for seconds before it tried again.
//
// # Memory
//
// Bodies share Config.MaxBytes from before they are read until the Sink has taken them. The oldest
// request may go over that share, because if every request waited for more, none would ever give any back.
// So bodies never hold more than 2 × MaxBytes together. Besides them there is one body's working memory (one
// at a time is decompressed, or joined from its segments): at most MaxBytes, and half as much again while it
// grows. Buffers, some 10 KiB a connection (20 KiB of HTTP/2), and a copy of up to 16 KiB for each chunked body come on top;
// over HTTP/2 what a client has sent and no handler has read yet, at most maxStreams × streamWindow a connection,
// which only requests that wait for memory leave unread.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// defaultMaxBytes is the limit that the OTLP specification recommends ("OTLP/HTTP Request").
const defaultMaxBytes = 64 << 20

// maxHeaderBytes bounds a request's head. SDKs send less than 1 KiB; a user's OTEL_EXPORTER_OTLP_HEADERS may add tokens.
const maxHeaderBytes = 64 << 10

// maxStreams is how many HTTP/2 requests a connection may have at once, streamWindow how many bytes of each the
// client may send before they are read. The connection's window holds all of them, so that requests that wait for
// memory with unread bytes never keep those from going on that memory is waited for.
const (
	maxStreams   = 30
	streamWindow = 128 << 10
)

// Config is what a Receiver needs.
type Config struct {
	// Sink takes every request that has at least one record. Its error becomes the answer.
	Sink otlp.Sink

	// MaxBytes is the most that one request may hold, as sent and after decompression, and the memory
	// that all bodies being read share. 0 means 64 MiB.
	MaxBytes int

	// Bodies lends the memory of bodies; nil allocates each.
	Bodies *otlp.Bodies

	// Now is the wall clock that Payload.Received is read from; nil means time.Now.
	Now func() time.Time

	// Ended is called when a request's answer was written to the socket, or its client gave it up. It may be nil
	// and must not block.
	Ended func()
}

// A Receiver is an http.Handler that speaks OTLP, and the server around it.
type Receiver struct {
	sink     otlp.Sink
	maxBytes int
	bodies   *otlp.Bodies
	now      func() time.Time
	ended    func()

	server http.Server
	active atomic.Int64
	idle   chan struct{} // capacity 1; holds a token after active went to 0

	gate     gate
	bench    bench
	segments sync.Pool // of *[firstSegment]byte: the first segments of bodies, between requests

	success [2]success // by otlp.Encoding; never written after New
}

// success is the answer to a request that was taken whole, made once.
type success struct {
	body        []byte
	length      []string // of body, as a header's value
	contentType []string
}

// New is a Receiver for c. It listens nowhere until Serve is called.
func New(c Config) *Receiver {
	r := &Receiver{
		sink:     c.Sink,
		maxBytes: c.MaxBytes,
		bodies:   c.Bodies,
		now:      c.Now,
		ended:    c.Ended,
		idle:     make(chan struct{}, 1),
	}
	if r.maxBytes <= 0 {
		r.maxBytes = defaultMaxBytes
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.ended == nil {
		r.ended = func() {}
	}
	r.gate.limit = r.maxBytes
	r.segments.New = func() any { return new([firstSegment]byte) }
	for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
		body := otlp.AppendResponse(nil, enc, otlp.Traces, nil) // without partial_success all signals' are alike
		r.success[enc] = success{body, []string{strconv.Itoa(len(body))}, []string{enc.ContentType()}}
	}
	// No ReadTimeout, WriteTimeout or IdleTimeout: see the package's comment.
	r.server = http.Server{
		Handler:        r,
		ConnContext:    withConn,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       log.New(io.Discard, "", 0),
		Protocols:      new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: maxStreams * streamWindow,
		},
	}
	r.server.Protocols.SetHTTP1(true)
	r.server.Protocols.SetUnencryptedHTTP2(true)
	return r
}

// Serve answers the connections of l until Shutdown or Close, and then returns nil; it closes l. It may be
// called for several listeners at once.
func (r *Receiver) Serve(l net.Listener) error {
	if err := r.server.Serve(listener{l, r}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve OTLP on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown closes the listeners, waits until every request that has begun is answered, and closes all connections.
// When ctx ends first it returns ctx's cause and leaves the rest to Close.
//
// http.Server.Shutdown alone would wait five seconds for a connection that never sent a byte.
func (r *Receiver) Shutdown(ctx context.Context) error {
	atOnce, cancel := context.WithCancel(ctx)
	cancel()
	r.server.Shutdown(atOnce) // closes listeners and idle connections; does not wait, as its context has ended
	for r.active.Load() > 0 {
		select {
		case <-r.idle:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d OTLP requests: %w", r.Active(), context.Cause(ctx))
		}
	}
	r.markIdle() // for another Shutdown that waits as well
	return r.Close()
}

// Close closes the listeners and every connection at once; requests that wait for memory give up.
func (r *Receiver) Close() error {
	r.gate.close()
	return r.server.Close()
}

// Active is the number of requests whose headers were read and whose answer is not yet written to the socket.
func (r *Receiver) Active() int { return int(r.active.Load()) }

func (r *Receiver) begin() {
	r.active.Add(1)
}

func (r *Receiver) end() {
	if r.active.Add(-1) == 0 {
		r.markIdle()
	}
	r.ended()
}

func (r *Receiver) markIdle() {
	select {
	case r.idle <- struct{}{}:
	default:
	}
}

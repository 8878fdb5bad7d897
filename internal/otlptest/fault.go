package otlptest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// FaultKind is one way in which a backend misbehaves.
type FaultKind int

// The ways. "Taken" says whether the backend keeps the request's records although the sender cannot know it:
// where it is not said, Fault.Take decides.
const (
	Healthy         FaultKind = iota
	Refuse                    // nobody listens: connections are refused, those that stand are cut; lasts until changed
	Hang                      // reads the request and never answers
	ResetBeforeRead           // cuts with a RST once the head is there; never taken
	ResetAfterRead            // cuts with a RST instead of an answer
	ResetMidAnswer            // begins a 200 and cuts with a RST; taken
	HalfClose                 // ends its side of the connection instead of an answer
	Garbage                   // answers what is not HTTP
	SlowBody                  // answers Code (200) and its body a byte (gRPC: an empty message) every Every (100 ms), without an end; a 2xx is taken
	Redirect                  // answers Code (307) and Location (the backend itself, under /redirected); not over gRPC
	EndlessBody               // answers Code (503) and a body (gRPC: messages of 64 KiB) without an end, as fast as it goes
	Status                    // answers Code, RetryAfter and a google.rpc.Status
	Partial                   // answers 200 with Rejected and Message; takes all records but the last Rejected
)

var faultNames = [...]string{"healthy", "refuse", "hang", "reset before read", "reset after read", "reset mid answer",
	"half-close", "garbage", "slow body", "redirect", "endless body", "status", "partial success"}

// String is the kind's name, for the name of a subtest.
func (k FaultKind) String() string { return faultNames[k] }

// Fault is what a Backend does instead of answering properly. The zero Fault is a healthy backend.
type Fault struct {
	Kind       FaultKind
	Take       bool          // keep the records, so that sending them again makes duplicates
	Code       int           // HTTP status; over gRPC the code that says the same, or below 100 a gRPC code
	RetryAfter string        // the header as it is written: seconds, a date, or nonsense; "" for none. gRPC: see grpcDetails
	Message    string        // of the error body, or of the partial success
	Rejected   int64         // records
	Location   string        // of Redirect
	Every      time.Duration // of SlowBody
}

// takes says whether the records of a request that meets this fault count as received.
func (f Fault) takes() bool {
	switch f.Kind {
	case Healthy, ResetMidAnswer, Partial:
		return true
	case ResetBeforeRead:
		return false
	case SlowBody:
		return f.code()/100 == 2
	}
	return f.Take
}

// code is the status that the fault answers; 0 where it answers none.
func (f Fault) code() int {
	if f.Code != 0 {
		return f.Code
	}
	switch f.Kind {
	case Healthy, ResetMidAnswer, SlowBody, Partial:
		return http.StatusOK
	case Redirect:
		return http.StatusTemporaryRedirect
	case EndlessBody, Status:
		return http.StatusServiceUnavailable
	}
	return 0
}

// act misbehaves. It ends when the client is gone, the backend is closed, or the answer is written.
func (b *Backend) act(f Fault, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(b.closed, cancel)()
	switch f.Kind {
	case Hang:
		<-ctx.Done()
		panic(http.ErrAbortHandler) // net/http's way to end a request without an answer
	case ResetBeforeRead, ResetAfterRead:
		b.hijack(w, reset)
	case ResetMidAnswer:
		b.hijack(w, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 64\r\n\r\n\x0a\x3e")
			reset(c)
		})
	case HalfClose:
		b.hijack(w, halfClose)
	case Garbage:
		b.hijack(w, func(c net.Conn) { io.WriteString(c, "\x00\x17SSH-2.0-not HTTP at all\r\n\r\n") })
	case SlowBody:
		w.WriteHeader(f.code())
		slowly(ctx, w, f.Every)
		panic(http.ErrAbortHandler)
	case EndlessBody:
		w.WriteHeader(f.code())
		endlessly(ctx, w)
		panic(http.ErrAbortHandler)
	case Redirect:
		location := f.Location
		if location == "" {
			location = "/redirected" + r.URL.Path
		}
		w.Header().Set("Location", location)
		w.WriteHeader(f.code())
	}
}

// hijack takes the connection from the HTTP server, lets do have it and closes it.
func (b *Backend) hijack(w http.ResponseWriter, do func(net.Conn)) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(fmt.Sprintf("BUG: the backend speaks HTTP/1.1 only: %v", err))
	}
	b.track(c)
	defer b.forget(c)
	defer c.Close()
	do(c)
}

// reset makes the close that follows send a RST.
func reset(c net.Conn) {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = wrapped.NetConn() // of a *tls.Conn: its own Close would first say goodbye
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

// halfClose ends this side and waits until the client, or the backend's Close, ends the other.
func halfClose(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		io.Copy(io.Discard, c)
	}
}

func slowly(ctx context.Context, w http.ResponseWriter, every time.Duration) {
	if every <= 0 {
		every = 100 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := w.Write([]byte{' '}); err != nil {
			return
		}
		http.NewResponseController(w).Flush()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func endlessly(ctx context.Context, w http.ResponseWriter) {
	chunk := make([]byte, 64<<10)
	for ctx.Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

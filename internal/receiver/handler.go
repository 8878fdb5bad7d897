package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// drainBytes is how much of a refused body is read and thrown away after the answer. Many clients write the
// whole body before they read; a connection closed on them looks like a fault of the network, and they send it all again.
const drainBytes = 64 << 20

// kind is what a request's head says about its body.
type kind struct {
	signal      otlp.Signal
	encoding    otlp.Encoding
	compression otlp.Compression
}

// ServeHTTP answers one export request, of OTLP/HTTP or, over HTTP/2, of OTLP/gRPC.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.ProtoMajor == 2 {
		r.serveHTTP2(w, req)
		return
	}
	if taken := r.serve(w, req); !taken && req.Header["Expect"] == nil {
		io.CopyN(io.Discard, req.Body, drainBytes)
	}
}

// serve handles the request and writes the answer through to the socket: when the request is counted as
// answered, a freeze can no longer withhold the answer.
func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) (taken bool) {
	r.begin()
	defer r.end()
	k, err := r.handle(w.Header(), req)
	taken = r.answer(w, k, err)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	return taken
}

// serveHTTP2 does the same over HTTP/2, where net/http writes the end of the answer when the handler has returned:
// the connection counts the request until then. What is left of a refused body is the connection's business too.
func (r *Receiver) serveHTTP2(w http.ResponseWriter, req *http.Request) {
	if c := connOf(req); c != nil {
		c.enter()
		defer c.leave()
	} else {
		r.begin()
		defer r.end()
	}
	if t := callType(req); t != nil && req.Method == http.MethodPost {
		r.serveCall(w, req, t)
		return
	}
	k, err := r.handle(w.Header(), req)
	r.answer(w, k, err)
}

// caught makes a panic an error, so that the connection's other requests live.
func caught(err *error) {
	if v := recover(); v != nil {
		*err = refusal(http.StatusInternalServerError, otlp.Internal, fmt.Sprintf("bug: panic: %v", v))
	}
}

// handle takes the request off the socket and gives it to the Sink. k.encoding is valid with an error too;
// h is the answer's header.
func (r *Receiver) handle(h http.Header, req *http.Request) (k kind, err error) {
	defer caught(&err)
	if k, err = readHead(h, req); err != nil {
		return k, err
	}
	id := r.gate.enter()
	defer r.gate.leave(id)
	body, err := r.readBody(req, id)
	if err != nil {
		if statusOf(err) == http.StatusRequestEntityTooLarge && req.ProtoMajor < 2 {
			h["Connection"] = connectionClose // or net/http reads on before it lets the answer out
		}
		return k, err
	}
	return k, r.take(req.Context(), k, body)
}

// take gives one whole request to the Sink, unless it is malformed or has no records. An *otlp.Error is a
// refusal; what else comes is the Sink's error, as it is.
func (r *Receiver) take(ctx context.Context, k kind, body []byte) error {
	size, records, err := len(body), 0, error(nil)
	if k.compression == otlp.None {
		records, err = otlp.Validate(k.signal, k.encoding, body)
	} else {
		size, records, err = r.bench.inspect(k, body, r.maxBytes)
	}
	if errors.Is(err, otlp.ErrTooLarge) {
		return r.tooLarge(k.compression.String() + " body, decompressed")
	}
	if err != nil {
		return refusal(http.StatusBadRequest, otlp.InvalidArgument, "malformed "+k.signal.String()+" request: "+err.Error())
	}
	if records == 0 {
		return nil // OTLP: an empty request succeeds; there is nothing to send
	}
	return r.sink.Send(ctx, otlp.Payload{
		Signal:      k.signal,
		Encoding:    k.encoding,
		Compression: k.compression,
		Body:        body,
		Size:        size,
		Records:     records,
		Received:    r.now(),
		Lent:        true,
	})
}

package receiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// framePrefix is what precedes a gRPC message: whether it is compressed, and four bytes of size.
const framePrefix = 5

// grpcTypes are the media types of OTLP/gRPC, as the values of an answer's header; never written.
var grpcTypes = [...][]string{{"application/grpc"}, {"application/grpc+proto"}}

// callType is the media type of a gRPC request, to be answered in; nil where it is none.
func callType(req *http.Request) []string {
	values := req.Header["Content-Type"]
	if len(values) != 1 {
		return nil
	}
	name, _, _ := strings.Cut(values[0], ";")
	name = strings.TrimSpace(name)
	for _, t := range grpcTypes {
		if strings.EqualFold(name, t[0]) {
			return t
		}
	}
	return nil
}

// call is what the head of a gRPC request says.
type call struct {
	signal   otlp.Signal
	encoding string        // Message-Encoding
	timeout  time.Duration // 0: none
}

// serveCall answers one unary call (gRPC over HTTP2, "Requests").
func (r *Receiver) serveCall(w http.ResponseWriter, req *http.Request, contentType []string) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Date"] = nil // nobody reads it
	h["Content-Length"] = nil
	signal, err := r.handleCall(h, req)
	r.answerCall(w, signal, err)
}

// handleCall takes the request off the socket and gives it to the Sink, as handle does for OTLP/HTTP.
func (r *Receiver) handleCall(h http.Header, req *http.Request) (signal otlp.Signal, err error) {
	defer caught(&err)
	c, err := readCall(req)
	if err != nil {
		return c.signal, err
	}
	ctx := req.Context()
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	id := r.gate.enter()
	defer r.gate.leave(id)
	message, compressed, err := r.readMessage(ctx, req.Body, id)
	if err != nil {
		return c.signal, err
	}
	k := kind{signal: c.signal, encoding: otlp.Protobuf}
	if compressed {
		if k.compression, err = c.compression(h); err != nil {
			return c.signal, err
		}
	}
	if err = r.take(ctx, k, message); err != nil && ctx.Err() != nil {
		err = overdue(err)
	}
	return c.signal, err
}

// readCall reads what a request is from its path and headers.
func readCall(req *http.Request) (c call, err error) {
	var found bool
	if c.signal, found = callOf(req.URL.Path); !found {
		return c, refuseCall(otlp.Unimplemented, "no such method "+quote(req.URL.Path)+": only the Export methods of OTLP are served")
	}
	if v := req.Header["Grpc-Timeout"]; len(v) > 0 {
		if c.timeout, err = parseTimeout(v[0]); err != nil {
			return c, refuseCall(otlp.Internal, err.Error())
		}
	}
	if v := req.Header["Grpc-Encoding"]; len(v) > 0 {
		c.encoding = v[0]
	}
	return c, nil
}

// parseTimeout reads a Timeout: at most eight digits and a unit. One beyond a time.Duration is the longest one.
func parseTimeout(v string) (time.Duration, error) {
	units := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': 1}
	if len(v) < 2 || len(v) > 9 {
		return 0, errors.New("malformed grpc-timeout " + quote(v))
	}
	unit, known := units[v[len(v)-1]]
	n, err := strconv.ParseUint(v[:len(v)-1], 10, 32)
	if !known || err != nil {
		return 0, errors.New("malformed grpc-timeout " + quote(v))
	}
	if n > math.MaxInt64/uint64(unit) {
		return math.MaxInt64, nil
	}
	return max(1, time.Duration(n)*unit), nil
}

// readMessage is the one message of a unary call, in a slice of exactly its size. The memory is part of share
// id before it is allocated.
func (r *Receiver) readMessage(ctx context.Context, body io.Reader, id uint64) (message []byte, compressed bool, err error) {
	var prefix [framePrefix]byte
	switch n, err := fill(body, prefix[:]); {
	case n == 0 && err == io.EOF:
		return nil, false, refuseCall(otlp.Unimplemented, "no message: an export is a unary call")
	case n < framePrefix:
		return nil, false, cutShort(err)
	case prefix[0] > 1:
		return nil, false, refuseCall(otlp.Internal, "message with unknown flags "+strconv.Itoa(int(prefix[0])))
	}
	size := binary.BigEndian.Uint32(prefix[1:])
	if uint64(size) > uint64(r.maxBytes) {
		return nil, false, r.tooLarge(fmt.Sprintf("message of %d bytes", size))
	}
	if err := r.gate.grow(ctx, id, int(size)); err != nil {
		return nil, false, waitEnded(err)
	}
	message = r.bodies.Lend(int(size))
	if n, err := fill(body, message); n < len(message) {
		return nil, false, cutShort(err)
	}
	switch n, err := fill(body, prefix[:1]); {
	case n > 0:
		return nil, false, refuseCall(otlp.Unimplemented, "more than one message: an export is a unary call")
	case err != io.EOF:
		return nil, false, cutShort(err)
	}
	return message, prefix[0] == 1, nil
}

// compression is the coding of a message that is compressed. h, the answer's header, says what there is where it
// is not known.
func (c call) compression(h http.Header) (otlp.Compression, error) {
	switch coding, known := coding(c.encoding); {
	case !known:
		h["Grpc-Accept-Encoding"] = grpcAcceptEncoding
		return otlp.None, refuseCall(otlp.Unimplemented,
			fmt.Sprintf("grpc-encoding %s: only one of %s is supported", quote(c.encoding), grpcAcceptEncoding[0]))
	case coding == otlp.None:
		return otlp.None, refuseCall(otlp.Internal, "compressed message without grpc-encoding")
	default:
		return coding, nil
	}
}

// refuseCall is an answer of the receiver's own. The same call would be answered in the same way again.
func refuseCall(code otlp.Code, message string) *otlp.Error {
	return &otlp.Error{Code: code, Message: message}
}

// cutShort is the refusal of a call that ended within a message; if err is not that end, its client is gone.
func cutShort(err error) *otlp.Error {
	if err == nil || err == io.EOF {
		return refuseCall(otlp.Internal, "read message: it ended before its announced length")
	}
	return refuseCall(otlp.Internal, "read message: "+err.Error())
}

// overdue is the error of a Sink whose time was over, or whose client went away.
func overdue(err error) error {
	if _, is := errors.AsType[*otlp.Error](err); is {
		return err
	}
	return waitEnded(err)
}

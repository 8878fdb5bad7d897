package export

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// verdict makes an error of an answer (OTLP specification, "OTLP/gRPC Response"), or nil of a success.
func (g *GRPC) verdict(r *response, p otlp.Payload) error {
	status, ok := r.header["Grpc-Status"]
	if !ok {
		return g.withoutStatus(r)
	}
	code, err := strconv.ParseUint(status[0], 10, 31)
	if err != nil {
		code = uint64(otlp.Unknown)
	}
	if otlp.Code(code) == otlp.OK {
		return g.taken(otlp.Protobuf, p.Signal, answerOf(r))
	}
	e := &otlp.Error{Code: otlp.Code(code), Message: g.clean(percentDecoded(r.header.Get("Grpc-Message")))}
	details, _ := base64.RawStdEncoding.DecodeString(strings.TrimRight(r.header.Get("Grpc-Status-Details-Bin"), "="))
	wait, asked := otlp.ParseRetryInfo(details)
	if e.Retryable = retryableCode(e.Code, asked); e.Retryable {
		e.RetryAfter = min(wait, maxRetryAfter)
	}
	return e
}

// retryableCode says whether OTLP/gRPC lets a client send the same request again (OTLP specification, "Failures").
// asked says whether a RetryInfo came with the code.
func retryableCode(c otlp.Code, asked bool) bool {
	switch c {
	case otlp.Canceled, otlp.DeadlineExceeded, otlp.Aborted, otlp.OutOfRange, otlp.Unavailable, otlp.DataLoss:
		return true
	case otlp.ResourceExhausted:
		return asked
	}
	return false
}

// withoutStatus is the error of an answer that is none of gRPC's: a proxy's, or of another service (gRPC,
// "HTTP to gRPC Status Code Mapping").
func (g *GRPC) withoutStatus(r *response) error {
	e := g.refusal(r, notGRPC)
	switch r.status {
	case http.StatusBadRequest:
		e.Code = otlp.Internal
	case http.StatusUnauthorized:
		e.Code = otlp.Unauthenticated
	case http.StatusForbidden:
		e.Code = otlp.PermissionDenied
	case http.StatusNotFound:
		e.Code = otlp.Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Code = otlp.Unavailable
	default:
		e.Code = otlp.Unknown
	}
	if r.status/100 == 2 {
		e.Message = "the answer has no gRPC status (" + notGRPC + ")"
	}
	return e
}

// answerOf is the message of an answer without its prefix; nil where there is none that can be read.
func answerOf(r *response) []byte {
	const prefix = len(message{}.prefix)
	if len(r.body) < prefix {
		return nil
	}
	n := binary.BigEndian.Uint32(r.body[1:])
	body := r.body[prefix:]
	if uint64(n) > uint64(len(body)) {
		return nil
	}
	body = body[:n]
	if r.body[0] == 0 {
		return body
	}
	// A server may use the compression of the request, of which ours is gzip.
	body, err := new(otlp.Decompressor).Append(nil, body, otlp.Gzip, maxBody)
	if err != nil {
		return nil
	}
	return body
}

// percentDecoded is the text of a grpc-message. What is not encoded as it should be is taken as it is (gRPC over
// HTTP/2, "Responses").
func percentDecoded(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

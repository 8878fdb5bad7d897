package receiver

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// maxStatusMessage is the most of a message that a status carries, in bytes: what clients take of metadata is
// often limited to 8 KiB, and of a message every byte may become three.
const maxStatusMessage = 1 << 10

// Values of answer headers; never written.
var (
	grpcOK             = []string{"0"}
	grpcAcceptEncoding = []string{"identity,gzip,deflate,zstd"}
)

// answerCall writes the response that OTLP/gRPC has for err: an Export…ServiceResponse and the status OK behind it,
// or an error's status alone, in one block of headers.
func (r *Receiver) answerCall(w http.ResponseWriter, signal otlp.Signal, err error) {
	h := w.Header()
	partial, isPartial := errors.AsType[*otlp.PartialSuccess](err)
	if err != nil && !isPartial {
		writeStatus(h, asError(err))
		return
	}
	message := otlp.AppendResponse(make([]byte, framePrefix), otlp.Protobuf, signal, partial)
	binary.BigEndian.PutUint32(message[1:], uint32(len(message)-framePrefix))
	h[http.TrailerPrefix+"Grpc-Status"] = grpcOK
	w.Write(message)
}

// writeStatus makes h the answer of a call that failed. The details are written where they say more than the
// code: that and when the same request may be sent again.
func writeStatus(h http.Header, e *otlp.Error) {
	code, retryInfo := callCode(e)
	message := cut(e.Message, maxStatusMessage)
	h["Grpc-Status"] = []string{strconv.Itoa(int(code))}
	if message != "" {
		h["Grpc-Message"] = []string{percentEncode(message)}
	}
	if retryInfo {
		status := otlp.AppendRetryInfo(otlp.AppendStatus(nil, otlp.Protobuf, code, message), e.RetryAfter)
		h["Grpc-Status-Details-Bin"] = []string{base64.RawStdEncoding.EncodeToString(status)}
	}
}

// callCode is the code that carries e, and whether a RetryInfo goes with it. It is e's own, unless by that a client
// would decide wrongly whether to send the same request again (OTLP specification, "OTLP/gRPC Response", "Failures"):
// gRPC has no other way to say so.
func callCode(e *otlp.Error) (code otlp.Code, retryInfo bool) {
	code = e.Code
	again := false // what a client makes of the code alone
	switch code {
	case otlp.Canceled, otlp.DeadlineExceeded, otlp.Aborted, otlp.OutOfRange, otlp.Unavailable, otlp.DataLoss:
		again = true
	case otlp.ResourceExhausted:
		if e.Retryable {
			return code, true
		}
	}
	switch {
	case e.Retryable && !again:
		code = otlp.Unavailable
	case !e.Retryable && again:
		code = otlp.Internal
	case code <= otlp.OK || code > otlp.Unauthenticated:
		code = otlp.Unknown
	}
	return code, e.Retryable && e.RetryAfter > 0
}

// cut is at most the first n bytes of s, up to the end of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// percentEncode writes a Status-Message: what is not printable ASCII, and the percent sign, as its UTF-8 bytes in
// hex. A space at either end too: header values have none there.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	s = strings.ToValidUTF8(s, "\uFFFD")
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c > '~' || c == '%', c == ' ' && (i == 0 || i == len(s)-1):
			out = append(out, '%', hex[c>>4], hex[c&15])
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

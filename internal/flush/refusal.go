package flush

import (
	"errors"
	"net/http"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// refused is the permanent error in err; nil where the same request may be sent again.
func refused(err error) *otlp.Error {
	var e *otlp.Error
	if errors.As(err, &e) && !e.Retryable {
		return e
	}
	return nil
}

// isTooLarge says whether a request was refused for its size. HTTP has a status for that. gRPC's code says as well
// that a quota is used up, where halving would only multiply the requests: the text tells them apart, as grpc-go,
// gRPC's C core, grpc-java, gRPC for .NET and our own receiver word it.
func isTooLarge(e *otlp.Error) bool {
	if e.HTTPStatus != 0 {
		return e.HTTPStatus == http.StatusRequestEntityTooLarge
	}
	if e.Code != otlp.ResourceExhausted {
		return false
	}
	text := strings.ToLower(e.Message)
	for _, words := range []string{"larger than", "too large", "maximum size", "message size"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// isMalformed says whether a request was refused for what it holds, be it in one of its parts.
func isMalformed(e *otlp.Error) bool {
	return e.HTTPStatus == http.StatusBadRequest || e.HTTPStatus == 0 && e.Code == otlp.InvalidArgument
}

// aboutDestination says whether a refusal would be the same whatever the request holds.
func aboutDestination(e *otlp.Error) bool {
	switch e.HTTPStatus {
	case 0:
		switch e.Code {
		case otlp.Unauthenticated, otlp.PermissionDenied, otlp.NotFound, otlp.Unimplemented, otlp.ResourceExhausted:
			return true
		}
		return false
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		return true
	}
	return e.HTTPStatus >= 300 && e.HTTPStatus < 400
}

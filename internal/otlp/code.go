package otlp

import "net/http"

// HTTPStatus is the HTTP status that carries c. What OTLP/gRPC calls retryable gets a status that OTLP/HTTP
// calls retryable, and nothing else but ResourceExhausted does (OTLP specification, "Failures" of both).
func HTTPStatus(c Code) int {
	switch c {
	case OK:
		return http.StatusOK
	case InvalidArgument, FailedPrecondition:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case PermissionDenied:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case ResourceExhausted:
		return http.StatusTooManyRequests
	case Unimplemented:
		return http.StatusNotImplemented
	case Canceled, Aborted, OutOfRange, Unavailable, DataLoss:
		return http.StatusServiceUnavailable
	case DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// CodeForHTTP is the code that says what an HTTP status says. Of those with a status of their own it is the
// inverse of HTTPStatus.
func CodeForHTTP(status int) Code {
	switch status {
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return PermissionDenied
	case http.StatusNotFound:
		return NotFound
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return Unimplemented
	case http.StatusConflict:
		return Aborted
	case http.StatusPreconditionFailed:
		return FailedPrecondition
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return ResourceExhausted // as gRPC answers a message over its limit
	case statusClientClosed:
		return Canceled
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return Unavailable
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return DeadlineExceeded
	}
	switch status / 100 {
	case 2:
		return OK
	case 4:
		return InvalidArgument
	case 5:
		return Internal
	}
	return Unknown
}

// statusClientClosed is what some proxies log, and answer, for a client that went away.
const statusClientClosed = 499

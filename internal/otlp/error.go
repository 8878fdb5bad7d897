package otlp

import (
	"fmt"
	"strconv"
	"time"
)

// Code is a google.rpc.Code: the status vocabulary of OTLP's error bodies and of OTLP/gRPC.
type Code int32

// The codes that OTLP gives a meaning to.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// String is the code's name as gRPC spells it.
func (c Code) String() string {
	if c < 0 || int(c) >= len(codeNames) {
		return "code " + strconv.Itoa(int(c))
	}
	return codeNames[c]
}

// Error is a Sink's refusal of a whole request. It survives a hop: what a receiver writes for it, an
// exporter reads back as an equal Error but for Err.
type Error struct {
	Code       Code
	HTTPStatus int           // the HTTP status that carries it; 0 where gRPC did, or no answer came
	Message    string        // for the operator; printable, at most 256 bytes when it came from a backend
	Retryable  bool          // the same request may be sent again
	RetryAfter time.Duration // the least time to wait first; 0 where the backend did not say
	Err        error         // the cause on this side (a dial error, a context's cause), or nil
}

// Error is the message, with the status that carried it. A refusal that neither HTTP carried nor a cause on this
// side explains is gRPC's.
func (e *Error) Error() string {
	status := ""
	switch {
	case e.HTTPStatus != 0:
		status = fmt.Sprintf("HTTP %d", e.HTTPStatus)
	case e.Err == nil:
		status = "gRPC " + e.Code.String()
	case e.Message == "":
		return e.Err.Error()
	default:
		return e.Message + ": " + e.Err.Error()
	}
	if e.Message == "" {
		return status
	}
	return status + ": " + e.Message
}

// Unwrap is the cause on this side, so that errors.Is finds a deadline or a dial error.
func (e *Error) Unwrap() error { return e.Err }

// PartialSuccess is the answer of a Sink that took the request but rejected some records for good, or that
// has a warning (Rejected 0). OTLP forbids sending such a request again.
type PartialSuccess struct {
	Rejected int64  // records
	Message  string // the backend's explanation
}

// Error says how many records were rejected and why.
func (e *PartialSuccess) Error() string {
	return fmt.Sprintf("partial success: %d records rejected: %s", e.Rejected, e.Message)
}

// Package export holds the clients that carry telemetry out of the process. Each is an otlp.Sink, and so is
// what wraps them: Retry sends again within a budget, Breaker stops sending to a backend that is down.
//
// HTTP and GRPC do not use net/http's Transport: after a Lambda sandbox was frozen, the Transport writes its first
// request to a connection that the peer has closed meanwhile, and gives the error to the caller. They look at
// their connection before they trust it, judge its age by wall time, which runs on during a freeze, and try once
// more on a fresh one. For HTTP/2 the Transport would also bring 450 KB, a goroutine per connection, and three times
// the CPU per request.
package export

import (
	"context"
	"errors"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// mayRetry says whether the request that ended with err may be sent again: the word of an *otlp.Error, and
// true for an error that is neither that nor a partial success, because then nobody refused the request.
func mayRetry(err error) bool {
	var e *otlp.Error
	if errors.As(err, &e) {
		return e.Retryable
	}
	var partial *otlp.PartialSuccess
	return err != nil && !errors.As(err, &partial)
}

// ended is the error of a request that ctx ended: its cause says who did, and why.
func ended(ctx context.Context, message string) *otlp.Error {
	e := &otlp.Error{Code: otlp.Canceled, Message: message, Retryable: true, Err: context.Cause(ctx)}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code = otlp.DeadlineExceeded
	}
	return e
}

package otlptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// never is no word on when to try again.
const never time.Duration = -1

// hop is an error of a sink and how each protocol carries it. Whoever reads the answer must learn what the sink
// said: a status survives a hop.
type hop struct {
	name    string
	err     error
	message string // "": any

	status     int // of OTLP/HTTP, with code in the body
	code       otlp.Code
	retryAfter time.Duration

	grpc otlp.Code // the code, unless a client would decide wrongly by it
	wait time.Duration
}

var hops = []hop{
	{"status as it came", &otlp.Error{Code: otlp.PermissionDenied, HTTPStatus: 403, Message: "wrong key"}, "wrong key",
		403, otlp.PermissionDenied, never, otlp.PermissionDenied, never},
	{"status and code disagree", &otlp.Error{Code: otlp.InvalidArgument, HTTPStatus: 422, Message: "span too old"}, "span too old",
		422, otlp.InvalidArgument, never, otlp.InvalidArgument, never},
	{"throttled", &otlp.Error{Code: otlp.ResourceExhausted, HTTPStatus: 429, Message: "slow down", Retryable: true, RetryAfter: 30 * time.Second}, "slow down",
		429, otlp.ResourceExhausted, 30 * time.Second, otlp.ResourceExhausted, 30 * time.Second},
	{"throttled for no known time", &otlp.Error{Code: otlp.ResourceExhausted, HTTPStatus: 429, Message: "slow down", Retryable: true}, "slow down",
		429, otlp.ResourceExhausted, never, otlp.ResourceExhausted, 0}, // without a RetryInfo a client would not try again
	{"part of a second", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "soon", Retryable: true, RetryAfter: 1}, "soon",
		503, otlp.Unavailable, time.Second, otlp.Unavailable, 1},
	{"rounded up", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 502, Message: "later", Retryable: true, RetryAfter: 2001 * time.Millisecond}, "later",
		502, otlp.Unavailable, 3 * time.Second, otlp.Unavailable, 2001 * time.Millisecond},
	{"whole seconds stay", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 504, Message: "late", Retryable: true, RetryAfter: 2 * time.Second}, "late",
		504, otlp.Unavailable, 2 * time.Second, otlp.Unavailable, 2 * time.Second},
	{"internal", &otlp.Error{Code: otlp.Internal, HTTPStatus: 500, Message: "oops"}, "oops",
		500, otlp.Internal, never, otlp.Internal, never},
	{"wrapped", fmt.Errorf("send: %w", &otlp.Error{Code: otlp.NotFound, HTTPStatus: 404, Message: "no tenant"}), "no tenant",
		404, otlp.NotFound, never, otlp.NotFound, never},
	{"message beyond ASCII", &otlp.Error{Code: otlp.InvalidArgument, HTTPStatus: 400, Message: " prüfe \"x\" 100%41 \\ \n "}, " prüfe \"x\" 100%41 \\ \n ",
		400, otlp.InvalidArgument, never, otlp.InvalidArgument, never},
	{"code alone", &otlp.Error{Code: otlp.Unauthenticated, Message: "who are you"}, "who are you",
		401, otlp.Unauthenticated, never, otlp.Unauthenticated, never},
	{"code alone, retryable", &otlp.Error{Code: otlp.Unavailable, Message: "down", Retryable: true}, "down",
		503, otlp.Unavailable, never, otlp.Unavailable, never},
	{"every retryable code", &otlp.Error{Code: otlp.Aborted, Message: "conflict", Retryable: true}, "conflict",
		503, otlp.Aborted, never, otlp.Aborted, never},
	{"retryable against its code", &otlp.Error{Code: otlp.Internal, Message: "again", Retryable: true, RetryAfter: time.Minute}, "again",
		503, otlp.Internal, time.Minute, otlp.Unavailable, time.Minute},
	{"permanent against its code", &otlp.Error{Code: otlp.Unavailable, Message: "never"}, "never",
		500, otlp.Unavailable, never, otlp.Internal, never},
	{"permanent against its code, with a status", &otlp.Error{Code: otlp.DeadlineExceeded, HTTPStatus: 408, Message: "slow client"}, "slow client",
		408, otlp.DeadlineExceeded, never, otlp.Internal, never},
	{"exhausted for good", &otlp.Error{Code: otlp.ResourceExhausted, Message: "too large"}, "too large",
		413, otlp.ResourceExhausted, never, otlp.ResourceExhausted, never},
	{"no code either", &otlp.Error{Message: "odd"}, "odd",
		500, 0, never, otlp.Unknown, never},
	{"a code that nobody knows", &otlp.Error{Code: 77, Message: "odd"}, "odd",
		500, 77, never, otlp.Unknown, never},
	{"redirect", &otlp.Error{Code: otlp.FailedPrecondition, HTTPStatus: 302, Message: "moved"}, "moved",
		400, otlp.FailedPrecondition, never, otlp.FailedPrecondition, never},
	{"cause alone", &otlp.Error{Code: otlp.Unavailable, Retryable: true, Err: errors.New("connection refused")}, "connection refused",
		503, otlp.Unavailable, never, otlp.Unavailable, never},
	{"unknown error", errors.New("disk on fire"), "",
		500, otlp.Internal, never, otlp.Internal, never},
}

// sinkErrors checks each hop, in each encoding, on one connection.
func (s suite) sinkErrors(t *testing.T) {
	g := s.target(t, suiteLimit)
	l := g.dial(t)
	for _, enc := range s.encodings() {
		for _, h := range hops {
			t.Run(h.name+" "+enc.ContentType(), func(t *testing.T) {
				g.sink.answers(func() error { return h.err })
				m := s.message(otlp.Traces, enc, otlp.None, 1)
				got := l.send(m, 0).answer().refused(t)
				want := refusedAs{h.status, h.code, h.message, h.retryAfter != never, max(0, h.retryAfter)}
				if s.protocol == GRPC {
					want = refusedAs{200, h.grpc, h.message, h.wait != never, max(0, h.wait)}
				}
				if h.message == "" {
					want.message = got.message
				}
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				g.checkTaken(t, m)
			})
		}
		for _, sig := range otlp.Signals() {
			t.Run(fmt.Sprint("partial success ", sig, enc.ContentType()), func(t *testing.T) { g.partialSuccess(t, l, sig, enc) })
		}
	}
}

// partialSuccess checks that what the sink rejected is answered, in the signal's own response.
func (g *target) partialSuccess(t *testing.T, l line, sig otlp.Signal, enc otlp.Encoding) {
	for _, want := range []otlp.PartialSuccess{{Rejected: 2, Message: "too old"}, {Message: "a warning: \"x\""}} {
		g.sink.answers(func() error { return &want })
		m := g.message(sig, enc, otlp.None, 3)
		body := l.send(m, 0).answer().response(t)
		if got, err := decodePartial(sig, enc, body); err != nil || got != want {
			t.Errorf("answer %q (%v): %+v, want %+v", body, err, got, want)
		}
		g.checkTaken(t, m)
	}
}

// decodePartial decodes a response with the collector's types.
func decodePartial(sig otlp.Signal, enc otlp.Encoding, body []byte) (otlp.PartialSuccess, error) {
	if enc == otlp.JSON && !json.Valid(body) {
		return otlp.PartialSuccess{}, errors.New("no JSON")
	}
	type response interface {
		UnmarshalProto([]byte) error
		UnmarshalJSON([]byte) error
	}
	read := func(into response) error {
		if enc == otlp.JSON {
			return into.UnmarshalJSON(body)
		}
		return into.UnmarshalProto(body)
	}
	switch sig {
	case otlp.Traces:
		x := ptraceotlp.NewExportResponse()
		err := read(x)
		return otlp.PartialSuccess{Rejected: x.PartialSuccess().RejectedSpans(), Message: x.PartialSuccess().ErrorMessage()}, err
	case otlp.Metrics:
		x := pmetricotlp.NewExportResponse()
		err := read(x)
		return otlp.PartialSuccess{Rejected: x.PartialSuccess().RejectedDataPoints(), Message: x.PartialSuccess().ErrorMessage()}, err
	case otlp.Logs:
		x := plogotlp.NewExportResponse()
		err := read(x)
		return otlp.PartialSuccess{Rejected: x.PartialSuccess().RejectedLogRecords(), Message: x.PartialSuccess().ErrorMessage()}, err
	}
	x := pprofileotlp.NewExportResponse()
	err := read(x)
	return otlp.PartialSuccess{Rejected: x.PartialSuccess().RejectedProfiles(), Message: x.PartialSuccess().ErrorMessage()}, err
}

// sinkPanics checks that a bug behind the receiver costs one request: not the process, nor the connection.
func (s suite) sinkPanics(t *testing.T) {
	g := s.target(t, suiteLimit)
	l := g.dial(t)
	g.sink.answers(func() error { panic("a bug") })
	m := s.message(otlp.Traces, s.encodings()[0], otlp.Gzip, 1)
	s.mustRefuse(t, l.send(m, 0).answer(), internal)
	g.sink.answers(nil)
	mustTake(t, l.send(m, 0).answer(), m.Encoding)
	g.checkTaken(t, m, m)
}

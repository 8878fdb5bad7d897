package otlptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// hops are errors of a sink and how OTLP/HTTP carries them. Whoever reads the answer must learn what the
// sink said: a status survives a hop.
var hops = []struct {
	name       string
	err        error
	status     int
	code       otlp.Code
	message    string
	retryAfter int // seconds; 0: no such header
}{
	{"status as it came", &otlp.Error{Code: otlp.PermissionDenied, HTTPStatus: 403, Message: "wrong key"}, 403, otlp.PermissionDenied, "wrong key", 0},
	{"status and code disagree", &otlp.Error{Code: otlp.InvalidArgument, HTTPStatus: 422, Message: "span too old"}, 422, otlp.InvalidArgument, "span too old", 0},
	{"throttled", &otlp.Error{Code: otlp.ResourceExhausted, HTTPStatus: 429, Message: "slow down", Retryable: true, RetryAfter: 30 * time.Second}, 429, otlp.ResourceExhausted, "slow down", 30},
	{"part of a second", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "soon", Retryable: true, RetryAfter: 1}, 503, otlp.Unavailable, "soon", 1},
	{"rounded up", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 502, Message: "later", Retryable: true, RetryAfter: 2001 * time.Millisecond}, 502, otlp.Unavailable, "later", 3},
	{"whole seconds stay", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 504, Message: "late", Retryable: true, RetryAfter: 2 * time.Second}, 504, otlp.Unavailable, "late", 2},
	{"internal", &otlp.Error{Code: otlp.Internal, HTTPStatus: 500, Message: "oops"}, 500, otlp.Internal, "oops", 0},
	{"wrapped", fmt.Errorf("send: %w", &otlp.Error{Code: otlp.NotFound, HTTPStatus: 404, Message: "no tenant"}), 404, otlp.NotFound, "no tenant", 0},
	{"message beyond ASCII", &otlp.Error{Code: otlp.InvalidArgument, HTTPStatus: 400, Message: "prüfe \"x\" \\ \n"}, 400, otlp.InvalidArgument, "prüfe \"x\" \\ \n", 0},
	{"code alone", &otlp.Error{Code: otlp.Unauthenticated, Message: "who are you"}, 401, otlp.Unauthenticated, "who are you", 0},
	{"code alone, retryable", &otlp.Error{Code: otlp.Unavailable, Message: "down", Retryable: true}, 503, otlp.Unavailable, "down", 0},
	{"retryable against its code", &otlp.Error{Code: otlp.Internal, Message: "again", Retryable: true}, 503, otlp.Internal, "again", 0},
	{"permanent against its code", &otlp.Error{Code: otlp.Unavailable, Message: "never"}, 500, otlp.Unavailable, "never", 0},
	{"exhausted for good", &otlp.Error{Code: otlp.ResourceExhausted, Message: "too large"}, 413, otlp.ResourceExhausted, "too large", 0},
	{"no code either", &otlp.Error{Message: "odd"}, 500, 0, "odd", 0},
	{"redirect", &otlp.Error{Code: otlp.FailedPrecondition, HTTPStatus: 302, Message: "moved"}, 400, otlp.FailedPrecondition, "moved", 0},
	{"cause alone", &otlp.Error{Code: otlp.Unavailable, Retryable: true, Err: errors.New("connection refused")}, 503, otlp.Unavailable, "connection refused", 0},
	{"unknown error", errors.New("disk on fire"), 500, otlp.Internal, "", 0},
}

// sinkErrors checks each hop, in both encodings, on one connection.
func (s suite) sinkErrors(t *testing.T) {
	g := s.target(t, suiteLimit)
	c := g.dial(t)
	for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
		for _, hop := range hops {
			t.Run(hop.name+" "+enc.ContentType(), func(t *testing.T) {
				g.sink.answer = func() error { return hop.err }
				m := s.message(otlp.Traces, enc, otlp.None, 1)
				c.write(m.post().wire(g))
				r := c.read("POST")
				st, err := r.rpcStatus(enc)
				if err != nil {
					t.Fatalf("body %q is no google.rpc.Status: %v", r.body, err)
				}
				r.checkType(t, enc)
				if r.status != hop.status || st.GetCode() != int32(hop.code) || hop.message != "" && st.GetMessage() != hop.message {
					t.Errorf("got %d, code %d, %q; want %d, code %d, %q", r.status, st.GetCode(), st.GetMessage(), hop.status, hop.code, hop.message)
				}
				want := ""
				if hop.retryAfter > 0 {
					want = strconv.Itoa(hop.retryAfter)
				}
				if got := r.header.Get("Retry-After"); got != want {
					t.Errorf("Retry-After: %q, want %q", got, want)
				}
				g.checkTaken(t, m)
			})
		}
		for _, sig := range otlp.Signals() {
			t.Run(fmt.Sprint("partial success ", sig, enc.ContentType()), func(t *testing.T) { s.partialSuccess(t, g, c, sig, enc) })
		}
	}
}

// partialSuccess checks that what the sink rejected is answered, in the signal's own response.
func (s suite) partialSuccess(t *testing.T, g *target, c *session, sig otlp.Signal, enc otlp.Encoding) {
	for _, want := range []otlp.PartialSuccess{{Rejected: 2, Message: "too old"}, {Message: "a warning: \"x\""}} {
		g.sink.answer = func() error { return &want }
		m := s.message(sig, enc, otlp.None, 3)
		c.write(m.post().wire(g))
		r := c.read("POST")
		r.checkType(t, enc)
		got, err := r.partialSuccess(sig, enc)
		if r.status != 200 || err != nil || got != want {
			t.Errorf("answer %d %q (%v): %+v, want 200, %+v", r.status, r.body, err, got, want)
		}
		g.checkTaken(t, m)
	}
}

// partialSuccess decodes the answer with the collector's types.
func (r reply) partialSuccess(sig otlp.Signal, enc otlp.Encoding) (otlp.PartialSuccess, error) {
	if enc == otlp.JSON && !json.Valid(r.body) {
		return otlp.PartialSuccess{}, errors.New("no JSON")
	}
	type response interface {
		UnmarshalProto([]byte) error
		UnmarshalJSON([]byte) error
	}
	read := func(into response) error {
		if enc == otlp.JSON {
			return into.UnmarshalJSON(r.body)
		}
		return into.UnmarshalProto(r.body)
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
	c := g.dial(t)
	g.sink.answer = func() error { panic("a bug") }
	m := s.message(otlp.Traces, otlp.JSON, otlp.Gzip, 1)
	c.write(m.post().wire(g))
	c.read("POST").checkRefused(t, 500, otlp.JSON)
	g.sink.answer = nil
	c.write(m.post().wire(g))
	c.read("POST").checkOK(t, otlp.JSON)
	g.checkTaken(t, m, m)
}

// overload has many clients with bodies half sent, together many times the limit: every one is answered
// 200, whoever had to wait.
func (s suite) overload(t *testing.T) {
	var want []message
	for range 12 {
		want = append(want, s.message(otlp.Traces, otlp.Protobuf, otlp.None, 300))
	}
	for i := range 10 {
		want = append(want, s.message(otlp.Logs, otlp.JSON, codings[i%len(codings)], 20))
	}
	g := s.target(t, len(want[0].Body)*5/4)
	var writing sync.WaitGroup
	defer writing.Wait()
	var sessions []*session
	var wires []string
	for i, m := range want {
		q := m.post()
		q.chunks = i % 3 * 1000
		sessions, wires = append(sessions, g.dial(t)), append(wires, q.wire(g))
		sessions[i].write(wires[i][:len(wires[i])/2]) // all have begun before any may end
	}
	for i, c := range sessions {
		writing.Go(func() { c.write(wires[i][len(wires[i])/2:]) })
	}
	for i, c := range sessions {
		c.read("POST").checkOK(t, want[i].Encoding)
	}
	g.checkTaken(t, want...)
}

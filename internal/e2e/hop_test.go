package e2e

import (
	"context"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

type sinkFunc func(otlp.Payload) error

func (f sinkFunc) Send(_ context.Context, p otlp.Payload) error { return f(p) }

// receiverOf is the address of a receiver that answers what answer returns.
func receiverOf(t *testing.T, answer func() error) string {
	t.Helper()
	return listen(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return answer() })})
}

// listen runs a receiver until the test ends, and returns its address.
func listen(t *testing.T, c receiver.Config) string {
	t.Helper()
	r := receiver.New(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	t.Cleanup(func() {
		r.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// hop is an exporter of a signal that sends to a receiver, which answers what answer returns.
func hop(t *testing.T, sig otlp.Signal, answer func() error) otlp.Sink {
	t.Helper()
	h, err := export.NewHTTP(export.HTTPConfig{
		URL: &url.URL{Scheme: "http", Host: receiverOf(t, answer), Path: sig.Path()}, Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// grpcHop is hop over OTLP/gRPC, for any signal.
func grpcHop(t *testing.T, answer func() error) otlp.Sink {
	t.Helper()
	g, err := export.NewGRPC(export.GRPCConfig{URL: &url.URL{Scheme: "http", Host: receiverOf(t, answer)}, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// outcome is what a receiver's sink returns, and what must come out of the hop over HTTP.
type outcome struct {
	name string
	err  error
	want error // nil: err itself
}

// outcomes are of every kind.
func outcomes() []outcome {
	rows := []outcome{{name: "success"}}
	backend := func(name string, e otlp.Error) { rows = append(rows, outcome{name: name, err: &e}) }
	for _, status := range []int{400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 431, 499, 500, 501, 505, 511} {
		backend("permanent", otlp.Error{Code: otlp.CodeForHTTP(status), HTTPStatus: status, Message: "no"})
	}
	for _, status := range []int{429, 502, 503, 504} {
		for _, wait := range []time.Duration{0, time.Second, 90 * time.Second, 24 * time.Hour} {
			backend("retryable", otlp.Error{Code: otlp.CodeForHTTP(status), HTTPStatus: status, Message: "later", Retryable: true, RetryAfter: wait})
		}
	}
	backend("a code that the status does not say", otlp.Error{Code: otlp.FailedPrecondition, HTTPStatus: 400, Message: "index missing"})
	backend("a message of many characters", otlp.Error{Code: otlp.Internal, HTTPStatus: 500, Message: `"quoted" \ ünïcode 日本 <html>`})
	backend("no message", otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Retryable: true})
	rows = append(rows,
		outcome{"part of a second", &otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "m", Retryable: true, RetryAfter: 1200 * time.Millisecond},
			&otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "m", Retryable: true, RetryAfter: 2 * time.Second}}, // never sooner
		outcome{"no answer came", &otlp.Error{Code: otlp.Unavailable, Message: "send", Retryable: true, Err: errors.New("reset")},
			&otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "send", Retryable: true}},
		outcome{"only a cause", &otlp.Error{Code: otlp.Unavailable, Retryable: true, Err: errors.New("reset")},
			&otlp.Error{Code: otlp.Unavailable, HTTPStatus: 503, Message: "reset", Retryable: true}},
		outcome{"partial success", &otlp.PartialSuccess{Rejected: 3, Message: "too old"}, nil},
		outcome{"another error", errors.New("disk full"), &otlp.Error{Code: otlp.Internal, HTTPStatus: 500, Message: "internal error: disk full"}},
	)
	// What gRPC answers has no HTTP status: whether a retry helps is what must survive.
	for code := otlp.Canceled; code <= otlp.Unauthenticated; code++ {
		for _, retryable := range []bool{false, true} {
			e := &otlp.Error{Code: code, Message: "from gRPC", Retryable: retryable}
			rows = append(rows, outcome{"gRPC", e, e})
		}
	}
	for i := range rows {
		if rows[i].want == nil {
			rows[i].want = rows[i].err
		}
	}
	return rows
}

// What a backend answered reaches the sender unchanged through any number of relays: a status survives a hop.
func TestAStatusSurvivesAHop(t *testing.T) {
	var b otlptest.Builder
	for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
		for _, sig := range otlp.Signals() {
			var answer error
			sink := hop(t, sig, func() error { return answer })
			request := b.Build(sig, enc, 5).Payload(time.Now())
			for _, r := range outcomes() {
				answer = r.err
				got := sink.Send(t.Context(), request)
				if !sameFate(got, r.want) {
					t.Errorf("%s of %s, %s: %#v arrived as %#v, want %#v", enc.ContentType(), sig, r.name, r.err, got, r.want)
				}
			}
		}
	}
}

// The same over gRPC, with the exact time to wait. Where gRPC's codes fix whether a retry helps, that comes first.
func TestAStatusSurvivesAHopOverGRPC(t *testing.T) {
	var b otlptest.Builder
	var answer error
	sink := grpcHop(t, func() error { return answer })
	for _, sig := range otlp.Signals() {
		request := b.Build(sig, otlp.Protobuf, 5).Payload(time.Now())
		for _, r := range outcomes() {
			answer = r.err
			want := overGRPC(r)
			for range 2 { // through two relays
				got := sink.Send(t.Context(), request)
				if !sameFate(got, want) {
					t.Errorf("%s, %s: %#v arrived as %#v, want %#v", sig, r.name, r.err, got, want)
				}
				answer = got
			}
		}
	}
}

// overGRPC is what must come out of a hop over gRPC.
func overGRPC(o outcome) error {
	var e *otlp.Error
	if !errors.As(o.want, &e) {
		return o.want
	}
	w := *e
	w.HTTPStatus = 0
	var in *otlp.Error
	if errors.As(o.err, &in) {
		w.RetryAfter = in.RetryAfter // to the nanosecond
	}
	again := false // what the code alone says
	switch w.Code {
	case otlp.Canceled, otlp.DeadlineExceeded, otlp.Aborted, otlp.OutOfRange, otlp.Unavailable, otlp.DataLoss:
		again = true
	}
	switch {
	case w.Retryable && !again && w.Code != otlp.ResourceExhausted:
		w.Code = otlp.Unavailable
	case !w.Retryable && again:
		w.Code = otlp.Internal
	}
	return &w
}

// sameFate says whether two outcomes tell a sender the same. Where want has no HTTP status, any may carry it.
func sameFate(got, want error) bool {
	var g, w *otlp.Error
	if errors.As(want, &w) && errors.As(got, &g) {
		return g.Code == w.Code && g.Message == w.Message && g.Retryable == w.Retryable && g.RetryAfter == w.RetryAfter &&
			(w.HTTPStatus == 0 || g.HTTPStatus == w.HTTPStatus)
	}
	var gp, wp *otlp.PartialSuccess
	if errors.As(want, &wp) && errors.As(got, &gp) {
		return *gp == *wp
	}
	return got == nil && want == nil
}

package flush

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func refusal(status int) *otlp.Error   { return &otlp.Error{HTTPStatus: status, Message: "no"} }
func temporary(status int) *otlp.Error { return &otlp.Error{HTTPStatus: status, Retryable: true} }

func TestWhatArrivesDuringAnExportIsMergedIntoTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		gate := make(chan struct{})
		r := newRig(t, func(_ context.Context, p otlp.Payload) error {
			got = append(got, string(p.Body))
			<-gate
			return nil
		}, nil)
		for _, body := range []string{"a", "b", "c"} {
			r.put(otlp.Traces, body)
			r.Start(buffer.Everything)
			synctest.Wait()
		}
		gate <- struct{}{}
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		if !slices.Equal(got, []string{"a", "bc"}) || r.Busy(otlp.Traces) {
			t.Errorf("requests %q, want a then bc", got)
		}
		if r.counts.records != 3 {
			t.Errorf("delivered %d records, want 3", r.counts.records)
		}
	})
}

func TestSignalsLeaveAtOnceAndFailAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var inFlight int
		var mu sync.Mutex
		r := newRig(t, func(_ context.Context, p otlp.Payload) error {
			mu.Lock()
			inFlight++
			mu.Unlock()
			<-release
			if p.Signal == otlp.Metrics {
				return temporary(503)
			}
			return nil
		}, nil)
		for _, sig := range otlp.Signals() {
			r.put(sig, "x")
		}
		result := make(chan error)
		go func() { result <- r.Flush(t.Context()) }()
		synctest.Wait()
		if inFlight != otlp.SignalCount {
			t.Errorf("%d signals in flight, want all %d", inFlight, otlp.SignalCount)
		}
		close(release)
		if err := <-result; err == nil || !strings.Contains(err.Error(), "metrics") || strings.Contains(err.Error(), "traces") {
			t.Errorf("Flush = %v, want metrics named alone", err)
		}
		if r.counts.records != 3 || r.left(otlp.Metrics) != "x" {
			t.Errorf("delivered %d, want the other three; metrics must be queued again", r.counts.records)
		}
	})
}

func TestOutcomes(t *testing.T) {
	poisoned := func(e *otlp.Error) sinkFunc {
		return func(_ context.Context, p otlp.Payload) error {
			if bytes.ContainsRune(p.Body, 'X') {
				return e
			}
			return nil
		}
	}
	poison := func(status int) sinkFunc { return poisoned(refusal(status)) }
	overGRPC := func(code otlp.Code, message string) *otlp.Error { return &otlp.Error{Code: code, Message: message} }
	tests := []struct {
		name      string
		sink      sinkFunc
		bodies    string // one payload a word
		delivered int
		dropped   map[otlp.Reason]int
		left      string
		requests  int
	}{
		{"all good", poison(0), "a b c", 3, nil, "", 1},
		{"one poisoned payload, bisected", poison(400), "a b X c", 3, map[otlp.Reason]int{"refused": 1}, "", 5},
		{"one poisoned payload, singly", poison(500), "a b X c", 3, map[otlp.Reason]int{"refused": 1}, "", 5},
		{"nothing but poison", poison(422), "X X X", 0, map[otlp.Reason]int{"refused": 3}, "", 4},
		{"wrong key: asked no more than it takes", poison(401), "X X X X X X", 0, map[otlp.Reason]int{"refused": 6}, "", 3},
		{"413 on a merged request", func(_ context.Context, p otlp.Payload) error {
			if len(p.Body) > 2 {
				return refusal(413)
			}
			return nil
		}, "a b c d e", 5, nil, "", 5},
		{"gRPC: one poisoned payload, bisected", poisoned(overGRPC(otlp.InvalidArgument, "bad")), "a b X c", 3, map[otlp.Reason]int{"refused": 1}, "", 5},
		{"gRPC: one poisoned payload, singly", poisoned(overGRPC(otlp.Internal, "bad")), "X X X X", 0, map[otlp.Reason]int{"refused": 4}, "", 5},
		{"gRPC: wrong key", poisoned(overGRPC(otlp.Unauthenticated, "who?")), "X X X X X X", 0, map[otlp.Reason]int{"refused": 6}, "", 3},
		{"gRPC: no such service", poisoned(overGRPC(otlp.Unimplemented, "unknown service")), "X X X X X X", 0, map[otlp.Reason]int{"refused": 6}, "", 3},
		{"gRPC: a quota is used up", poisoned(overGRPC(otlp.ResourceExhausted, "quota of 5 GB a day")), "X X X X X X", 0, map[otlp.Reason]int{"refused": 6}, "", 3},
		{"gRPC: a merged request that is too large", func(_ context.Context, p otlp.Payload) error {
			if len(p.Body) > 2 {
				return overGRPC(otlp.ResourceExhausted, "grpc: received message larger than max (5 vs. 2)")
			}
			return nil
		}, "a b c d e", 5, nil, "", 5},
		{"gRPC: a proxy finds it too large", func(_ context.Context, p otlp.Payload) error {
			if len(p.Body) > 2 {
				return &otlp.Error{Code: otlp.Unknown, HTTPStatus: 413}
			}
			return nil
		}, "a b c d e", 5, nil, "", 5},
		{"temporary", func(context.Context, otlp.Payload) error { return temporary(503) }, "a b c", 0, nil, "a b c", 1},
		{"temporary in the middle of bisecting", func(_ context.Context, p otlp.Payload) error {
			switch {
			case len(p.Body) > 1:
				return refusal(400)
			case string(p.Body) == "c":
				return temporary(429)
			}
			return nil
		}, "a b c d", 2, nil, "c d", 6},
		{"temporary in the middle of single sends", func(_ context.Context, p otlp.Payload) error {
			switch {
			case len(p.Body) > 1:
				return refusal(500)
			case string(p.Body) == "b":
				return temporary(503)
			}
			return nil
		}, "a b c", 1, nil, "b c", 3},
		{"partial success is not sent again", func(context.Context, otlp.Payload) error {
			return &otlp.PartialSuccess{Rejected: 2, Message: "too old"}
		}, "a b c", 1, map[otlp.Reason]int{"rejected": 2}, "", 1},
		{"partial success that lies", func(context.Context, otlp.Payload) error {
			return &otlp.PartialSuccess{Rejected: 1 << 40}
		}, "a b c", 0, map[otlp.Reason]int{"rejected": 3}, "", 1},
		{"an error of unknown kind is temporary", func(context.Context, otlp.Payload) error { return errors.New("?") }, "a b", 0, nil, "a b", 1},
		{"a bug in the sink", func(context.Context, otlp.Payload) error { panic("boom") }, "a b", 0, map[otlp.Reason]int{"internal": 2}, "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requests := 0
			r := newRig(t, func(ctx context.Context, p otlp.Payload) error {
				requests++
				return tt.sink(ctx, p)
			}, nil)
			bodies := strings.Fields(tt.bodies)
			r.put(otlp.Logs, bodies...)
			err := r.Flush(t.Context())
			left := r.left(otlp.Logs)
			if (err != nil) != (left != "") {
				t.Errorf("Flush = %v with %q left", err, left)
			}
			if left != tt.left || r.counts.records != tt.delivered || requests != tt.requests {
				t.Errorf("delivered %d in %d requests, left %q; want %d in %d, %q",
					r.counts.records, requests, left, tt.delivered, tt.requests, tt.left)
			}
			for why, n := range tt.dropped {
				if r.counts.dropped[why] != n {
					t.Errorf("dropped %v, want %v", r.counts.dropped, tt.dropped)
				}
			}
			if len(r.counts.dropped) != len(tt.dropped) {
				t.Errorf("dropped %v, want %v", r.counts.dropped, tt.dropped)
			}
		})
	}
}

func TestRouteNotReadyKeepsItsData(t *testing.T) {
	ready := false
	r := newRig(t, func(context.Context, otlp.Payload) error { return nil }, func(r *Route) {
		r.Ready = func() bool { return ready }
	})
	r.put(otlp.Traces, "a")
	if err := r.Flush(t.Context()); !errors.Is(err, errNotReady) {
		t.Errorf("Flush = %v, want %v", err, errNotReady)
	}
	ready = true
	if err := r.Flush(t.Context()); err != nil || r.counts.records != 1 {
		t.Errorf("Flush = %v, delivered %d", err, r.counts.records)
	}
}

func TestFlushEndsWithItsContextAndTheExportGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(context.Context, otlp.Payload) error {
			time.Sleep(10 * time.Second) // in the bubble's time
			return nil
		}, nil)
		r.put(otlp.Traces, "a")
		cause := errors.New("budget used up")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if err := r.Flush(ctx); !errors.Is(err, cause) {
			t.Errorf("Flush = %v, want the context's cause", err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r.counts.records != 1 {
			t.Error("the export did not go on")
		}
	})
}

func TestStopGivesBackWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(ctx context.Context, _ otlp.Payload) error {
			<-ctx.Done()
			return &otlp.Error{Retryable: true, Err: context.Cause(ctx)}
		}, nil)
		r.put(otlp.Traces, "a", "b")
		r.Start(buffer.Everything)
		synctest.Wait()
		r.Stop(errors.New("over"))
		if got := r.left(otlp.Traces); got != "a b" {
			t.Errorf("queued %q after Stop, want both", got)
		}
	})
}

func TestRecallEndsThePresentExportOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		r := newRig(t, func(ctx context.Context, _ otlp.Payload) error {
			if sent++; sent > 1 {
				return nil
			}
			<-ctx.Done()
			return &otlp.Error{Retryable: true, Err: context.Cause(ctx)}
		}, nil)
		if r.Recall(otlp.Traces) != nil {
			t.Error("something to recall where nothing is exported")
		}
		r.put(otlp.Traces, "a", "b")
		r.Start(buffer.Everything)
		recall := r.Recall(otlp.Traces)
		over := errors.New("over")
		recall(over)
		if err := r.Flush(t.Context()); !errors.Is(err, over) {
			t.Errorf("Flush after a recall: %v, want its cause", err)
		}
		if err := r.Flush(t.Context()); err != nil || r.counts.records != 2 {
			t.Errorf("%v, %d records delivered; want both by the second export", err, r.counts.records)
		}
	})
}

func TestARecallDoesNotReachTheNextRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(ctx context.Context, _ otlp.Payload) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return &otlp.Error{Retryable: true, Err: context.Cause(ctx)}
			}
		}, nil)
		r.put(otlp.Profiles, "a", "b") // never merged: two requests
		r.Start(buffer.Everything)
		recall := r.Recall(otlp.Profiles)
		time.Sleep(1500 * time.Millisecond)
		recall(errors.New("over"))
		if err := r.Flush(t.Context()); err != nil || r.counts.records != 2 {
			t.Errorf("%v, %d records delivered; want both", err, r.counts.records)
		}
	})
}

// TestEveryByteIsAccountedFor sends random payloads to a sink that answers at random, and adds up.
func TestEveryByteIsAccountedFor(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		r := newRig(t, func(context.Context, otlp.Payload) error {
			switch rnd.IntN(6) {
			case 0:
				return temporary(503)
			case 1:
				return refusal(400)
			case 2:
				return refusal(413)
			case 3:
				return &otlp.PartialSuccess{Rejected: int64(rnd.IntN(3))}
			}
			return nil
		}, func(r *Route) { r.BatchBytes = 40 })
		sent, records := 0, 0
		for range 20 {
			n := 1 + rnd.IntN(20)
			r.put(otlp.Traces, strings.Repeat("z", n))
			sent += n
			records++
		}
		for range 3 {
			_ = r.Flush(t.Context())
		}
		leftRecords, left := r.queue.Queued(otlp.Traces)
		lost := 0
		for _, n := range r.counts.dropped {
			lost += n
		}
		if sent != r.counts.delivered+r.counts.lost+left || records != r.counts.records+lost+leftRecords {
			t.Fatalf("seed %d: sent %d/%d, delivered %d/%d, lost %d/%d, left %d/%d", seed, records, sent,
				r.counts.records, r.counts.delivered, lost, r.counts.lost, leftRecords, left)
		}
	}
}

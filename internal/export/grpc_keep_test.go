package export

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// A server ends an idle connection with a word or without, while the function is frozen. Nothing of it shows.
func TestGRPCConnectionClosedWhileIdle(t *testing.T) {
	const rounds = 200
	for name, shut := range map[string]func(*h2Peer){
		"FIN":            func(h *h2Peer) { h.Close() },
		"RST":            func(h *h2Peer) { h.reset() },
		"GOAWAY":         func(h *h2Peer) { h.WriteGoAway(1, http2.ErrCodeNo, []byte("max_age")); h.out.flush() },
		"GOAWAY and FIN": func(h *h2Peer) { h.WriteGoAway(1, http2.ErrCodeNo, nil); h.out.flush(); h.Close() },
		"a last ping":    func(h *h2Peer) { h.WritePing(false, [8]byte{}); h.out.flush(); h.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			shutNow, isShut := make(chan struct{}), make(chan struct{})
			var calls atomic.Int32
			b := newBackend(t, h2Script(func(h *h2Peer) {
				c := h.call()
				if c == nil {
					return
				}
				calls.Add(1)
				h.ok(c)
				h.out.flush()
				select {
				case <-shutNow:
					shut(h)
					isShut <- struct{}{}
				case <-t.Context().Done():
				}
				for h.call() != nil {
					t.Error("a request came on a connection that was given up")
				}
			}))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
			for range rounds {
				if err := g.Send(t.Context(), payload(5500)); err != nil {
					t.Fatal(err)
				}
				shutNow <- struct{}{}
				<-isShut
			}
			if n := calls.Load(); n != rounds {
				t.Errorf("%d requests came, want %d", n, rounds)
			}
			if b.dials.Load() != rounds {
				t.Errorf("%d dials, want %d", b.dials.Load(), rounds)
			}
		})
	}
}

// A server may give up just when the next request arrives: no look at the socket can tell.
func TestGRPCConnectionClosedUnderTheRequest(t *testing.T) {
	for name, shut := range map[string]func(*h2Peer, *grpcCall){
		"FIN":                  func(h *h2Peer, c *grpcCall) { h.Close() },
		"RST":                  func(h *h2Peer, c *grpcCall) { h.reset() },
		"half-close":           func(h *h2Peer, c *grpcCall) { h.Conn.(*net.TCPConn).CloseWrite(); h.call() },
		"GOAWAY":               func(h *h2Peer, c *grpcCall) { h.WriteGoAway(c.stream-2, http2.ErrCodeNo, nil); h.call() },
		"GOAWAY, then nothing": func(h *h2Peer, c *grpcCall) { h.WriteGoAway(c.stream, http2.ErrCodeNo, nil); h.out.flush() },
		"refused":              func(h *h2Peer, c *grpcCall) { h.WriteRSTStream(c.stream, http2.ErrCodeRefusedStream); h.call() },
	} {
		for _, size := range []int{5500, 1 << 20} {
			t.Run(name, func(t *testing.T) {
				rounds := 100
				if size > inlineBody {
					rounds = 5
				}
				var answered atomic.Int32
				b := newBackend(t, h2Script(func(h *h2Peer) {
					c := h.call()
					if c == nil {
						return
					}
					answered.Add(1)
					h.ok(c)
					if c = h.call(); c != nil {
						shut(h, c)
					}
				}))
				g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
				for range rounds {
					if err := g.Send(t.Context(), payload(size)); err != nil {
						t.Fatal(err)
					}
				}
				if n := answered.Load(); n != int32(rounds) {
					t.Errorf("%d requests were answered, want %d", n, rounds)
				}
			})
		}
	}
}

// One retry on a fresh connection, not two; none where the connection was fresh or the answer had begun.
func TestGRPCRetries(t *testing.T) {
	begin := func(h *h2Peer, c *grpcCall) {
		h.headers(c.stream, false, ":status", "200", "content-type", "application/grpc")
		h.out.flush()
	}
	for name, test := range map[string]struct {
		fault func(*h2Peer, *grpcCall)
		dials int32
	}{
		"closed":              {func(h *h2Peer, c *grpcCall) {}, 2},
		"refused":             {func(h *h2Peer, c *grpcCall) { h.WriteRSTStream(c.stream, http2.ErrCodeRefusedStream); h.call() }, 2},
		"begun":               {begin, 1},
		"reset for a reason":  {func(h *h2Peer, c *grpcCall) { h.WriteRSTStream(c.stream, http2.ErrCodeInternal); h.call() }, 1},
		"begun, then refused": {func(h *h2Peer, c *grpcCall) { begin(h, c); h.WriteGoAway(0, http2.ErrCodeNo, nil); h.call() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, h2Script(func(h *h2Peer) {
				if h.n == 1 {
					h.ok(h.call())
				}
				if c := h.call(); c != nil {
					test.fault(h, c)
				}
			}))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
			if err := g.Send(t.Context(), payload(10)); err != nil {
				t.Fatal(err)
			}
			if e := refusal(t, g.Send(t.Context(), payload(10))); !e.Retryable || b.dials.Load() != test.dials {
				t.Errorf("%d dials, want %d; error %v", b.dials.Load(), test.dials, e)
			}
		})
	}
}

func TestGRPCWhatIsKept(t *testing.T) {
	ok := (*h2Peer).ok
	tests := []struct {
		name   string
		answer func(*h2Peer, *grpcCall)
		kept   bool
	}{
		{"a success", ok, true},
		{"an error", failing(true, "grpc-status", "14"), true},
		{"a gateway's error", func(h *h2Peer, c *grpcCall) { h.headers(c.stream, true, ":status", "503") }, true},
		{"a message of 64 KiB", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, false, ":status", "200")
			for _, part := range [][]byte{framed(strings.Repeat("x", maxBody))[:5], make([]byte, maxBody/4), make([]byte, maxBody/4), make([]byte, maxBody/4), make([]byte, maxBody/4)} {
				h.WriteData(c.stream, false, part)
			}
			h.headers(c.stream, true, "grpc-status", "0")
		}, true},
		{"reset once it is answered", func(h *h2Peer, c *grpcCall) { ok(h, c); h.WriteRSTStream(c.stream, http2.ErrCodeNo) }, true},
		{"frames of the connection", func(h *h2Peer, c *grpcCall) {
			ok(h, c)
			h.WritePing(false, [8]byte{1})
			h.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
			h.WriteWindowUpdate(0, 9)
		}, true},
		{"GOAWAY before", func(h *h2Peer, c *grpcCall) { h.WriteGoAway(c.stream, http2.ErrCodeNo, nil); ok(h, c) }, false},
		{"GOAWAY after", func(h *h2Peer, c *grpcCall) { ok(h, c); h.WriteGoAway(c.stream, http2.ErrCodeNo, nil) }, false},
		{"more than the answer", func(h *h2Peer, c *grpcCall) { ok(h, c); h.WriteData(c.stream, false, []byte("more")) }, false},
		{"another answer", func(h *h2Peer, c *grpcCall) { ok(h, c); ok(h, c) }, false},
		{"half a frame", func(h *h2Peer, c *grpcCall) { ok(h, c); h.WritePing(false, [8]byte{}); h.out.Truncate(h.out.Len() - 1) }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			acks := make(chan int, 9)
			b := newBackend(t, serving(func(h *h2Peer, c *grpcCall) { acks <- h.acked; test.answer(h, c) }))
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
			for range 2 {
				g.Send(t.Context(), payload(10))
			}
			if kept := b.dials.Load() == 1; kept != test.kept {
				t.Errorf("kept: %v, want %v", kept, test.kept)
			}
			<-acks
			if second := <-acks; strings.HasPrefix(test.name, "frames") && second != 1 {
				t.Errorf("%d pings were answered before the next request, want 1", second)
			}
		})
	}
}

// Thousands of answers need more window than a connection has at first.
func TestGRPCAnswersWithoutEnd(t *testing.T) {
	b := newBackend(t, serving(func(h *h2Peer, c *grpcCall) {
		if c.stream > 1 && h.window < maxBody {
			t.Errorf("stream %d: the client lets us send %d bytes", c.stream, h.window)
		}
		h.headers(c.stream, false, ":status", "200")
		for range 4 {
			h.WriteData(c.stream, false, make([]byte, 1<<14))
		}
		h.window -= 4 << 14
		h.headers(c.stream, true, "grpc-status", "0")
	}))
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute})
	for range 50 {
		if err := g.Send(t.Context(), payload(10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.dials.Load(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}

// A freeze leaves nothing behind: no goroutine, no socket.
func TestGRPCFreezesLeaveNothingBehind(t *testing.T) {
	b := newBackend(t, serving((*h2Peer).ok))
	var clock wallClock
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, b.grpcURL()), Timeout: time.Minute, Now: clock.now})
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc: " + err.Error())
		}
		return len(entries)
	}
	if err := g.Send(t.Context(), payload(10)); err != nil {
		t.Fatal(err)
	}
	goroutines, open := runtime.NumGoroutine(), files()
	for i := range 2000 {
		if i%2 == 0 {
			clock.freeze(time.Hour)
		}
		size := 10
		if i%100 == 0 {
			size = 200 << 10
		}
		if err := g.Send(t.Context(), payload(size)); err != nil {
			t.Fatal(err)
		}
	}
	g.Close()
	// The server's ends of what was closed go away in their own time.
	for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > goroutines || files() > open; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, at first %d and %d", runtime.NumGoroutine(), files(), goroutines, open)
		}
		runtime.Gosched()
	}
}

func TestGRPCIdleTimeIsWallTime(t *testing.T) {
	for _, test := range []struct {
		frozen, slept time.Duration
		dials         int
	}{{49 * time.Second, 0, 1}, {51 * time.Second, 0, 2}, {0, 51 * time.Second, 2}, {7 * time.Hour, 0, 2}, {-time.Hour, 0, 2}} {
		synctest.Test(t, func(t *testing.T) {
			n := &pipeNet{script: serving((*h2Peer).ok)}
			defer n.Close()
			var clock wallClock
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://backend"), Timeout: 10 * time.Second, Now: clock.now, Dial: n.dial})
			for range 2 {
				if err := g.Send(t.Context(), payload(10)); err != nil {
					t.Fatal(err)
				}
				clock.freeze(test.frozen)
				time.Sleep(test.slept)
			}
			if n.dials != test.dials {
				t.Errorf("frozen %v, slept %v: %d dials, want %d", test.frozen, test.slept, n.dials, test.dials)
			}
		})
	}
}

// While the process is frozen for an hour, the rest of the answer arrives. Where the monotonic clock stands still
// nothing is late; where it runs on, the timeout has passed at the thaw although the answer is there.
func TestGRPCFrozenInMidAnswer(t *testing.T) {
	for _, running := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var clock wallClock
			thawed := make(chan struct{})
			n := &pipeNet{script: h2Script(func(h *h2Peer) {
				h.ok(h.call())
				whole := h.out.String()
				h.say(whole[:len(whole)-7])
				if !running {
					clock.freeze(time.Hour)
					close(thawed)
				}
				<-thawed
				h.say(whole[len(whole)-7:])
				h.out.Reset()
				h.call()
			})}
			if running {
				n.wrap = func(c net.Conn) net.Conn {
					return &interrupted{Conn: c, by: func() { clock.freeze(time.Hour); close(thawed) }}
				}
			}
			defer n.Close()
			g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://backend"), Timeout: 10 * time.Second, Now: clock.now, Dial: n.dial})
			if err := g.Send(t.Context(), payload(10)); err != nil {
				t.Errorf("monotonic clock running %v: %v", running, err)
			}
		})
	}
}

// After a freeze an answer that is not there is not waited for; a trickle and a flow that swallows everything cost
// one timeout, not two.
func TestGRPCTimeouts(t *testing.T) {
	var clock wallClock
	for name, test := range map[string]struct {
		script func(*peer)
		size   int
		extra  time.Duration
	}{
		"hang":             {h2Script(func(h *h2Peer) { h.call(); h.call() }), 10, 0},
		"hang in a freeze": {h2Script(func(h *h2Peer) { h.call(); clock.freeze(time.Hour); h.call() }), 10, thawGrace},
		"trickle": {h2Script(func(h *h2Peer) {
			c := h.call()
			h.headers(c.stream, false, ":status", "200")
			for err := error(nil); err == nil; time.Sleep(time.Second) {
				h.WriteData(c.stream, false, []byte{0})
				_, err = h.Write(h.out.Bytes())
				h.out.Reset()
			}
		}), 10, 0},
		"pings": {h2Script(func(h *h2Peer) {
			h.call()
			for err := error(nil); err == nil; time.Sleep(time.Second) {
				h.WritePing(false, [8]byte{})
				_, err = h.Write(h.out.Bytes())
				h.out.Reset()
			}
		}), 10, 0},
		"swallows":      {swallowing(false), 10, 0},
		"swallows much": {swallowing(false), 2 * inlineBody, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &pipeNet{script: test.script}
				defer time.Sleep(2 * time.Second) // for those that are about to write
				defer n.Close()
				g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://backend"), Timeout: 10 * time.Second, Now: clock.now, Dial: n.dial})
				start := time.Now()
				err := g.Send(t.Context(), payload(test.size))
				e := refusal(t, err)
				if took := time.Since(start); took != 10*time.Second+test.extra || !e.Retryable || e.Code != otlp.DeadlineExceeded || n.dials != 1 {
					t.Errorf("took %v in %d dials: %v", took, n.dials, err)
				}
				budget := errors.New("budget is spent")
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, budget)
				defer cancel()
				start = time.Now()
				err = g.Send(ctx, payload(test.size))
				if took := time.Since(start); took < time.Second || took > time.Second+thawGrace || !errors.Is(err, budget) {
					t.Errorf("took %v: %v", took, err)
				}
			})
		})
	}
}

// A backend that comes and goes, and grpc-go's own way to go: no request is lost, and none comes twice.
func TestGRPCServerRestarts(t *testing.T) {
	b := grpcBackend(t, otlptest.Options{})
	g := newGRPC(t, GRPCConfig{URL: mustURL(t, "http://"+b.Addr()), Timeout: time.Minute})
	var build otlptest.Builder
	var made []string
	for range 100 {
		r := build.Build(otlp.Traces, otlp.Protobuf, 3)
		made = append(made, r.IDs...)
		if err := g.Send(t.Context(), r.Payload(time.Now())); err != nil {
			t.Fatal(err)
		}
		b.CutConns()
	}
	if lost, twice := b.Lost(made), b.Duplicates(); len(lost) > 0 || len(twice) > 0 {
		t.Errorf("%d records lost, %d came twice", len(lost), len(twice))
	}
}

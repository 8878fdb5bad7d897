package receiver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// sinkFunc is a function as a Sink.
type sinkFunc func(otlp.Payload) error

// Send calls the function.
func (f sinkFunc) Send(_ context.Context, p otlp.Payload) error { return f(p) }

const span = `{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"}]}]}]}`

// post is a JSON request with one span and size bytes in all, on the wire.
func post(size int) string {
	body := span + strings.Repeat(" ", size-len(span))
	return fmt.Sprintf("POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// status reads one answer.
func status(t *testing.T, in *bufio.Reader) int {
	t.Helper()
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode
}

// bubble is a receiver behind connections in memory, for use inside synctest.Test.
type bubble struct {
	*receiver.Receiver
	t      *testing.T
	listen *memoryListener
	served chan error
}

func newBubble(t *testing.T, c receiver.Config) *bubble {
	b := &bubble{receiver.New(c), t, newMemoryListener(), make(chan error, 1)}
	go func() { b.served <- b.Serve(b.listen) }()
	t.Cleanup(func() {
		b.Close()
		if err := <-b.served; err != nil {
			t.Errorf("Serve = %v, want nil after Close", err)
		}
	})
	return b
}

func (b *bubble) dial() (net.Conn, *bufio.Reader) {
	b.t.Helper()
	c, err := b.listen.Dial(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

// A freeze stops the world wherever it is: in a head, in a body, before an answer is read, between requests.
func TestFreezeAnywhere(t *testing.T) {
	wire := post(300)
	chunked := strings.Replace(wire[:len(wire)-300], "Content-Length: 300", "Transfer-Encoding: chunked", 1) +
		"12c\r\n" + wire[len(wire)-300:] + "\r\n0\r\n\r\n"
	for _, wire := range []string{wire, chunked} {
		for cut := 0; cut <= len(wire); cut += 20 {
			synctest.Test(t, func(t *testing.T) {
				var got atomic.Int32
				b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { got.Add(1); return nil })})
				c, in := b.dial()
				for n := range int32(2) {
					writeAll(c, wire[:cut])
					synctest.Wait()
					time.Sleep(3 * time.Hour)
					writeAll(c, wire[cut:])
					synctest.Wait()
					time.Sleep(3 * time.Hour) // the answer has not been read
					if s := status(t, in); s != 200 || got.Load() != n+1 {
						t.Errorf("cut at %d: status %d, %d requests taken; want 200, %d", cut, s, got.Load(), n+1)
					}
				}
			})
		}
	}
}

func TestReceivedIsTheInjectedClock(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	var got time.Time
	r := receiver.New(receiver.Config{
		Sink: sinkFunc(func(p otlp.Payload) error { got = p.Received; return nil }),
		Now:  func() time.Time { return at },
	})
	r.ServeHTTP(&discard{header: http.Header{}}, request("application/json", "", []byte(span)))
	if got != at {
		t.Errorf("Received = %v, want %v", got, at)
	}
}

// A request that needs more memory than is free waits, and goes on when the other is done or its client is gone.
func TestWaitsForMemory(t *testing.T) {
	const limit = 1000
	for _, goesAway := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return nil }), MaxBytes: limit})
			wire := post(limit)
			first, firstIn := b.dial()
			writeAll(first, wire[:len(wire)-1])
			synctest.Wait()
			second, secondIn := b.dial()
			var answered atomic.Int32
			go func() { answered.Store(int32(status(t, secondIn))) }()
			writeAll(second, wire)
			synctest.Wait()
			if s := answered.Load(); s != 0 || b.Active() != 2 {
				t.Fatalf("the second request was answered %d with %d active; want it to wait", s, b.Active())
			}
			if goesAway {
				first.Close()
			} else {
				writeAll(first, wire[len(wire)-1:])
				if s := status(t, firstIn); s != 200 {
					t.Errorf("first request: status %d", s)
				}
			}
			synctest.Wait()
			if s := answered.Load(); s != 200 || b.Active() != 0 {
				t.Errorf("second request: status %d, %d active; want 200, 0", s, b.Active())
			}
		})
	}
}

// Close frees those who wait for memory; nothing of theirs reaches the sink.
func TestCloseEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, receiver.Config{
			Sink:     sinkFunc(func(otlp.Payload) error { t.Error("the sink got a request"); return nil }),
			MaxBytes: 1000,
		})
		for range 3 {
			c, _ := b.dial()
			wire := post(1000)
			writeAll(c, wire[:len(wire)-1])
		}
		synctest.Wait()
		if b.Active() != 3 {
			t.Fatalf("%d active, want 3", b.Active())
		}
		b.Close()
		synctest.Wait()
		if b.Active() != 0 {
			t.Errorf("%d active after Close, want 0", b.Active())
		}
	})
}

// Shutdown waits for the requests that have begun: not for silent connections, and not past its context.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := newBubble(t, receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { <-release; return nil })})
		b.dial() // never says anything
		c, in := b.dial()
		writeAll(c, post(100))
		synctest.Wait()

		start := time.Now()
		cause := errors.New("2 s are over")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
		defer cancel()
		if err := b.Shutdown(ctx); !errors.Is(err, cause) || time.Since(start) != 2*time.Second {
			t.Errorf("Shutdown = %v after %v; want its context's cause after 2 s", err, time.Since(start))
		}
		if _, err := b.listen.Dial(t.Context()); err == nil {
			t.Error("a connection was accepted during Shutdown")
		}

		start = time.Now()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := b.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(release)
		if s := status(t, in); s != 200 {
			t.Errorf("status %d, want 200 for the request that had begun", s)
		}
		both.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("Shutdown took %v after the last answer", took)
		}
	})
}

// Ended comes once a request, Active before it; and only once the client can read its answer.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		var mu sync.Mutex
		note := func(what string) func() {
			return func() { mu.Lock(); defer mu.Unlock(); log = append(log, what) }
		}
		b := newBubble(t, receiver.Config{
			Sink:  sinkFunc(func(otlp.Payload) error { note("sent")(); return nil }),
			Ended: note("ended"),
		})
		c, in := b.dial()
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := fmt.Sprint(log, b.Active()); got != want {
				t.Errorf("hooks and Active: %s, want %s", got, want)
			}
		}
		wire := post(100)
		writeAll(c, wire[:20])
		expect("[] 0")
		writeAll(c, wire[20:len(wire)-10])
		expect("[] 1")
		writeAll(c, wire[len(wire)-10:])
		expect("[sent] 1") // net.Pipe has no buffer: the answer is not written until it is read
		status(t, in)
		expect("[sent ended] 0")
		writeAll(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		status(t, in)
		expect("[sent ended ended] 0")
	})
}

func TestListenError(t *testing.T) {
	l, err := receiver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := receiver.Listen(l.Addr().String()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Listen on a port in use = %v, want an error that names it", err)
	}
}

func TestServeError(t *testing.T) {
	l, err := receiver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := receiver.New(receiver.Config{})
	if err := r.Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener = %v, want net.ErrClosed", err)
	}
}

package export

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// The failure that net/http's Transport shows after a freeze: the peer closed the kept connection meanwhile.
func TestKeptConnectionClosedWhileIdle(t *testing.T) {
	const rounds = 200
	for name, shut := range map[string]func(*peer){"FIN": func(p *peer) { p.Close() }, "RST": (*peer).reset} {
		t.Run(name, func(t *testing.T) {
			shutNow, isShut := make(chan struct{}), make(chan struct{})
			var requests atomic.Int32
			b := newBackend(t, func(p *peer) {
				if p.request() == nil {
					return
				}
				requests.Add(1)
				p.say(okAnswer)
				select {
				case <-shutNow:
					shut(p)
					isShut <- struct{}{}
				case <-t.Context().Done():
				}
			})
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
			for range rounds {
				if err := h.Send(t.Context(), payload(5500)); err != nil {
					t.Fatal(err)
				}
				shutNow <- struct{}{}
				<-isShut
			}
			if n := requests.Load(); n != rounds {
				t.Errorf("%d requests came, want %d", n, rounds)
			}
		})
	}
}

// A peer may close just when the next request arrives: no look at the socket can tell.
func TestKeptConnectionClosedUnderTheRequest(t *testing.T) {
	const rounds = 200
	for name, shut := range map[string]func(*peer){
		"FIN":                   func(p *peer) { p.Close() },
		"RST":                   (*peer).reset,
		"after reading":         func(p *peer) { p.request(); p.Close() },
		"FIN, a large request":  func(p *peer) { p.br.Discard(1); p.Close() },
		"half-close and a wait": func(p *peer) { p.br.Peek(1); p.Conn.(*net.TCPConn).CloseWrite(); p.request() },
	} {
		t.Run(name, func(t *testing.T) {
			size, rounds := 5500, rounds
			if strings.Contains(name, "large") {
				size, rounds = 4<<20, 5
			}
			var answered atomic.Int32
			b := newBackend(t, func(p *peer) {
				if p.request() == nil {
					return
				}
				answered.Add(1)
				p.say(okAnswer)
				if _, err := p.br.Peek(1); err == nil {
					shut(p)
				}
			})
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
			for range rounds {
				if err := h.Send(t.Context(), payload(size)); err != nil {
					t.Fatal(err)
				}
			}
			if n := answered.Load(); n != int32(rounds) {
				t.Errorf("%d requests were answered, want %d", n, rounds)
			}
		})
	}
}

// One retry on a fresh connection, not two: a backend that closes on every request is down.
func TestFreshConnectionIsNotRetried(t *testing.T) {
	b := newBackend(t, func(p *peer) {
		if p.request() != nil && p.n == 1 {
			p.say(okAnswer)
			p.request()
		}
	})
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
	if err := h.Send(t.Context(), payload(10)); err != nil {
		t.Fatal(err)
	}
	if e := refusal(t, h.Send(t.Context(), payload(10))); !e.Retryable || b.dials.Load() != 2 {
		t.Errorf("%d dials, want 2; error %v", b.dials.Load(), e)
	}
}

// An answer that began is not asked for again: the backend has the request.
func TestBegunAnswerIsNotRetried(t *testing.T) {
	b := newBackend(t, func(p *peer) {
		p.request()
		p.say(okAnswer)
		p.request()
		p.say("HTTP/1.1 2")
	})
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
	if err := h.Send(t.Context(), payload(10)); err != nil {
		t.Fatal(err)
	}
	if e := refusal(t, h.Send(t.Context(), payload(10))); !e.Retryable || b.dials.Load() != 1 {
		t.Errorf("%d dials, want 1; error %v", b.dials.Load(), e)
	}
}

func TestWhatIsKept(t *testing.T) {
	tests := []struct {
		name, answer string
		kept         bool
	}{
		{"length", okAnswer, true},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", true},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", true},
		{"an error", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nab", true},
		{"connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false},
		{"http/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false},
		{"http/1.0 keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", false},
		{"more than the answer", okAnswer + "HTTP", false},
		{"a body of 64 KiB", "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + strings.Repeat("x", 65536), true},
		{"a body over 64 KiB", "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n" + strings.Repeat("x", 65537), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBackend(t, answering(test.answer))
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
			h.Send(t.Context(), payload(10))
			h.Send(t.Context(), payload(10))
			if kept := b.dials.Load() == 1; kept != test.kept {
				t.Errorf("kept: %v, want %v", kept, test.kept)
			}
		})
	}
}

// The time since the last use counts by the wall, since the monotonic clock may stand still in a freeze.
func TestIdleTimeIsWallTime(t *testing.T) {
	tests := []struct {
		name   string
		frozen time.Duration // by the wall only
		slept  time.Duration // by both clocks
		dials  int
	}{
		{"49 s", 49 * time.Second, 0, 1},
		{"51 s, monotonic stopped", 51 * time.Second, 0, 2},
		{"51 s, monotonic running", 0, 51 * time.Second, 2},
		{"hours", 7 * time.Hour, 0, 2},
		{"clock set back", -time.Hour, 0, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &pipeNet{script: answering(okAnswer)}
				defer n.Close()
				var clock wallClock
				h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Timeout: 10 * time.Second, Now: clock.now, Dial: n.dial})
				for range 2 {
					if err := h.Send(t.Context(), payload(10)); err != nil {
						t.Fatal(err)
					}
					clock.freeze(test.frozen)
					time.Sleep(test.slept)
				}
				if n.dials != test.dials {
					t.Errorf("%d dials, want %d", n.dials, test.dials)
				}
			})
		})
	}
}

// While the process is frozen for an hour, the rest of the answer arrives. Where the monotonic clock stands
// still nothing is late; where it runs on, the timeout has passed at the thaw although the answer is there.
func TestFrozenInMidAnswer(t *testing.T) {
	for _, running := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var clock wallClock
			thawed := make(chan struct{})
			n := &pipeNet{script: func(p *peer) {
				p.request()
				p.say(okAnswer[:20])
				if !running {
					clock.freeze(time.Hour)
					close(thawed)
				}
				<-thawed
				p.say(okAnswer[20:])
				p.request()
			}}
			if running {
				n.wrap = func(c net.Conn) net.Conn {
					return &interrupted{Conn: c, by: func() { clock.freeze(time.Hour); close(thawed) }}
				}
			}
			defer n.Close()
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Timeout: 10 * time.Second, Now: clock.now, Dial: n.dial})
			if err := h.Send(t.Context(), payload(10)); err != nil {
				t.Errorf("monotonic clock running %v: %v", running, err)
			}
		})
	}
}

// interrupted runs by before its first deadline in the past takes effect, as a thaw delivers what came in the
// freeze together with the expired timers.
type interrupted struct {
	net.Conn
	by   func()
	done bool
}

func (c *interrupted) SetDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) && !c.done {
		c.done = true
		c.by()
	}
	return c.Conn.SetDeadline(at)
}

// After a freeze an answer that is not there is not waited for, and a plain timeout has no grace.
func TestTimeoutHoldsAfterFreeze(t *testing.T) {
	for _, frozen := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			var clock wallClock
			n := &pipeNet{script: func(p *peer) { p.request(); clock.freeze(frozen); p.request() }}
			defer n.Close()
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Timeout: 10 * time.Second, Now: clock.now, Dial: n.dial})
			start := time.Now()
			err := h.Send(t.Context(), payload(10))
			want := 10 * time.Second
			if frozen > 0 {
				want += thawGrace
			}
			if took := time.Since(start); took != want || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("frozen %v: took %v, want %v; error %v", frozen, took, want, err)
			}
		})
	}
}

// A flow that swallows everything costs one timeout, not two, and the context's if that is shorter.
func TestBlackHole(t *testing.T) {
	for _, kept := range []bool{false, true} {
		for _, body := range []int{10, 2 * inlineBody} {
			synctest.Test(t, func(t *testing.T) {
				n := &pipeNet{script: swallowing(kept)}
				defer n.Close()
				h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Timeout: 10 * time.Second, Dial: n.dial})
				if kept {
					if err := h.Send(t.Context(), payload(10)); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				e := refusal(t, h.Send(t.Context(), payload(body)))
				if took := time.Since(start); took != 10*time.Second || !e.Retryable || e.Code != otlp.DeadlineExceeded {
					t.Errorf("took %v: %v", took, e)
				}
				if n.dials != 1 {
					t.Errorf("%d dials, want 1: nothing is begun when time is up", n.dials)
				}
				budget := errors.New("budget is spent")
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, budget)
				defer cancel()
				start = time.Now()
				err := h.Send(ctx, payload(body))
				if took := time.Since(start); took != time.Second || !errors.Is(err, budget) {
					t.Errorf("took %v: %v", took, err)
				}
			})
		}
	}
}

// swallowing is a script that reads, but answers nothing beyond a first request.
func swallowing(answerFirst bool) func(*peer) {
	return func(p *peer) {
		if answerFirst && p.n == 1 {
			p.request()
			p.say(okAnswer)
		}
		for buf := make([]byte, 4096); ; {
			if _, err := p.br.Read(buf); err != nil {
				return
			}
		}
	}
}

// A dial that never ends is bounded like everything else.
func TestHangingDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Timeout: 10 * time.Second,
			Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }})
		start := time.Now()
		err := h.Send(t.Context(), payload(10))
		if took := time.Since(start); took != 10*time.Second || !strings.Contains(err.Error(), "OTLP_RELAY_TIMEOUT") || !strings.Contains(err.Error(), "security group") {
			t.Errorf("took %v: %v", took, err)
		}
	})
}

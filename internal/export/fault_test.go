package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Whatever a backend does short of answering leaves the request retryable, with an error that says what
// happened. Each fault is met on a fresh connection and on a kept one.
func TestFaults(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name  string
		fault func(*peer) // after the request was read
		want  string
		code  otlp.Code
	}{
		{"hang", func(p *peer) { p.request() }, "no answer within", otlp.DeadlineExceeded},
		{"reset", (*peer).reset, "closed the connection without an answer", otlp.Unavailable},
		{"close", func(p *peer) { p.Close() }, "closed the connection without an answer", otlp.Unavailable},
		{"half-close", func(p *peer) { p.Conn.(*net.TCPConn).CloseWrite(); p.request() }, "closed the connection without an answer", otlp.Unavailable},
		{"half a head", func(p *peer) { p.say(head + "Content-Ty"); p.Close() }, "closed the connection", otlp.Unavailable},
		{"garbage", func(p *peer) { p.say("\x00\x01\x02 lorem ipsum\r\n\r\n"); p.request() }, "not HTTP", otlp.Unavailable},
		{"http/2", func(p *peer) {
			p.say("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\r\n\r\n")
			p.request()
		}, "gRPC", otlp.Unavailable},
		{"status of two digits", func(p *peer) { p.say("HTTP/1.1 20 OK\r\n\r\n") }, "not HTTP", otlp.Unavailable},
		{"status below 100", func(p *peer) { p.say("HTTP/1.1 099 No\r\n\r\n") }, "not HTTP", otlp.Unavailable},
		{"two lengths", func(p *peer) { p.say(head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab") }, "not HTTP", otlp.Unavailable},
		{"switching protocols", func(p *peer) { p.say("HTTP/1.1 101 Switching Protocols\r\n\r\n") }, "another protocol", otlp.Unavailable},
		{"endless header", func(p *peer) {
			for _, err := io.WriteString(p, head+"X: "); err == nil; {
				_, err = io.WriteString(p, strings.Repeat("y", 4096))
			}
		}, "larger than 64 KiB", otlp.Unavailable},
		{"endless informational heads", func(p *peer) {
			var err error
			for err == nil {
				_, err = io.WriteString(p, strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100))
			}
		}, "larger than 64 KiB", otlp.Unavailable},
	}
	for _, test := range tests {
		for _, kept := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, kept %v", test.name, kept), func(t *testing.T) {
				b := newBackend(t, func(p *peer) {
					if kept && p.n == 1 {
						p.request()
						p.say(okAnswer)
					}
					if p.request() != nil {
						test.fault(p)
					}
				})
				h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: timeoutFor(test.name)})
				if kept {
					if err := h.Send(t.Context(), payload(10)); err != nil {
						t.Fatal(err)
					}
				}
				err := h.Send(t.Context(), payload(10))
				e := refusal(t, err)
				if !e.Retryable || e.HTTPStatus != 0 || e.Code != test.code || e.Err == nil {
					t.Errorf("error is %+v", e)
				}
				if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), b.Addr().String()) || strings.Contains(err.Error(), "/v1/") {
					t.Errorf("error says %q, want %q and the host without the path", err, test.want)
				}
			})
		}
	}
}

// timeoutFor is long where the outcome must not be a timeout.
func timeoutFor(name string) time.Duration {
	if strings.HasPrefix(name, "hang") {
		return 50 * time.Millisecond
	}
	return time.Minute
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://user:password1@"+l.Addr().String()+"/path?query"), Timeout: time.Minute})
	err = h.Send(t.Context(), payload(10))
	if e := refusal(t, err); !e.Retryable || e.HTTPStatus != 0 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error is %+v", e)
	}
	want := "connect to " + l.Addr().String() + " (is the backend running there?): dial tcp " + l.Addr().String() + ": connect: connection refused"
	if err.Error() != want {
		t.Errorf("error says\n%s\nwant\n%s", err, want)
	}
}

func TestUnknownHost(t *testing.T) {
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://no.such.host/"), Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "no.such.host", IsNotFound: true}}
	}})
	err := h.Send(t.Context(), payload(10))
	if e := refusal(t, err); !e.Retryable || !strings.Contains(err.Error(), "check the host's name") {
		t.Errorf("error is %v", err)
	}
}

// The status is the verdict. A body that does not come, or does not end, costs the connection and nothing more.
func TestBodyFaults(t *testing.T) {
	unavailable := "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
	endless := func(p *peer) {
		for err := error(nil); err == nil; {
			_, err = io.WriteString(p, strings.Repeat("down ", 1000))
		}
	}
	tests := []struct {
		name   string
		answer string
		then   func(*peer)
		status int // 0: success
		want   string
	}{
		{"slow body of an error", unavailable + "Content-Length: 100\r\n\r\nmaint", func(p *peer) { p.request() }, 503, "HTTP 503: maint"},
		{"slow body of a success", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab", func(p *peer) { p.request() }, 0, ""},
		{"cut body of a success", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab", func(p *peer) { p.Close() }, 0, ""},
		{"bad chunks of a success", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", func(p *peer) { p.request() }, 0, ""},
		{"endless body of an error", unavailable + "\r\n", endless, 503, "HTTP 503: " + strings.Repeat("down ", 51) + "d"},
		{"endless body of a success", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", endless, 0, ""},
		{"endless chunks", unavailable + "Transfer-Encoding: chunked\r\n\r\n", func(p *peer) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(p, strings.Repeat("1\r\na\r\n", 1000))
			}
		}, 503, "HTTP 503: " + strings.Repeat("a", 256)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBackend(t, func(p *peer) {
				if p.request() != nil {
					p.say(test.answer)
					test.then(p)
				}
			})
			timeout := time.Minute
			if strings.HasPrefix(test.name, "slow") {
				timeout = 50 * time.Millisecond
			}
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: timeout})
			err := h.Send(t.Context(), payload(10))
			switch {
			case test.status == 0 && err != nil:
				t.Errorf("error is %v, want success", err)
			case test.status != 0 && err == nil:
				t.Error("no error")
			case test.status != 0:
				if e := refusal(t, err); e.HTTPStatus != test.status || !e.Retryable || err.Error() != test.want {
					t.Errorf("error is %v, want %s", err, test.want)
				}
			}
			if h.take() != nil {
				t.Error("the connection was kept")
			}
		})
	}
}

// A server that refuses a large request before it has read it closes while we write, or reads nothing more.
func TestEarlyRefusal(t *testing.T) {
	answer := "HTTP/1.1 413 Request Entity Too Large\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\ntoo big"
	for name, after := range map[string]func(*peer, context.Context){
		"closes": func(p *peer, _ context.Context) {
			// As a careful server does: an RST may overtake the answer.
			p.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, io.LimitReader(p, 1<<20))
		},
		"stops reading": func(_ *peer, over context.Context) { <-over.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			over, cancel := context.WithCancel(t.Context())
			defer cancel()
			b := newBackend(t, func(p *peer) {
				http.ReadRequest(p.br)
				p.say(answer)
				after(p, over)
			})
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
			err := h.Send(t.Context(), payload(32<<20))
			cancel()
			if e := refusal(t, err); e.HTTPStatus != 413 || e.Retryable || e.Message != "too big" {
				t.Errorf("error is %+v", e)
			}
			if h.take() != nil {
				t.Error("the connection was kept")
			}
		})
	}
}

func TestInformationalAnswersAreSkipped(t *testing.T) {
	b := newBackend(t, answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"+okAnswer))
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
	for range 2 {
		if err := h.Send(t.Context(), payload(10)); err != nil {
			t.Fatal(err)
		}
	}
	if b.dials.Load() != 1 {
		t.Errorf("%d dials, want 1", b.dials.Load())
	}
}

// A peer that sends back what it got must not bring a secret into a log.
func TestEchoedSecretsAreHidden(t *testing.T) {
	const secret = "s3cr3t-t0ken-value"
	for name, answer := range map[string]string{
		"not HTTP":    "POST /v1/traces?key=" + secret + " HTTP/1.1\r\nAuthorization: Bearer " + secret + "\r\n\r\n",
		"in the body": "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nunknown key " + secret,
		"redirect":    "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://u:" + secret + "@other/" + secret + "?" + secret + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, func(p *peer) { p.request(); p.say(answer) })
			u := mustURL(t, b.url+"?key="+secret)
			h := newHTTP(t, HTTPConfig{URL: u, Header: http.Header{"Authorization": {"Bearer " + secret}}, Timeout: time.Minute})
			err := h.Send(t.Context(), payload(10))
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

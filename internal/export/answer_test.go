package export

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

var someDay = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// ask sends one payload to a backend that answers as given, over memory.
func ask(t testing.TB, cfg HTTPConfig, p otlp.Payload, answer string) error {
	t.Helper()
	n := &pipeNet{script: func(p *peer) {
		if p.request() != nil {
			p.say(answer)
		}
	}}
	defer n.Close()
	if cfg.URL == nil {
		cfg.URL = mustURL(t, "http://backend/v1/traces")
	}
	cfg.Dial = n.dial
	cfg.Timeout = time.Minute
	cfg.Now = func() time.Time { return someDay }
	return newHTTP(t, cfg).Send(context.Background(), p)
}

func answer(status int, headers, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s", status, headers, len(body), body)
}

// The OTLP specification names the retryable statuses; every other one is final.
func TestStatusSweep(t *testing.T) {
	retryable := map[int]bool{429: true, 502: true, 503: true, 504: true}
	for status := 200; status <= 999; status++ {
		err := ask(t, HTTPConfig{}, payload(1), answer(status, "", ""))
		if status < 300 {
			if err != nil {
				t.Errorf("%d: %v, want success", status, err)
			}
			continue
		}
		e := refusal(t, err)
		if e.HTTPStatus != status || e.Retryable != retryable[status] || e.Code != otlp.CodeForHTTP(status) || e.RetryAfter != 0 || e.Err != nil {
			t.Errorf("%d: %+v", status, e)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	date := func(d time.Duration) string { return someDay.Add(d).Format(http.TimeFormat) }
	for value, want := range map[string]time.Duration{
		"":                                    0,
		"0":                                   0,
		"1":                                   time.Second,
		"120":                                 2 * time.Minute,
		"86400":                               24 * time.Hour,
		"86401":                               24 * time.Hour,
		"99999999999999999999999999":          24 * time.Hour,
		"9223372036854775807":                 24 * time.Hour,
		"-5":                                  0,
		"1.5":                                 0,
		"soon":                                0,
		"5 s":                                 0,
		date(90 * time.Second):                90 * time.Second,
		date(-time.Hour):                      0,
		date(48 * time.Hour):                  24 * time.Hour,
		"Tuesday, 24-Nov-26 12:00:07 GMT":     7 * time.Second, // RFC 850
		"Tue Nov 24 12:00:09 2026":            9 * time.Second, // asctime
		"Tue, 24 Nov 2026 12:00:07":           0,
		"Fri, 31 Dec 9999 23:59:59 GMT":       24 * time.Hour,
		"Mon, 01 Jan 0001 00:00:00 GMT":       0,
		strconv.Itoa(1 << 40):                 24 * time.Hour,
		"00000000000000000000000000000000003": 3 * time.Second,
	} {
		for _, status := range []int{429, 503} {
			err := ask(t, HTTPConfig{}, payload(1), answer(status, "Retry-After: "+value+"\r\n", ""))
			if e := refusal(t, err); e.RetryAfter != want || !e.Retryable {
				t.Errorf("%d with Retry-After %q: %v, want %v", status, value, e.RetryAfter, want)
			}
		}
	}
	err := ask(t, HTTPConfig{}, payload(1), answer(400, "Retry-After: 5\r\n", ""))
	if e := refusal(t, err); e.RetryAfter != 0 {
		t.Errorf("a final refusal asks to wait %v", e.RetryAfter)
	}
}

// A status survives a hop: what a receiver writes for an Error, HTTP reads back as an equal one.
func TestStatusSurvivesHop(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 16)
	for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
		for _, want := range []otlp.Error{
			{Code: otlp.InvalidArgument, HTTPStatus: 400, Message: "field 3: truncated"},
			{Code: otlp.InvalidArgument, HTTPStatus: 400},
			{Code: otlp.Unauthenticated, HTTPStatus: 401, Message: "no key"},
			{Code: otlp.PermissionDenied, HTTPStatus: 403, Message: "two  spaces, \"quotes\", <tags>, ünïcödé"},
			{Code: otlp.ResourceExhausted, HTTPStatus: 429, Message: "slow down", Retryable: true, RetryAfter: 7 * time.Second},
			{Code: otlp.Internal, HTTPStatus: 500, Message: long},
			{Code: otlp.DataLoss, HTTPStatus: 500, Message: "lost"},
			{Code: otlp.Unavailable, HTTPStatus: 503, Message: "later", Retryable: true},
			{Code: otlp.DeadlineExceeded, HTTPStatus: 504, Message: "slow", Retryable: true},
		} {
			headers := "Content-Type: " + enc.ContentType() + "\r\n"
			if want.RetryAfter > 0 {
				headers += fmt.Sprintf("Retry-After: %d\r\n", want.RetryAfter/time.Second)
			}
			body := otlp.AppendStatus(nil, enc, want.Code, want.Message)
			err := ask(t, HTTPConfig{}, payload(1), answer(want.HTTPStatus, headers, string(body)))
			if got := *refusal(t, err); !reflect.DeepEqual(got, want) {
				t.Errorf("%v: got %+v, want %+v", enc.ContentType(), got, want)
			}
		}
	}
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name          string
		status        int
		headers, body string
		want          string
	}{
		{"text", 500, "Content-Type: text/plain; charset=utf-8\r\n", "out of\r\n  disk\t\x1b[31m", "HTTP 500: out of disk  [31m"},
		{"html", 502, "Content-Type: text/html\r\n", "<html>\n<title>Bad Gateway</title>", "HTTP 502: <html> <title>Bad Gateway</title>"},
		{"foreign json", 500, "Content-Type: application/json\r\n", `{"error": "quota"}`, `HTTP 500: {"error": "quota"}`},
		{"problem json", 500, "Content-Type: application/problem+json\r\n", `{"title":"quota"}`, `HTTP 500: {"title":"quota"}`},
		{"no type", 500, "", "oops", "HTTP 500: oops"},
		{"binary", 500, "Content-Type: image/png\r\n", "\x89PNG", "HTTP 500: Internal Server Error"},
		{"bad protobuf", 500, "Content-Type: application/x-protobuf\r\n", "\xff\xff\xff", "HTTP 500: Internal Server Error"},
		{"invalid UTF-8", 500, "Content-Type: text/plain\r\n", "a\xffb", "HTTP 500: a b"},
		{"long", 500, "Content-Type: text/plain\r\n", strings.Repeat("ab ", 1000), "HTTP 500: " + strings.Repeat("ab ", 85) + "a"},
		{"long, wide characters", 500, "Content-Type: text/plain\r\n", "x" + strings.Repeat("\u20ac", 1000), "HTTP 500: x" + strings.Repeat("\u20ac", 85)},
		{"empty", 500, "", "", "HTTP 500: Internal Server Error"},
		{"unknown status", 599, "", "", "HTTP 599"},
		{"401", 401, "", "", "HTTP 401: Unauthorized (check OTLP_RELAY_HEADERS)"},
		{"403", 403, "Content-Type: text/plain\r\n", "who?", "HTTP 403: who? (check OTLP_RELAY_HEADERS)"},
		{"404", 404, "", "404 page not found\n", "HTTP 404: 404 page not found (check the path of OTLP_RELAY_ENDPOINT)"},
		{"redirect", 308, "Location: https://u:p@other.example/secret?q\r\n", "", "HTTP 308: redirects to other.example, which is not followed: set OTLP_RELAY_ENDPOINT to where the backend really is"},
		{"relative redirect", 301, "Location: /v2\r\n", "", "HTTP 301: redirects elsewhere, which is not followed: set OTLP_RELAY_ENDPOINT to where the backend really is"},
		{"malformed redirect", 302, "Location: ://%zz\r\n", "", "HTTP 302: redirects elsewhere, which is not followed: set OTLP_RELAY_ENDPOINT to where the backend really is"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := ask(t, HTTPConfig{}, payload(1), answer(test.status, test.headers, test.body))
			if err == nil || err.Error() != test.want {
				t.Errorf("error is\n%v\nwant\n%s", err, test.want)
			}
			if e := refusal(t, err); len(e.Message) > maxMessage {
				t.Errorf("message has %d bytes", len(e.Message))
			}
		})
	}
}

func TestPartialSuccess(t *testing.T) {
	for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
		body := func(p *otlp.PartialSuccess) string { return string(otlp.AppendResponse(nil, enc, otlp.Metrics, p)) }
		ours := "Content-Type: " + enc.ContentType() + "\r\n"
		tests := []struct {
			name, headers, body string
			want                *otlp.PartialSuccess
			warned              string
		}{
			{"full", ours, body(nil), nil, ""},
			{"empty", ours, "", nil, ""},
			{"rejected", ours, body(&otlp.PartialSuccess{Rejected: 3, Message: "too\nold"}), &otlp.PartialSuccess{Rejected: 3, Message: "too old"}, ""},
			{"no type", "", body(&otlp.PartialSuccess{Rejected: 3}), &otlp.PartialSuccess{Rejected: 3}, ""},
			{"warning", ours, body(&otlp.PartialSuccess{Message: "deprecated"}), nil, "deprecated"},
			{"not ours", "Content-Type: text/html\r\n", body(&otlp.PartialSuccess{Rejected: 3}), nil, ""},
			{"garbage", ours, "\xff\xff{", nil, ""},
		}
		for _, test := range tests {
			t.Run(enc.ContentType()+" "+test.name, func(t *testing.T) {
				warned := ""
				p := otlp.Payload{Signal: otlp.Metrics, Encoding: enc, Body: []byte("x")}
				err := ask(t, HTTPConfig{Warn: func(m string) { warned = m }}, p, answer(200, test.headers, test.body))
				var got *otlp.PartialSuccess
				if err != nil && !errors.As(err, &got) {
					t.Fatalf("error is %T: %v", err, err)
				}
				if !reflect.DeepEqual(got, test.want) || warned != test.warned {
					t.Errorf("got %+v, warning %q", got, warned)
				}
			})
		}
	}
}

// feed is a connection on which the peer sends a fixed text.
type feed struct {
	net.Conn
	r *bytes.Reader
}

func (f feed) Read(p []byte) (int, error)      { return f.r.Read(p) }
func (f feed) Write(p []byte) (int, error)     { return len(p), nil }
func (f feed) SetDeadline(time.Time) error     { return nil }
func (f feed) SetReadDeadline(time.Time) error { return nil }
func (f feed) Close() error                    { return nil }

// Whatever comes back, it is read within bounds and becomes a verdict or an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(okAnswer))
	f.Add([]byte(answer(503, "Retry-After: 3\r\nContent-Type: application/json\r\n", `{"code":14,"message":"x"}`)))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\n" + answer(400, "Content-Type: application/x-protobuf\r\n", "\x08\x03\x12\x01x")))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nT: v\r\n\r\n"))
	f.Add([]byte(answer(307, "Location: http://[::1]:4318/x\r\n", "")))
	h, err := NewHTTP(HTTPConfig{URL: mustURL(f, "http://backend/"), Header: http.Header{"Key": {"a-long-secret"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		fed := feed{r: bytes.NewReader(in)}
		c := newConn(fed, fed)
		r, err := c.exchange(context.Background(), exchange{write: func() error { return nil }, read: c.receive})
		if read := len(in) - fed.r.Len(); read > maxHead+maxBody+maxChunking {
			t.Errorf("read %d bytes", read)
		}
		if err != nil {
			return
		}
		if r.status < 200 || r.status > 999 || len(r.body) > maxBody {
			t.Errorf("status %d, body of %d bytes", r.status, len(r.body))
		}
		var e *otlp.Error
		if err := h.verdict(r, payload(1)); errors.As(err, &e) {
			if len(e.Message) > maxMessage && r.status/100 != 3 || !utf8.ValidString(e.Message) || strings.ContainsAny(e.Message, "\r\n\x00\x1b") {
				t.Errorf("message is %q", e.Message)
			}
			if e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter {
				t.Errorf("Retry-After is %v", e.RetryAfter)
			}
		}
	})
}

// A connection parses the answers of its exchanges one by one, whatever the splitting into packets.
func TestAnswersInSmallPieces(t *testing.T) {
	n := &pipeNet{script: func(p *peer) {
		for p.request() != nil {
			w := bufio.NewWriterSize(p, 16)
			for _, b := range []byte(answer(200, "", "0123456789")) {
				w.WriteByte(b)
				w.Flush()
			}
		}
	}}
	defer n.Close()
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, "http://backend/"), Dial: n.dial})
	for range 3 {
		if err := h.Send(t.Context(), payload(10)); err != nil || n.dials != 1 {
			t.Fatalf("error %v, %d dials", err, n.dials)
		}
	}
}

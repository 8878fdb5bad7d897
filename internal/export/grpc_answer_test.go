package export

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http2"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// askGRPC sends one payload to a server that answers it as given, over memory.
func askGRPC(t testing.TB, cfg GRPCConfig, p otlp.Payload, answer func(*h2Peer, *grpcCall)) error {
	t.Helper()
	n := &pipeNet{script: serving(answer)}
	defer n.Close()
	cfg.URL, cfg.Dial, cfg.Timeout = mustURL(t, "http://backend"), n.dial, time.Minute
	cfg.Now = func() time.Time { return someDay }
	return newGRPC(t, cfg).Send(context.Background(), p)
}

// failing answers with a status, in a trailer behind a header and a message, or in a header alone.
func failing(alone bool, fields ...string) func(*h2Peer, *grpcCall) {
	return func(h *h2Peer, c *grpcCall) {
		if alone {
			h.headers(c.stream, true, append([]string{":status", "200", "content-type", "application/grpc"}, fields...)...)
			return
		}
		h.answer(c, "", fields...)
	}
}

// The OTLP specification names the retryable codes, one of them only with a RetryInfo; every other one is final.
func TestGRPCCodeSweep(t *testing.T) {
	retryable := map[otlp.Code]bool{1: true, 4: true, 10: true, 11: true, 14: true, 15: true}
	info := base64.StdEncoding.EncodeToString(otlp.AppendRetryInfo(nil, 7*time.Second))
	for code := otlp.Code(1); code <= 17; code++ {
		for _, alone := range []bool{false, true} {
			status := []string{"grpc-status", strconv.Itoa(int(code)), "grpc-message", "why"}
			e := refusal(t, askGRPC(t, GRPCConfig{}, payload(1), failing(alone, status...)))
			if want := (otlp.Error{Code: code, Message: "why", Retryable: retryable[code]}); !reflect.DeepEqual(*e, want) {
				t.Errorf("code %d, alone %v: %+v", code, alone, e)
			}
			want := otlp.Error{Code: code, Message: "why", Retryable: retryable[code] || code == otlp.ResourceExhausted}
			if want.Retryable {
				want.RetryAfter = 7 * time.Second
			}
			e = refusal(t, askGRPC(t, GRPCConfig{}, payload(1), failing(alone, append(status, "grpc-status-details-bin", info)...)))
			if !reflect.DeepEqual(*e, want) {
				t.Errorf("code %d with a RetryInfo, alone %v: %+v", code, alone, e)
			}
		}
	}
}

func TestGRPCRetryInfo(t *testing.T) {
	info := func(d time.Duration) []byte {
		return otlp.AppendRetryInfo(otlp.AppendStatus(nil, otlp.Protobuf, 8, "x"), d)
	}
	for details, want := range map[string]struct {
		wait      time.Duration
		retryable bool
	}{
		"":    {0, false},
		"!!!": {0, false},
		"AAA": {0, false},
		base64.StdEncoding.EncodeToString(info(0)):                          {0, true},
		base64.StdEncoding.EncodeToString(info(1500 * time.Millisecond)):    {1500 * time.Millisecond, true},
		base64.RawStdEncoding.EncodeToString(info(2500 * time.Millisecond)): {2500 * time.Millisecond, true},
		base64.StdEncoding.EncodeToString(info(90 * 24 * time.Hour)):        {24 * time.Hour, true},
		base64.StdEncoding.EncodeToString(info(time.Second))[:20]:           {0, false},
	} {
		e := refusal(t, askGRPC(t, GRPCConfig{}, payload(1), failing(false, "grpc-status", "8", "grpc-status-details-bin", details)))
		if e.RetryAfter != want.wait || e.Retryable != want.retryable {
			t.Errorf("%q: wait %v, retryable %v, want %v", details, e.RetryAfter, e.Retryable, want)
		}
	}
}

func TestGRPCMessages(t *testing.T) {
	const secret = "s3cr3t-t0ken"
	for sent, want := range map[string]string{
		"":                               "",
		"plain":                          "plain",
		"100%25 %C3%BCn%e2%82%ac":        "100% ün€",
		"bad %zz and %4":                 "bad %zz and %4",
		"%":                              "%",
		"%0d%0aX: y%1b[31m":              "  X: y [31m",
		"%ff%fe":                         "  ",
		"the key is " + secret:           "the key is [redacted]",
		"the key is s3cr3t%2Dt0ken":      "the key is [redacted]",
		strings.Repeat("x", 300):         strings.Repeat("x", 256),
		strings.Repeat("%E2%82%AC", 300): strings.Repeat("€", 85),
	} {
		cfg := GRPCConfig{Header: http.Header{"Api-Key": {secret}}}
		e := refusal(t, askGRPC(t, cfg, payload(1), failing(false, "grpc-status", "13", "grpc-message", sent)))
		if e.Message != want {
			t.Errorf("%q is %q, want %q", sent, e.Message, want)
		}
	}
	e := refusal(t, askGRPC(t, GRPCConfig{}, payload(1), failing(true, "grpc-status", "13", "grpc-message", "out of disk")))
	if e.Error() != "gRPC INTERNAL: out of disk" {
		t.Errorf("error says %q", e)
	}
}

// What is no status of gRPC's is one all the same, as grpc-go has it.
func TestGRPCOddStatus(t *testing.T) {
	for sent, want := range map[string]otlp.Code{"": 2, "-1": 2, "x": 2, "99999999999": 2, "007": 7, "0x1": 2, "42": 42} {
		if e := refusal(t, askGRPC(t, GRPCConfig{}, payload(1), failing(false, "grpc-status", sent))); e.Code != want || e.Retryable {
			t.Errorf("%q: %+v", sent, e)
		}
	}
}

// The table of gRPC's "HTTP to gRPC Status Code Mapping".
func TestGRPCWithoutStatus(t *testing.T) {
	table := map[int]otlp.Code{
		400: otlp.Internal, 401: otlp.Unauthenticated, 403: otlp.PermissionDenied, 404: otlp.Unimplemented,
		429: otlp.Unavailable, 502: otlp.Unavailable, 503: otlp.Unavailable, 504: otlp.Unavailable,
	}
	for status := 200; status <= 999; status++ {
		code, listed := table[status]
		if !listed {
			code = otlp.Unknown
		}
		e := refusal(t, askGRPC(t, GRPCConfig{}, payload(1), func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, false, ":status", strconv.Itoa(status), "retry-after", "9")
			h.WriteData(c.stream, true, nil)
		}))
		wait := time.Duration(0)
		if code == otlp.Unavailable {
			wait = 9 * time.Second
		}
		if e.Code != code || e.HTTPStatus != status || e.Retryable != (code == otlp.Unavailable) || e.RetryAfter != wait {
			t.Errorf("%d: %+v", status, e)
		}
	}
	tests := []struct {
		name   string
		answer func(*h2Peer, *grpcCall)
		want   string
	}{
		{"a gateway's page", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, false, ":status", "502", "content-type", "text/html")
			h.WriteData(c.stream, true, []byte("<h1>Bad\nGateway</h1>"))
		}, "HTTP 502: <h1>Bad Gateway</h1>"},
		{"a page without end", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, false, ":status", "503", "content-type", "text/plain")
			for range 20 {
				h.WriteData(c.stream, false, bytes.Repeat([]byte("down "), 1000))
			}
		}, "HTTP 503: " + strings.Repeat("down ", 51) + "d"},
		{"a page and a reset", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, false, ":status", "429")
			h.WriteRSTStream(c.stream, http2.ErrCodeNo)
		}, "HTTP 429: Too Many Requests"},
		{"another service", func(h *h2Peer, c *grpcCall) { h.headers(c.stream, true, ":status", "404") },
			"HTTP 404: Not Found (is it an OTLP/gRPC endpoint? OTLP/HTTP's port is another one)"},
		{"a login", func(h *h2Peer, c *grpcCall) { h.headers(c.stream, true, ":status", "401") },
			"HTTP 401: Unauthorized (check OTLP_RELAY_HEADERS)"},
		{"a redirect", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, true, ":status", "301", "location", "https://u:p@elsewhere.example/x?y")
		}, "HTTP 301: redirects to elsewhere.example, which is not followed: set OTLP_RELAY_ENDPOINT to where the backend really is"},
		{"OTLP/HTTP", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, true, ":status", "200", "content-type", "application/x-protobuf")
		}, "HTTP 200: the answer has no gRPC status (is it an OTLP/gRPC endpoint? OTLP/HTTP's port is another one)"},
		{"after informational ones", func(h *h2Peer, c *grpcCall) {
			h.headers(c.stream, false, ":status", "103", "grpc-status", "0", "link", "x")
			h.headers(c.stream, true, ":status", "401")
		}, "HTTP 401: Unauthorized (check OTLP_RELAY_HEADERS)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := askGRPC(t, GRPCConfig{}, payload(1), test.answer); err == nil || err.Error() != test.want {
				t.Errorf("error is\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

func TestGRPCPartialSuccess(t *testing.T) {
	response := func(p *otlp.PartialSuccess) string {
		return string(otlp.AppendResponse(nil, otlp.Protobuf, otlp.Metrics, p))
	}
	rejected := response(&otlp.PartialSuccess{Rejected: 3, Message: "too\nold"})
	zipped, err := new(otlp.Compressor).Append(nil, []byte(rejected), otlp.Gzip)
	if err != nil {
		t.Fatal(err)
	}
	flagged := append([]byte{1}, framed(string(zipped))[1:]...)
	tests := []struct {
		name   string
		body   []byte
		want   *otlp.PartialSuccess
		warned string
	}{
		{"full", framed(""), nil, ""},
		{"no message", nil, nil, ""},
		{"rejected", framed(rejected), &otlp.PartialSuccess{Rejected: 3, Message: "too old"}, ""},
		{"in gzip, as the request was", flagged, &otlp.PartialSuccess{Rejected: 3, Message: "too old"}, ""},
		{"warning", framed(response(&otlp.PartialSuccess{Message: "deprecated"})), nil, "deprecated"},
		{"cut", framed(rejected)[:7], nil, ""},
		{"garbage", framed("\xff\xff{"), nil, ""},
		{"garbage for gzip", append([]byte{1}, framed(rejected)[1:]...), nil, ""},
		{"longer than it is", []byte{0, 255, 255, 255, 255, 1}, nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			warned := ""
			p := otlp.Payload{Signal: otlp.Metrics, Body: []byte("x")}
			err := askGRPC(t, GRPCConfig{Warn: func(m string) { warned = m }}, p, func(h *h2Peer, c *grpcCall) {
				h.headers(c.stream, false, ":status", "200", "content-type", "application/grpc", "grpc-encoding", "gzip")
				h.WriteDataPadded(c.stream, false, test.body, make([]byte, 17))
				h.headers(c.stream, true, "grpc-status", "0")
			})
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

// A header may come in pieces, wrapped, and beside frames that this client has no use for.
func TestGRPCUnusualFrames(t *testing.T) {
	err := askGRPC(t, GRPCConfig{}, payload(1), func(h *h2Peer, c *grpcCall) {
		h.headers(c.stream, false, ":status", "200", "content-type", "application/grpc", "x", strings.Repeat("y", 1000))
		block := bytes.Clone(h.block.Bytes())
		h.out.Reset()
		h.WriteSettings()
		h.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: block[:1], PadLength: 9, Priority: http2.PriorityParam{Weight: 3}})
		h.WriteContinuation(c.stream, false, nil)
		h.WriteContinuation(c.stream, true, block[1:])
		h.WritePriority(c.stream, http2.PriorityParam{Weight: 1})
		h.WriteRawFrame(0xf7, 0xff, 0, []byte("unknown"))
		h.WriteRSTStream(c.stream-2, http2.ErrCodeCancel)
		h.WriteWindowUpdate(c.stream, 1)
		h.headers(c.stream, true, "grpc-status", "5", "grpc-message", "found it")
	})
	if e := refusal(t, err); e.Code != otlp.NotFound || e.Message != "found it" {
		t.Errorf("answer is %+v", e)
	}
}

// Whatever comes back, it is read within bounds and becomes a verdict or an error.
func FuzzGRPCAnswer(f *testing.F) {
	for _, answer := range []func(*h2Peer, *grpcCall){
		(*h2Peer).ok, failing(false, "grpc-status", "8", "grpc-message", "%41", "grpc-status-details-bin", "AAA="),
		func(h *h2Peer, c *grpcCall) { h.WriteGoAway(0, http2.ErrCodeNo, nil); h.WritePing(false, [8]byte{}) },
		func(h *h2Peer, c *grpcCall) { h.headers(c.stream, true, ":status", "503", "retry-after", "3") },
	} {
		h := newH2Peer(&peer{br: bufio.NewReader(strings.NewReader(""))})
		h.WriteSettings()
		answer(h, &grpcCall{stream: 1})
		f.Add(h.out.Bytes())
	}
	g, err := NewGRPC(GRPCConfig{URL: mustURL(f, "http://backend"), Header: http.Header{"Key": {"a-long-secret"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		fed := feed{r: bytes.NewReader(in)}
		c := newConn(fed, fed)
		x, _ := unary{payload(1), &g.metadata}.begin(context.Background(), c)
		r, err := c.exchange(context.Background(), x)
		if read := len(in) - fed.r.Len(); read > maxHead+maxBody+maxChunking {
			t.Errorf("read %d bytes", read)
		}
		if err != nil {
			return
		}
		if r.status < 200 || r.status > 999 || len(r.body) > maxBody+5 {
			t.Errorf("status %d, body of %d bytes", r.status, len(r.body))
		}
		if r.keep {
			c.h2.alive()
		}
		var e *otlp.Error
		if err := g.verdict(r, payload(1)); errors.As(err, &e) {
			if len(e.Message) > maxMessage && r.status/100 != 3 || !utf8.ValidString(e.Message) || strings.ContainsAny(e.Message, "\r\n\x00\x1b") {
				t.Errorf("message is %q", e.Message)
			}
			if e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter {
				t.Errorf("to wait is %v", e.RetryAfter)
			}
		}
	})
}

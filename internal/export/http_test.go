package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func TestRequest(t *testing.T) {
	type seen struct {
		*http.Request
		body string
	}
	got := make(chan seen, 9)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r, string(body)}
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	big := strings.Repeat("x", 3*inlineBody)

	tests := []struct {
		name    string
		url     string
		header  http.Header
		payload otlp.Payload
		want    map[string]string // header → value; "-" for none
		uri     string
		length  int64
	}{
		{"protobuf, gzip", "http://" + host + "/v1/traces", nil,
			otlp.Payload{Compression: otlp.Gzip, Body: []byte("abc")},
			map[string]string{"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip", "User-Agent": "relay/1", "Authorization": "-", "Accept-Encoding": "-"},
			"/v1/traces", 3},
		{"json, none", "http://" + host, nil,
			otlp.Payload{Encoding: otlp.JSON, Body: []byte("{}")},
			map[string]string{"Content-Type": "application/json", "Content-Encoding": "-"}, "/", 2},
		{"zstd, empty body", "http://" + host + "/a%2Fb?k=v", nil,
			otlp.Payload{Compression: otlp.Zstd},
			map[string]string{"Content-Encoding": "zstd"}, "/a%2Fb?k=v", 0},
		{"headers", "http://" + host + "/", http.Header{"api-key": {"k 1 "}, "User-Agent": {"mine"}, "Content-Type": {"text/plain"}, "host": {"elsewhere"}, "Transfer-Encoding": {"chunked"}},
			otlp.Payload{Body: []byte(big)},
			map[string]string{"Api-Key": "k 1", "User-Agent": "mine", "Content-Type": "application/x-protobuf"}, "/", int64(len(big))},
		{"userinfo", "http://us%40er:p%3Aw@" + host + "/", nil, otlp.Payload{Body: []byte("a")},
			map[string]string{"Authorization": "Basic dXNAZXI6cDp3"}, "/", 1},
		{"userinfo and header", "http://user:pw@" + host + "/", http.Header{"authorization": {"Bearer t"}}, otlp.Payload{Body: []byte("a")},
			map[string]string{"Authorization": "Bearer t"}, "/", 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHTTP(t, HTTPConfig{URL: mustURL(t, test.url), Header: test.header, UserAgent: "relay/1"})
			if err := h.Send(t.Context(), test.payload); err != nil {
				t.Fatal(err)
			}
			r := <-got
			if r.Method != "POST" || r.RequestURI != test.uri || r.Host != host || r.ContentLength != test.length || r.body != string(test.payload.Body) {
				t.Errorf("got %s %s at %s with %d bytes", r.Method, r.RequestURI, r.Host, r.ContentLength)
			}
			for name, want := range test.want {
				if v, ok := r.Header[name]; want == "-" && ok || want != "-" && r.Header.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, v, want)
				}
			}
		})
	}
}

func TestHostHeader(t *testing.T) {
	for in, want := range map[string][2]string{
		"http://h/":                      {"h", "h:80"},
		"https://h/":                     {"h", "h:443"},
		"http://h:/":                     {"h", "h:80"},
		"https://h.:4318/":               {"h.:4318", "h:4318"},
		"http://[::1]/":                  {"[::1]", "[::1]:80"},
		"http://[::1]:4318/":             {"[::1]:4318", "[::1]:4318"},
		"http://[fe80::1%25eth0]:4318/":  {"[fe80::1]:4318", "[fe80::1%eth0]:4318"},
		"http://user:pw@127.0.0.1:4318/": {"127.0.0.1:4318", "127.0.0.1:4318"},
	} {
		u := mustURL(t, in)
		if host, addr := hostHeader(u), dialAddr(u); host != want[0] || addr != want[1] {
			t.Errorf("%s: host %s, address %s, want %v", in, host, addr, want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	const secret = "hunter2secret"
	tests := []struct {
		name   string
		url    string
		header http.Header
		want   string
	}{
		{"scheme", "ftp://u:" + secret + "@h/" + secret, nil, "https://"},
		{"no host", "http:///" + secret, nil, "no host"},
		{"opaque", "http:" + secret, nil, "no host"},
		{"unicode host", "http://b\u00fccher/" + secret, nil, "xn--"},
		{"line feed in a value", "http://h/", http.Header{"Api-Key": {secret + "\r\nX: y"}}, "header Api-Key"},
		{"nul in a value", "http://h/", http.Header{"Api-Key": {secret + "\x00"}}, "header Api-Key"},
		{"name with a space", "http://h/", http.Header{"Authorization: Basic " + secret: {""}}, "OTLP_RELAY_HEADERS"},
		{"name with a line break", "http://h/", http.Header{"a\r\nb": {secret}}, "OTLP_RELAY_HEADERS"},
		{"no name", "http://h/", http.Header{"": {secret}}, "without a name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := NewHTTP(HTTPConfig{URL: mustURL(t, test.url), Header: test.header})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("error is %v, want one with %q and without the secret", err, test.want)
			}
		})
	}
	if _, err := NewHTTP(HTTPConfig{}); err == nil {
		t.Error("no error without a URL")
	}
}

// A flush has one request in flight, but nothing breaks when there are more.
func TestConcurrentSends(t *testing.T) {
	b := newBackend(t, answering(okAnswer))
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url), Timeout: time.Minute})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := h.Send(context.Background(), payload(100)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	dials := b.dials.Load()
	if err := h.Send(t.Context(), payload(100)); err != nil || b.dials.Load() != dials {
		t.Errorf("no connection was kept: error %v, %d dials", err, b.dials.Load())
	}
	h.Close()
	if err := h.Send(t.Context(), payload(100)); err != nil || b.dials.Load() != dials+1 {
		t.Errorf("after Close: error %v, %d dials, want %d", err, b.dials.Load(), dials+1)
	}
}

func TestCancelledByCaller(t *testing.T) {
	asked := make(chan struct{}, 9)
	b := newBackend(t, func(p *peer) {
		p.request()
		asked <- struct{}{}
		p.request()
	})
	h := newHTTP(t, HTTPConfig{URL: mustURL(t, b.url)})
	shutdown := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(shutdown)
	}()
	err := h.Send(ctx, payload(10))
	e := refusal(t, err)
	if !e.Retryable || e.Code != otlp.Canceled || e.HTTPStatus != 0 || !errors.Is(err, shutdown) || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("error is %v (%+v)", err, e)
	}
	dials := b.dials.Load()
	if err := h.Send(ctx, payload(10)); !errors.Is(err, shutdown) || b.dials.Load() != dials {
		t.Errorf("with a context that has ended: error %v, %d dials, want %d", err, b.dials.Load(), dials)
	}
}

func ExampleHTTP() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3")
		http.Error(w, "come back later", http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	u, _ := http.NewRequest("POST", srv.URL+"/v1/traces", nil)
	h, _ := NewHTTP(HTTPConfig{URL: u.URL, Timeout: 10 * time.Second})
	defer h.Close()

	err := h.Send(context.Background(), otlp.Payload{Signal: otlp.Traces})
	var e *otlp.Error
	if errors.As(err, &e) && e.Retryable {
		fmt.Println(err, "- again in", e.RetryAfter)
	}
	// Output: HTTP 503: come back later - again in 3s
}

package otlptest

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func start(t *testing.T, opts Options) *Backend {
	t.Helper()
	b, err := StartBackend(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// client keeps no connections and follows no redirects; it gives up after a while so that a hang ends.
func client(t *testing.T, config *tls.Config) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// post sends a request and returns the answer with its whole body.
func post(ctx context.Context, c *http.Client, url, media, coding string, body []byte) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", media)
	if coding != "" {
		r.Header.Set("Content-Encoding", coding)
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, answer, err
}

func TestBackendTakesEverySignalAndEncoding(t *testing.T) {
	b := start(t, Options{Keep: true, Paths: map[string]otlp.Signal{"/custom": otlp.Logs}})
	builder := &Builder{Name: "takes"}
	var made []string
	for sig := range otlp.Signal(otlp.SignalCount) {
		for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
			built := builder.Build(sig, enc, 7)
			made = append(made, built.IDs...)
			resp, _, err := post(t.Context(), client(t, nil), b.URL()+"/prefix"+sig.Path(), enc.ContentType()+"; charset=utf-8", "", built.Body)
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != enc.ContentType() {
				t.Fatalf("%s: %v, %v", sig, resp, err)
			}
			if err := Equal(sig, enc, [][]byte{built.Body}, b.Bodies(sig, enc)); err != nil {
				t.Errorf("%s: %v", sig, err)
			}
		}
		if got := b.Totals(sig); got.Requests != 2 || got.Taken != 2 || got.Records != 14 || got.Size != got.Wire || got.Parallel != 1 {
			t.Errorf("%s: %+v", sig, got)
		}
	}
	if lost := b.Lost(append(made, "never made")); !slices.Equal(lost, []string{"never made"}) {
		t.Errorf("lost %v", lost)
	}
	if twice := b.Duplicates(); len(twice) != 0 {
		t.Errorf("duplicates %v", twice)
	}
	again := b.Bodies(otlp.Logs, otlp.Protobuf)[0]
	if _, _, err := post(t.Context(), client(t, nil), b.URL()+"/custom", otlp.Protobuf.ContentType(), "", again); err != nil {
		t.Fatal(err)
	}
	if twice := b.Duplicates(); len(twice) != 7 || !strings.HasPrefix(twice[0], "takes-") {
		t.Errorf("duplicates %v", twice)
	}
}

func TestBackendDecompresses(t *testing.T) {
	b := start(t, Options{})
	built := (&Builder{Name: "coded"}).Build(otlp.Traces, otlp.Protobuf, 20)
	var deflated bytes.Buffer
	z := zlib.NewWriter(&deflated)
	z.Write(built.Body)
	z.Close()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for coding, body := range map[string][]byte{
		"gzip": gzipped(string(built.Body)), "deflate": deflated.Bytes(), "zstd": encoder.EncodeAll(built.Body, nil), "": built.Body,
	} {
		resp, _, err := post(t.Context(), client(t, nil), b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), coding, body)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%q: %v, %v", coding, resp, err)
		}
		requests := b.Requests()
		q := requests[len(requests)-1]
		if q.Coding != coding || q.Wire != len(body) || q.Size != len(built.Body) || q.Records != 20 || q.Body != nil || q.Message != nil {
			t.Errorf("%q: %+v", coding, q)
		}
	}
}

func TestBackendRefuses(t *testing.T) {
	b := start(t, Options{})
	b.SetMaxBody(4000)
	b.PoisonIf(func(q *Request) bool { return bytes.Contains(q.Body, []byte("poison")) })
	builder := &Builder{Name: "poison"}
	tests := []struct {
		name, path, media, coding string
		body                      []byte
		status                    int
	}{
		{"unknown path", "/v1/other", "application/json", "", []byte(`{}`), 404},
		{"unknown type", "/v1/logs", "text/plain", "", []byte(`{}`), 415},
		{"no type", "/v1/logs", "", "", []byte(`{}`), 415},
		{"unknown coding", "/v1/logs", "application/json", "br", []byte(`{}`), 415},
		{"broken coding", "/v1/logs", "application/json", "gzip", []byte(`{}`), 400},
		{"malformed JSON", "/v1/logs", "application/json", "", []byte(`{`), 400},
		{"malformed protobuf", "/v1/logs", "application/x-protobuf", "", []byte("\x0a\x05x"), 400},
		{"too large", "/v1/logs", "application/x-protobuf", "", builder.Build(otlp.Logs, otlp.Protobuf, 50).Body, 413},
		{"poison", "/v1/logs", "application/x-protobuf", "", builder.Build(otlp.Logs, otlp.Protobuf, 1).Body, 400},
		{"no poison", "/v1/logs", "application/x-protobuf", "", nil, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body, err := post(t.Context(), client(t, nil), b.URL()+tt.path, tt.media, tt.coding, tt.body)
			if err != nil || resp.StatusCode != tt.status {
				t.Fatalf("got %v, %v, want %d", resp, err, tt.status)
			}
			var st status.Status
			if tt.status != 404 && tt.media == "application/x-protobuf" {
				if err := proto.Unmarshal(body, &st); err != nil || (st.Message == "") != (tt.status == 200) {
					t.Errorf("body %q: %v, %v", body, &st, err)
				}
			}
		})
	}
	if got := b.Totals(otlp.Logs); got.Requests != 9 || got.Taken != 1 || got.Records != 0 {
		t.Errorf("%+v", got)
	}
}

func TestFaults(t *testing.T) {
	tests := []struct {
		fault  Fault
		status int // 0: no answer, or none that can be read
		whole  bool
		taken  bool
	}{
		{Fault{Kind: Refuse}, 0, false, false},
		{Fault{Kind: Hang}, 0, false, false},
		{Fault{Kind: Hang, Take: true}, 0, false, true},
		{Fault{Kind: ResetBeforeRead, Take: true}, 0, false, false},
		{Fault{Kind: ResetAfterRead}, 0, false, false},
		{Fault{Kind: ResetAfterRead, Take: true}, 0, false, true},
		{Fault{Kind: ResetMidAnswer}, 200, false, true},
		{Fault{Kind: HalfClose}, 0, false, false},
		{Fault{Kind: Garbage}, 0, false, false},
		{Fault{Kind: Redirect}, 307, true, false},
		{Fault{Kind: EndlessBody}, 503, true, false}, // whole: a client may stop reading
		{Fault{Kind: Status, Code: 429, RetryAfter: "soon"}, 429, true, false},
		{Fault{Kind: Partial, Rejected: 2}, 200, true, true},
	}
	for _, opts := range []Options{{}, {TLS: true}} {
		for _, tt := range tests {
			t.Run(tt.fault.Kind.String(), func(t *testing.T) {
				b := start(t, opts)
				var config *tls.Config
				if opts.TLS {
					config = &tls.Config{RootCAs: x509.NewCertPool()}
					config.RootCAs.AppendCertsFromPEM(b.CA())
				}
				built := (&Builder{Name: "fault"}).Build(otlp.Traces, otlp.Protobuf, 5)
				b.FailNext(1, tt.fault)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.fault.Kind == Hang {
					go func() {
						b.WaitRequests(ctx, otlp.Traces, 1)
						b.Close() // ends what hangs
					}()
				}
				resp, _, err := post(ctx, client(t, config), b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), "", built.Body)
				code := 0
				if resp != nil {
					code = resp.StatusCode
				}
				if code != tt.status || (err == nil) != tt.whole {
					t.Errorf("status %d, error %v", code, err)
				}
				wantLost := 5
				if tt.taken {
					wantLost = int(tt.fault.Rejected)
				}
				if lost := b.Lost(built.IDs); len(lost) != wantLost {
					t.Errorf("lost %v, want %d", lost, wantLost)
				}
			})
		}
	}
}

func TestSlowBody(t *testing.T) {
	for _, code := range []int{200, 500} {
		b := start(t, Options{})
		b.Fail(Fault{Kind: SlowBody, Every: time.Hour, Code: code})
		resp, err := client(t, nil).Post(b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), nil)
		if err != nil || resp.StatusCode != code {
			t.Fatalf("%v, %v", resp, err)
		}
		b.Close()
		if body, err := io.ReadAll(resp.Body); len(body) != 1 || err == nil {
			t.Errorf("%d: read %q, %v: want one byte and no end", code, body, err)
		}
		resp.Body.Close()
		if taken := b.Totals(otlp.Traces).Taken; (taken == 1) != (code == 200) {
			t.Errorf("%d: taken %d", code, taken)
		}
	}
}

func TestFaultHeaders(t *testing.T) {
	b := start(t, Options{})
	b.Fail(Fault{Kind: Status, Code: 429, RetryAfter: "soon", Message: "busy"})
	resp, body, err := post(t.Context(), client(t, nil), b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), "", nil)
	var st status.Status
	if err != nil || resp.Header.Get("Retry-After") != "soon" || proto.Unmarshal(body, &st) != nil || st.Message != "busy" {
		t.Errorf("%v, %q, %v", resp, body, err)
	}
	b.Fail(Fault{Kind: Partial, Rejected: 2, Message: "no room"})
	_, body, err = post(t.Context(), client(t, nil), b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), "", nil)
	var p coltrace.ExportTraceServiceResponse
	if err != nil || proto.Unmarshal(body, &p) != nil || p.PartialSuccess.GetRejectedSpans() != 2 || p.PartialSuccess.GetErrorMessage() != "no room" {
		t.Errorf("%q, %v", body, err)
	}
	b.Fail(Fault{Kind: Redirect})
	resp, _, err = post(t.Context(), client(t, nil), b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), "", nil)
	if err != nil || resp.Header.Get("Location") != "/redirected/v1/traces" {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestRefuseKeepsThePort(t *testing.T) {
	b := start(t, Options{})
	c := &http.Client{Transport: &http.Transport{}} // keeps its connection
	defer c.CloseIdleConnections()
	send := func() error {
		_, _, err := post(t.Context(), c, b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), "", nil)
		return err
	}
	for range 3 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		b.Fail(Fault{Kind: Refuse})
		b.Fail(Fault{Kind: Refuse}) // twice is as once
		c.CloseIdleConnections()
		if err := send(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("got %v", err)
		}
		b.Heal()
	}
	if b.Conns() != 3 || b.Totals(otlp.Traces).Requests != 3 {
		t.Errorf("%d connections, %+v", b.Conns(), b.Totals(otlp.Traces))
	}
	b.Fail(Fault{Kind: Refuse})
	b.Close()
	b.Close()
}

func TestFailNextHeals(t *testing.T) {
	b := start(t, Options{})
	b.FailNext(2, Fault{Kind: Status, Code: 500})
	var got []int
	for range 3 {
		resp, _, err := post(t.Context(), client(t, nil), b.URL()+"/v1/logs", otlp.JSON.ContentType(), "", []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, resp.StatusCode)
	}
	if !slices.Equal(got, []int{500, 500, 200}) {
		t.Errorf("got %v", got)
	}
}

func TestClientCert(t *testing.T) {
	b := start(t, Options{TLS: true, ClientCert: true})
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(b.CA())
	send := func() error {
		_, _, err := post(t.Context(), client(t, config), b.URL()+"/v1/traces", otlp.Protobuf.ContentType(), "", nil)
		return err
	}
	if err := send(); err == nil {
		t.Error("a client without a certificate was let in")
	}
	pair, err := tls.X509KeyPair(b.ClientCert())
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	if err := send(); err != nil {
		t.Error(err)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBackend(Options{Delay: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		b.SetDelay(20 * time.Millisecond)
		built := (&Builder{Name: "delay"}).Build(otlp.Traces, otlp.Protobuf, 3)
		began := time.Now()
		done := make(chan time.Duration)
		go func() {
			r := httptest.NewRequest(http.MethodPost, "/v1/traces", bytes.NewReader(built.Body))
			r.Header.Set("Content-Type", otlp.Protobuf.ContentType())
			b.ServeHTTP(httptest.NewRecorder(), r)
			done <- time.Since(began)
		}()
		if err := b.WaitRecords(t.Context(), otlp.Traces, 3); err != nil || time.Since(began) != 0 {
			t.Errorf("the records were kept after %v, %v: want at once", time.Since(began), err)
		}
		if took := <-done; took != 20*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.WaitRecords(ctx, otlp.Traces, 4); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "have 3") {
			t.Errorf("got %v", err)
		}
	})
}

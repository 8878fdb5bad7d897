package lambdaapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// platform is a scripted fake of the APIs that remembers what it was asked.
type platform struct {
	*httptest.Server
	conns  atomic.Int64
	got    chan *http.Request // without its body
	body   chan string
	answer func(w http.ResponseWriter, r *http.Request)
}

func startPlatform(t *testing.T, answer http.HandlerFunc) (*platform, *Client) {
	t.Helper()
	p := &platform{got: make(chan *http.Request, 100), body: make(chan string, 100), answer: answer}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.got <- r
		p.body <- string(body)
		p.answer(w, r)
	}))
	p.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			p.conns.Add(1)
		}
	}
	p.Start()
	c := NewClient(p.Listener.Addr().String())
	t.Cleanup(p.Close)
	t.Cleanup(c.Close)
	return p, c
}

func registered(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Lambda-Extension-Identifier", "id-1")
	io.WriteString(w, `{"functionName":"fn","functionVersion":"$LATEST","handler":"bootstrap","accountId":"123456789012"}`)
}

func TestRegister(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // never used
	p, c := startPlatform(t, registered)
	if err := c.Register(t.Context(), "otlp-relay", []string{"INVOKE", "SHUTDOWN"}); err != nil {
		t.Fatal(err)
	}
	r := <-p.got
	if r.Method != "POST" || r.URL.Path != "/2020-01-01/extension/register" || r.Host != p.Listener.Addr().String() {
		t.Errorf("%s %s of %s", r.Method, r.URL.Path, r.Host)
	}
	if r.Header.Get("Lambda-Extension-Name") != "otlp-relay" {
		t.Errorf("headers %v", r.Header)
	}
	if body := <-p.body; body != `{"events":["INVOKE","SHUTDOWN"]}` {
		t.Errorf("body %s", body)
	}
	if err := c.Register(t.Context(), "otlp-relay", nil); err != nil {
		t.Fatal(err)
	}
	if body := <-p.body; body != `{"events":[]}` {
		t.Errorf("body %s", body)
	}
}

func TestRegisterAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"no identifier", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{}`) }, "no Lambda-Extension-Identifier"},
		{"too large", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat(" ", maxResponse+1)) }, "larger than 1048576 bytes"},
		{"cut", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{`)
		}, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, c := startPlatform(t, tt.answer)
			err := c.Register(t.Context(), "x", nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "register the extension: ") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNext(t *testing.T) {
	tests := []struct {
		name, body string
		want       Event
	}{
		{"invoke", `{"eventType":"INVOKE","deadlineMs":1795396455040,"requestId":"r1","invokedFunctionArn":"arn:x",` +
			`"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-2"}}`,
			Event{Type: Invoke, Deadline: time.UnixMilli(1795396455040), RequestID: "r1", InvokedFunctionARN: "arn:x", Tracing: "Root=1-2"}},
		{"no tracing", `{"eventType":"INVOKE","deadlineMs":1,"requestId":"r2"}`,
			Event{Type: Invoke, Deadline: time.UnixMilli(1), RequestID: "r2"}},
		{"shutdown", `{"eventType":"SHUTDOWN","deadlineMs":1795396455040,"shutdownReason":"SPINDOWN"}`,
			Event{Type: Shutdown, Deadline: time.UnixMilli(1795396455040), ShutdownReason: "spindown"}},
		{"emulator's shutdown", `{"eventType":"SHUTDOWN","shutdownReason":"SandboxTerminated"}`,
			Event{Type: Shutdown, ShutdownReason: "sandboxterminated"}},
		{"unknown", `{"eventType":"RESTORE","news":[1,2]}`, Event{Type: "RESTORE"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, c := startPlatform(t, registered)
			if err := c.Register(t.Context(), "x", nil); err != nil {
				t.Fatal(err)
			}
			<-p.got
			p.answer = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, tt.body) }
			got, err := c.Next(t.Context())
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v", got, err)
			}
			r := <-p.got
			if r.Method != "GET" || r.URL.Path != "/2020-01-01/extension/event/next" || r.Header.Get("Lambda-Extension-Identifier") != "id-1" {
				t.Errorf("%s %s %v", r.Method, r.URL.Path, r.Header)
			}
			if n := p.conns.Load(); n != 1 {
				t.Errorf("%d connections, want the one kept", n)
			}
		})
	}
}

// Every call against every status: success is one status only, all others are an *Error with what the platform says.
func TestStatuses(t *testing.T) {
	calls := map[string]struct {
		ok   int
		call func(*Client, context.Context) error
	}{
		"register": {200, func(c *Client, ctx context.Context) error { return c.Register(ctx, "x", nil) }},
		"next":     {200, func(c *Client, ctx context.Context) error { _, err := c.Next(ctx); return err }},
		"init":     {202, func(c *Client, ctx context.Context) error { return c.InitError(ctx, "Extension.Bad", "m") }},
		"exit":     {202, func(c *Client, ctx context.Context) error { return c.ExitError(ctx, "Extension.Bad", "m") }},
		"telemetry": {200, func(c *Client, ctx context.Context) error {
			return c.Subscribe(ctx, Subscription{})
		}},
	}
	bodies := map[string]Error{
		`{"errorType":"Extension.Some","errorMessage":"why"}`: {Type: "Extension.Some", Message: "why"},
		`{}`:     {},
		`<html>`: {},
		``:       {},
	}
	for name, call := range calls {
		for _, status := range []int{200, 201, 202, 204, 301, 400, 403, 404, 413, 429, 500, 503} {
			for body, want := range bodies {
				t.Run(fmt.Sprintf("%s %d %s", name, status, body), func(t *testing.T) {
					_, c := startPlatform(t, func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Lambda-Extension-Identifier", "id")
						w.WriteHeader(status)
						io.WriteString(w, body)
					})
					err := call.call(c, t.Context())
					var refusal *Error
					switch {
					case status == call.ok:
						if refused := errors.As(err, &refusal); refused {
							t.Errorf("got %v", err)
						}
					case name == "telemetry" && status == 202:
						if !errors.Is(err, ErrTelemetryUnsupported) {
							t.Errorf("got %v", err)
						}
					case !errors.As(err, &refusal):
						t.Errorf("got %v", err)
					case refusal.Status != status || status != 204 && (refusal.Type != want.Type || refusal.Message != want.Message):
						t.Errorf("got %+v", refusal)
					}
				})
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	e := Error{Call: "register the extension", Status: 403, Type: "Extension.InvalidExtensionName", Message: "Empty extension name"}
	if got, want := e.Error(), "register the extension: HTTP 403 Extension.InvalidExtensionName: Empty extension name"; got != want {
		t.Errorf("got %q", got)
	}
	if got, want := (&Error{Call: "wait", Status: 500}).Error(), "wait: HTTP 500"; got != want {
		t.Errorf("got %q", got)
	}
}

func TestErrorReports(t *testing.T) {
	for path, call := range map[string]func(*Client) error{
		"/2020-01-01/extension/init/error": func(c *Client) error { return c.InitError(t.Context(), "Extension.ConfigInvalid", `a "b"`) },
		"/2020-01-01/extension/exit/error": func(c *Client) error { return c.ExitError(t.Context(), "Extension.ConfigInvalid", `a "b"`) },
	} {
		p, c := startPlatform(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) })
		if err := call(c); err != nil {
			t.Error(err)
		}
		r := <-p.got
		if r.URL.Path != path || r.Header.Get("Lambda-Extension-Function-Error-Type") != "Extension.ConfigInvalid" {
			t.Errorf("%s %v", r.URL.Path, r.Header)
		}
		if body, want := <-p.body, `{"errorMessage":"a \"b\"","errorType":"Extension.ConfigInvalid","stackTrace":[]}`; body != want {
			t.Errorf("body %s", body)
		}
	}
}

func TestSubscribe(t *testing.T) {
	p, c := startPlatform(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `"OK"`) })
	err := c.Subscribe(t.Context(), Subscription{
		SchemaVersion: "2022-12-13", Types: []string{"platform"}, MaxItems: 1000, MaxBytes: 262144,
		Timeout: 25 * time.Millisecond, URI: "http://sandbox.localdomain:4319",
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := <-p.got; r.Method != "PUT" || r.URL.Path != "/2022-07-01/telemetry" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s %v", r.Method, r.URL.Path, r.Header)
	}
	var got, want any
	json.Unmarshal([]byte(<-p.body), &got)
	json.Unmarshal([]byte(`{"schemaVersion":"2022-12-13","types":["platform"],
		"buffering":{"maxItems":1000,"maxBytes":262144,"timeoutMs":25},
		"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4319"}}`), &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestLineBreakIsRefused(t *testing.T) {
	c := NewClient("127.0.0.1:1")
	if err := c.Register(t.Context(), "x\r\nInjected: y", nil); err == nil || !strings.Contains(err.Error(), "line break") {
		t.Errorf("got %v", err)
	}
}

func TestReconnects(t *testing.T) {
	p, c := startPlatform(t, registered)
	call := func() {
		t.Helper()
		if err := c.Register(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	call()
	call()
	p.CloseClientConnections() // as after a freeze
	call()
	if n := p.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		registered(w, r)
	}
	call()
	call()
	if n := p.conns.Load(); n != 3 {
		t.Errorf("%d connections, want 3: one was closed by its answer", n)
	}
}

// A peer that never answers is asked at most twice by one call: on the kept connection and on a fresh one.
func TestDeadPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int64
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			r := bufio.NewReader(nc)
			http.ReadRequest(r)
			if conns.Load() == 1 {
				io.WriteString(nc, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
				http.ReadRequest(r)
			}
			nc.Close()
		}
	}()
	c := NewClient(l.Addr().String())
	if err := c.ExitError(t.Context(), "Extension.X", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	l.Close()
	if _, err := c.Next(t.Context()); err == nil {
		t.Error("an event from nowhere")
	}
}

// Next waits for hours, and for no longer than its context; afterwards the client is as good as new.
func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		c := NewClient("api:9001")
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				r := bufio.NewReader(theirs)
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					time.Sleep(10 * time.Hour) // the script of the platform, not a wait of the test's
					io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"eventType\":\"INVOKE\"}")
				}
			}()
			return ours, nil
		}
		began := time.Now()
		for range 2 {
			if e, err := c.Next(t.Context()); err != nil || e.Type != Invoke {
				t.Fatalf("got %+v, %v", e, err)
			}
		}
		if waited := time.Since(began); waited != 20*time.Hour || dials != 1 {
			t.Errorf("two events took %v and %d connections", waited, dials)
		}
		reason := errors.New("the reason")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, reason)
		defer cancel()
		if _, err := c.Next(ctx); !errors.Is(err, reason) || time.Since(began) != 20*time.Hour+time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := c.Next(t.Context()); err != nil || dials != 2 {
			t.Errorf("%d connections, %v", dials, err)
		}
		c.Close()
		time.Sleep(24 * time.Hour) // lets the forsaken pipes end
	})
}

func BenchmarkNext(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"eventType":"INVOKE","deadlineMs":1795396455040,"requestId":"r1","invokedFunctionArn":"arn:x"}`)
	}))
	defer srv.Close()
	c := NewClient(srv.Listener.Addr().String())
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Next(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

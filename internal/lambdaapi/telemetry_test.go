package lambdaapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

const done = `{"time":"2022-10-21T14:05:05.764Z","type":"platform.runtimeDone","record":{"requestId":"r1","status":"success",` +
	`"tracing":{"spanId":"24cd7d670fa455f0","type":"X-Amzn-Trace-Id","value":"Root=1-6352a70e"},"spans":[{"name":"responseLatency",` +
	`"start":"2022-10-21T14:05:03.165Z","durationMs":2598.0}],"metrics":{"durationMs":2599.0,"producedBytes":8}}}`

var doneEvent = PlatformEvent{
	Type: "platform.runtimeDone", RequestID: "r1", Status: "success", Time: time.Date(2022, 10, 21, 14, 5, 5, 764e6, time.UTC),
}

func parsed(body string) []PlatformEvent {
	var events []PlatformEvent
	parseTelemetry([]byte(body), func(e PlatformEvent) { events = append(events, e) })
	return events
}

func TestParseTelemetry(t *testing.T) {
	only := []PlatformEvent{doneEvent}
	tests := []struct {
		name, body string
		want       []PlatformEvent
	}{
		{"one", `[` + done + `]`, only},
		{"two with white space", " [\n" + done + " ,\t" + done + "\r\n] ", []PlatformEvent{doneEvent, doneEvent}},
		{"failure", `[{"type":"platform.runtimeDone","record":{"requestId":"r2","status":"failure","errorType":"Runtime.ExitError"}}]`,
			[]PlatformEvent{{Type: "platform.runtimeDone", RequestID: "r2", Status: "failure", ErrorType: "Runtime.ExitError"}}},
		{"record before type", `[{"record":{"requestId":"r"},"type":"platform.start"}]`, []PlatformEvent{{Type: "platform.start", RequestID: "r"}}},
		{"unknown type", `[{"type":"platform.fault","record":"text"}]`, []PlatformEvent{{Type: "platform.fault"}}},
		{"function's line", `[{"type":"function","record":"a \"quoted\" } line"}]`, []PlatformEvent{{Type: "function"}}},
		{"escapes", `[{"t\u0079pe":"platform.st\u0061rt\n\u00e9"}]`, []PlatformEvent{{Type: "platform.start\né"}}},
		{"bad time of AWS's examples", `[{"time":"2022-10-12T12:01:23:521Z","type":"platform.start"}]`, []PlatformEvent{{Type: "platform.start"}}},
		{"comma too many", `[{"type":"platform.start","record":{"requestId":"r",},},` + done + `,]`,
			[]PlatformEvent{{Type: "platform.start", RequestID: "r"}, doneEvent}},
		{"elements that are none", `[5,null,"x",[1,[2]],{},{"type":7},{"type":null},` + done + `]`, only},
		{"malformed element", `[{"type" "platform.start"},{type:"x"},{"type":"x" "y":1},` + done + `]`, only},
		{"malformed inside", `[{"type":"x","record":{"requestId" "r"}},` + done + `]`, only},
		{"cut", `[` + done + `,{"type":"platform.st`, only},
		{"cut after a backslash", `[` + done + `,"\`, only},
		{"no end", `[` + done, only},
		{"closed too often", `[` + done + `}` + done, only},
		{"empty", ``, nil},
		{"no array", done, nil},
		{"empty array", `[]`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parsed(tt.body); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// FuzzParseTelemetry holds the parser against encoding/json: alike on valid arrays, and on anything an end.
func FuzzParseTelemetry(f *testing.F) {
	for _, body := range []string{
		`[` + done + `]`, `[5,null,"x",[1,{}],{"type":7,"type":"y"}]`, `[{"type":"a","record":{"status":"s"},"record":5}]`,
		`[{"type":"\ud800\u0041é","time":"2022-10-21T14:05:05+02:00"},`, `[{"type":"x",}]`, `["\`, `[{"record":{"requestId":{"a":[]}},"type":"q"}]`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := parsed(string(body))
		if want, ok := oracle(body); ok && !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// oracle reads a batch with encoding/json; ok is false where the body is no valid JSON array.
func oracle(body []byte) (events []PlatformEvent, ok bool) {
	var elements []json.RawMessage
	if json.Unmarshal(body, &elements) != nil || !bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		return nil, false
	}
	for _, element := range elements {
		members := object(element)
		record := object(members["record"])
		e := PlatformEvent{
			Type: text(members["type"]), RequestID: text(record["requestId"]), Status: text(record["status"]), ErrorType: text(record["errorType"]),
		}
		e.Time, _ = time.Parse(time.RFC3339Nano, text(members["time"]))
		if e.Type != "" {
			events = append(events, e)
		}
	}
	return events, true
}

func object(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	json.Unmarshal(raw, &m)
	return m
}

func text(raw json.RawMessage) string {
	var s string
	json.Unmarshal(raw, &s)
	return s
}

func TestTelemetryHandler(t *testing.T) {
	const maxBytes = 1000
	const limit = 2*maxBytes + 64<<10
	padded := func(size int) string {
		return `[` + done + `,"` + strings.Repeat("x", size-len(done)-5) + `"]`
	}
	tests := []struct {
		name, method, path, body string
		chunked                  bool
		events                   int
	}{
		{"root", "POST", "/", padded(1000), false, 1},
		{"any path", "PUT", "/a/b?c", padded(1000), false, 1},
		{"chunked", "POST", "/", padded(1000), true, 1},
		{"at the limit", "POST", "/", padded(limit), false, 1},
		{"chunked at the limit", "POST", "/", padded(limit), true, 1},
		{"over the limit", "POST", "/", padded(limit + 1), false, 0},
		{"chunked over the limit", "POST", "/", padded(limit + 1), true, 0},
		{"far over the limit", "POST", "/", padded(2 << 20), false, 0},
		{"empty", "POST", "/", "", false, 0},
		{"garbage", "POST", "/", "\x00garbage", false, 0},
	}
	var events []PlatformEvent
	l, err := ListenTelemetry("127.0.0.1:0", maxBytes, func(e PlatformEvent) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events = nil
			r, err := http.NewRequestWithContext(t.Context(), tt.method, l.URI()+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.chunked {
				r.ContentLength = -1
			}
			resp, err := transport.RoundTrip(r)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v, %v", resp, err)
			}
			resp.Body.Close()
			if len(events) != tt.events {
				t.Errorf("%d events, want %d", len(events), tt.events)
			}
		})
	}
}

// speak sends text to a Listener and returns what it answers until it closes the connection, and the events.
func speak(t *testing.T, text string) (answer string, events int) {
	t.Helper()
	l, err := ListenTelemetry("127.0.0.1:0", 1000, func(e PlatformEvent) {
		if e.Type == "panic" {
			panic("a bug")
		}
		events++
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(l.URI(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, text)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	l.Close()
	return string(b), events
}

func TestTelemetryOnTheWire(t *testing.T) {
	batch := `[` + done + `]`
	post := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", len(batch))
	panics := `[{"type":"panic"}]`
	tests := []struct {
		name, text, answer string
		events             int
	}{
		{"one after the other", post + "\r\n" + batch + post + "\r\n" + batch, answer200 + answer200, 2},
		{"with net/http in between", post + "\r\n" + batch + post + "Upgrade: x\r\n\r\n" + batch + post + "\r\n" + batch, answer200 + answer200 + answer200, 3},
		{"the last one", post + "Connection: close\r\n\r\n" + batch + post + "\r\n" + batch, answer200, 1},
		{"expects to be told to go on", post + "Expect: 100-continue\r\n\r\n" + batch, answer100 + answer200, 1},
		// A batch whose sender is cut off in the middle is not used: it comes again.
		{"cut", post + "\r\n" + batch[:len(batch)-1], answer200, 0},
		{"cut in its head", post + "\r", answer200, 0},
		{"no HTTP", "\x16\x03\x01\r\n\r\n", answer200, 0},
		{"a bug", fmt.Sprintf("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s", len(panics), panics), "", 0},
		{"nothing", "", "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if answer, events := speak(t, tt.text); answer != tt.answer || events != tt.events {
				t.Errorf("%d events and the answer %q; want %d, %q", events, answer, tt.events, tt.answer)
			}
		})
	}
}

// A head without an end is not read for ever.
func TestTelemetryEndlessHead(t *testing.T) {
	l, err := ListenTelemetry("127.0.0.1:0", 1000, func(PlatformEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", strings.TrimPrefix(l.URI(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, err = io.WriteString(c, "POST / HTTP/1.1\r\n"); err == nil; {
		_, err = io.WriteString(c, "X-Y: 0123456789\r\n")
	}
}

// Close cuts connections, and after it no event comes.
func TestTelemetryClose(t *testing.T) {
	l, err := ListenTelemetry("127.0.0.1:0", 1000, func(PlatformEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(l.URI(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n[")
	if _, err := io.ReadFull(c, make([]byte, len(answer200))); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("read %d bytes, error %v, of a connection that was cut", n, err)
	}
}

// FuzzReadPlain: what is read without net/http, net/http reads alike.
func FuzzReadPlain(f *testing.F) {
	for _, head := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[]x", "HTTP/1.1 200 OK\r\ncontent-length:  0 \r\nA:b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
	} {
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		r.Peek(1)
		n, ok := readPlain(r, func([]byte) bool { return true })
		rest, _ := io.ReadAll(r)
		if !ok {
			if !bytes.Equal(rest, b) {
				t.Fatal("a head that is not plain was touched")
			}
			return
		}
		r.Reset(bytes.NewReader(b))
		if req, err := http.ReadRequest(r); err == nil && req.ProtoAtLeast(1, 1) {
			restAfter(t, r, rest, n, req.ContentLength, req.Close || req.TransferEncoding != nil)
		}
		r.Reset(bytes.NewReader(b))
		if resp, err := http.ReadResponse(r, nil); err == nil && resp.StatusCode == 200 && resp.ProtoAtLeast(1, 1) {
			restAfter(t, r, rest, n, resp.ContentLength, resp.Close || resp.TransferEncoding != nil)
		}
	})
}

// restAfter compares what is left of r, and what the head said, with what readPlain found.
func restAfter(t *testing.T, r io.Reader, rest []byte, n int, length int64, special bool) {
	t.Helper()
	left, _ := io.ReadAll(r)
	if !bytes.Equal(left, rest) || int64(n) != length || special {
		t.Errorf("%d bytes of body and %q left; net/http: %d, %q, special %v", n, rest, length, left, special)
	}
}

func TestListenTelemetryErrors(t *testing.T) {
	first, err := ListenTelemetry("127.0.0.1:0", 1, func(PlatformEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := ListenTelemetry(strings.TrimPrefix(first.URI(), "http://"), 1, nil); err == nil || !strings.Contains(err.Error(), "listen for telemetry") {
		t.Errorf("got %v", err)
	}
	if addr := sandboxAddr(); addr == "" {
		t.Error("no address")
	}
}

func TestFindHost(t *testing.T) {
	for hosts, want := range map[string]string{
		"": "",
		"127.0.0.1 localhost\n169.254.100.1\tsandbox.localdomain sandbox\n": "169.254.100.1",
		"169.254.100.1 sandbox Sandbox.LocalDomain":                         "169.254.100.1",
		"fd00::1 sandbox.localdomain\n169.254.100.1 sandbox.localdomain":    "fd00::1",
		"#169.254.100.1 sandbox.localdomain":                                "",
		"169.254.100.1 sandbox # sandbox.localdomain":                       "",
		"169.254.100.1 my.sandbox.localdomain":                              "",
		"nonsense sandbox.localdomain\n169.254.100.2 sandbox.localdomain":   "169.254.100.2",
		"sandbox.localdomain":                                               "",
	} {
		if got := findHost(hosts, telemetryHost); got != want {
			t.Errorf("%q: got %q, want %q", hosts, got, want)
		}
	}
}

func BenchmarkParseTelemetry(b *testing.B) {
	body := []byte(`[` + done + `,` + strings.ReplaceAll(done, "runtimeDone", "report") + `,` + strings.ReplaceAll(done, "runtimeDone", "start") + `]`)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			parseTelemetry(body, func(PlatformEvent) {})
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var elements []json.RawMessage
			json.Unmarshal(body, &elements)
			for _, element := range elements {
				var e struct {
					Time, Type string
					Record     struct{ RequestID, Status, ErrorType string }
				}
				json.Unmarshal(element, &e)
			}
		}
	})
}

package export

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// stdoutLine is the envelope, as its readers know it.
type stdoutLine struct {
	Tag         string `json:"__otel_otlp_stdout"`
	Source      string `json:"source"`
	Endpoint    string `json:"endpoint"`
	Method      string `json:"method"`
	ContentType string `json:"content-type"`
	Coding      string `json:"content-encoding"`
	Base64      bool   `json:"base64"`
	Payload     json.RawMessage
	Signal      string
	Records     int
	Bytes       int
}

// body is what the line carries, decompressed.
func (l stdoutLine) body(t *testing.T) []byte {
	t.Helper()
	if !l.Base64 {
		return l.Payload
	}
	var text string
	if err := json.Unmarshal(l.Payload, &text); err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	coding := map[string]otlp.Compression{"": otlp.None, "gzip": otlp.Gzip, "zstd": otlp.Zstd}[l.Coding]
	var d otlp.Decompressor
	if b, err = d.Append(nil, b, coding, 1<<20); err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(t testing.TB, body []byte, to otlp.Compression) []byte {
	t.Helper()
	if to == otlp.None {
		return body
	}
	if to == otlp.Zstd {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(body, nil)
	}
	var c otlp.Compressor
	out, err := c.Append(nil, body, to)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStdout(t *testing.T) {
	proto := new(otlptest.Builder).Build(otlp.Traces, otlp.Protobuf, 3).Body
	pretty := []byte("{\n  \"resourceLogs\" : [\n ] , \"x\": \"a  <b> \\u2028 ü\"\n}\n")
	const compact = `{"resourceLogs":[],"x":"a  <b> \u2028 ü"}`
	tests := []struct {
		name   string
		p      otlp.Payload
		body   string
		base64 bool
	}{
		{"protobuf", otlp.Payload{Body: proto, Size: len(proto), Records: 3}, string(proto), true},
		{"protobuf, gzip", otlp.Payload{Compression: otlp.Gzip, Body: packed(t, proto, otlp.Gzip), Size: len(proto), Records: 3}, string(proto), true},
		{"protobuf, zstd", otlp.Payload{Compression: otlp.Zstd, Body: packed(t, proto, otlp.Zstd), Size: len(proto), Records: 3}, string(proto), true},
		{"empty", otlp.Payload{Signal: otlp.Metrics}, "", true},
		{"JSON", otlp.Payload{Signal: otlp.Logs, Encoding: otlp.JSON, Body: pretty, Size: len(pretty)}, compact, false},
		{"JSON, gzip", otlp.Payload{Signal: otlp.Profiles, Encoding: otlp.JSON, Compression: otlp.Gzip, Body: packed(t, pretty, otlp.Gzip), Size: len(pretty)}, compact, false},
		{"not JSON after all", otlp.Payload{Encoding: otlp.JSON, Body: []byte("{\n"), Size: 2}, "{\n", true},
		{"not gzip after all", otlp.Payload{Encoding: otlp.JSON, Compression: otlp.Gzip, Body: nil, Size: 2}, "", true},
	}
	var out bytes.Buffer
	s := NewStdout(&out, `my "function"`)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out.Reset()
			if err := s.Send(t.Context(), test.p); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(out.String(), "\n"); n != 1 || !strings.HasPrefix(out.String(), `{"__otel_otlp_stdout":"otlp-relay@1",`) {
				t.Fatalf("%d lines: %s", n, out.String())
			}
			var l stdoutLine
			if err := json.Unmarshal(out.Bytes(), &l); err != nil {
				t.Fatal(err)
			}
			if l.Source != `my "function"` || l.Method != "POST" || l.Endpoint != "http://localhost:4318"+test.p.Signal.Path() || l.ContentType != test.p.Encoding.ContentType() ||
				l.Signal != test.p.Signal.String() || l.Records != test.p.Records || l.Bytes != test.p.Size || l.Base64 != test.base64 {
				t.Errorf("line is %+v", l)
			}
			if test.name == "not gzip after all" {
				return // there is no body to compare with
			}
			if got := string(l.body(t)); got != test.body {
				t.Errorf("body is %q, want %q", got, test.body)
			}
		})
	}
}

// A request of StdoutMaxBytes fits into a line, whatever is in it; a larger one is refused so that it is halved.
func TestStdoutLimit(t *testing.T) {
	noise := make([]byte, StdoutMaxBytes)
	rand.NewChaCha8([32]byte{}).Read(noise)
	text, err := json.Marshal(map[string]string{"x": strings.Repeat("é", StdoutMaxBytes/2-20)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := NewStdout(&out, strings.Repeat("f", 64)) // the longest name of a function
	for _, p := range []otlp.Payload{
		{Body: noise}, {Compression: otlp.Gzip, Body: packed(t, noise, otlp.Gzip)}, {Compression: otlp.Zstd, Body: packed(t, noise, otlp.Zstd)},
		{Encoding: otlp.JSON, Body: text}, {Encoding: otlp.JSON, Compression: otlp.Gzip, Body: packed(t, text, otlp.Gzip)},
	} {
		out.Reset()
		if err := s.Send(t.Context(), p); err != nil || out.Len() > 256<<10 {
			t.Errorf("%v, %d bytes of line", err, out.Len())
		}
	}
	out.Reset()
	e := refusal(t, s.Send(t.Context(), otlp.Payload{Body: slices.Repeat(noise, 2)}))
	if e.HTTPStatus != http.StatusRequestEntityTooLarge || e.Retryable || out.Len() > 0 {
		t.Errorf("%v, %d bytes written", e, out.Len())
	}
}

// lines counts writes, and fails where one is not a line.
type lines struct {
	t     *testing.T
	mu    sync.Mutex
	count int
	err   error
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	l.count++
	if bytes.IndexByte(p, '\n') != len(p)-1 || !json.Valid(p) {
		l.t.Errorf("written: %q", p)
	}
	return len(p), nil
}

func TestStdoutConcurrent(t *testing.T) {
	w := &lines{t: t}
	s := NewStdout(w, "f")
	body := new(otlptest.Builder).Build(otlp.Traces, otlp.JSON, 5).Body
	var wg sync.WaitGroup
	for _, sig := range otlp.Signals() {
		wg.Go(func() {
			for range 50 {
				if err := s.Send(t.Context(), otlp.Payload{Signal: sig, Encoding: otlp.JSON, Body: body, Size: len(body), Records: 5}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if w.count != 200 {
		t.Errorf("%d lines, want 200", w.count)
	}
	w.err = errors.New("broken pipe")
	if e := refusal(t, s.Send(t.Context(), payload(1))); !e.Retryable || !errors.Is(e, w.err) {
		t.Errorf("error is %v", e)
	}
}

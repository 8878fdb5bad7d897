package otlptest

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// refusesHeads sends requests that are refused for their path, method or headers.
func (s suite) refusesHeads(t *testing.T) {
	g := s.target(t, suiteLimit)
	const pb, js = "Content-Type: application/x-protobuf", "Content-Type: application/json"
	tests := []struct {
		name, method, path string
		lines              []string
		status             int
		answer             otlp.Encoding
		header, value      string // a field of the answer that must hold value
		says               []string
	}{
		{"root", "GET", "/", nil, 404, otlp.JSON, "", "", []string{"/v1/traces", "/v1/metrics", "/v1/logs", "/v1development/profiles"}},
		{"root, with POST", "POST", "/", []string{pb}, 404, otlp.Protobuf, "", "", []string{"/v1/traces"}},
		{"unknown signal", "POST", "/v1/spans", []string{js}, 404, otlp.JSON, "", "", []string{"/v1/spans", "/v1/traces"}},
		{"profiles under v1", "POST", "/v1/profiles", []string{pb}, 404, otlp.Protobuf, "", "", []string{"/v1development/profiles"}},
		{"path goes on", "POST", "/v1/traces/x", []string{pb}, 404, otlp.Protobuf, "", "", nil},
		{"strange path", "POST", "/%ff%00%22", []string{js}, 404, otlp.JSON, "", "", nil},
		{"GET", "GET", "/v1/traces", nil, 405, otlp.JSON, "Allow", "POST", []string{"POST"}},
		{"PUT", "PUT", "/v1/metrics", []string{pb}, 405, otlp.Protobuf, "Allow", "POST", nil},
		{"DELETE", "DELETE", "/v1development/profiles", []string{js}, 405, otlp.JSON, "Allow", "POST", nil},
		{"method in lower case", "post", "/v1/logs", []string{js}, 405, otlp.JSON, "Allow", "POST", nil},
		{"no Content-Type", "POST", "/v1/traces", nil, 415, otlp.JSON, "", "", []string{"application/x-protobuf", "application/json"}},
		{"text", "POST", "/v1/traces", []string{"Content-Type: text/plain"}, 415, otlp.JSON, "", "", []string{"text/plain", "application/json"}},
		{"gRPC", "POST", "/v1/traces", []string{"Content-Type: application/grpc"}, 415, otlp.JSON, "", "", nil},
		{"prefix of a media type", "POST", "/v1/traces", []string{"Content-Type: application/jsonl"}, 415, otlp.JSON, "", "", nil},
		{"two media types", "POST", "/v1/traces", []string{pb, js}, 415, otlp.JSON, "", "", nil},
		{"brotli", "POST", "/v1/traces", []string{pb, "Content-Encoding: br"}, 415, otlp.Protobuf, "Accept-Encoding", "gzip", []string{"br", "gzip", "zstd", "deflate"}},
		{"brotli, JSON", "POST", "/v1/logs", []string{js, "Content-Encoding: br"}, 415, otlp.JSON, "Accept-Encoding", "zstd", nil},
		{"twice compressed", "POST", "/v1/logs", []string{js, "Content-Encoding: gzip, gzip"}, 415, otlp.JSON, "Accept-Encoding", "gzip", nil},
		{"twice compressed, on two lines", "POST", "/v1/logs", []string{js, "Content-Encoding: gzip", "Content-Encoding: zstd"}, 415, otlp.JSON, "", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := g.dial(t)
			c.write(rawRequest{method: tt.method, path: tt.path, lines: tt.lines, body: []byte("{}")}.wire(g))
			r := c.read(tt.method)
			st := r.checkRefused(t, tt.status, tt.answer)
			for _, word := range tt.says {
				if !strings.Contains(st.GetMessage(), word) {
					t.Errorf("message %q does not say %q", st.GetMessage(), word)
				}
			}
			if tt.header != "" && !strings.Contains(r.header.Get(tt.header), tt.value) {
				t.Errorf("%s: %q, want %q in it", tt.header, r.header.Get(tt.header), tt.value)
			}
			g.checkTaken(t)
			s.goesOn(t, g, c)
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		r := g.do(t, rawRequest{method: "HEAD", path: "/v1/traces"})
		if r.status != 405 || r.header.Get("Allow") != "POST" {
			t.Errorf("status %d, Allow %q; want 405, POST", r.status, r.header.Get("Allow"))
		}
	})
}

// goesOn checks that the connection still works after a refusal: SDKs keep one per signal.
func (s suite) goesOn(t *testing.T, g *target, c *session) {
	t.Helper()
	m := s.message(otlp.Logs, otlp.JSON, otlp.None, 1)
	c.write(m.post().wire(g))
	c.read("POST").checkOK(t, otlp.JSON)
	g.checkTaken(t, m)
}

// refusesBodies sends bodies that are not what their head says. None may reach the sink: merged with others
// it would have them refused too.
func (s suite) refusesBodies(t *testing.T) {
	g := s.target(t, suiteLimit)
	for _, sig := range otlp.Signals() {
		for _, b := range s.brokenBodies(sig) {
			t.Run(fmt.Sprint(sig, b.name), func(t *testing.T) {
				for _, chunks := range []int{0, 7} {
					c := g.dial(t)
					q := b.post()
					q.chunks = chunks
					c.write(q.wire(g))
					c.read("POST").checkRefused(t, 400, b.Encoding)
					g.checkTaken(t)
					s.goesOn(t, g, c)
				}
			})
		}
	}
}

type brokenBody struct {
	message
	name string
}

func (s suite) brokenBodies(sig otlp.Signal) []brokenBody {
	broken := func(name string, enc otlp.Encoding, coding otlp.Compression, sent string) brokenBody {
		return brokenBody{message{Built{Signal: sig, Encoding: enc}, coding, []byte(sent)}, name}
	}
	body := func(enc otlp.Encoding) string { return string(s.build.Build(sig, enc, 3).Body) }
	pb, js := body(otlp.Protobuf), body(otlp.JSON)
	list := []brokenBody{
		broken("cut", otlp.Protobuf, otlp.None, pb[:len(pb)-1]),
		broken("tag without value", otlp.Protobuf, otlp.None, pb+"\x0a"),
		broken("length over the end", otlp.Protobuf, otlp.None, pb+"\x0a\x05\x0a"),
		broken("field number zero", otlp.Protobuf, otlp.None, pb+"\x02\x00"),
		broken("wire type 7", otlp.Protobuf, otlp.None, pb+"\x0f"),
		broken("endless varint", otlp.Protobuf, otlp.None, pb+strings.Repeat("\xff", 11)),
		broken("broken inside", otlp.Protobuf, otlp.None, pb+"\x0a\x04\x12\x02\x12\x05"),
		broken("JSON as protobuf", otlp.Protobuf, otlp.None, js),
		broken("empty", otlp.JSON, otlp.None, ""),
		broken("cut JSON", otlp.JSON, otlp.None, js[:len(js)-1]),
		broken("JSON and more", otlp.JSON, otlp.None, js+"}"),
		broken("JSON array", otlp.JSON, otlp.None, "["+js+"]"),
		broken("protobuf as JSON", otlp.JSON, otlp.None, pb),
		broken("bare word", otlp.JSON, otlp.None, "nul"),
	}
	for _, coding := range codings[1:] {
		whole := compress(coding, []byte(pb))
		flipped := append([]byte(nil), whole...)
		flipped[len(flipped)-1] ^= 1
		list = append(list,
			broken("not compressed", otlp.Protobuf, coding, pb),
			broken("cut compressed", otlp.Protobuf, coding, string(whole[:len(whole)-1])),
			broken("half compressed", otlp.Protobuf, coding, string(whole[:len(whole)/2])),
			broken("wrong checksum", otlp.Protobuf, coding, string(flipped)),
			broken("bytes after the end", otlp.Protobuf, coding, string(whole)+"more"),
			broken("nothing", otlp.Protobuf, coding, ""),
			broken("broken and compressed", otlp.JSON, coding, string(compress(coding, []byte(js[1:])))),
		)
	}
	return list
}

// limits sends requests at the limit and one byte over it.
func (s suite) limits(t *testing.T) {
	for _, coding := range codings {
		for _, chunks := range []int{0, 4000} {
			t.Run(fmt.Sprint(coding, chunks), func(t *testing.T) {
				m := s.message(otlp.Metrics, otlp.Protobuf, coding, 500)
				q := m.post()
				q.chunks = chunks
				at := s.target(t, len(m.Body))
				at.do(t, q).checkOK(t, otlp.Protobuf)
				at.checkTaken(t, m)
				over := s.target(t, len(m.Body)-1)
				over.do(t, q).checkRefused(t, 413, otlp.Protobuf)
				over.checkTaken(t)
			})
		}
	}
	t.Run("announced", func(t *testing.T) {
		g := s.target(t, suiteLimit)
		c := g.dial(t)
		m := s.message(otlp.Logs, otlp.JSON, otlp.None, 1)
		c.write(m.post("Content-Length: 9223372036854775807").head(g, false))
		c.read("POST").checkRefused(t, 413, otlp.JSON) // at once: the body never comes
		g.checkTaken(t)
	})
	t.Run("chunked without end", func(t *testing.T) {
		g := s.target(t, 10_000)
		c := g.dial(t)
		m := s.message(otlp.Logs, otlp.JSON, otlp.None, 1)
		q := m.post()
		q.chunks = 1
		c.write(q.head(g, true) + fmt.Sprintf("%x\r\n%s\r\n", 20_000, strings.Repeat(" ", 20_000)))
		c.read("POST").checkRefused(t, 413, otlp.JSON) // at once: the rest never comes
		g.checkTaken(t)
	})
	t.Run("the whole body is written before the answer is read", func(t *testing.T) {
		g := s.target(t, 1000)
		for _, chunks := range []int{0, 60_000} {
			q := message{Built{Signal: otlp.Logs, Encoding: otlp.JSON}, otlp.None, make([]byte, 16<<20)}.post()
			q.chunks = chunks
			c := g.dial(t)
			if _, err := io.WriteString(c.conn, q.wire(g)); err != nil {
				t.Errorf("write the body: %v; most clients give up here, and send it again", err)
			}
			c.read("POST").checkRefused(t, 413, otlp.JSON)
			g.checkTaken(t)
		}
	})
}

// bombs sends small bodies that decompress to far more than the limit. A receiver in this process must not
// have allocated what they hold.
func (s suite) bombs(t *testing.T) {
	const limit, size = 64 << 10, 32 << 20
	g := s.target(t, limit)
	for _, coding := range codings[1:] {
		t.Run(coding.String(), func(t *testing.T) {
			q := message{Built{Signal: otlp.Traces, Encoding: otlp.Protobuf}, coding, zeros(coding, size)}.post()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			g.do(t, q).checkRefused(t, 413, otlp.Protobuf)
			runtime.ReadMemStats(&after)
			g.checkTaken(t)
			if used := after.TotalAlloc - before.TotalAlloc; used > size/2 { // zstd has a window of 8 MiB
				t.Errorf("%d bytes were allocated for a limit of %d", used, limit)
			}
		})
	}
}

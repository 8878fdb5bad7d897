package otlptest

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// acceptsHeads sends heads as SDKs, proxies and people write them.
func (s suite) acceptsHeads(t *testing.T) {
	g := s.target(t, suiteLimit)
	tests := []struct {
		name  string
		enc   otlp.Encoding
		code  otlp.Compression
		lines []string
	}{
		{"charset", otlp.JSON, otlp.None, []string{"Content-Type: application/json; charset=utf-8"}},
		{"parameter without space", otlp.Protobuf, otlp.None, []string{"Content-Type: application/x-protobuf;proto=x"}},
		{"media type in upper case", otlp.Protobuf, otlp.None, []string{"CONTENT-TYPE: APPLICATION/X-PROTOBUF"}},
		{"media type in mixed case", otlp.JSON, otlp.None, []string{"content-type:Application/Json ; Charset=UTF-8"}},
		{"the same media type twice", otlp.JSON, otlp.None, []string{"Content-Type: application/json", "Content-Type: application/json"}},
		{"identity", otlp.JSON, otlp.None, []string{"Content-Type: application/json", "Content-Encoding: identity"}},
		{"none", otlp.JSON, otlp.None, []string{"Content-Type: application/json", "Content-Encoding: none"}},
		{"empty coding", otlp.JSON, otlp.None, []string{"Content-Type: application/json", "Content-Encoding:"}},
		{"coding in upper case", otlp.Protobuf, otlp.Gzip, []string{"Content-Type: application/x-protobuf", "Content-Encoding: GZIP"}},
		{"coding in a list with identity", otlp.Protobuf, otlp.Zstd, []string{"Content-Type: application/x-protobuf", "Content-Encoding: identity, zstd"}},
		{"coding on a second line", otlp.Protobuf, otlp.Deflate, []string{"Content-Type: application/x-protobuf", "Content-Encoding: identity", "Content-Encoding: deflate"}},
		{"JavaScript", otlp.Protobuf, otlp.None, []string{"Content-Type: application/x-protobuf",
			"User-Agent: OTel-OTLP-Exporter-JavaScript/0.223.0", "Connection: keep-alive"}},
		{"Python", otlp.Protobuf, otlp.Gzip, []string{"accept: */*", "accept-encoding: gzip, deflate", "connection: keep-alive",
			"content-type: application/x-protobuf", "content-encoding: gzip", "user-agent: OTel-OTLP-Exporter-Python/1.45.1"}},
		{"Java's JDK asks for HTTP/2", otlp.Protobuf, otlp.Gzip, []string{"Connection: Upgrade, HTTP2-Settings",
			"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA", "Upgrade: h2c",
			"Content-Encoding: gzip", "Content-Type: application/x-protobuf"}},
		{"tokens", otlp.JSON, otlp.None, []string{"Content-Type: application/json", "Authorization: Bearer x", "X-Api-Key: y", "X-Api-Key: z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := s.message(otlp.Traces, tt.enc, tt.code, 2)
			g.do(t, rawRequest{method: "POST", path: "/v1/traces", lines: tt.lines, body: m.sent}).checkOK(t, tt.enc)
			g.checkTaken(t, m)
		})
	}
}

// acceptsNoFraming sends a head that says nothing about a body.
func (s suite) acceptsNoFraming(t *testing.T) {
	g := s.target(t, suiteLimit)
	c := g.dialHTTP(t)
	c.write(rawRequest{method: "POST", path: "/v1/logs", lines: []string{"Content-Type: application/x-protobuf"}}.head(g, false))
	c.read("POST").checkOK(t, otlp.Protobuf)
	g.checkTaken(t)
}

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
			c := g.dialHTTP(t)
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
			g.goesOn(t, httpLine{c})
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		r := g.do(t, rawRequest{method: "HEAD", path: "/v1/traces"})
		if r.status != 405 || r.header.Get("Allow") != "POST" {
			t.Errorf("status %d, Allow %q; want 405, POST", r.status, r.header.Get("Allow"))
		}
	})
}

// httpLimits sends bodies of which the limit is known before they end.
func (s suite) httpLimits(t *testing.T) {
	t.Run("announced", func(t *testing.T) {
		g := s.target(t, suiteLimit)
		c := g.dialHTTP(t)
		m := s.message(otlp.Logs, otlp.JSON, otlp.None, 1)
		c.write(m.post("Content-Length: 9223372036854775807").head(g, false))
		c.read("POST").checkRefused(t, 413, otlp.JSON) // at once: the body never comes
		g.checkTaken(t)
	})
	t.Run("chunked without end", func(t *testing.T) {
		g := s.target(t, 10_000)
		c := g.dialHTTP(t)
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
			c := g.dialHTTP(t)
			if _, err := io.WriteString(c.conn, q.wire(g)); err != nil {
				t.Errorf("write the body: %v; most clients give up here, and send it again", err)
			}
			c.read("POST").checkRefused(t, 413, otlp.JSON)
			g.checkTaken(t)
		}
	})
}

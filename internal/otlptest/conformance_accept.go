package otlptest

import (
	"fmt"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// codings are all that a receiver takes, None first.
var codings = []otlp.Compression{otlp.None, otlp.Gzip, otlp.Deflate, otlp.Zstd}

// accepts sends each signal in each encoding, coding and framing, all on one kept connection.
func (s suite) accepts(t *testing.T) {
	g := s.target(t, suiteLimit)
	c := g.dial(t)
	for _, sig := range otlp.Signals() {
		for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
			for _, coding := range codings {
				for _, chunks := range []int{0, 1000} {
					t.Run(fmt.Sprint(sig, enc.ContentType(), coding, chunks), func(t *testing.T) {
						m := s.message(sig, enc, coding, 20)
						q := m.post()
						q.chunks = chunks
						c.write(q.wire(g))
						c.read("POST").checkOK(t, enc)
						g.checkTaken(t, m)
					})
				}
			}
		}
	}
}

// acceptsSqueezed sends what compresses far better than telemetry does, in streams that do not say their size:
// an estimate of it must not become a limit.
func (s suite) acceptsSqueezed(t *testing.T) {
	g := s.target(t, suiteLimit)
	padded := suite{build: &Builder{Name: "squeezed", Pad: 100_000}}
	for _, coding := range codings {
		t.Run(coding.String(), func(t *testing.T) {
			m := padded.message(otlp.Logs, otlp.Protobuf, coding, 8)
			g.do(t, m.post()).checkOK(t, otlp.Protobuf)
			g.checkTaken(t, m)
		})
	}
}

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

// acceptsEmpty sends requests without records: they succeed, and there is nothing to pass on.
func (s suite) acceptsEmpty(t *testing.T) {
	g := s.target(t, suiteLimit)
	bodies := []struct {
		name string
		enc  otlp.Encoding
		body string
	}{
		{"nothing", otlp.Protobuf, ""},
		{"an empty resource", otlp.Protobuf, "\x0a\x00"},
		{"an empty object", otlp.JSON, "{}"},
		{"an unknown member", otlp.JSON, `{"unknown":[1,{"a":null}]}`},
	}
	for _, sig := range otlp.Signals() {
		for _, b := range bodies {
			for _, coding := range codings {
				for _, chunks := range []int{0, 1} {
					t.Run(fmt.Sprint(sig, b.name, coding, chunks), func(t *testing.T) {
						q := message{Built{Signal: sig, Encoding: b.enc}, coding, compress(coding, []byte(b.body))}.post()
						q.chunks = chunks
						g.do(t, q).checkOK(t, b.enc)
						g.checkTaken(t)
					})
				}
			}
		}
	}
	t.Run("no framing at all", func(t *testing.T) {
		c := g.dial(t)
		c.write(rawRequest{method: "POST", path: "/v1/logs", lines: []string{"Content-Type: application/x-protobuf"}}.head(g, false))
		c.read("POST").checkOK(t, otlp.Protobuf)
		g.checkTaken(t)
	})
}

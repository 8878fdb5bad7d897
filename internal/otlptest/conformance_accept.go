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
	l := g.dial(t)
	for _, sig := range otlp.Signals() {
		for _, enc := range s.encodings() {
			for _, coding := range codings {
				for _, pieces := range []int{0, 1000} {
					t.Run(fmt.Sprint(sig, enc.ContentType(), coding, pieces), func(t *testing.T) {
						m := s.message(sig, enc, coding, 20)
						mustTake(t, l.send(m, pieces).answer(), enc)
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
			mustTake(t, g.send(t, m, 0), otlp.Protobuf)
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
		for _, b := range bodies[:2*len(s.encodings())] {
			for _, coding := range codings {
				for _, pieces := range []int{0, 1} {
					t.Run(fmt.Sprint(sig, b.name, coding, pieces), func(t *testing.T) {
						m := message{Built{Signal: sig, Encoding: b.enc}, coding, compress(coding, []byte(b.body))}
						mustTake(t, g.send(t, m, pieces), b.enc)
						g.checkTaken(t)
					})
				}
			}
		}
	}
}

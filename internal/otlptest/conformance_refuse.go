package otlptest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// refusesBodies sends bodies that are not what their head says. None may reach the sink: merged with others
// it would have them refused too.
func (s suite) refusesBodies(t *testing.T) {
	g := s.target(t, suiteLimit)
	for _, sig := range otlp.Signals() {
		for _, b := range s.brokenBodies(sig) {
			if b.Encoding == otlp.JSON && s.protocol == GRPC {
				continue
			}
			t.Run(fmt.Sprint(sig, b.name), func(t *testing.T) {
				for _, pieces := range []int{0, 7} {
					l := g.dial(t)
					s.mustRefuse(t, l.send(b.message, pieces).answer(), malformed)
					g.checkTaken(t)
					g.goesOn(t, l)
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
		for _, pieces := range []int{0, 4000} {
			t.Run(fmt.Sprint(coding, pieces), func(t *testing.T) {
				m := s.message(otlp.Metrics, otlp.Protobuf, coding, 500)
				at := s.target(t, len(m.Body))
				mustTake(t, at.send(t, m, pieces), otlp.Protobuf)
				at.checkTaken(t, m)
				over := s.target(t, len(m.Body)-1)
				s.mustRefuse(t, over.send(t, m, pieces), tooLarge)
				over.checkTaken(t)
			})
		}
	}
}

// bombs sends small bodies that decompress to far more than the limit. A receiver in this process must not
// have allocated what they hold.
func (s suite) bombs(t *testing.T) {
	const limit, size = 64 << 10, 32 << 20
	g := s.target(t, limit)
	for _, coding := range codings[1:] {
		t.Run(coding.String(), func(t *testing.T) {
			m := message{Built{Signal: otlp.Traces, Encoding: otlp.Protobuf}, coding, compress(coding, make([]byte, size))}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s.mustRefuse(t, g.send(t, m, 0), tooLarge)
			runtime.ReadMemStats(&after)
			g.checkTaken(t)
			if used := after.TotalAlloc - before.TotalAlloc; used > size/2 { // zstd has a window of 8 MiB
				t.Errorf("%d bytes were allocated for a limit of %d", used, limit)
			}
		})
	}
}

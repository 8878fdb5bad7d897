package otlptest

import (
	"sync"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// halfBody stops in the middle of a body, as a freeze does, while another connection works.
func (s suite) halfBody(t *testing.T) {
	g := s.target(t, suiteLimit)
	for _, pieces := range []int{0, 300} {
		m := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 20)
		half := g.dial(t).begin(m, pieces)
		g.goesOn(t, g.dial(t))
		half.finish()
		mustTake(t, half.answer(), otlp.Protobuf)
		g.checkTaken(t, m)
	}
}

// byteByByte sends a request a byte at a time.
func (s suite) byteByByte(t *testing.T) {
	g := s.target(t, suiteLimit)
	m := s.message(otlp.Logs, s.encodings()[len(s.encodings())-1], otlp.Gzip, 1)
	mustTake(t, g.dialSlow(t).send(m, 16).answer(), m.Encoding)
	g.checkTaken(t, m)
}

// cutShort ends a request before its body is whole; the client can still read its answer.
func (s suite) cutShort(t *testing.T) {
	g := s.target(t, suiteLimit)
	for _, pieces := range []int{0, 300} {
		half := g.dial(t).begin(s.message(otlp.Traces, otlp.Protobuf, otlp.None, 5), pieces)
		half.stop()
		want := malformed
		if s.protocol == GRPC {
			want = internal // the framing is gRPC's own, which blames the library
		}
		s.mustRefuse(t, half.answer(), want)
		g.checkTaken(t)
	}
}

// goesAway leaves in the middle of bodies that together are many times the limit: none of it may stay taken.
func (s suite) goesAway(t *testing.T) {
	m := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 100)
	g := s.target(t, len(m.Body))
	for i := range 20 {
		l := g.dial(t)
		l.begin(m, i%2*1000)
		l.cut(i%3 == 0)
	}
	mustTake(t, g.send(t, m, 0), otlp.Protobuf)
	g.checkTaken(t, m)
}

// overload has many clients with bodies half sent, together many times the limit: every one is answered
// well, whoever had to wait.
func (s suite) overload(t *testing.T) {
	var want []message
	for range 12 {
		want = append(want, s.message(otlp.Traces, otlp.Protobuf, otlp.None, 300))
	}
	for i := range 10 {
		enc := s.encodings()[len(s.encodings())-1]
		want = append(want, s.message(otlp.Logs, enc, codings[i%len(codings)], 20))
	}
	g := s.target(t, len(want[0].Body)*5/4)
	var begun []exchange
	for i, m := range want {
		begun = append(begun, g.dial(t).begin(m, i%3*1000)) // all have begun before any may end
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	for _, x := range begun {
		writing.Go(x.finish)
	}
	for i, x := range begun {
		mustTake(t, x.answer(), want[i].Encoding)
	}
	g.checkTaken(t, want...)
}

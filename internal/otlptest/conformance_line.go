package otlptest

import (
	"net"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// line is a connection to a receiver. It ends with its test.
type line interface {
	// begin sends the head of a request and half of its body, in pieces of so many bytes; 0: in one piece.
	begin(m message, pieces int) exchange

	// send sends a whole request, in as few writes as it takes.
	send(m message, pieces int) exchange

	// cut ends the connection, with a RST where hard.
	cut(hard bool)
}

// exchange is a request under way.
type exchange interface {
	// finish sends the rest of the body.
	finish()

	// stop ends the request before its body is whole. The client still reads its answer.
	stop()

	// answer is what the receiver answered, when it has.
	answer() outcome
}

// outcome is a receiver's answer.
type outcome interface {
	// response is the Export…ServiceResponse of an answer that says that the request was taken.
	response(t *testing.T) []byte

	// refused is what an answer says that is an error.
	refused(t *testing.T) refusedAs
}

// refusedAs is how a receiver refused a request.
type refusedAs struct {
	status  int       // of HTTP
	code    otlp.Code // of google.rpc.Status
	message string
	again   bool          // the answer says when to try again
	wait    time.Duration // until then
}

// refusals is how each protocol says the same.
type refusals struct {
	status int
	code   otlp.Code
}

// What receivers refuse on their own account.
var (
	malformed = refusals{400, otlp.InvalidArgument}
	tooLarge  = refusals{413, otlp.ResourceExhausted}
	internal  = refusals{500, otlp.Internal}
)

// dial opens a connection.
func (g *target) dial(t *testing.T) line {
	t.Helper()
	if g.protocol == GRPC {
		return g.dialGRPC(t, plain)
	}
	return httpLine{g.dialHTTP(t)}
}

// dialSlow opens a connection on which each byte is written by itself.
func (g *target) dialSlow(t *testing.T) line {
	t.Helper()
	slow := func(c net.Conn) net.Conn { return slowConn{c} }
	if g.protocol == GRPC {
		return g.dialGRPC(t, slow)
	}
	l := httpLine{g.dialHTTP(t)}
	l.out = slow(l.conn)
	return l
}

// slowConn writes byte by byte.
type slowConn struct{ net.Conn }

// Write writes b.
func (c slowConn) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// send sends one request on a connection of its own, and reads its answer.
func (g *target) send(t *testing.T, m message, pieces int) outcome {
	t.Helper()
	l := g.dial(t)
	defer l.cut(false)
	return l.send(m, pieces).answer()
}

// mustTake checks that the answer says that everything was taken: an Export…ServiceResponse without
// partial_success, which is empty in either encoding.
func mustTake(t *testing.T, o outcome, enc otlp.Encoding) {
	t.Helper()
	want := ""
	if enc == otlp.JSON {
		want = "{}"
	}
	if got := o.response(t); string(got) != want {
		t.Errorf("response %q, want %q", got, want)
	}
}

// mustRefuse checks that the answer is an error with a message.
func (s suite) mustRefuse(t *testing.T, o outcome, want refusals) {
	t.Helper()
	got := o.refused(t)
	if s.protocol == HTTP && got.status != want.status || s.protocol == GRPC && got.code != want.code {
		t.Errorf("refused with %+v, want %+v", got, want)
	}
	if got.code == 0 || got.message == "" || !utf8.ValidString(got.message) || got.again {
		t.Errorf("refused with %+v: want a code and a message, and no word on when to try again", got)
	}
}

// goesOn checks that the connection still works: SDKs keep one.
func (g *target) goesOn(t *testing.T, l line) {
	t.Helper()
	m := g.message(otlp.Logs, otlp.Protobuf, otlp.None, 1)
	mustTake(t, l.send(m, 0).answer(), m.Encoding)
	g.checkTaken(t, m)
}

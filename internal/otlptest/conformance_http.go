package otlptest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// patience is when a test gives up on a receiver that does not answer.
const patience = 60 * time.Second

// rawRequest is an HTTP request, written byte for byte.
type rawRequest struct {
	method, path string
	lines        []string // header lines without CRLF; Host and the body's framing are added
	body         []byte
	chunks       int    // bytes of a chunk; 0: Content-Length
	version      string // "" is HTTP/1.1
}

// post is m as an HTTP request with a Content-Length, with further header lines.
func (m message) post(lines ...string) rawRequest {
	head := append([]string{"Content-Type: " + m.Encoding.ContentType()}, lines...)
	if m.coding != otlp.None {
		head = append(head, "Content-Encoding: "+m.coding.String())
	}
	return rawRequest{method: "POST", path: m.Signal.Path(), lines: head, body: m.sent}
}

// head is the request line and the header. With framing false it says nothing about the body.
func (q rawRequest) head(g *target, framing bool) string {
	version := q.version
	if version == "" {
		version = "HTTP/1.1"
	}
	lines := append([]string{fmt.Sprintf("%s %s%s %s", q.method, g.prefix, q.path, version), "Host: " + g.addr}, q.lines...)
	switch {
	case framing && q.chunks > 0:
		lines = append(lines, "Transfer-Encoding: chunked")
	case framing:
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(q.body)))
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// framed is the body as it goes over the wire.
func (q rawRequest) framed() string {
	if q.chunks == 0 {
		return string(q.body)
	}
	var out strings.Builder
	for rest := q.body; len(rest) > 0; {
		n := min(q.chunks, len(rest))
		fmt.Fprintf(&out, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	out.WriteString("0\r\n\r\n")
	return out.String()
}

func (q rawRequest) wire(g *target) string { return q.head(g, true) + q.framed() }

// with is q with further header lines.
func (q rawRequest) with(lines ...string) rawRequest {
	q.lines = append(append([]string(nil), q.lines...), lines...)
	return q
}

// session is one connection to a receiver of OTLP/HTTP.
type session struct {
	g    *target
	t    *testing.T
	conn net.Conn
	out  io.Writer // to conn
	in   *bufio.Reader
}

// dialHTTP opens a connection that ends with the test.
func (g *target) dialHTTP(t *testing.T) *session {
	t.Helper()
	c, err := net.DialTimeout("tcp", g.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &session{g, t, c, c, bufio.NewReader(c)}
}

// do sends one request on a connection of its own and reads its answer.
func (g *target) do(t *testing.T, q rawRequest) reply {
	t.Helper()
	s := g.dialHTTP(t)
	defer s.conn.Close()
	s.write(q.wire(g))
	return s.read(q.method)
}

// write sends bytes as they are. A receiver may have answered and closed before it has read them all.
func (s *session) write(wire string) { io.WriteString(s.out, wire) }

// reply is an HTTP response, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
	closes bool // the receiver ends the connection after it
}

// read reads the next final response, to a request of method.
func (s *session) read(method string) reply {
	s.t.Helper()
	for {
		r, err := http.ReadResponse(s.in, &http.Request{Method: method})
		if err != nil {
			s.t.Fatalf("read the answer: %v", err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.t.Fatalf("read the answer's body: %v", err)
		}
		if r.StatusCode >= 200 {
			return reply{r.StatusCode, r.Header, body, r.Close}
		}
	}
}

// response is the answer's body, if it says that the request was taken: 200 in the request's Content-Type.
func (o httpOutcome) response(t *testing.T) []byte {
	t.Helper()
	if o.status != http.StatusOK {
		t.Errorf("status %d, want 200: %s", o.status, o.body)
	}
	o.checkType(t, o.enc)
	return o.body
}

// refused reads the answer's google.rpc.Status.
func (o httpOutcome) refused(t *testing.T) refusedAs {
	t.Helper()
	o.checkType(t, o.enc)
	st, err := o.rpcStatus(o.enc)
	if err != nil || o.status < 400 {
		t.Errorf("status %d, %q: want an error with a google.rpc.Status: %v", o.status, o.body, err)
	}
	got := refusedAs{status: o.status, code: otlp.Code(st.GetCode()), message: st.GetMessage()}
	if values := o.header["Retry-After"]; len(values) > 0 {
		seconds, err := strconv.Atoi(values[0])
		if err != nil {
			t.Errorf("Retry-After: %v", err)
		}
		got.again, got.wait = true, time.Duration(seconds)*time.Second
	}
	return got
}

// checkOK checks that the answer says that everything was taken.
func (r reply) checkOK(t *testing.T, enc otlp.Encoding) {
	t.Helper()
	mustTake(t, httpOutcome{r, enc}, enc)
}

// checkRefused checks that the answer is an error whose body is a google.rpc.Status with a message.
func (r reply) checkRefused(t *testing.T, want int, enc otlp.Encoding) *status.Status {
	t.Helper()
	if r.status != want {
		t.Errorf("status %d, want %d: %s", r.status, want, r.body)
	}
	r.checkType(t, enc)
	got, err := r.rpcStatus(enc)
	if err != nil {
		t.Fatalf("body %q is no google.rpc.Status: %v", r.body, err)
	}
	if got.GetCode() == 0 || got.GetMessage() == "" || !utf8.ValidString(got.GetMessage()) {
		t.Errorf("Status has code %d, message %q", got.GetCode(), got.GetMessage())
	}
	return got
}

func (r reply) rpcStatus(enc otlp.Encoding) (*status.Status, error) {
	s := new(status.Status)
	if enc == otlp.JSON {
		return s, protojson.Unmarshal(r.body, s)
	}
	return s, proto.Unmarshal(r.body, s)
}

// checkType checks for exactly one Content-Type without parameters: Go's SDK compares it byte by byte.
func (r reply) checkType(t *testing.T, enc otlp.Encoding) {
	t.Helper()
	if got := r.header["Content-Type"]; len(got) != 1 || got[0] != enc.ContentType() {
		t.Errorf("Content-Type %q, want %q", got, enc.ContentType())
	}
}

// httpLine is a session as a line.
type httpLine struct{ *session }

// begin writes the head and half of the body.
func (l httpLine) begin(m message, pieces int) exchange {
	q := m.post()
	q.chunks = pieces
	head, body := q.head(l.g, true), q.framed()
	l.write(head + body[:len(body)/2])
	return httpExchange{l.session, m.Encoding, body[len(body)/2:]}
}

// send writes a request at once.
func (l httpLine) send(m message, pieces int) exchange {
	q := m.post()
	q.chunks = pieces
	l.write(q.wire(l.g))
	return httpExchange{l.session, m.Encoding, ""}
}

// cut ends the connection.
func (l httpLine) cut(hard bool) {
	if hard {
		l.conn.(*net.TCPConn).SetLinger(0)
	}
	l.conn.Close()
}

// httpExchange is a request of which the rest is still to be written.
type httpExchange struct {
	*session
	enc  otlp.Encoding
	rest string
}

// finish writes the rest.
func (x httpExchange) finish() { x.write(x.rest) }

// stop ends the sending side.
func (x httpExchange) stop() { x.conn.(*net.TCPConn).CloseWrite() }

// answer reads the next answer.
func (x httpExchange) answer() outcome { return httpOutcome{x.read("POST"), x.enc} }

// httpOutcome is an answer to a request in an encoding.
type httpOutcome struct {
	reply
	enc otlp.Encoding
}

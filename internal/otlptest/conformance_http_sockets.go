package otlptest

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// sockets runs the cases that only bytes on a connection can make.
func (s suite) sockets(t *testing.T) {
	t.Run("pipelined", s.pipelined)
	t.Run("Expect", s.expect)
	t.Run("framing", s.framing)
	t.Run("HTTP/1.0", s.http10)
	t.Run("head too large", s.hugeHead)
}

// pipelined sends three requests in one write, the second of which is refused.
func (s suite) pipelined(t *testing.T) {
	g := s.target(t, suiteLimit)
	c := g.dialHTTP(t)
	first := s.message(otlp.Traces, otlp.Protobuf, otlp.None, 2)
	broken := message{Built{Signal: otlp.Logs, Encoding: otlp.JSON}, otlp.None, []byte("{")}
	last := s.message(otlp.Metrics, otlp.JSON, otlp.Gzip, 2)
	chunked := last.post()
	chunked.chunks = 100
	c.write(first.post().wire(g) + broken.post().wire(g) + chunked.wire(g))
	c.read("POST").checkOK(t, otlp.Protobuf)
	c.read("POST").checkRefused(t, 400, otlp.JSON)
	c.read("POST").checkOK(t, otlp.JSON)
	g.checkTaken(t, first, last)
}

// expect waits for "100 Continue" before it sends the body, which an answer at once makes needless.
func (s suite) expect(t *testing.T) {
	g := s.target(t, suiteLimit)
	c := g.dialHTTP(t)
	m := s.message(otlp.Logs, otlp.Protobuf, otlp.None, 3)
	q := m.post("Expect: 100-continue")
	c.write(q.head(g, true))
	line, err := c.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("read %q, %v; want HTTP/1.1 100", line, err)
	}
	for strings.TrimSpace(line) != "" && err == nil {
		line, err = c.in.ReadString('\n')
	}
	c.write(q.framed())
	c.read("POST").checkOK(t, otlp.Protobuf)
	g.checkTaken(t, m)

	small := s.target(t, len(m.Body)-1)
	c = small.dialHTTP(t)
	c.write(q.head(small, true))
	c.read("POST").checkRefused(t, 413, otlp.Protobuf)
	small.checkTaken(t)
}

// framing says the body's length in ways that are allowed, odd or contradictory.
func (s suite) framing(t *testing.T) {
	g := s.target(t, suiteLimit)
	m := s.message(otlp.Logs, otlp.JSON, otlp.None, 1)
	post, body := m.post(), string(m.sent)
	chunked := post
	chunked.chunks = 64
	tests := []struct {
		name, wire string
		taken      bool // else a 4xx or 501, of whatever form: it may come from the HTTP library
	}{
		{"chunk extension, upper-case size", post.with("Transfer-Encoding: chunked").head(g, false) + "1;a=\"b\"\r\n" + body[:1] + "\r\n" + strings.ToUpper(hexLen(body[1:])) + "\r\n" + body[1:] + "\r\n0\r\n\r\n", true},
		{"trailer", strings.TrimSuffix(chunked.with("Trailer: X-Sum").wire(g), "\r\n") + "X-Sum: 1\r\n\r\n", true},
		{"absolute form", strings.Replace(post.wire(g), "POST ", "POST http://"+g.addr, 1), true},
		{"chunk size is no number", post.with("Transfer-Encoding: chunked").head(g, false) + "xyz\r\n" + body, false},
		{"chunk longer than it says", post.with("Transfer-Encoding: chunked").head(g, false) + "4\r\n" + body + "\r\n0\r\n\r\n", false},
		{"different lengths", post.with("Content-Length: 1").wire(g), false},
		{"negative length", post.with("Content-Length: -1").head(g, false) + body, false},
		{"length is no number", post.with("Content-Length: 1x").head(g, false) + body, false},
		{"unknown transfer coding", post.with("Transfer-Encoding: gzip").head(g, false) + body, false},
		{"unknown expectation", post.with("Expect: a miracle").wire(g), false},
		{"header without colon", post.with("nonsense").wire(g), false},
		{"no HTTP", "hello, is anybody there?\r\n\r\n", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := g.dialHTTP(t)
			c.write(tt.wire)
			r := c.read("POST")
			if tt.taken {
				r.checkOK(t, otlp.JSON)
				g.checkTaken(t, m)
				return
			}
			if r.status != 501 && (r.status < 400 || r.status > 499) {
				t.Errorf("status %d, want 4xx", r.status)
			}
			g.checkTaken(t)
		})
	}
	t.Run("Content-Length and chunked", func(t *testing.T) {
		// RFC 9112, 6.3: refuse it, or go by the chunks; the connection must end either way.
		c := g.dialHTTP(t)
		c.write(chunked.with("Content-Length: 1").wire(g))
		switch r := c.read("POST"); r.status {
		case 200:
			g.checkTaken(t, m)
		case 400:
			g.checkTaken(t)
		default:
			t.Errorf("status %d, want 200 or 400", r.status)
		}
	})
}

func (s suite) http10(t *testing.T) {
	g := s.target(t, suiteLimit)
	m := s.message(otlp.Traces, otlp.JSON, otlp.None, 1)
	q := m.post()
	q.version = "HTTP/1.0"
	c := g.dialHTTP(t)
	c.write(q.wire(g))
	r := c.read("POST")
	r.checkOK(t, otlp.JSON)
	g.checkTaken(t, m)
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
		t.Errorf("after the answer: %q, %v; want the connection closed", rest, err)
	}
	c = g.dialHTTP(t)
	for range 2 {
		c.write(q.with("Connection: keep-alive").wire(g))
		c.read("POST").checkOK(t, otlp.JSON)
		g.checkTaken(t, m)
	}
}

// hugeHead sends a head that nobody should hold in memory. The receiver may close as soon as it has seen enough.
func (s suite) hugeHead(t *testing.T) {
	g := s.target(t, suiteLimit)
	m := s.message(otlp.Traces, otlp.JSON, otlp.None, 1)
	c := g.dialHTTP(t)
	var sent sync.WaitGroup
	sent.Go(func() { c.write(m.post("X-Huge: " + strings.Repeat("x", 16<<20)).wire(g)) })
	line, err := c.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "HTTP/1.1 4") {
		t.Errorf("read %q, want 4xx", line)
	}
	c.conn.Close()
	sent.Wait()
	g.checkTaken(t)
	g.do(t, m.post("X-Token: "+strings.Repeat("x", 8<<10))).checkOK(t, otlp.JSON)
	g.checkTaken(t, m)
}

func hexLen(s string) string { return strconv.FormatInt(int64(len(s)), 16) }

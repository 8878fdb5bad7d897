package otlptest

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// plain leaves a connection as it is.
func plain(c net.Conn) net.Conn { return c }

// flood is how many frames a hostile client sends: more than any receiver should put up with.
const flood = 50_000

// hostile sends what no client sends. Whatever becomes of the connection, nothing reaches the sink, and others work.
func (s suite) hostile(t *testing.T) {
	big := strings.Repeat("x", 4000)
	tests := []struct {
		name string
		ends bool // the receiver must end the connection
		send func(c *rawHTTP2)
	}{
		{"HTTP/1.1", false, func(c *rawHTTP2) {
			fmt.Fprintf(&c.out, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00", GRPCMethods[0])
		}},
		{"no HTTP", true, func(c *rawHTTP2) {
			c.out.WriteString("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 is how TLS begins\r\n\r\n")
		}},
		{"preface cut", true, func(c *rawHTTP2) { c.out.WriteString("PRI * HTTP/2.0\r\n\r\nSM, but not quite\r\n\r\n") }},
		{"noise after the preface", true, func(c *rawHTTP2) { c.out.WriteString(http2.ClientPreface + strings.Repeat("\xff noise ", 100)) }},
		{"no SETTINGS first", true, func(c *rawHTTP2) {
			c.out.WriteString(http2.ClientPreface)
			c.headers(1, true)
		}},
		{"frame too large", true, func(c *rawHTTP2) { c.hello(); c.out.WriteString("\xff\xff\xff\x00\x00\x00\x00\x00\x01") }},
		{"data before its head", true, func(c *rawHTTP2) { c.hello(); c.WriteData(1, true, []byte("x")) }},
		{"stream number of a server", true, func(c *rawHTTP2) { c.hello(); c.headers(2, true) }},
		{"heads without an end", true, func(c *rawHTTP2) {
			c.hello()
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("x-huge", big)})
			for range 1000 {
				c.WriteContinuation(1, false, c.block("x-huge", big))
			}
		}},
		{"empty continuations", false, func(c *rawHTTP2) {
			c.hello()
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("x", "y")})
			for range flood {
				c.WriteContinuation(1, false, nil)
			}
		}},
		{"a bomb of header fields", false, func(c *rawHTTP2) {
			c.hello()
			c.encoder.WriteField(hpack.HeaderField{Name: "x-huge", Value: big[:3000]}) // later ones are one byte each
			for range 10_000 {
				c.encoder.WriteField(hpack.HeaderField{Name: "x-huge", Value: big[:3000]})
			}
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("x", "y"), EndHeaders: true})
		}},
		{"begun and reset at once", false, func(c *rawHTTP2) {
			c.hello()
			for i := range uint32(flood) {
				c.headers(2*i+1, false)
				c.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			}
		}},
		{"more streams than there may be", false, func(c *rawHTTP2) {
			c.hello()
			for i := range uint32(flood) {
				c.headers(2*i+1, false)
			}
		}},
		{"pings that nobody reads the answers of", true, func(c *rawHTTP2) {
			c.hello()
			for range 20 * flood {
				c.WritePing(false, [8]byte{})
			}
		}},
		{"settings that nobody reads the answers of", false, func(c *rawHTTP2) {
			c.hello()
			for range 20 * flood {
				c.WriteSettings()
			}
		}},
		{"more than the window", false, func(c *rawHTTP2) {
			c.hello()
			c.headers(1, false)
			for range 1000 {
				c.WriteData(1, false, make([]byte, 16<<10))
			}
		}},
		{"no window for answers", false, func(c *rawHTTP2) {
			c.out.WriteString(http2.ClientPreface)
			c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			c.headers(1, false)
			c.WriteData(1, true, frame(0, nil))
		}},
		{"trailers of a trailer", false, func(c *rawHTTP2) {
			c.hello()
			c.headers(1, false)
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("x", "y"), EndHeaders: true})
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("x", "y"), EndHeaders: true})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := s.target(t, suiteLimit)
			c := newRawHTTP2()
			tt.send(c)
			ended := g.sendRaw(t, c.out.Bytes(), tt.ends)
			g.goesOn(t, g.dial(t))
			if <-ended != nil && tt.ends {
				t.Error("the receiver did not end the connection")
			}
			g.checkTaken(t)
		})
	}
}

// sendRaw writes bytes on a connection of its own, reading nothing until they are written or cannot be; then it
// reads to the end, if there must be one, else closes. The error is that there was no end.
func (g *target) sendRaw(t *testing.T, wire []byte, toTheEnd bool) (ended chan error) {
	t.Helper()
	c, err := net.DialTimeout("tcp", g.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	ended = make(chan error, 1)
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { c.Close() })
	running.Go(func() {
		defer c.Close()
		c.Write(wire)
		if !toTheEnd {
			ended <- nil
			return
		}
		_, err := io.Copy(io.Discard, c)
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			ended <- err
		}
		close(ended)
	})
	return ended
}

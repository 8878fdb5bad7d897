package otlptest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// maxFrame is the most that a DATA frame holds where nothing else was agreed, in bytes.
const maxFrame = 16 << 10

// GRPCWire is all that a client says on a connection on which it makes one call: the preface, SETTINGS, the head of
// POST path, and the body in DATA frames. The client does not wait for windows: at most 64 KiB will do.
func GRPCWire(path string, header http.Header, body []byte) []byte {
	c := newRawHTTP2()
	c.hello()
	fields := []string{":method", "POST", ":scheme", "http", ":path", path, ":authority", header.Get("Host")}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			if name != "Host" {
				fields = append(fields, strings.ToLower(name), value)
			}
		}
	}
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: c.block(fields...)})
	for piece := range slices.Chunk(body, maxFrame) {
		c.WriteData(1, false, piece)
	}
	c.WriteData(1, true, nil)
	return c.out.Bytes()
}

// ReadGRPC reads the answer to GRPCWire: its header and trailer in one, with ":status" for the HTTP status, and its body.
func ReadGRPC(r io.Reader) (header http.Header, body []byte, err error) {
	f := http2.NewFramer(io.Discard, r)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	header = http.Header{}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return nil, nil, fmt.Errorf("read the answer: %w", err)
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				header[field.Name] = append(header[field.Name], field.Value)
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			body = append(body, frame.Data()...)
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			return nil, nil, fmt.Errorf("the call was reset: %v", frame.ErrCode)
		case *http2.GoAwayFrame:
			return nil, nil, errors.New("the connection was ended: " + frame.ErrCode.String())
		}
		if ended {
			return header, body, nil
		}
	}
}

// rawHTTP2 makes the bytes of frames.
type rawHTTP2 struct {
	*http2.Framer
	out     bytes.Buffer
	encoder *hpack.Encoder
	fields  bytes.Buffer
}

func newRawHTTP2() *rawHTTP2 {
	c := new(rawHTTP2)
	c.Framer = http2.NewFramer(&c.out, nil)
	c.AllowIllegalWrites = true
	c.encoder = hpack.NewEncoder(&c.fields)
	return c
}

// hello is how a client begins.
func (c *rawHTTP2) hello() {
	c.out.WriteString(http2.ClientPreface)
	c.WriteSettings()
}

// block is header fields, encoded, behind what the encoder has already been given.
func (c *rawHTTP2) block(pairs ...string) []byte {
	for i := 0; i < len(pairs); i += 2 {
		c.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	defer c.fields.Reset()
	return bytes.Clone(c.fields.Bytes())
}

// headers begins an Export.
func (c *rawHTTP2) headers(stream uint32, end bool) {
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: end, EndHeaders: true, BlockFragment: c.block(
		":method", "POST", ":scheme", "http", ":path", GRPCMethods[otlp.Traces], ":authority", "x", "content-type", "application/grpc", "te", "trailers")})
}

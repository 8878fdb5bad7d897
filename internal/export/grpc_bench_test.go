package export

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// BenchmarkCall sends 5.5 KB, ten spans, over a kept connection, beside net/http's Transport: BenchmarkPost for gRPC.
func BenchmarkCall(b *testing.B) {
	body := make([]byte, 5500)
	b.Run("ours", func(b *testing.B) {
		g := newGRPC(b, GRPCConfig{URL: mustURL(b, "http://"+benchServer(b, serveBenchGRPC)), Timeout: time.Minute})
		p := otlp.Payload{Compression: otlp.Gzip, Body: body}
		measure(b, func() error { return g.Send(b.Context(), p) })
	})
	b.Run("net/http", func(b *testing.B) {
		url := "http://" + benchServer(b, serveBenchGRPC) + otlp.Traces.Method()
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}, Timeout: time.Minute}
		defer client.CloseIdleConnections()
		measure(b, func() error {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(framed(string(body))))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			req.Header.Set("Grpc-Encoding", "gzip")
			res, err := client.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			_, err = io.Copy(io.Discard, res.Body)
			return err
		})
	})
}

// serveBenchGRPC answers every call without allocating.
func serveBenchGRPC(c net.Conn) {
	defer c.Close()
	br := bufio.NewReaderSize(c, 32<<10)
	br.Discard(len(http2.ClientPreface))
	c.Write(appendFrameHead(nil, 0, frameSettings, 0, 0))
	var out []byte
	for {
		head, err := br.Peek(frameHead)
		if err != nil {
			return
		}
		n, kind, flags, stream := int(head[1])<<8|int(head[2]), head[3], head[4], binary.BigEndian.Uint32(head[5:])
		br.Discard(frameHead + n)
		out = out[:0]
		switch {
		case kind == frameSettings && flags == 0:
			out = appendFrameHead(out, 0, frameSettings, flagAck, 0)
		case kind == frameData:
			out = appendWindow(out, max(n, 1))
			if flags&flagEndStream != 0 {
				out = append(appendFrameHead(out, 1, frameHeaders, flagEndHeaders, stream), 0x88)
				out = append(appendFrameHead(out, 5, frameData, 0, stream), 0, 0, 0, 0, 0)
				out = append(appendFrameHead(out, 15, frameHeaders, flagEndHeaders|flagEndStream, stream), "\x00\x0bgrpc-status\x010"...)
			}
		}
		if len(out) > 0 {
			c.Write(out)
		}
	}
}

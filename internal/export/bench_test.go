package export

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// BenchmarkPost sends 5.5 KB, ten spans, over a kept connection, beside net/http's Transport. CPU is the whole
// process's, so it holds the same small server in both.
func BenchmarkPost(b *testing.B) {
	body := make([]byte, 5500)
	b.Run("ours", func(b *testing.B) {
		h := newHTTP(b, HTTPConfig{URL: mustURL(b, "http://"+benchServer(b, serveBench)+"/v1/traces"), Timeout: time.Minute})
		p := otlp.Payload{Compression: otlp.Gzip, Body: body}
		measure(b, func() error { return h.Send(b.Context(), p) })
	})
	b.Run("ours, signed", func(b *testing.B) {
		signer := NewSigner(fixedCredentials("ASIAEXAMPLE", "secret", testToken), "lambda", "eu-central-1", nil)
		h := newHTTP(b, HTTPConfig{URL: mustURL(b, "http://"+benchServer(b, serveBench)+"/v1/traces"), Signer: signer, Timeout: time.Minute})
		p := otlp.Payload{Compression: otlp.Gzip, Body: body}
		measure(b, func() error { return h.Send(b.Context(), p) })
	})
	b.Run("net/http", func(b *testing.B) {
		url := "http://" + benchServer(b, serveBench) + "/v1/traces"
		client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Minute}
		defer client.CloseIdleConnections()
		measure(b, func() error {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/x-protobuf")
			req.Header.Set("Content-Encoding", "gzip")
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

func measure(b *testing.B, send func() error) {
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		if err := send(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchServer is the address of a server.
func benchServer(b *testing.B, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// serveBench answers every request of 5500 bytes of body without allocating.
func serveBench(c net.Conn) {
	defer c.Close()
	buf, got, want := make([]byte, 16<<10), 0, 0
	for {
		n, err := c.Read(buf[got:])
		if err != nil {
			return
		}
		got += n
		if end := bytes.Index(buf[:got], []byte("\r\n\r\n")); want == 0 && end >= 0 {
			want = end + 4 + 5500
		}
		if want > 0 && got >= want {
			got, want = 0, 0
			io.WriteString(c, okAnswer)
		}
	}
}

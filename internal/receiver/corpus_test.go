package receiver_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// Every request that a real SDK sent is taken as it was sent, head and all, and counted right.
func TestCorpus(t *testing.T) {
	entries, err := otlptest.Corpus("../e2e/testdata/corpus.zip")
	if err != nil {
		t.Fatal(err)
	}
	var got []otlp.Payload
	_, base := serve(t, receiver.Config{Sink: sinkFunc(func(p otlp.Payload) error { got = append(got, p); return nil })})
	sent := 0
	for _, e := range entries {
		if e.RawHead == "" {
			continue // gRPC
		}
		sent++
		t.Run(e.File, func(t *testing.T) {
			c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got = nil
			wire := append([]byte(e.RawHead), e.Body...)
			if strings.Contains(strings.ToLower(e.RawHead), "transfer-encoding: chunked") {
				wire = fmt.Appendf(nil, "%s%x\r\n%s\r\n0\r\n\r\n", e.RawHead, len(e.Body), e.Body)
			}
			if _, err := c.Write(wire); err != nil {
				t.Fatal(err)
			}
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != 200 || r.Header.Get("Content-Type") != e.Header.Get("Content-Type") {
				t.Errorf("answer %d, %s; want 200, %s", r.StatusCode, r.Header.Get("Content-Type"), e.Header.Get("Content-Type"))
			}
			if len(got) != 1 || got[0].Signal != e.Signal || got[0].Encoding != e.Encoding || got[0].Records != e.Records ||
				got[0].Size != e.Size || !bytes.Equal(got[0].Body, e.Body) {
				t.Errorf("the sink got %d requests, which are not %d records of %v in %d bytes", len(got), e.Records, e.Signal, e.Size)
			}
		})
	}
	if sent < 100 {
		t.Errorf("the corpus has %d HTTP requests, want over 100", sent)
	}
}

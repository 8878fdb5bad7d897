package receiver_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// Every request that a real SDK sent is taken as it was sent, head and frames and all, and counted right.
func TestCorpus(t *testing.T) {
	entries, err := otlptest.Corpus("../e2e/testdata/corpus.zip")
	if err != nil {
		t.Fatal(err)
	}
	var got []otlp.Payload
	_, base := serve(t, receiver.Config{Sink: sinkFunc(func(p otlp.Payload) error { got = append(got, p); return nil })})
	sent := map[string]int{}
	for _, e := range entries {
		sent[e.Protocol]++
		t.Run(e.File, func(t *testing.T) {
			c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got = nil
			if _, err := c.Write(e.Wire()); err != nil {
				t.Fatal(err)
			}
			if e.Protocol == "grpc" {
				checkCall(t, c, e)
			} else {
				checkPost(t, c, e)
			}
			if len(got) != 1 || got[0].Signal != e.Signal || got[0].Encoding != e.Encoding || got[0].Records != e.Records ||
				got[0].Size != e.Size || got[0].Compression.String() != nameOf(e.Coding) || !bytes.Equal(got[0].Body, e.Message) {
				t.Errorf("the sink got %d requests, which are not %d records of %v in %d bytes", len(got), e.Records, e.Signal, e.Size)
			}
		})
	}
	if len(entries) != 286 || sent["grpc"] != 100 {
		t.Errorf("the corpus has %d requests, %d of them gRPC; want 286 and 100", len(entries), sent["grpc"])
	}
}

// nameOf is a coding's name.
func nameOf(coding string) string {
	if coding == "" {
		return "none"
	}
	return coding
}

// checkPost checks OTLP/HTTP's answer.
func checkPost(t *testing.T, c io.Reader, e otlptest.Entry) {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != e.Header.Get("Content-Type") {
		t.Errorf("answer %d, %s; want 200, %s", r.StatusCode, r.Header.Get("Content-Type"), e.Header.Get("Content-Type"))
	}
}

// checkCall checks OTLP/gRPC's answer.
func checkCall(t *testing.T, c io.Reader, e otlptest.Entry) {
	header, body, err := otlptest.ReadGRPC(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(header[":status"], "") != "200" || strings.Join(header["grpc-status"], "") != "0" ||
		strings.Join(header["content-type"], "") != e.Header.Get("Content-Type") || string(body) != "\x00\x00\x00\x00\x00" {
		t.Errorf("answer %v, %q", header, body)
	}
}

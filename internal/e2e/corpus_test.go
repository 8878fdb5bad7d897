package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/lambdasim"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

func corpus(t *testing.T) []otlptest.Entry {
	t.Helper()
	entries, err := otlptest.Corpus(filepath.Join("testdata", "corpus.zip"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 286 {
		t.Errorf("the corpus has %d requests, want all 286", len(entries))
	}
	return entries
}

// recorded is a request of the corpus as its SDK sent it; one of gRPC as OTLP/HTTP would carry the same message.
func recorded(e otlptest.Entry) []byte {
	if e.Protocol == "grpc" {
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost:4318\r\nContent-Type: %s\r\nContent-Length: %d\r\n",
			e.Signal.Path(), e.Encoding.ContentType(), len(e.Message))
		if e.Compressed {
			head += "Content-Encoding: " + e.Coding + "\r\n"
		}
		return append([]byte(head+"\r\n"), e.Message...)
	}
	if strings.Contains(strings.ToLower(e.RawHead), "\r\ntransfer-encoding: chunked") {
		return fmt.Appendf(nil, "%s%x\r\n%s\r\n0\r\n\r\n", e.RawHead, len(e.Body), e.Body)
	}
	return append([]byte(e.RawHead), e.Body...)
}

// postCorpus sends requests of the corpus in one invocation. Each must be taken.
func (c *chain) postCorpus(entries ...otlptest.Entry) {
	c.t.Helper()
	p := posting{}
	for _, e := range entries {
		p.Wires = append(p.Wires, recorded(e))
	}
	var answers []answer
	c.mustSend(p, &answers)
	if len(answers) != len(entries) {
		c.t.Fatalf("%d answers to %d requests", len(answers), len(entries))
	}
	for i, e := range entries {
		want := map[otlp.Encoding]string{otlp.Protobuf: "", otlp.JSON: "{}"}[e.Encoding]
		if a := answers[i]; a.Status != 200 || a.ContentType != e.Encoding.ContentType() || string(a.Body) != want {
			c.t.Errorf("%s: answered %d in %s: %q", e.File, a.Status, a.ContentType, a.Body)
		}
		c.made[e.Signal] += e.Records
	}
}

// mustHaveTheCorpus checks that the backend holds every record of the corpus with all its fields.
func (c *chain) mustHaveTheCorpus(entries []otlptest.Entry) {
	c.t.Helper()
	type kind struct {
		otlp.Signal
		otlp.Encoding
	}
	want := map[kind][][]byte{}
	for _, e := range entries {
		plain, err := e.Plain()
		if err != nil {
			c.t.Fatalf("%s: %v", e.File, err)
		}
		k := kind{e.Signal, e.Encoding}
		want[k] = append(want[k], plain)
	}
	for k, bodies := range want {
		if err := otlptest.Equal(k.Signal, k.Encoding, bodies, c.backend.Bodies(k.Signal, k.Encoding)); err != nil {
			c.t.Errorf("%s in %s: %v", k.Signal, k.Encoding.ContentType(), err)
		}
	}
}

// requests is how many the backend got, of all signals.
func (c *chain) requests() (n int) {
	for _, sig := range threeSignals {
		n += c.backend.Totals(sig).Requests
	}
	return n
}

// Every request that a real SDK sent leaves in one of its own, without a changed field.
func TestCorpusSingly(t *testing.T) {
	entries := corpus(t)
	c, _ := posters(t, setup{
		backend: newBackend(t, otlptest.Options{Keep: true}),
		vars:    map[string]string{"OTLP_RELAY_FLUSH": "next"},
	})
	// One request of each signal an invocation: those of one signal would be merged.
	var left [otlp.SignalCount][]otlptest.Entry
	for _, e := range entries {
		left[e.Signal] = append(left[e.Signal], e)
	}
	for i := range left[otlp.Traces] { // the most
		var batch []otlptest.Entry
		for _, of := range left {
			if i < len(of) {
				batch = append(batch, of[i])
			}
		}
		c.postCorpus(batch...)
		c.postCorpus() // lets it leave, with nothing beside it to be merged with
	}
	c.mustBalanceCorpus(c.shutdown())
	c.mustHaveTheCorpus(entries)
	if n := c.requests(); n != len(entries) {
		t.Errorf("%d requests arrived of %d", n, len(entries))
	}
}

// All requests that real SDKs sent leave merged, without a changed field, in each compression.
func TestCorpusMerged(t *testing.T) {
	entries := corpus(t)
	for compression, coding := range map[string]string{"gzip": "gzip", "zstd": "zstd", "none": ""} {
		t.Run(compression, func(t *testing.T) {
			c, _ := posters(t, setup{
				backend: newBackend(t, otlptest.Options{Keep: true}),
				// The backend decodes 15 MB, on any machine: not in the 2 s of SHUTDOWN.
				vars: map[string]string{
					"OTLP_RELAY_FLUSH": "next", "OTLP_RELAY_COMPRESSION": compression,
					"OTLP_RELAY_FLUSH_TIMEOUT": "50s", "OTLP_RELAY_TIMEOUT": "50s",
				},
				change: func(cfg *lambdasim.Config) { cfg.Timeout = time.Minute },
			})
			c.postCorpus(entries...)
			c.postCorpus() // lets it leave
			c.mustBalanceCorpus(c.shutdown())
			c.mustHaveTheCorpus(entries)
			if n := c.requests(); n > len(entries)/4 {
				t.Errorf("%d requests arrived of %d: they were not merged", n, len(entries))
			}
			for _, q := range c.backend.Requests() {
				if q.Coding != coding {
					t.Errorf("a request came in Content-Encoding %q, want %q", q.Coding, coding)
				}
			}
		})
	}
}

// mustBalanceCorpus is mustArrive but for duplicates: recorded requests share ids.
func (c *chain) mustBalanceCorpus(a account) {
	c.t.Helper()
	for _, sig := range threeSignals {
		if got := c.backend.Totals(sig).Records; got != c.made[sig] || a.accepted(sig) != got || a.delivered(sig) != got {
			c.t.Errorf("%s: made %d, arrived %d; account: accepted %d, delivered %d, dropped %d",
				sig, c.made[sig], got, a.accepted(sig), a.delivered(sig), a.lost(sig))
		}
	}
}

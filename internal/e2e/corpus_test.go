package e2e

import (
	"bytes"
	"path/filepath"
	"slices"
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

// postCorpus sends requests of the corpus in one invocation. Each must be taken.
func (c *chain) postCorpus(entries ...otlptest.Entry) {
	c.t.Helper()
	p := posting{}
	for _, e := range entries {
		p.Wires = append(p.Wires, e.Wire())
	}
	var answers []answer
	c.mustSend(p, &answers)
	if len(answers) != len(entries) {
		c.t.Fatalf("%d answers to %d requests", len(answers), len(entries))
	}
	for i, e := range entries {
		want := map[otlp.Encoding]string{otlp.Protobuf: "", otlp.JSON: "{}"}[e.Encoding]
		if a := answers[i]; e.Protocol == "grpc" {
			c.mustBeOK(e.File, a)
		} else if a.Status != 200 || a.ContentType != e.Encoding.ContentType() || string(a.Body) != want {
			c.t.Errorf("%s: answered %d in %s: %q", e.File, a.Status, a.ContentType, a.Body)
		}
		c.made[e.Signal] += e.Records
	}
}

// mustBeOK checks the answer to a gRPC call: the status OK, behind an empty message.
func (c *chain) mustBeOK(what string, a answer) {
	c.t.Helper()
	header, body, err := otlptest.ReadGRPC(bytes.NewReader(a.Body))
	if err != nil || !slices.Equal(header["grpc-status"], []string{"0"}) || string(body) != "\x00\x00\x00\x00\x00" {
		c.t.Errorf("%s: answered %v, %q: %v", what, header, body, err)
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
	for compression, coding := range map[string]string{"gzip": "gzip", "none": ""} {
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

// All requests that real SDKs sent leave over OTLP/gRPC, those in JSON as package otlp writes them in protobuf,
// which its tests hold against the official types.
func TestCorpusOverGRPC(t *testing.T) {
	entries := corpus(t)
	c, _ := posters(t, setup{
		backend: newBackend(t, otlptest.Options{Keep: true, GRPC: true}),
		vars:    map[string]string{"OTLP_RELAY_FLUSH": "next", "OTLP_RELAY_FLUSH_TIMEOUT": "50s", "OTLP_RELAY_TIMEOUT": "50s"},
		change:  func(cfg *lambdasim.Config) { cfg.Timeout = time.Minute },
	})
	c.postCorpus(entries...)
	c.postCorpus() // lets it leave
	c.mustBalanceCorpus(c.shutdown())
	want := map[otlp.Signal][][]byte{}
	for _, e := range entries {
		body, err := e.Plain()
		if err == nil && e.Encoding == otlp.JSON {
			body, err = otlp.AppendProtobuf(nil, e.Signal, body)
		}
		if err != nil {
			t.Fatalf("%s: %v", e.File, err)
		}
		want[e.Signal] = append(want[e.Signal], body)
	}
	for sig, bodies := range want {
		if err := otlptest.Equal(sig, otlp.Protobuf, bodies, c.backend.Bodies(sig, otlp.Protobuf)); err != nil {
			t.Errorf("%s: %v", sig, err)
		}
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

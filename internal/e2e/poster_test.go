package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// posting is the event of testdata/poster.
type posting struct {
	Wires  [][]byte
	Hold   int
	Resume bool
	Async  bool
	Exit   bool
}

// answer is what the extension answered to testdata/poster.
type answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// post runs one invocation of the poster, which sends the requests one after the other. Each must be answered
// 200, in the content type it came in.
func (c *chain) post(requests ...otlptest.Built) {
	c.t.Helper()
	p := posting{}
	for _, r := range requests {
		p.Wires = append(p.Wires, wire(r))
	}
	var answers []answer
	c.mustSend(p, &answers)
	if len(answers) != len(requests) {
		c.t.Fatalf("%d answers to %d requests", len(answers), len(requests))
	}
	for i, r := range requests {
		c.mustBeTaken(answers[i], r)
	}
}

// mustBeTaken checks the answer to a request, and counts it as made.
func (c *chain) mustBeTaken(a answer, r otlptest.Built) {
	c.t.Helper()
	if a.Status == 0 { // gRPC
		c.mustBeOK(r.Signal.String(), a)
	} else if a.Status != 200 || a.ContentType != r.Encoding.ContentType() {
		c.t.Errorf("%s in %s: answered %d in %s: %q", r.Signal, r.Encoding.ContentType(), a.Status, a.ContentType, a.Body)
	}
	c.made[r.Signal] += len(r.IDs)
}

// wire is a request as it goes over the wire.
func wire(r otlptest.Built) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		r.Signal.Path(), r.Encoding.ContentType(), len(r.Body))
	return append([]byte(head), r.Body...)
}

// posters is a chain whose function is the poster, with a builder of requests for it.
func posters(t *testing.T, s setup) (*chain, *otlptest.Builder) {
	t.Helper()
	s.program = "poster"
	return newChain(t, s), &otlptest.Builder{Name: "post"}
}

// mustKnow checks which of the requests the backend has kept: all their records, or none.
func (c *chain) mustKnow(kept bool, requests ...otlptest.Built) {
	c.t.Helper()
	for i, r := range requests {
		if lost := len(c.backend.Lost(r.IDs)); kept && lost > 0 || !kept && lost < len(r.IDs) {
			c.t.Errorf("request %d of %s: the backend lacks %d of %d records, want kept=%v", i, r.Signal, lost, len(r.IDs), kept)
		}
	}
}

// holding is a test for PoisonIf: whether a request holds a record of a built one.
func holding(r otlptest.Built) func(*otlptest.Request) bool {
	return func(q *otlptest.Request) bool {
		return strings.Contains(strings.Join(q.IDs, " "), r.IDs[0])
	}
}

func TestRefusalsAreAnsweredAsOTLPSays(t *testing.T) {
	c, b := posters(t, setup{})
	good := wire(b.Build(otlp.Traces, otlp.JSON, 1))
	swap := func(old, now string) []byte { return bytes.Replace(good, []byte(old), []byte(now), 1) }
	for _, r := range []struct {
		name, old, now string
		status         int
	}{
		{"malformed body", `{"resourceSpans"`, `["resourceSpans"`, 400},
		{"unknown content type", "application/json", "application/text", 415},
		{"unknown path", "/v1/traces", "/v1/traces/", 404},
		{"method", "POST", "PUT", 405},
		{"unknown encoding", "Host: localhost", "Host: localhost\r\nContent-Encoding: br", 415},
	} {
		var answers []answer
		c.mustSend(posting{Wires: [][]byte{swap(r.old, r.now), good}}, &answers)
		if a := answers[0]; a.Status != r.status || a.ContentType != "application/json" || !bytes.Contains(a.Body, []byte(`"message"`)) {
			t.Errorf("%s: answered %d in %s: %q; want %d and a google.rpc.Status", r.name, a.Status, a.ContentType, a.Body, r.status)
		}
		if answers[1].Status != 200 {
			t.Errorf("%s: the good request after it got %d", r.name, answers[1].Status)
		}
		c.made[otlp.Traces]++
	}
	a := c.shutdown()
	if a.accepted(otlp.Traces) != c.made[otlp.Traces] || a.lost(otlp.Traces) != 0 {
		t.Errorf("made %d, account: %v", c.made[otlp.Traces], a)
	}
}

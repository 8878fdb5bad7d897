package buffer

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// numbered is a payload whose body says which one it is.
func numbered(rnd *rand.Rand, sig otlp.Signal, n int) otlp.Payload {
	p := payload(sig, otlp.Encoding(rnd.IntN(2)), 1+rnd.IntN(120))
	p.Body, p.Lent = body(n, p.Size), true
	if rnd.IntN(10) == 0 {
		p.Compression = otlp.Gzip // any bytes do here
		p.Body = p.Body[:1+rnd.IntN(p.Size)]
	}
	p.Records = n + 1
	return p
}

func body(n, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "<%d>", n), size)[:size]
}

// TestSqueeze drives a queue at random whose bodies are squeezed early: what it hands out is what it was given, byte
// for byte and in order, though memory that came back is written to at once.
func TestSqueeze(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		bodies := &otlp.Bodies{}
		spoil := func(p otlp.Payload) {
			if p.Lent {
				for i := range p.Body {
					p.Body[i] = '#'
				}
				bodies.Return(p.Body)
			}
		}
		q := New(Limits{Bytes: 20000, Records: 1 << 30, Loose: 1000}, bodies, func(it Item) { spoil(it.Payload) })
		q.unit = 1 + rnd.IntN(800)
		squeezed := false
		check := func(b []Item) {
			t.Helper()
			for i, it := range b {
				if want := body(it.Records-1, it.Size)[:len(it.Body)]; !bytes.Equal(it.Body, want) || it.Compression == otlp.None && len(it.Body) != it.Size {
					t.Fatalf("seed %d: item %d of a batch is %q, want %q", seed, i, it.Body, want)
				}
			}
		}
		for n := range 1500 {
			sig := otlp.Signal(rnd.IntN(otlp.SignalCount))
			if rnd.IntN(3) > 0 {
				send(t, q, numbered(rnd, sig, n))
			} else if b := q.Take(sig, 1+rnd.IntN(400), Everything); b != nil {
				check(b)
				done := rnd.IntN(len(b) + 1)
				for _, it := range b[:done] {
					spoil(it.Payload)
				}
				q.Restore(b[done:])
			}
			loose := 0
			for _, f := range q.fifos {
				for _, it := range f.items[f.head:] {
					loose += len(it.Body)
					squeezed = squeezed || it.squeezed != nil
				}
			}
			if got := q.looseLocked(); got != loose {
				t.Fatalf("seed %d: %d bytes are loose, %d counted", seed, loose, got)
			}
		}
		for _, sig := range otlp.Signals() {
			for b := q.Take(sig, 1000, Everything); b != nil; b = q.Take(sig, 1000, Everything) {
				check(b)
			}
		}
		if !squeezed || q.looseLocked() != 0 || q.Bytes() != 0 {
			t.Errorf("seed %d: squeezed %v, %d bytes loose and %d queued in an empty queue", seed, squeezed, q.looseLocked(), q.Bytes())
		}
	}
}

// What is queued beyond Loose takes a fraction of its size.
func TestSqueezeTakesLittleMemory(t *testing.T) {
	q := New(Limits{Bytes: 16 << 20, Records: 1 << 30, Loose: 1 << 20}, nil, func(Item) { t.Error("dropped") })
	for n := range 1000 {
		p := payload(otlp.Traces, otlp.Protobuf, 10000)
		p.Body = body(n, p.Size)
		send(t, q, p)
	}
	held, last := 0, []byte(nil)
	for _, it := range q.fifos[otlp.Traces].items {
		held += len(it.Body)
		if it.squeezed != nil && (last == nil || &it.squeezed[0] != &last[0]) {
			last = it.squeezed
			held += cap(last)
		}
	}
	if most := 1<<20 + squeezeUnit + 10000 + 1<<20; held > most {
		t.Errorf("10 MB take %d bytes, more than %d", held, most)
	}
}

func BenchmarkSqueezed(b *testing.B) {
	q := New(Limits{Bytes: 64 << 20, Records: 1 << 30, Loose: 1}, &otlp.Bodies{}, func(Item) {})
	p := payload(otlp.Traces, 0, 5500)
	b.ReportAllocs()
	for b.Loop() {
		for range 50 {
			p.Body = q.bodies.Lend(p.Size)
			p.Lent = true
			_ = q.Send(b.Context(), p)
		}
		for _, it := range q.Take(otlp.Traces, 64<<20, Everything) {
			q.bodies.Return(it.Body)
		}
	}
}

package otlp

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestBodies lends and returns at random: no two bodies that are out share a byte, and little is held.
func TestBodies(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	garbage, reused := 0, 0
	b := &Bodies{Garbage: func(n int) { garbage += n }}
	var out [][]byte
	for i := range 20000 {
		if rnd.IntN(2) == 0 || len(out) == 0 {
			n := 1 + rnd.IntN(1<<rnd.IntN(18))
			body := b.Lend(n)
			if len(body) != n || cap(body) > 2*n+2048 { // of what is allocated, a size class may be that much larger
				t.Fatalf("asked for %d bytes, got %d of %d", n, len(body), cap(body))
			}
			if body[0] != 0 {
				reused++
			}
			scribble(body, byte(i))
			out = append(out, body)
			continue
		}
		k := rnd.IntN(len(out))
		if whole := out[k]; !bytes.Equal(whole, bytes.Repeat(whole[:1], len(whole))) {
			t.Fatal("somebody else wrote to a body that was out")
		}
		b.Return(out[k])
		out = slices.Delete(out, k, k+1)
		held := 0
		for _, piece := range b.free {
			held += cap(piece)
		}
		if held != b.held || held > heldBodies || len(b.free) > heldPieces {
			t.Fatalf("%d bytes in %d pieces are held, %d counted", held, len(b.free), b.held)
		}
	}
	if reused < 1000 || garbage == 0 {
		t.Errorf("%d bodies in used memory, %d bytes of garbage", reused, garbage)
	}
}

func scribble(b []byte, with byte) {
	for i := range b {
		b[i] = with | 1
	}
}

func TestNoBodies(t *testing.T) {
	var b *Bodies
	body := b.Lend(10)
	if b.Return(body); len(body) != 10 {
		t.Errorf("%d bytes", len(body))
	}
}

package otlp

import (
	"bytes"
	"io"
	"testing"
)

func FuzzSqueeze(f *testing.F) {
	f.Add([]byte("a"), []byte("b"))
	f.Add(bytes.Repeat([]byte("0123456789"), 20000), []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var u Unsqueezer
		for _, want := range [][]byte{a, b, append(bytes.Clone(a), b...)} {
			squeezed := Squeeze([]byte("before"), want)
			if !bytes.HasPrefix(squeezed, []byte("before")) {
				t.Fatal("dst was not kept")
			}
			got, err := io.ReadAll(u.Open(squeezed[len("before"):]))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes became %d: %v", len(want), len(got), err)
			}
		}
	})
}

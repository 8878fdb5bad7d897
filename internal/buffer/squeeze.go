package buffer

import (
	"bytes"
	"io"
	"slices"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// squeezeUnit is how many bytes of bodies, at least, are squeezed together: enough for a good ratio.
const squeezeUnit = 128 << 10

// squeezer is what squeezing needs besides the items; it is dropped when the queue is empty.
type squeezer struct {
	plain, packed []byte // scratch memory
	unsqueezer    otlp.Unsqueezer
}

// squeezeLocked squeezes what came to the back of f since the queue's loose bodies take more memory than they may, once
// that is enough. What came before leaves before, and stays as it is.
func (q *Queue) squeezeLocked(f *fifo) {
	if q.limits.Loose <= 0 || q.looseLocked() <= q.limits.Loose {
		f.run, f.runBytes = 0, 0
	}
	if f.runBytes < q.unit {
		return
	}
	items := f.items[len(f.items)-f.run:]
	s := &q.squeezer
	plain := items[0].Body
	if len(items) > 1 {
		s.plain = slices.Grow(s.plain[:0], f.runBytes)
		for i := range items {
			s.plain = append(s.plain, items[i].Body...)
		}
		plain = s.plain
	}
	s.packed = otlp.Squeeze(slices.Grow(s.packed[:0], len(plain)/4), plain)
	data := bytes.Clone(s.packed)
	at := 0
	for i := range items {
		it := &items[i]
		if it.Lent {
			q.bodies.Return(it.Body)
		}
		it.Body, it.Lent = nil, false
		it.squeezed, it.at = data, at
		at += it.Size // without compression, that is the body's length
	}
	f.loose -= at
	f.run, f.runBytes = 0, 0
	if cap(s.plain) > 2*q.unit {
		s.plain = nil
	}
}

func (q *Queue) looseLocked() (n int) {
	for i := range q.fifos {
		n += q.fifos[i].loose
	}
	return n
}

// unsqueezeLocked gives items their bodies back.
func (q *Queue) unsqueezeLocked(items []Item) {
	var from []byte // what r reads
	var r io.Reader
	pos := 0
	for i := range items {
		it := &items[i]
		if it.squeezed == nil {
			continue
		}
		if r == nil || &from[0] != &it.squeezed[0] {
			from, pos = it.squeezed, 0
			r = q.squeezer.unsqueezer.Open(from)
		}
		_, err := io.CopyN(io.Discard, r, int64(it.at-pos))
		it.Body, it.Lent = q.bodies.Lend(it.Size), q.bodies != nil
		if err == nil {
			_, err = io.ReadFull(r, it.Body)
		}
		if err != nil {
			panic("BUG: unsqueeze: " + err.Error())
		}
		pos = it.at + it.Size
		it.squeezed = nil
	}
	if q.bytes == 0 {
		q.squeezer = squeezer{}
	}
}

// squeezable says whether an item's body is worth squeezing.
func squeezable(it *Item) bool {
	return it.Compression == otlp.None && len(it.Body) == it.Size && it.Size > 0
}

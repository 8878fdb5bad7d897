package otlp

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/flate"
)

// Squeeze appends src to dst in a form for this process's memory alone: DEFLATE, which an Unsqueezer reads. Unlike a
// Compressor it keeps nothing between calls, and takes half as long again.
func Squeeze(dst, src []byte) []byte {
	w := appendWriter(dst)
	if err := flate.StatelessDeflate(&w, src, true, nil); err != nil {
		panic("BUG: squeeze: " + err.Error()) // the writer cannot fail
	}
	return w
}

// Unsqueezer reads what was squeezed. Its zero value is ready; 44 KiB are made when it is first used, and kept.
type Unsqueezer struct {
	src bytes.Reader
	r   io.ReadCloser // also a flate.Resetter
}

// Open is a reader of what was squeezed, until the next Open.
func (u *Unsqueezer) Open(squeezed []byte) io.Reader {
	u.src.Reset(squeezed)
	if u.r == nil {
		u.r = flate.NewReader(&u.src)
	} else if err := u.r.(flate.Resetter).Reset(&u.src, nil); err != nil {
		panic("BUG: unsqueeze: " + err.Error()) // it has no dictionary that could be wrong
	}
	return u.r
}

package otlp

import (
	"fmt"
	"runtime"

	"github.com/klauspost/compress/gzip"
)

// gzipStep is how much is compressed at a time.
const gzipStep = 64 << 10

// Compressor compresses requests. Its zero value is ready; the encoder, 0.3 MB, is made when it is first needed
// and kept. A Compressor serves one goroutine at a time.
type Compressor struct {
	gzip *gzip.Writer // writes to out
	out  appendWriter
}

// Append appends src to dst in the coding to: None or Gzip (one member), and returns the extended
// slice. It is an error to ask for another, which backends need not take.
func (c *Compressor) Append(dst, src []byte, to Compression) ([]byte, error) {
	switch to {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return c.appendGzip(dst, src)
	}
	return dst, fmt.Errorf("compress request: %s is not a coding to send in", to)
}

// appendGzip lets other goroutines run after each step: with one P, a receiver would have to wait out the
// whole request.
func (c *Compressor) appendGzip(dst, src []byte) ([]byte, error) {
	if c.gzip == nil {
		w, err := gzip.NewWriterLevel(&c.out, gzip.BestSpeed)
		if err != nil {
			return dst, fmt.Errorf("compress request: %w", err)
		}
		c.gzip = w
	}
	c.out = dst
	defer func() { c.out = nil }() // it is the caller's
	c.gzip.Reset(&c.out)
	for len(src) > 0 {
		n := min(len(src), gzipStep)
		if _, err := c.gzip.Write(src[:n]); err != nil {
			return dst, fmt.Errorf("compress request: %w", err)
		}
		src = src[n:]
		runtime.Gosched()
	}
	if err := c.gzip.Close(); err != nil {
		return dst, fmt.Errorf("compress request: %w", err)
	}
	return c.out, nil
}

// appendWriter is a Writer that appends.
type appendWriter []byte

func (w *appendWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

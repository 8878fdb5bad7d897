package otlp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

const (
	// zstdMaxWindow is how far back a zstd frame may refer: what RFC 8878, section 3.1.1.1.2, wants every
	// decoder to support. The decoder holds a window, beside the output.
	zstdMaxWindow = 8 << 20

	// minRoom is the least room that decompression starts with, if the limit allows.
	minRoom = 4 << 10

	// maxDeflate is how many times larger deflate's output can be than its input.
	maxDeflate = 1032
)

// ErrTooLarge is what decompression answers when its output would pass the limit.
var ErrTooLarge = errors.New("larger than the limit")

// Decompressor decompresses requests. Its zero value is ready; the decoders are made when they are first
// needed and kept. A Decompressor serves one goroutine at a time.
type Decompressor struct {
	src  bytes.Reader
	gzip *gzip.Reader
	zlib io.ReadCloser // also a zlib.Resetter
	zstd *zstd.Decoder
	one  [1]byte
}

// Append appends to dst what src holds in the coding from, and returns the extended slice. If that is more than
// limit bytes the error is an ErrTooLarge: decompression stops there. The output is never held in a slice of
// more than limit bytes (beside dst), and in no more than two at a time.
//
// Anything but one whole body, or several gzip members or zstd frames in a row, is an error. After an error dst
// is as it was.
func (d *Decompressor) Append(dst, src []byte, from Compression, limit int) ([]byte, error) {
	if from == None {
		if len(src) > limit {
			return dst, fmt.Errorf("request of %d bytes: %w of %d", len(src), ErrTooLarge, limit)
		}
		return append(dst, src...), nil
	}
	d.src.Reset(src)
	defer d.src.Reset(nil) // src is the caller's
	out, err := d.append(dst, src, from, limit)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && d.src.Len() > 0 {
		err = fmt.Errorf("%d bytes after the end", d.src.Len())
	}
	if err != nil {
		return dst, fmt.Errorf("decompress %s: %w", from, err)
	}
	return out, nil
}

func (d *Decompressor) append(dst, src []byte, from Compression, limit int) ([]byte, error) {
	if len(src) == 0 {
		return nil, io.EOF
	}
	r, err := d.reader(from)
	if err != nil {
		return nil, err
	}
	return d.appendAll(dst, r, firstRoom(src, from, limit), limit)
}

// reader is a decoder for from, set to src.
func (d *Decompressor) reader(from Compression) (r io.Reader, err error) {
	switch from {
	case Gzip:
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		return d.gzip, d.gzip.Reset(&d.src)
	case Deflate:
		if d.zlib == nil {
			d.zlib, err = zlib.NewReader(&d.src)
			return d.zlib, err
		}
		return d.zlib, d.zlib.(zlib.Resetter).Reset(&d.src, nil)
	}
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			return nil, err
		}
	}
	return d.zstd, d.zstd.Reset(&d.src)
}

// firstRoom is how much room to make for src's output at first. Most bodies say how large it is; it is not
// relied upon.
func firstRoom(src []byte, from Compression, limit int) int {
	room := max(4*len(src), minRoom) // more than most telemetry needs
	switch {
	case from == Gzip && len(src) > 4:
		// A member ends with its size (RFC 1952, section 2.3.1).
		if size := int(binary.LittleEndian.Uint32(src[len(src)-4:])); size <= maxDeflate*len(src) {
			room = size
		}
	case from == Zstd:
		var head zstd.Header
		if head.Decode(src) == nil && head.HasFCS {
			room = int(min(head.FrameContentSize, uint64(limit)))
		}
	}
	return min(room, limit)
}

// appendAll appends what r yields, at most limit bytes. Room doubles, up to the limit.
func (d *Decompressor) appendAll(dst []byte, r io.Reader, room, limit int) ([]byte, error) {
	start := len(dst)
	for {
		dst = grow(dst, start+room)
		for len(dst) < start+room {
			n, err := r.Read(dst[len(dst) : start+room])
			dst = dst[:len(dst)+n]
			if err == io.EOF {
				return dst, nil
			}
			if err != nil {
				return nil, err
			}
		}
		// Full: the end may have been reached, and a checksum is then still to be read.
		n, err := io.ReadFull(r, d.one[:])
		switch {
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return nil, err
		case room == limit:
			return nil, ErrTooLarge
		}
		room = min(max(2*room, minRoom), limit)
		dst = append(grow(dst, start+room), d.one[:n]...)
	}
}

// grow makes dst's capacity at least size; append would make more.
func grow(dst []byte, size int) []byte {
	if cap(dst) >= size {
		return dst
	}
	grown := make([]byte, len(dst), size)
	copy(grown, dst)
	return grown
}

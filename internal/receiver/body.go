package receiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// A body without Content-Length is read in segments: the first from a pool, as nearly every request fits in
// it, each next one four times as large.
const (
	firstSegment = 16 << 10
	maxSegment   = 1 << 20
)

// keepScratch is the largest working buffer, in bytes, that is kept between requests.
const keepScratch = 1 << 20

// readBody is the request's body as sent, in a slice of exactly its size. The memory is part of share id
// before it is allocated.
func (r *Receiver) readBody(req *http.Request, id uint64) ([]byte, error) {
	if req.ContentLength < 0 {
		return r.readUnsized(req.Context(), id, req.Body)
	}
	if req.ContentLength > int64(r.maxBytes) {
		return nil, r.tooLarge(fmt.Sprintf("%d bytes", req.ContentLength))
	}
	n := int(req.ContentLength)
	if n == 0 {
		return nil, nil
	}
	if err := r.gate.grow(req.Context(), id, n); err != nil {
		return nil, waitEnded(err)
	}
	body := r.bodies.Lend(n)
	if _, err := io.ReadFull(req.Body, body); err != nil {
		return nil, unreadable(err)
	}
	return body, nil
}

// readUnsized reads a body whose length only its end tells.
func (r *Receiver) readUnsized(ctx context.Context, id uint64, body io.Reader) ([]byte, error) {
	first := r.segments.Get().(*[firstSegment]byte)
	defer r.segments.Put(first)
	segment := first[:min(firstSegment, r.maxBytes+1)]
	var full [][]byte
	total := 0
	for {
		if err := r.gate.grow(ctx, id, len(segment)); err != nil {
			return nil, waitEnded(err)
		}
		n, err := fill(body, segment)
		total += n
		switch {
		case total > r.maxBytes:
			return nil, r.tooLarge("chunked body")
		case err == io.EOF && full == nil:
			return append(r.bodies.Lend(n)[:0], segment[:n]...), nil
		case err == io.EOF:
			return r.bench.join(append(full, segment[:n]), total), nil
		case err != nil:
			return nil, unreadable(err)
		}
		full = append(full, segment)
		// One byte more than the limit is what tells a body at the limit from one over it.
		segment = make([]byte, min(4*len(segment), maxSegment, r.maxBytes+1-total))
	}
}

// fill reads until b is full or r ends. Unlike io.ReadFull it lets a body's end be told from a body cut short.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// bench is where one body at a time is worked on, so that the memory this takes exists once.
type bench struct {
	mu           sync.Mutex
	decompressor otlp.Decompressor
	scratch      []byte // output of the decompressor, reused
}

// join is segments, size bytes long together, in one slice.
func (b *bench) join(segments [][]byte, size int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	whole := make([]byte, 0, size)
	for _, s := range segments {
		whole = append(whole, s...)
	}
	return whole
}

// inspect is what a compressed body holds: bytes without compression, and records.
func (b *bench) inspect(k kind, body []byte, limit int) (size, records int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	plain, err := b.decompressor.Append(b.scratch[:0], body, k.compression, limit)
	b.scratch = plain[:0]
	if err != nil || cap(plain) > keepScratch {
		b.scratch, b.decompressor = nil, otlp.Decompressor{} // its window may be as large as its output
	}
	if err != nil {
		return 0, 0, err
	}
	records, err = otlp.Validate(k.signal, k.encoding, plain)
	return len(plain), records, err
}

// tooLarge is the refusal of a request over the limit.
func (r *Receiver) tooLarge(what string) *otlp.Error {
	return refusal(http.StatusRequestEntityTooLarge, otlp.ResourceExhausted,
		fmt.Sprintf("%s: larger than the limit of %d bytes: let the exporter send smaller batches", what, r.maxBytes))
}

// unreadable is the refusal of a request whose body ended early or was not framed as HTTP demands.
func unreadable(err error) *otlp.Error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refusal(http.StatusBadRequest, otlp.InvalidArgument, "read body: it ended before its announced length")
	}
	return refusal(http.StatusBadRequest, otlp.InvalidArgument, "read body: "+err.Error())
}

// waitEnded is the answer to a request that was still waiting for memory when its time was over, or when the
// server or its client went away; nobody is likely to read it.
func waitEnded(err error) *otlp.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return refusal(http.StatusGatewayTimeout, otlp.DeadlineExceeded, "wait for memory: the client's timeout is over")
	}
	return refusal(http.StatusServiceUnavailable, otlp.Unavailable, "wait for memory: "+err.Error())
}

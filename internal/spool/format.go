package spool

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// The format of a segment: records, each at a multiple of 64 bytes, of a header of 64 bytes and a body. Numbers
// are little-endian.
//
//	 0  magic "otr1"
//	 4  CRC-32C of bytes 8 to 40
//	 8  CRC-32C of the body
//	12  length of the body
//	16  Payload.Size
//	20  accepted bytes that the payload stands for
//	24  Payload.Records
//	28  signal, encoding, compression, 1 where the body is known to be damaged
//	32  Payload.Received, nanoseconds since 1970
//	40  0xff once the record is settled
//	41  0xff in one more byte for each process in a row that did not survive packing it into a request (5)
//	46  in a segment's first 64 bytes: the same for reading the segment back (5)
//	51  zeros
//
// The body is written before the header, and the header lies within one page of memory, so whatever instruction a
// process is killed at, a record is whole or has no header. What changes later is one byte at a time, outside of
// the checksum.
const (
	headerSize = 64
	sumFrom    = 8
	sumTo      = 40
	settledAt  = 40
	packsAt    = 41
	readsAt    = packsAt + maxTries
)

const magic = "otr1"

// maxTries is how many processes in a row may die over a record while they pack it, or over a segment while they
// read it back: a poisonous one must not keep a function from ever starting. Nor may one be taken for poisonous
// because processes died for other reasons.
const maxTries = 5

// set is what a byte of the header's changing part is written as. It is read by the majority of its bits.
const set = 0xff

func isSet(b byte) bool { return bits.OnesCount8(b) > 4 }

// tries is how many of maxTries bytes are set.
func tries(b []byte) (n int) {
	for _, c := range b[:maxTries] {
		if isSet(c) {
			n++
		}
	}
	return n
}

// header is a record's, but for its body.
type header struct {
	payload   otlp.Payload // without Body
	accounted int
	length    int64 // of the body
	sum       uint32
	damaged   bool
	settled   bool
	packs     int // processes that died of packing it
}

// span is how many bytes of a segment a record with a body of that length takes.
func span(length int64) int64 { return headerSize + aligned(length) }

// aligned is n, up to a multiple of 64.
func aligned(n int64) int64 { return (n + headerSize - 1) &^ (headerSize - 1) }

// encode is the header as a new record has it.
func (h header) encode(table *crc32.Table) (b [headerSize]byte) {
	le := binary.LittleEndian
	copy(b[:4], magic)
	le.PutUint32(b[8:], h.sum)
	le.PutUint32(b[12:], uint32(h.length))
	le.PutUint32(b[16:], uint32(h.payload.Size))
	le.PutUint32(b[20:], uint32(h.accounted))
	le.PutUint32(b[24:], uint32(h.payload.Records))
	b[28], b[29], b[30] = byte(h.payload.Signal), byte(h.payload.Encoding), byte(h.payload.Compression)
	if h.damaged {
		b[31] = 1
	}
	le.PutUint64(b[32:], uint64(h.payload.Received.UnixNano()))
	le.PutUint32(b[4:], crc32.Checksum(b[sumFrom:sumTo], table))
	return b
}

// decode reads a header; false where the bytes are none.
func decode(b []byte, table *crc32.Table) (h header, ok bool) {
	le := binary.LittleEndian
	if string(b[:4]) != magic || le.Uint32(b[4:]) != crc32.Checksum(b[sumFrom:sumTo], table) {
		return header{}, false
	}
	if b[28] >= otlp.SignalCount || b[29] > byte(otlp.JSON) || b[30] > byte(otlp.Zstd) || b[31] > 1 {
		return header{}, false
	}
	h.sum, h.damaged = le.Uint32(b[8:]), b[31] == 1
	h.length = int64(le.Uint32(b[12:]))
	h.accounted = int(le.Uint32(b[20:]))
	h.payload = otlp.Payload{
		Signal:      otlp.Signal(b[28]),
		Encoding:    otlp.Encoding(b[29]),
		Compression: otlp.Compression(b[30]),
		Size:        int(le.Uint32(b[16:])),
		Records:     int(le.Uint32(b[24:])),
		Received:    time.Unix(0, int64(le.Uint64(b[32:]))),
	}
	if h.payload.Records == 0 {
		return header{}, false
	}
	h.settled, h.packs = isSet(b[settledAt]), tries(b[packsAt:])
	return h, true
}

// stretch is a part of a segment: a record, or bytes that are none.
type stretch struct {
	off, end int
	header   header
	sound    bool // the header is; the body has yet to be looked at, and may be cut off
}

// next is the stretch of a segment that begins at off; false at the end of what was ever written.
func next(segment []byte, off int, table *crc32.Table) (st stretch, ok bool) {
	st = stretch{off: off, end: off}
	for ; st.end+headerSize <= len(segment); st.end += headerSize {
		h, ok := decode(segment[st.end:], table)
		switch {
		case ok && st.end == off:
			st.header, st.sound, st.end = h, true, off+int(span(h.length))
			return st, true
		case ok:
			return st, true // up to a record, there is none
		}
	}
	st.end = max(off, len(segment))
	// Without a header at the segment's end is what was being written when the process died: nobody was told
	// that it is kept.
	for _, b := range segment[min(off, len(segment)):min(off+settledAt, len(segment))] {
		if b != 0 {
			return st, true
		}
	}
	return st, false
}

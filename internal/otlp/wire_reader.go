package otlp

import "encoding/binary"

// wireReader goes through the fields of one message, not into what is nested in it:
//
//	for r := (wireReader{b: message}); r.next(); {
//	}
//
// It stops at the message's end or at a fault.
type wireReader struct {
	b     []byte
	pos   int
	fault string

	// The current field.
	num     uint64
	wire    uint64 // wire type
	whole   []byte // from its tag to its end
	number  uint64 // of a varint
	content []byte // of a length-delimited field
}

// next reads the next field, if there is one.
func (r *wireReader) next() bool {
	if r.pos == len(r.b) || r.fault != "" {
		return false
	}
	tag, value := readVarint(r.b, r.pos)
	if r.num, r.wire = tag>>3, tag&7; value < 0 || r.num-1 >= maxFieldNumber {
		r.fault = faultNumber
		return false
	}
	var end int
	if end, r.fault = skipValue(r.b, value, tag, maxDepth); r.fault != "" {
		return false
	}
	switch r.wire {
	case wireVarint:
		r.number, _ = readVarint(r.b, value)
	case wireBytes:
		size, _ := readVarint(r.b, value)
		r.content = r.b[end-int(size) : end]
	}
	r.whole = r.b[r.pos:end]
	r.pos = end
	return true
}

// is says whether the current field is num and length-delimited.
func (r *wireReader) is(num uint64) bool {
	return r.num == num && r.wire == wireBytes
}

// appendIntField appends a field of type int32, int64 or enum, unless it is 0.
func appendIntField(dst []byte, num uint64, v int64) []byte {
	if v == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, num<<3|wireVarint)
	return binary.AppendUvarint(dst, uint64(v))
}

// appendBytesField appends a field of type string, bytes or message.
func appendBytesField[S string | []byte](dst []byte, num uint64, v S) []byte {
	dst = binary.AppendUvarint(dst, num<<3|wireBytes)
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

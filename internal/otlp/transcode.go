package otlp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
)

// AppendProtobuf appends to dst the protobuf form of body, a request in OTLP's JSON without compression, and
// returns the extended slice. It is for destinations that take protobuf only (OTLP/gRPC). Members that OTLP
// does not know are left out, null is absence, and what is written twice means what it would mean in protobuf:
// the last scalar, messages merged, lists joined (OTLP specification, "JSON Protobuf Encoding"; ProtoJSON Format).
//
// An error names the member that has no protobuf form, and where it stands; dst is then as it was. body is only read.
func AppendProtobuf(dst []byte, sig Signal, body []byte) ([]byte, error) {
	t := transcoder{jsonPath: jsonPath{jsonScan: jsonScan{b: body}}}
	out := t.message(slices.Grow(dst, len(body)/2), requests[sig])
	if !t.end() {
		return dst, t.err()
	}
	return out, nil
}

// transcoder is one pass over a request in JSON that writes it as protobuf.
type transcoder struct {
	jsonPath
	text []byte // scratch: a string without its escapes
}

// message reads an object and appends its fields.
func (t *transcoder) message(dst []byte, of message) []byte {
	for more := t.enter('{', '}'); more; more = t.next('}') {
		f := jsonFieldOf(of, t.key())
		switch {
		case f == nil:
			t.skip()
			continue
		case t.null():
		case f.as == jsonMessage && f.list:
			for more := t.enter('[', ']'); more; more = t.next(']') {
				dst = t.nested(dst, of, f)
			}
		case f.as == jsonMessage:
			dst = t.nested(dst, of, f)
		case f.list:
			dst = t.list(dst, f)
		default:
			dst = t.scalar(dst, f)
		}
		if t.fault != "" {
			t.path = append(t.path, f.name)
		}
	}
	return dst
}

// nested reads an object and appends it as a field of the message around it. A null in a list keeps its place.
func (t *transcoder) nested(dst []byte, around message, f *jsonField) []byte {
	dst = appendTag(dst, f.num, wireBytes)
	start := len(dst)
	if dst = append(dst, 0); !f.list || !t.null() {
		dst = t.message(dst, schema[around][f.num].of)
	}
	return sealed(dst, start)
}

// sealed writes the length of what follows the one byte that was left for it at start. Where it needs more
// than that byte, what follows moves: cheaper than to read the message twice, since most are short.
func sealed(dst []byte, start int) []byte {
	n := len(dst) - start - 1
	if n < 0x80 {
		dst[start] = byte(n)
		return dst
	}
	var length [binary.MaxVarintLen64]byte
	return slices.Replace(dst, start, start+1, length[:binary.PutUvarint(length[:], uint64(n))]...)
}

// list reads an array of scalars: strings are fields of their own, numbers are packed.
func (t *transcoder) list(dst []byte, f *jsonField) []byte {
	if f.as == jsonString {
		for more := t.enter('[', ']'); more; more = t.next(']') {
			dst = t.scalar(dst, f)
		}
		return dst
	}
	dst = appendTag(dst, f.num, wireBytes)
	start := len(dst)
	dst = append(dst, 0)
	for more := t.enter('[', ']'); more; more = t.next(']') {
		at, raw := t.leaf()
		var ok bool
		if dst, ok = appendNumber(dst, f.as, raw); !ok {
			t.refuse(at, f.as)
		}
	}
	return sealed(dst, start)
}

// scalar reads a value and appends it as a field. What is a zero is written too: it may be the choice of a oneof.
func (t *transcoder) scalar(dst []byte, f *jsonField) []byte {
	at, raw := t.leaf()
	if f.as >= jsonString {
		text, ok := t.bytes(raw, f.as)
		if !ok {
			t.refuse(at, f.as)
		}
		return appendBytesField(dst, uint64(f.num), text)
	}
	out, ok := appendNumber(appendTag(dst, f.num, f.as.wire()), f.as, raw)
	if ok {
		return out
	}
	if f.as == jsonAnyInt {
		// JavaScript calls every whole double an integer, 1e+308 among them.
		if v, ok := jsonDouble(raw); ok {
			return binary.LittleEndian.AppendUint64(appendTag(dst, anyValueDouble, wireFixed64), math.Float64bits(v))
		}
	}
	t.refuse(at, f.as)
	return dst
}

// leaf reads one value and says where it begins.
func (t *transcoder) leaf() (at int, raw []byte) {
	t.peek()
	at = t.pos
	return at, t.value()
}

// refuse notes that the value at a byte is not of the kind it should be.
func (t *transcoder) refuse(at int, as jsonKind) {
	if t.fault == "" {
		t.pos = at
		t.fail("expected " + jsonKindNames[as])
	}
}

// bytes is the content of a string, valid until the next call.
func (t *transcoder) bytes(raw []byte, as jsonKind) (content []byte, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	raw = raw[1 : len(raw)-1]
	if as == jsonString && bytes.IndexByte(raw, '\\') < 0 {
		return raw, true
	}
	t.text = appendUnescaped(t.text[:0], raw)
	var err error
	switch as {
	case jsonHex:
		var n int
		n, err = hex.Decode(t.text, t.text)
		return t.text[:n], err == nil
	case jsonBase64:
		t.text, err = decodeBase64(t.text)
	}
	return t.text, err == nil
}

// decodeBase64 decodes b in place: either alphabet, with or without padding (ProtoJSON Format, "bytes").
func decodeBase64(b []byte) ([]byte, error) {
	b = bytes.TrimRight(b, "=")
	for i, c := range b {
		switch c {
		case '-':
			b[i] = '+'
		case '_':
			b[i] = '/'
		}
	}
	n, err := base64.RawStdEncoding.Decode(b, b)
	return b[:n], err
}

// appendNumber appends the value that raw writes, without a tag.
func appendNumber(dst []byte, as jsonKind, raw []byte) (out []byte, ok bool) {
	switch as {
	case jsonBool:
		yes := string(raw) == "true"
		if yes {
			return append(dst, 1), true
		}
		return append(dst, 0), string(raw) == "false"
	case jsonFloat:
		v, ok := jsonDouble(raw)
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)), ok
	case jsonUint64, jsonFixed64:
		v, ok := jsonUint(raw)
		if as == jsonFixed64 {
			return binary.LittleEndian.AppendUint64(dst, v), ok
		}
		return binary.AppendUvarint(dst, v), ok
	}
	v, ok := jsonInt(raw)
	switch as {
	case jsonSfixed64:
		return binary.LittleEndian.AppendUint64(dst, uint64(v)), ok
	case jsonUint32:
		return binary.AppendUvarint(dst, uint64(v)), ok && v == int64(uint32(v))
	case jsonFixed32:
		return binary.LittleEndian.AppendUint32(dst, uint32(v)), ok && v == int64(uint32(v))
	case jsonSint32:
		return binary.AppendVarint(dst, v), ok && v == int64(int32(v))
	case jsonInt32:
		ok = ok && v == int64(int32(v))
	}
	return binary.AppendUvarint(dst, uint64(v)), ok
}

// jsonDouble is the number that raw writes, as a JSON number or as a string of one, NaN and Infinity included.
func jsonDouble(raw []byte) (v float64, ok bool) {
	v, err := strconv.ParseFloat(string(bytes.Trim(raw, `"`)), 64)
	return v, err == nil
}

// jsonUint is jsonInt for numbers from 0 to 2⁶⁴−1.
func jsonUint(raw []byte) (n uint64, ok bool) {
	if n, err := strconv.ParseUint(string(bytes.Trim(raw, `"`)), 10, 64); err == nil {
		return n, true
	}
	if n, ok := jsonInt(raw); ok && n >= 0 {
		return uint64(n), true
	}
	f, ok := jsonDouble(raw)
	if !ok || f < 0 || f >= 1<<64 || f != math.Trunc(f) {
		return 0, false
	}
	return uint64(f), true
}

// appendTag appends what begins a field.
func appendTag(dst []byte, num uint8, wire uint64) []byte {
	return binary.AppendUvarint(dst, uint64(num)<<3|wire)
}

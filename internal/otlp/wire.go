package otlp

import (
	"fmt"
	"math"
	"strings"
)

// The wire types of protobuf (Encoding, "Message Structure").
const (
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireStartGroup = 3
	wireEndGroup   = 4
	wireFixed32    = 5
)

const (
	// maxDepth is how many messages may lie within one another, the request included. C++, Java and Python
	// stop at 100 (Go at 10,000): what they would refuse must not poison a merged request.
	maxDepth = 100

	// maxFieldNumber is the largest field number there is (Encoding, "Message Structure").
	maxFieldNumber = 1<<29 - 1

	// maxGroupField is the largest field number that Go's protobuf takes within a group.
	maxGroupField = math.MaxInt32
)

// What can be wrong with a field.
const (
	faultNumber    = "bad number of"
	faultTruncated = "truncated"
	faultVarint    = "bad varint in"
	faultWireType  = "bad wire type of"
	faultGroup     = "unmatched group in"
	faultUTF8      = "invalid UTF-8 in"
	faultPacked    = "truncated number in"
	faultDepth     = "too deeply nested"
)

// wireScan is one pass over a message and all messages within it.
type wireScan struct {
	b       []byte
	open    [maxDepth]frame // the messages around the current one, outermost first
	depth   int             // how many are open
	records int

	// The open Metric: the records before it and the number of its oneof's field.
	metricBefore int
	metricField  uint8
}

// frame is a message that lies open around the current one: where it ends, what it is, and the field of it
// that holds the next.
type frame struct {
	end   int
	of    message
	field uint8
}

// scanMessage checks the message b of kind top with every message within it, and counts its records. It
// accepts what the official Go types decode, up to maxDepth; unknown fields are checked for their framing.
func scanMessage(b []byte, top message) (records int, err error) {
	s := wireScan{b: b}
	if err := s.run(top); err != nil {
		return 0, err
	}
	return s.records, nil
}

// run is a loop, not a recursion, and reads varints of one byte itself: calls would cost a third of the time.
func (s *wireScan) run(of message) error {
	b, pos, end, fields := s.b, 0, len(s.b), &schema[of]
	for {
		for pos == end {
			if s.depth == 0 {
				return nil
			}
			s.depth--
			end, of = s.open[s.depth].end, s.open[s.depth].of
			fields = &schema[of]
		}
		start := pos
		tag, value := uint64(b[pos]), pos+1
		if tag >= 0x80 {
			tag, value = readVarint(b[:end], pos)
		}
		num := tag >> 3
		if value < 0 || num-1 >= maxFieldNumber {
			return s.malformed(faultNumber, num, start)
		}
		if tag&7 != wireBytes {
			var fault string
			if pos, fault = skipValue(b[:end], value, tag, maxDepth-1-s.depth); fault != "" {
				return s.malformed(fault, num, start)
			}
			continue
		}
		size := uint64(0x80)
		if value < end {
			size = uint64(b[value])
		}
		if value++; size >= 0x80 {
			size, value = readVarint(b[:end], value-1)
		}
		if value < 0 || size > uint64(end-value) {
			return s.malformed(faultTruncated, num, start)
		}
		var f field
		if num <= maxField {
			f = fields[num]
		}
		if pos = value + int(size); f.is == text {
			if !validUTF8(b[value:pos]) {
				return s.malformed(faultUTF8, num, start)
			}
			continue
		}
		if f.is < nested {
			if !validPacked(b[value:pos], f.is) {
				return s.malformed(faultPacked, num, start)
			}
			continue
		}
		if s.depth == maxDepth-1 {
			return s.malformed(faultDepth, num, start)
		}
		s.enter(frame{end: end, of: of, field: uint8(num)}, f.is)
		end, pos, of, fields = pos, value, f.of, &schema[f.of]
	}
}

// enter takes note of a nested message's beginning. Where a Metric holds its oneof more than once, what
// decoding leaves is counted: data of the same kind is merged, data of another kind takes its place.
func (s *wireScan) enter(around frame, is kind) {
	s.open[s.depth] = around
	s.depth++
	switch is {
	case nestedRecord:
		s.records++
	case nestedMetric:
		s.metricBefore, s.metricField = s.records, 0
	case nestedData:
		if s.metricField != around.field {
			s.records, s.metricField = s.metricBefore, around.field
		}
	}
}

// malformed says what is wrong with the current message's field num, and where: the path to the message and
// the byte at which the field begins.
func (s *wireScan) malformed(what string, num uint64, at int) error {
	var path strings.Builder
	for i, f := range s.open[:s.depth] {
		if i == maxPath {
			path.WriteString("…")
			break
		}
		if i > 0 {
			path.WriteByte('.')
		}
		path.WriteString(fieldNames[f.of][f.field])
	}
	if path.Len() == 0 {
		path.WriteString("request")
	}
	return fmt.Errorf("%s: %s field %d at byte %d", &path, what, num, at)
}

// maxPath is how many names of a path an error shows.
const maxPath = 12

// validPacked checks a length-delimited value that is neither a message nor a string.
func validPacked(v []byte, is kind) bool {
	switch is {
	case packedFixed64:
		return len(v)%8 == 0
	case packedVarint:
		for pos := 0; pos < len(v); {
			if _, pos = readVarint(v, pos); pos < 0 {
				return false
			}
		}
	}
	return true
}

// skipValue is where the value of a field ends whose tag ended at pos. Groups may nest levels deep in it.
func skipValue(b []byte, pos int, tag uint64, levels int) (next int, fault string) {
	switch tag & 7 {
	case wireVarint:
		if _, pos = readVarint(b, pos); pos < 0 {
			return pos, faultVarint
		}
		return pos, ""
	case wireFixed64:
		pos += 8
	case wireFixed32:
		pos += 4
	case wireBytes:
		size, next := readVarint(b, pos)
		if next < 0 || size > uint64(len(b)-next) {
			return -1, faultTruncated
		}
		return next + int(size), ""
	case wireStartGroup:
		return skipGroup(b, pos, tag>>3, levels)
	case wireEndGroup:
		return -1, faultGroup
	default:
		return -1, faultWireType
	}
	if pos > len(b) {
		return -1, faultTruncated
	}
	return pos, ""
}

// skipGroup is where the group num ends whose start tag ended at pos. OTLP has no groups, but an unknown
// field may be one.
func skipGroup(b []byte, pos int, num uint64, levels int) (next int, fault string) {
	if levels == 0 {
		return -1, faultDepth
	}
	for pos < len(b) {
		tag, next := readVarint(b, pos)
		if next < 0 || tag>>3 == 0 || tag>>3 > maxGroupField {
			return -1, faultNumber
		}
		if tag&7 == wireEndGroup {
			if tag>>3 != num {
				return -1, faultGroup
			}
			return next, ""
		}
		if pos, fault = skipValue(b, next, tag, levels-1); fault != "" {
			return -1, fault
		}
	}
	return -1, faultGroup
}

// readVarint reads the varint at pos and says where it ends: -1 where it has no end or passes 64 bits.
func readVarint(b []byte, pos int) (v uint64, next int) {
	if pos < len(b) {
		if v = uint64(b[pos]); v < 0x80 {
			return v, pos + 1
		}
	}
	return readLongVarint(b, pos)
}

// readLongVarint is kept a call of its own: with it inside, readVarint is slower on the single bytes that
// nearly all varints are.
//
//go:noinline
func readLongVarint(b []byte, pos int) (v uint64, next int) {
	for shift := 0; pos < len(b) && shift < 70; shift += 7 {
		c := b[pos]
		pos++
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, -1
			}
			return v | uint64(c)<<shift, pos
		}
		v |= uint64(c&0x7f) << shift
	}
	return 0, -1
}

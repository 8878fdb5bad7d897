package otlp

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// maxJSONDepth is how many objects and arrays may lie within one another. A message is an object, and a
// repeated field adds an array: this lets through all that maxDepth lets through in protobuf.
const maxJSONDepth = 2 * maxDepth

// jsonScan reads JSON (RFC 8259) front to back, without decoding or copying it. After the first fault it
// stands still: every further read fails too.
//
// An object is read so, an array likewise without key:
//
//	for more := s.enter('{', '}'); more; more = s.next('}') {
//		key := s.key()
//		value := s.value()
//	}
type jsonScan struct {
	b     []byte
	pos   int
	depth int
	fault string
}

// fail notes the first fault, at pos.
func (s *jsonScan) fail(what string) bool {
	if s.fault == "" {
		s.fault = what
	}
	return false
}

// peek skips white space and is the byte after it, 0 at the end.
func (s *jsonScan) peek() byte {
	for s.pos < len(s.b) {
		c := s.b[s.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.pos++
	}
	return 0
}

// enter reads the opening byte of an object or array and says whether there is something in it.
func (s *jsonScan) enter(open, closing byte) bool {
	if s.fault != "" {
		return false
	}
	if s.peek() != open {
		return s.fail(expected(open))
	}
	if s.depth == maxJSONDepth {
		return s.fail("nested too deeply")
	}
	s.pos++
	if s.peek() == closing {
		s.pos++
		return false
	}
	s.depth++
	return true
}

// next goes on to the next member or element, if there is one, and else past the closing byte.
func (s *jsonScan) next(closing byte) bool {
	if s.fault != "" {
		return false
	}
	switch s.peek() {
	case ',':
		s.pos++
		return true
	case closing:
		s.pos++
		s.depth--
		return false
	}
	return s.fail("expected a comma or the end of the object or array")
}

// key reads a member's name and its colon. The name is still escaped, and without its quotes.
func (s *jsonScan) key() []byte {
	if s.fault != "" {
		return nil
	}
	if s.peek() != '"' {
		s.fail("expected a member's name")
		return nil
	}
	start := s.pos + 1
	if !s.skipString() {
		return nil
	}
	name := s.b[start : s.pos-1]
	if s.peek() != ':' {
		s.fail("expected a colon")
		return nil
	}
	s.pos++
	return name
}

// value reads one value of any kind and is its text.
func (s *jsonScan) value() []byte {
	s.peek()
	start := s.pos
	if !s.skip() {
		return nil
	}
	return s.b[start:s.pos]
}

// null reads a null if there is one.
func (s *jsonScan) null() bool {
	return s.peek() == 'n' && s.skip()
}

// end checks that nothing but white space is left.
func (s *jsonScan) end() bool {
	if s.peek(); s.fault == "" && s.pos < len(s.b) {
		s.fail("text after the end of the request")
	}
	return s.fault == ""
}

// skip reads one value of any kind.
func (s *jsonScan) skip() bool {
	if s.fault != "" {
		return false
	}
	switch c := s.peek(); c {
	case '"':
		return s.skipString()
	case '{':
		for more := s.enter('{', '}'); more; more = s.next('}') {
			s.key()
			s.skip()
		}
		return s.fault == ""
	case '[':
		for more := s.enter('[', ']'); more; more = s.next(']') {
			s.skip()
		}
		return s.fault == ""
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *jsonScan) literal(word string) bool {
	if len(s.b)-s.pos < len(word) || string(s.b[s.pos:s.pos+len(word)]) != word {
		return s.fail("expected a value")
	}
	s.pos += len(word)
	return true
}

// number reads a number of RFC 8259, section 6.
func (s *jsonScan) number() bool {
	if s.at() == '-' {
		s.pos++
	}
	if s.at() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail("expected a value")
	}
	if s.at() == '.' {
		s.pos++
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	if c := s.at(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.at(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	return true
}

// at is the current byte, 0 at the end.
func (s *jsonScan) at() byte {
	if s.pos < len(s.b) {
		return s.b[s.pos]
	}
	return 0
}

func (s *jsonScan) digits() bool {
	start := s.pos
	for s.pos < len(s.b) && s.b[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos > start
}

// skipString reads a string, from quote to quote. Like protobuf's, its bytes must be UTF-8; an escaped lone
// surrogate is let through, since JavaScript writes one where it cut a string.
func (s *jsonScan) skipString() bool {
	s.pos++
	start, ascii := s.pos, true
	for s.pos < len(s.b) {
		if rest := s.b[s.pos:]; len(rest) >= 8 {
			n := plainBytes(binary.LittleEndian.Uint64(rest))
			if s.pos += n; n == 8 {
				continue
			}
		}
		switch c := s.b[s.pos]; {
		case c == '"':
			s.pos++
			if !ascii && !utf8.Valid(s.b[start:s.pos]) {
				s.pos = start
				return s.fail("invalid UTF-8 in a string")
			}
			return true
		case c == '\\':
			if !s.skipEscape() {
				return false
			}
		case c < ' ':
			return s.fail("control character in a string")
		default:
			ascii = ascii && c < utf8.RuneSelf
			s.pos++
		}
	}
	return s.fail("string without its end")
}

// plainBytes is how many of 8 bytes, from the lowest on, need no look in a string: ASCII that is no quote,
// backslash or control character. A byte after the first special one may be misjudged, none before it.
func plainBytes(v uint64) int {
	const ones = nonASCII >> 7
	quote := v ^ ones*'"'
	slash := v ^ ones*'\\'
	special := ((quote - ones) | (slash - ones) | (v - ones*' ')) & ^v & nonASCII
	return bits.TrailingZeros64(special|v&nonASCII) / 8
}

func (s *jsonScan) skipEscape() bool {
	s.pos++
	c := s.at()
	s.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if !isHex(s.at()) {
				return s.fail("bad escape in a string")
			}
			s.pos++
		}
		return true
	}
	s.pos--
	return s.fail("bad escape in a string")
}

func isHex(c byte) bool {
	return c-'0' <= 9 || c|0x20-'a' <= 5
}

// expected names the byte that should have come.
func expected(c byte) string {
	switch c {
	case '{':
		return "expected an object"
	case '[':
		return "expected an array or null"
	}
	return "expected a value"
}

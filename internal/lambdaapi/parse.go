package lambdaapi

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// parseTelemetry emits the events of a batch: a JSON array of {"time","type","record"}. It runs once an invocation
// and reads the body once, taking only what a PlatformEvent holds. An element that makes no sense is left out and
// the rest goes on; a body that ends early gives the elements before its end.
func parseTelemetry(body []byte, emit func(PlatformEvent)) {
	s := scanner{b: body}
	if !s.take('[') {
		return
	}
	for {
		for s.take(',') {
		}
		if s.end() || s.take(']') {
			return
		}
		start := s.i
		var e PlatformEvent
		understood := s.event(&e)
		if !understood {
			s.i = start
			if !s.skip() {
				return
			}
		}
		if understood && e.Type != "" {
			emit(e)
		}
	}
}

// event reads an element of the batch.
func (s *scanner) event(e *PlatformEvent) bool {
	return s.object(func(name []byte) bool {
		switch string(name) {
		case "type":
			return s.text(&e.Type)
		case "time":
			var when string
			ok := s.text(&when)
			e.Time, _ = time.Parse(time.RFC3339Nano, when) // the platform's own examples have times that are none
			return ok
		case "record":
			e.RequestID, e.Status, e.ErrorType = "", "", ""
			if !s.at('{') {
				return s.skip()
			}
			return s.record(e)
		}
		return s.skip()
	})
}

func (s *scanner) record(e *PlatformEvent) bool {
	return s.object(func(name []byte) bool {
		switch string(name) {
		case "requestId":
			return s.text(&e.RequestID)
		case "status":
			return s.text(&e.Status)
		case "errorType":
			return s.text(&e.ErrorType)
		}
		return s.skip()
	})
}

// parseEvent reads what Next answers; false where that is no JSON object.
func parseEvent(body []byte) (e Event, ok bool) {
	s := scanner{b: body}
	ok = s.object(func(name []byte) bool {
		switch string(name) {
		case "eventType":
			return s.text((*string)(&e.Type))
		case "deadlineMs":
			ms, ok := s.integer()
			if ms != 0 {
				e.Deadline = time.UnixMilli(ms)
			}
			return ok
		case "requestId":
			return s.text(&e.RequestID)
		case "invokedFunctionArn":
			return s.text(&e.InvokedFunctionARN)
		case "tracing":
			if !s.at('{') {
				return s.skip()
			}
			return s.object(func(name []byte) bool {
				if string(name) == "value" {
					return s.text(&e.Tracing)
				}
				return s.skip()
			})
		case "shutdownReason":
			ok := s.text(&e.ShutdownReason)
			e.ShutdownReason = strings.ToLower(e.ShutdownReason)
			return ok
		}
		return s.skip()
	})
	return e, ok
}

// scanner walks over JSON without judging what it skips. Its methods return false where the text is not what
// they read, or ends; where they stand then does not matter.
type scanner struct {
	b []byte
	i int // the next byte
}

func (s *scanner) end() bool {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' || s.b[s.i] == '\t') {
		s.i++
	}
	return s.i >= len(s.b)
}

// at says whether c is next, after white space.
func (s *scanner) at(c byte) bool { return !s.end() && s.b[s.i] == c }

// take passes c if it is next, after white space.
func (s *scanner) take(c byte) bool {
	if !s.at(c) {
		return false
	}
	s.i++
	return true
}

// object calls member with the name of each member; it must read the value. A comma too many is forgiven.
func (s *scanner) object(member func(name []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	for {
		for s.take(',') {
		}
		if s.take('}') {
			return true
		}
		raw, ok := s.string()
		if !ok || !s.take(':') || !member(unquote(raw)) {
			return false
		}
		if !s.at(',') && !s.at('}') {
			return false
		}
	}
}

// text reads a string into dst; any other value leaves dst empty.
func (s *scanner) text(dst *string) bool {
	*dst = ""
	if !s.at('"') {
		return s.skip()
	}
	raw, ok := s.string()
	*dst = string(unquote(raw))
	return ok
}

// integer reads a whole number; any other value is 0.
func (s *scanner) integer() (n int64, ok bool) {
	s.end()
	start := s.i
	ok = s.skip()
	n, _ = strconv.ParseInt(string(s.b[start:s.i]), 10, 64)
	return n, ok
}

// string passes a string and returns it with its quotes.
func (s *scanner) string() ([]byte, bool) {
	if !s.at('"') {
		return nil, false
	}
	start := s.i
	for s.i++; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '\\':
			s.i++
		case '"':
			s.i++
			return s.b[start:s.i], true
		}
	}
	return nil, false
}

// unquote is what a string says. Nearly all are plain ASCII; the rest is encoding/json's business.
func unquote(raw []byte) []byte {
	if len(raw) < 2 {
		return nil
	}
	for _, c := range raw {
		if c < ' ' || c > '~' || c == '\\' {
			var s string
			if json.Unmarshal(raw, &s) != nil {
				return nil
			}
			return []byte(s)
		}
	}
	return raw[1 : len(raw)-1]
}

// quote is s as a JSON string. encoding/json is asked only where it has to be: its first use in a process costs more than
// all else that is encoded before the first Next.
func quote(s string) string {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ := json.Marshal(s) // a string always can be
			return string(b)
		}
	}
	return `"` + s + `"`
}

// quoteAll is a JSON array of strings.
func quoteAll(all []string) string {
	b := []byte{'['}
	for i, s := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, quote(s)...)
	}
	return string(append(b, ']'))
}

// skip passes one value: a string, a number or a word, or all between brackets, whatever it is.
func (s *scanner) skip() bool {
	for depth := 0; !s.end(); {
		switch c := s.b[s.i]; c {
		case '"':
			if _, ok := s.string(); !ok {
				return false
			}
		case '{', '[':
			depth++
			s.i++
		case '}', ']':
			if depth == 0 {
				return false // no value stands here
			}
			depth--
			s.i++
		case ',', ':':
			if depth == 0 {
				return false
			}
			s.i++
		default:
			n := bytes.IndexAny(s.b[s.i:], "\",:{}[] \t\r\n")
			if n < 0 {
				n = len(s.b) - s.i
			}
			s.i += n
		}
		if depth == 0 {
			return true
		}
	}
	return false
}

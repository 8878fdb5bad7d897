package otlp

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// The fields of Export…ServiceResponse and Export…PartialSuccess, alike for all signals.
const (
	responsePartial = 1
	partialRejected = 1
	partialMessage  = 2
)

// rejectedNames are the signals' names, in JSON, for the number of rejected records.
var rejectedNames = [SignalCount]string{"rejectedSpans", "rejectedDataPoints", "rejectedLogRecords", "rejectedProfiles"}

// AppendResponse appends the Export…ServiceResponse that answers a request that was taken: whole where partial
// is nil. What is not UTF-8 in its message becomes U+FFFD.
func AppendResponse(dst []byte, enc Encoding, sig Signal, partial *PartialSuccess) []byte {
	switch {
	case enc == JSON && partial == nil:
		return append(dst, "{}"...)
	case enc == JSON:
		dst = append(dst, `{"partialSuccess":{`...)
		if partial.Rejected != 0 {
			// ProtoJSON writes an int64 as a string.
			dst = append(appendName(dst, rejectedNames[sig]), '"')
			dst = append(strconv.AppendInt(dst, partial.Rejected, 10), '"')
		}
		if partial.Message != "" {
			dst = appendJSONString(appendName(dst, "errorMessage"), partial.Message)
		}
		return append(dst, "}}"...)
	case partial == nil:
		return dst
	}
	inner := appendIntField(nil, partialRejected, partial.Rejected)
	inner = appendTextField(inner, partialMessage, partial.Message)
	return appendBytesField(dst, responsePartial, inner)
}

// ParseResponse reads an Export…ServiceResponse: nil where everything was taken without a warning, as an empty
// body says too. An error means that body is something else; the request was taken all the same.
func ParseResponse(enc Encoding, sig Signal, body []byte) (partial *PartialSuccess, err error) {
	var p PartialSuccess
	switch {
	case len(body) == 0:
		return nil, nil
	case enc == JSON:
		err = p.parseJSON(body, sig)
	default:
		err = p.parseWire(body)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s response: %w", sig, err)
	}
	if p == (PartialSuccess{}) {
		return nil, nil
	}
	return &p, nil
}

func (p *PartialSuccess) parseWire(body []byte) error {
	r := wireReader{b: body}
	for r.next() {
		if !r.is(responsePartial) {
			continue
		}
		inner := wireReader{b: r.content}
		for inner.next() {
			switch {
			case inner.num == partialRejected && inner.wire == wireVarint:
				p.Rejected = int64(inner.number)
			case inner.is(partialMessage):
				if !utf8.Valid(inner.content) {
					return fmt.Errorf("partial_success: %s field %d", faultUTF8, partialMessage)
				}
				p.Message = string(inner.content)
			}
		}
		if inner.fault != "" {
			return fmt.Errorf("partial_success: %s field %d at byte %d", inner.fault, inner.num, inner.pos)
		}
	}
	if r.fault != "" {
		return fmt.Errorf("%s field %d at byte %d", r.fault, r.num, r.pos)
	}
	return nil
}

func (p *PartialSuccess) parseJSON(body []byte, sig Signal) error {
	s := jsonScan{b: body}
	for more := s.enter('{', '}'); more; more = s.next('}') {
		switch {
		case !jsonNameIs(s.key(), "partialSuccess"):
			s.skip()
		case !s.null():
			p.parseJSONFields(&s, sig)
		}
	}
	if !s.end() {
		return fmt.Errorf("%s at byte %d", s.fault, s.pos)
	}
	return nil
}

func (p *PartialSuccess) parseJSONFields(s *jsonScan, sig Signal) {
	for more := s.enter('{', '}'); more; more = s.next('}') {
		name, value := s.key(), s.value()
		ok := true
		switch {
		case s.fault != "" || string(value) == "null":
		case jsonNameIs(name, rejectedNames[sig]):
			p.Rejected, ok = jsonInt(value)
		case jsonNameIs(name, "errorMessage"):
			p.Message, ok = jsonText(value)
		}
		if !ok {
			s.fail("bad value of a partial success")
		}
	}
}

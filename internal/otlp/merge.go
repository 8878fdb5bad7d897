package otlp

import (
	"fmt"
	"slices"
)

// Merge appends to dst the one request, without compression, that holds all of ps in their order, and returns
// the extended slice. All of ps are of one mergeable signal and one encoding; they are only read. Decoding the
// result gives what decoding each and appending gives: protobuf is concatenated, JSON spliced without being
// rewritten. Of JSON's members beside the records, the first of each name stays.
//
// A payload that cannot be decompressed (or, in JSON, read) is an error that names it by its index; dst is
// then as it was.
func Merge(dst []byte, ps []Payload, d *Decompressor) ([]byte, error) {
	size := 0
	for _, p := range ps {
		if p.Signal != ps[0].Signal || p.Encoding != ps[0].Encoding || !p.Signal.Mergeable() {
			panic("BUG: merge of " + p.Signal.String() + " " + p.Encoding.ContentType() + " with " +
				ps[0].Signal.String() + " " + ps[0].Encoding.ContentType())
		}
		size += p.Size
	}
	if len(ps) == 0 {
		return dst, nil
	}
	out := slices.Grow(dst, size)
	if ps[0].Encoding == JSON {
		return mergeJSON(dst, out, ps, d)
	}
	for i, p := range ps {
		var err error
		if out, err = d.Append(out, p.Body, p.Compression, p.Size); err != nil {
			return dst, fmt.Errorf("merge payload %d: %w", i, err)
		}
	}
	return out, nil
}

func mergeJSON(dst, out []byte, ps []Payload, d *Decompressor) ([]byte, error) {
	m := jsonMerge{list: jsonLevels[ps[0].Signal].children[0]}
	out = append(out, '{', '"')
	out = append(out, m.list...)
	out = append(out, `":[`...)
	start := len(out)
	var scratch []byte
	for i, p := range ps {
		body := p.Body
		var err error
		if p.Compression != None {
			if scratch, err = d.Append(scratch[:0], p.Body, p.Compression, p.Size); err != nil {
				return dst, fmt.Errorf("merge payload %d: %w", i, err)
			}
			body = scratch
		}
		if out, err = m.add(out, start, body); err != nil {
			return dst, fmt.Errorf("merge payload %d: %w", i, err)
		}
	}
	out = append(out, ']')
	out = append(out, m.others...)
	return append(out, '}'), nil
}

// jsonMerge is what a merge of JSON requests gathers beside the elements of their list.
type jsonMerge struct {
	list   string              // the name of the list
	others []byte              // the other members, each with a comma before it
	seen   map[string]struct{} // their names
}

// add appends the elements of body's list to out, whose own list begins at start.
func (m *jsonMerge) add(out []byte, start int, body []byte) ([]byte, error) {
	s := jsonScan{b: body}
	for more := s.enter('{', '}'); more; more = s.next('}') {
		name := s.key()
		if !jsonNameIs(name, m.list) {
			m.keep(name, s.value())
			continue
		}
		elements := s.elements()
		if len(elements) == 0 {
			continue
		}
		if len(out) > start {
			out = append(out, ',')
		}
		out = append(out, elements...)
	}
	if !s.end() {
		return nil, fmt.Errorf("%s at byte %d", s.fault, s.pos)
	}
	return out, nil
}

// keep notes a member beside the list, unless there was one of its name.
func (m *jsonMerge) keep(name, value []byte) {
	plain := string(appendUnescaped(nil, name))
	if _, seen := m.seen[plain]; seen {
		return
	}
	if m.seen == nil {
		m.seen = make(map[string]struct{})
	}
	m.seen[plain] = struct{}{}
	m.others = append(m.others, ',', '"')
	m.others = append(m.others, name...)
	m.others = append(m.others, '"', ':')
	m.others = append(m.others, value...)
}

// elements reads an array, or null, and is the text between its brackets; empty where there is no element.
func (s *jsonScan) elements() []byte {
	if s.null() {
		return nil
	}
	start, end := 0, 0
	for more := s.enter('[', ']'); more; more = s.next(']') {
		if end == 0 {
			s.peek()
			start = s.pos
		}
		s.skip()
		end = s.pos
	}
	return s.b[start:end]
}

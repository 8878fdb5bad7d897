package otlp

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
)

// wireLevel is one level of messages that enclose a signal's records.
type wireLevel struct {
	of    message
	child uint64 // the field that holds the children; 0: a Metric's oneof
}

// wireLevels are the levels of the signals, outermost first. A Metric's data is of one of five kinds, which
// are alike in what matters here.
var wireLevels = [SignalCount][]wireLevel{
	Traces:  {{traceRequest, 1}, {resourceSpans, 2}, {scopeSpans, 2}},
	Metrics: {{metricsRequest, 1}, {resourceMetrics, 2}, {scopeMetrics, 2}, {metric, 0}, {sum, 1}},
	Logs:    {{logsRequest, 1}, {resourceLogs, 2}, {scopeLogs, 2}},
}

// wireForm puts parts together in protobuf. A message's length stands before it but is known only once it is
// closed: the message is then moved along to make room. All tags of children are one byte (fields under 16).
type wireForm struct {
	chain []wireLevel
	limit int
	left  int // bytes of the body that are not yet in a part, about
	buf   []byte
	open  int            // levels open in buf
	start [maxLevels]int // where their messages begin in buf

	// Of the element that is gone through at each level: all its fields but the children, and their field.
	rest  [maxLevels][]byte
	field [maxLevels]uint64
}

func newWireForm(sig Signal, size, limit int) *wireForm {
	return &wireForm{chain: wireLevels[sig], limit: limit, left: size}
}

func (f *wireForm) levels() int { return len(f.chain) }

func (f *wireForm) children(level int, element []byte) iter.Seq[[]byte] {
	if f.chain[level].child == 0 {
		return f.data(level, element)
	}
	want := f.chain[level].child
	f.field[level] = want
	f.rest[level] = f.rest[level][:0]
	for r := (wireReader{b: element}); r.next(); {
		if !r.is(want) {
			f.rest[level] = append(f.rest[level], r.whole...)
		}
	}
	return func(yield func([]byte) bool) {
		for r := (wireReader{b: element}); r.next(); {
			if r.is(want) && !yield(r.content) {
				return
			}
		}
	}
}

// data is the one child of a Metric: what decoding leaves of its oneof.
func (f *wireForm) data(level int, element []byte) iter.Seq[[]byte] {
	f.field[level] = 0
	f.rest[level] = f.rest[level][:0]
	var data []byte
	for r := (wireReader{b: element}); r.next(); {
		switch {
		case r.wire != wireBytes || r.num > maxField || schema[metric][r.num].is != nestedData:
			f.rest[level] = append(f.rest[level], r.whole...)
		case r.num == f.field[level]:
			data = append(data, r.content...)
		default:
			data, f.field[level] = slices.Clip(r.content), r.num
		}
	}
	return func(yield func([]byte) bool) {
		if f.field[level] != 0 {
			yield(data)
		}
	}
}

func (f *wireForm) records(level int, child []byte) int {
	if level == len(f.chain)-1 {
		return 1
	}
	of := f.chain[level+1].of
	if f.chain[level].child == 0 {
		of = schema[metric][f.field[level]].of
	}
	n, err := scanMessage(child, of)
	if err != nil {
		panic("BUG: split of a malformed request: " + err.Error())
	}
	return n
}

func (f *wireForm) size(level, n int, fresh bool) int {
	for ; level >= 0; level-- {
		n += 1 + varintSize(n)
		switch {
		case fresh || level >= f.open:
			n += len(f.rest[level])
		case level == f.open-1:
			n += len(f.buf) - f.start[level]
		default:
			n += f.start[level+1] - f.start[level]
		}
	}
	return n
}

func (f *wireForm) add(level int, child []byte) {
	if f.buf == nil {
		f.buf = make([]byte, 0, min(f.limit, f.left))
	}
	for ; f.open <= level; f.open++ {
		f.start[f.open] = len(f.buf)
		f.buf = append(f.buf, f.rest[f.open]...)
	}
	f.buf = appendBytesField(f.buf, f.field[level], child)
	f.left -= len(child)
}

func (f *wireForm) closeTo(level int) {
	for ; f.open > level; f.open-- {
		if f.open == 1 {
			continue // the request itself: it has no head
		}
		start := f.start[f.open-1]
		n := len(f.buf) - start
		head := 1 + varintSize(n)
		f.buf = append(f.buf, make([]byte, head)...)
		copy(f.buf[start+head:], f.buf[start:start+n])
		binary.AppendUvarint(append(f.buf[:start], byte(f.field[f.open-2]<<3|wireBytes)), uint64(n))
	}
}

func (f *wireForm) take() []byte {
	f.closeTo(0)
	part := f.buf
	f.buf = nil
	return part
}

// varintSize is the length of n as a varint.
func varintSize(n int) int {
	return (bits.Len64(uint64(n)|1) + 6) / 7
}

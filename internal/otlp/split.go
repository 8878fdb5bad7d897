package otlp

import "iter"

// Part is one of the requests that a larger one was split into.
type Part struct {
	Body    []byte
	Records int
}

// Split cuts body, a request of sig in enc without compression, into requests of at most limit bytes, in order:
// between resources where it can, else between scopes, else between records (for metrics: between metrics,
// then between data points), copying what encloses them with all its other fields. Records that are over the
// limit even alone are left out and counted in tooLarge. So the parts' records and tooLarge add up to what
// Validate counts; a malformed body is Validate's error.
//
// A body within the limit is the one part itself, not a copy. Profiles are never cut. Of a Metric that holds
// its oneof more than once, what decoding leaves is kept.
func Split(sig Signal, enc Encoding, body []byte, limit int) (parts []Part, tooLarge int, err error) {
	records, err := Validate(sig, enc, body)
	switch {
	case err != nil:
		return nil, 0, err
	case len(body) <= limit:
		return []Part{{body, records}}, 0, nil
	case !sig.Mergeable():
		return nil, records, nil
	}
	s := splitter{limit: limit}
	if enc == JSON {
		s.form = newJSONForm(sig, len(body), limit)
	} else {
		s.form = newWireForm(sig, len(body), limit)
	}
	s.split(0, body)
	s.cut()
	return s.parts, s.tooLarge, nil
}

// maxLevels is how many levels of messages enclose a record: request, resource, scope, metric and its data.
const maxLevels = 5

// form is how the levels of a request lie within one another in one encoding, and how a part is put together.
// Level 0 is the request; an element of level n encloses its children, which are elements of level n+1 and on
// the last level the records.
//
// All that is given to a form was validated before.
type form interface {
	// levels is how many levels there are.
	levels() int
	// children are the elements in element, of level. While they are gone through, element is what newly
	// opened messages of that level are copies of (without the children).
	children(level int, element []byte) iter.Seq[[]byte]
	// records is how many records a child of level has.
	records(level int, child []byte) int
	// size is how long the part would be if child, of n bytes, were added to the message open at level, of
	// an empty part if fresh.
	size(level, n int, fresh bool) int
	// add adds a child to the message at level, after opening it where it is not open.
	add(level int, child []byte)
	// closeTo closes the messages of this level and below it.
	closeTo(level int)
	// take closes what is open and hands over the part.
	take() []byte
}

// splitter packs parts.
type splitter struct {
	form     form
	limit    int
	parts    []Part
	records  int // in the part under construction
	added    int // children in it
	tooLarge int
}

// split packs the children of an element of level.
func (s *splitter) split(level int, element []byte) {
	for child := range s.form.children(level, element) {
		s.place(level, child)
	}
	s.form.closeTo(level)
}

// place adds a child of level to the part under construction or to a new one, whole if it fits into any.
func (s *splitter) place(level int, child []byte) {
	switch {
	case s.form.size(level, len(child), false) <= s.limit:
	case s.form.size(level, len(child), true) <= s.limit:
		s.cut()
	case level+1 < s.form.levels():
		s.split(level+1, child)
		return
	default:
		s.tooLarge++
		return
	}
	s.form.add(level, child)
	s.records += s.form.records(level, child)
	s.added++
}

// cut ends the part under construction.
func (s *splitter) cut() {
	if s.added == 0 {
		return
	}
	s.parts = append(s.parts, Part{s.form.take(), s.records})
	s.records, s.added = 0, 0
}

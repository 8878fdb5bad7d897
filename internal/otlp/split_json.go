package otlp

import "iter"

// jsonForm puts parts together in JSON.
type jsonForm struct {
	chain  []*jsonLevel
	limit  int
	left   int // bytes of the body that are not yet in a part, about
	buf    []byte
	open   int             // levels open in buf
	filled [maxLevels]bool // which of them have a child, so that the next needs a comma

	// Of the element that is gone through at each level: its text up to the first child, with all its members
	// but the children.
	head [maxLevels][]byte
}

func newJSONForm(sig Signal, size, limit int) *jsonForm {
	f := &jsonForm{limit: limit, left: size}
	for level := jsonLevels[sig]; level != nil; level = level.below {
		f.chain = append(f.chain, level)
	}
	return f
}

func (f *jsonForm) levels() int { return len(f.chain) }

func (f *jsonForm) children(level int, element []byte) iter.Seq[[]byte] {
	this := f.chain[level]
	head := append(f.head[level][:0], '{')
	var values [maxChildren][]byte
	s := jsonScan{b: element}
	for more := s.enter('{', '}'); more; more = s.next('}') {
		name := s.key()
		value := s.value()
		if i := this.child(name); i >= 0 {
			values[i] = value
			continue
		}
		head = appendMember(head, name, value)
	}
	f.head[level] = head
	return func(yield func([]byte) bool) {
		for i, value := range values[:len(this.children)] {
			if value == nil || value[0] == 'n' {
				continue
			}
			f.closeTo(level) // a Metric with two kinds of data becomes two
			f.head[level] = appendName(head, this.children[i])
			if this.objects {
				if !yield(value) {
					return
				}
				continue
			}
			f.head[level] = append(f.head[level], '[')
			s := jsonScan{b: value}
			for more := s.enter('[', ']'); more; more = s.next(']') {
				if !yield(s.value()) {
					return
				}
			}
		}
	}
}

func (f *jsonForm) records(level int, child []byte) int {
	if level == len(f.chain)-1 {
		return 1
	}
	n, err := countJSON(child, f.chain[level+1])
	if err != nil {
		panic("BUG: split of a malformed request: " + err.Error())
	}
	return n
}

func (f *jsonForm) size(level, n int, fresh bool) int {
	open := f.open
	if fresh {
		open = 0
	} else {
		n += len(f.buf)
	}
	if open > 0 && f.filled[open-1] {
		n++
	}
	for l := range level + 1 {
		n += len(f.tail(l))
		if l >= open {
			n += len(f.head[l])
		}
	}
	return n
}

func (f *jsonForm) add(level int, child []byte) {
	if f.buf == nil {
		f.buf = make([]byte, 0, min(f.limit, f.left))
	}
	if f.open > 0 && f.filled[f.open-1] {
		f.buf = append(f.buf, ',')
	}
	for ; f.open <= level; f.open++ {
		f.buf = append(f.buf, f.head[f.open]...)
		f.filled[f.open] = true
	}
	f.filled[level] = true
	f.buf = append(f.buf, child...)
	f.left -= len(child)
}

func (f *jsonForm) closeTo(level int) {
	for ; f.open > level; f.open-- {
		f.buf = append(f.buf, f.tail(f.open-1)...)
	}
}

func (f *jsonForm) take() []byte {
	f.closeTo(0)
	part := f.buf
	f.buf = nil
	return part
}

// tail is what closes an element of level.
func (f *jsonForm) tail(level int) string {
	if f.chain[level].objects {
		return "}"
	}
	return "]}"
}

// appendMember appends a member to an object's text, with a comma unless it is the first.
func appendMember(dst, name, value []byte) []byte {
	return append(appendName(dst, name), value...)
}

// appendName appends a member's (escaped) name and colon to an object's text.
func appendName[S string | []byte](dst []byte, name S) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

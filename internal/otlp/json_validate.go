package otlp

import "fmt"

// jsonLevel is one level of a request's JSON: an object of which some members lead to the records.
type jsonLevel struct {
	children []string   // the names of these members
	objects  bool       // they are objects, not arrays of objects
	below    *jsonLevel // what they are; nil: records
}

// maxChildren is how many children a level has at most: a Metric's kinds of data.
const maxChildren = 5

// jsonLevels are the signals' top levels (OTLP specification, "JSON Protobuf Encoding": names in
// lowerCamelCase only, all others are ignored).
var jsonLevels = [SignalCount]*jsonLevel{
	{children: []string{"resourceSpans"}, below: &jsonLevel{
		children: []string{"scopeSpans"}, below: &jsonLevel{
			children: []string{"spans"},
		}}},
	{children: []string{"resourceMetrics"}, below: &jsonLevel{
		children: []string{"scopeMetrics"}, below: &jsonLevel{
			children: []string{"metrics"}, below: &jsonLevel{
				children: []string{"gauge", "sum", "histogram", "exponentialHistogram", "summary"},
				objects:  true, below: &jsonLevel{
					children: []string{"dataPoints"},
				}}}}},
	{children: []string{"resourceLogs"}, below: &jsonLevel{
		children: []string{"scopeLogs"}, below: &jsonLevel{
			children: []string{"logRecords"},
		}}},
	{children: []string{"resourceProfiles"}, below: &jsonLevel{
		children: []string{"scopeProfiles"}, below: &jsonLevel{
			children: []string{"profiles"},
		}}},
}

// jsonPath is a scan that knows where it met a fault.
type jsonPath struct {
	jsonScan
	path []string // of the members around it, innermost first; filled in only once a fault is found
}

// jsonCount is a scan that counts records.
type jsonCount struct {
	jsonPath
	records int
}

// countJSON checks that b is JSON with the shape of a request from level on, and counts its records.
func countJSON(b []byte, level *jsonLevel) (records int, err error) {
	s := jsonCount{jsonPath: jsonPath{jsonScan: jsonScan{b: b}}}
	s.object(level)
	if !s.end() {
		return 0, s.err()
	}
	return s.records, nil
}

// object reads an object at level. A member that leads to records may appear once: decoders disagree about
// what a second one means.
func (s *jsonCount) object(level *jsonLevel) {
	seen := 0
	for more := s.enter('{', '}'); more; more = s.next('}') {
		i := level.child(s.key())
		if i < 0 {
			s.skip()
			continue
		}
		if seen&(1<<i) != 0 {
			s.fail("second member of this name")
		}
		seen |= 1 << i
		if !s.null() {
			s.child(level)
		}
		if s.fault != "" {
			s.path = append(s.path, level.children[i])
		}
	}
}

// child reads what a member of level holds that leads to records.
func (s *jsonCount) child(level *jsonLevel) {
	if level.objects {
		s.object(level.below)
		return
	}
	for more := s.enter('[', ']'); more; more = s.next(']') {
		switch {
		case level.below != nil:
			s.object(level.below)
		case s.peek() == '{':
			s.skip()
			s.records++
		default:
			s.fail(expected('{'))
		}
	}
}

// err says what is wrong, where and in which member.
func (s *jsonPath) err() error {
	if s.pos >= len(s.b) {
		s.fault = "unexpected end"
	}
	path := ""
	for _, name := range s.path {
		path = "." + name + path
	}
	if path == "" {
		path = ".request"
	}
	return fmt.Errorf("%s: %s at byte %d", path[1:], s.fault, s.pos)
}

// child is the index of the child that a member of this (escaped) name is, -1 for any other member.
func (l *jsonLevel) child(name []byte) int {
	for i, c := range l.children {
		if jsonNameIs(name, c) {
			return i
		}
	}
	return -1
}

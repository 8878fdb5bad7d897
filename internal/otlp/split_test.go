package otlp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// item is a record, or an element without any, with what encloses it, outermost first. The last is itself.
type item struct {
	path     []string
	isRecord bool
	alone    int // the size of a request that holds nothing else
}

func (i item) String() string { return strings.Join(i.path, "\n") }

// itemsOf flattens a decoded request.
func itemsOf(t *testing.T, m protoreflect.Message) []item {
	t.Helper()
	child := childField(m)
	whole := proto.Clone(m.Interface()).ProtoReflect()
	if child != nil {
		whole.Clear(child)
	}
	rest, err := proto.MarshalOptions{Deterministic: true}.Marshal(whole.Interface())
	if err != nil {
		t.Fatal(err)
	}
	if child == nil {
		return []item{{path: []string{string(rest)}, isRecord: isRecord(m), alone: len(rest)}}
	}
	var below []protoreflect.Message
	switch {
	case !m.Has(child):
		return []item{{path: []string{string(rest)}, alone: len(rest)}}
	case child.IsList():
		for i := range m.Get(child).List().Len() {
			below = append(below, m.Get(child).List().Get(i).Message())
		}
	default:
		below = append(below, m.Get(child).Message())
	}
	var items []item
	for _, b := range below {
		for _, i := range itemsOf(t, b) {
			i.path = append([]string{string(rest)}, i.path...)
			i.alone = len(rest) + protowire.SizeTag(child.Number()) + protowire.SizeBytes(i.alone)
			items = append(items, i)
		}
	}
	return items
}

// childField is the field of an enclosing message that leads to the records; nil for any other message.
func childField(m protoreflect.Message) protoreflect.FieldDescriptor {
	if m.Descriptor().Name() == "Metric" {
		data := m.Descriptor().Oneofs().ByName("data")
		if f := m.WhichOneof(data); f != nil {
			return f
		}
		return data.Fields().Get(0)
	}
	if isRecord(m) {
		return nil
	}
	for _, name := range []protoreflect.Name{"resource_spans", "resource_metrics", "resource_logs", "scope_spans",
		"scope_metrics", "scope_logs", "spans", "metrics", "log_records", "data_points"} {
		if f := m.Descriptor().Fields().ByName(name); f != nil {
			return f
		}
	}
	return nil
}

func isRecord(m protoreflect.Message) bool {
	switch m.Descriptor().Name() {
	case "Span", "LogRecord", "NumberDataPoint", "HistogramDataPoint", "ExponentialHistogramDataPoint", "SummaryDataPoint":
		return true
	}
	return false
}

// itemsOfJSON flattens a generically decoded request.
func itemsOfJSON(t *testing.T, v any, path [][]string) []item {
	t.Helper()
	object := maps.Clone(v.(map[string]any))
	whole := mustJSON(t, object)
	if len(path) == 0 {
		return []item{{path: []string{whole}, isRecord: true, alone: len(whole)}}
	}
	var name string
	var below []any
	for _, n := range path[0] {
		child, ok := object[n]
		delete(object, n)
		if !ok || child == nil {
			continue
		}
		name = n
		if below, ok = child.([]any); !ok {
			below = []any{child}
		}
	}
	rest := mustJSON(t, object)
	if len(below) == 0 {
		return []item{{path: []string{rest}, alone: len(whole)}}
	}
	var items []item
	for _, b := range below {
		for _, i := range itemsOfJSON(t, b, path[1:]) {
			i.path = append([]string{name + rest}, i.path...)
			i.alone += len(rest) + len(name) + len(`"":[]`)
			if rest != "{}" {
				i.alone++ // a comma
			}
			if len(path[0]) > 1 {
				i.alone -= len("[]")
			}
			items = append(items, i)
		}
	}
	return items
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// checkSplit splits body and holds the parts against it. Exact is for a body in the shortest form.
func checkSplit(t *testing.T, sig Signal, enc Encoding, body []byte, limit int, exact bool) {
	t.Helper()
	total, err := Validate(sig, enc, body)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(body)
	parts, tooLarge, err := Split(sig, enc, body, limit)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body, before) {
		t.Fatal("Split changed the body")
	}
	flatten := func(body []byte) []item {
		if enc == Protobuf {
			return itemsOf(t, mustDecode(t, sig, body).ProtoReflect())
		}
		v, err := decodeJSON(body)
		if err != nil {
			t.Fatal(err)
		}
		return itemsOfJSON(t, v, jsonPaths[sig])
	}
	sum := tooLarge
	var got []string
	for i, p := range parts {
		if len(p.Body) > limit {
			t.Fatalf("part %d has %d bytes, limit %d", i, len(p.Body), limit)
		}
		n, err := Validate(sig, enc, p.Body)
		if err != nil || n != p.Records {
			t.Fatalf("part %d says %d records and has %d, %v", i, p.Records, n, err)
		}
		sum += n
		for _, item := range flatten(p.Body) {
			got = append(got, item.String())
		}
	}
	if sum != total {
		t.Fatalf("parts and too large are %d records, want %d", sum, total)
	}
	var want []string
	for _, i := range flatten(body) {
		if len(body) <= limit || i.alone <= limit {
			want = append(want, i.String())
		}
	}
	if exact && !slices.Equal(got, want) {
		t.Fatalf("parts at limit %d of %d hold %d items, want %d", limit, len(body), len(got), len(want))
	}
	if !exact && !isSubsequence(got, flatten(body)) {
		t.Fatal("parts hold what the body does not, or in another order")
	}
}

func isSubsequence(got []string, all []item) bool {
	for _, i := range all {
		if len(got) > 0 && got[0] == i.String() {
			got = got[1:]
		}
	}
	return len(got) == 0
}

func TestSplitRandom(t *testing.T) {
	for seed := range uint64(10) {
		r := newRand(seed)
		for _, sig := range []Signal{Traces, Metrics, Logs} {
			for enc, body := range map[Encoding][]byte{
				Protobuf: randomRequest(t, r, sig, 3),
				JSON:     randomJSON(t, r, sig, 3),
			} {
				for _, limit := range []int{len(body) + 1, len(body), len(body) - 1, len(body) / 2, len(body) / 10, r.IntN(len(body) + 1), 0} {
					checkSplit(t, sig, enc, body, limit, true)
				}
			}
		}
	}
}

func TestSplitRealRequests(t *testing.T) {
	for _, p := range append(plainRequests(t, Protobuf), plainRequests(t, JSON)...) {
		for limit := 0; limit <= len(p.Body)+8; limit += 1 + len(p.Body)/40 {
			checkSplit(t, p.Signal, p.Encoding, p.Body, limit, false)
		}
	}
}

func TestSplitWithinLimit(t *testing.T) {
	body := randomRequest(t, newRand(1), Logs, 3)
	parts, _, err := Split(Logs, Protobuf, body, len(body))
	if err != nil || len(parts) != 1 || &parts[0].Body[0] != &body[0] {
		t.Errorf("%d parts, %v; want the body itself", len(parts), err)
	}
}

func TestSplitProfiles(t *testing.T) {
	body := within(append(lengthField(2, nil), lengthField(2, nil)...), 1, 2)
	if parts, tooLarge, err := Split(Profiles, Protobuf, body, len(body)); len(parts) != 1 || parts[0].Records != 2 || tooLarge != 0 || err != nil {
		t.Errorf("within the limit: %v, %d, %v", parts, tooLarge, err)
	}
	if parts, tooLarge, err := Split(Profiles, Protobuf, body, len(body)-1); len(parts) != 0 || tooLarge != 2 || err != nil {
		t.Errorf("over the limit: %v, %d, %v; want 2 too large", parts, tooLarge, err)
	}
}

func TestSplitMalformed(t *testing.T) {
	for enc, body := range map[Encoding]string{Protobuf: "\x0a\x05", JSON: `{"resourceSpans":[`} {
		if parts, tooLarge, err := Split(Traces, enc, []byte(body), 1); err == nil || parts != nil || tooLarge != 0 {
			t.Errorf("%v, %d, %v; want an error", parts, tooLarge, err)
		}
	}
}

// TestSplitWherePossible holds the order in which cuts are looked for: resources first.
func TestSplitWherePossible(t *testing.T) {
	span := func(n int) string { return fmt.Sprintf(`{"n":"%s"}`, strings.Repeat("x", n)) }
	resource := func(spans ...string) string {
		return `{"scopeSpans":[{"spans":[` + strings.Join(spans, ",") + `]}]}`
	}
	request := func(resources ...string) string {
		return `{"resourceSpans":[` + strings.Join(resources, ",") + `]}`
	}
	tests := []struct {
		name     string
		body     string
		limit    int
		want     []string
		tooLarge int
	}{
		{"between resources", request(resource(span(30), span(30)), resource(span(20))), 140,
			[]string{request(resource(span(30), span(30))), request(resource(span(20)))}, 0},
		{"a resource that fits nowhere fills up the part before", request(resource(span(1)), resource(span(1), span(90))), 150,
			[]string{request(resource(span(1)), resource(span(1))), request(resource(span(90)))}, 0},
		{"one over the limit", request(resource(span(1), span(150), span(2))), 140, []string{request(resource(span(1), span(2)))}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts, tooLarge, err := Split(Traces, JSON, []byte(tt.body), tt.limit)
			if err != nil || tooLarge != tt.tooLarge {
				t.Fatalf("%d too large, %v; want %d", tooLarge, err, tt.tooLarge)
			}
			var got []string
			for _, p := range parts {
				got = append(got, string(p.Body))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestSplitOddMetrics splits a Metric whose oneof appears again and again.
func TestSplitOddMetrics(t *testing.T) {
	points := func(of protowire.Number, n int) []byte {
		var all []byte
		for i := range n {
			all = append(all, lengthField(1, lengthField(7, lengthField(1, bytes.Repeat([]byte{byte('a' + i)}, 50))))...)
		}
		return lengthField(of, all)
	}
	metric := slices.Concat(points(7, 2), lengthField(1, []byte("name")), points(5, 3), lengthField(3, []byte("unit")), points(5, 2))
	body := within(metric, 1, 2, 2)
	for limit := range len(body) + 1 {
		checkSplit(t, Metrics, Protobuf, body, limit, false)
	}
	if _, tooLarge, _ := Split(Metrics, Protobuf, body, len(body)/2); tooLarge != 0 {
		t.Errorf("%d too large, want none", tooLarge)
	}
}

func FuzzSplitProtobuf(f *testing.F) {
	for _, p := range plainRequests(f, Protobuf) {
		f.Add(uint8(p.Signal), p.Body, uint16(len(p.Body)/2))
	}
	f.Add(uint8(Metrics), randomRequest(f, newRand(3), Metrics, 3), uint16(700))
	f.Fuzz(func(t *testing.T, s uint8, body []byte, limit uint16) {
		sig := Signal(s % (SignalCount - 1))
		if _, err := Validate(sig, Protobuf, body); err != nil {
			return
		}
		checkSplit(t, sig, Protobuf, body, int(limit), false)
	})
}

func FuzzSplitJSON(f *testing.F) {
	for _, p := range plainRequests(f, JSON) {
		f.Add(uint8(p.Signal), p.Body, uint16(len(p.Body)/2))
	}
	f.Add(uint8(Metrics), randomJSON(f, newRand(3), Metrics, 3), uint16(700))
	f.Fuzz(func(t *testing.T, s uint8, body []byte, limit uint16) {
		sig := Signal(s % (SignalCount - 1))
		if _, err := Validate(sig, JSON, body); err != nil {
			return
		}
		if bytes.Count(body, []byte(`\u`)) > 0 || hasTwoKinds(t, sig, body) {
			return // names that encoding/json takes for equal; what JSON decoders disagree about
		}
		checkSplit(t, sig, JSON, body, int(limit), false)
	})
}

// hasTwoKinds says whether a Metric in body has data of more than one kind.
func hasTwoKinds(t *testing.T, sig Signal, body []byte) bool {
	t.Helper()
	if sig != Metrics {
		return false
	}
	n := 0
	for _, kind := range jsonPaths[Metrics][3] {
		n += bytes.Count(body, []byte(`"`+kind+`"`))
	}
	return n > 1
}

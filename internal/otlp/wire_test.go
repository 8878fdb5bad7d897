package otlp

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestSchema holds the tables against the official descriptors, field by field.
func TestSchema(t *testing.T) {
	seen := make(map[message]string)
	for _, sig := range allSignals {
		checkSchema(t, seen, requests[sig], newRequest(sig).ProtoReflect().Descriptor())
	}
	for m := range messageCount {
		if seen[m] == "" {
			t.Errorf("message %d is used nowhere", m)
		}
	}
}

func checkSchema(t *testing.T, seen map[message]string, m message, d protoreflect.MessageDescriptor) {
	name := strings.Replace(string(d.FullName()), ".slim.", ".", 1) // the profiles' own copies of the common types
	if was := seen[m]; was != "" {
		if was != name {
			t.Errorf("message %d is both %s and %s", m, was, name)
		}
		return
	}
	seen[m] = name
	for num, f := range schema[m] {
		fd := d.Fields().ByNumber(protoreflect.FieldNumber(num))
		if want := kindOf(fd); f.is != want {
			t.Errorf("%s field %d is %d, want %d", d.FullName(), num, f.is, want)
			continue
		}
		name := ""
		if f.is >= nested {
			name = string(fd.Name())
			checkSchema(t, seen, f.of, fd.Message())
		}
		if fieldNames[m][num] != name {
			t.Errorf("%s field %d is named %q, want %q", d.FullName(), num, fieldNames[m][num], name)
		}
	}
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); fd.Number() > maxField {
			t.Errorf("%s is field %d, over maxField", fd.FullName(), fd.Number())
		}
	}
}

// kindOf is the kind that a field should have; fd is nil for a number that is not in use.
func kindOf(fd protoreflect.FieldDescriptor) kind {
	if fd == nil {
		return opaque
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return text
	case protoreflect.BytesKind:
		return opaque
	case protoreflect.MessageKind:
		switch name := string(fd.Message().Name()); {
		case name == "Metric":
			return nestedMetric
		case fd.ContainingOneof() != nil && fd.ContainingOneof().Name() == "data":
			return nestedData
		case name == "Span", name == "LogRecord", name == "Profile", fd.Name() == "data_points":
			return nestedRecord
		}
		return nested
	case protoreflect.Fixed64Kind, protoreflect.DoubleKind, protoreflect.Sfixed64Kind:
		if fd.IsPacked() {
			return packedFixed64
		}
	default:
		if fd.IsPacked() {
			return packedVarint
		}
	}
	return opaque
}

// lengthField builds a length-delimited field.
func lengthField(num protowire.Number, content ...[]byte) []byte {
	var all []byte
	for _, c := range content {
		all = append(all, c...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), all)
}

// within wraps content into fields, the last being the innermost.
func within(content []byte, nums ...protowire.Number) []byte {
	for i := len(nums) - 1; i >= 0; i-- {
		content = lengthField(nums[i], content)
	}
	return content
}

func TestValidateProtobuf(t *testing.T) {
	points := func(n int) []byte { return []byte(strings.Repeat("\x0a\x00", n)) }
	deep := func(levels int) []byte { // levels in all: the request, four down to the value, two for each array
		b := lengthField(1, nil)
		for range (levels - 6) / 2 {
			b = within(b, 5, 1)
		}
		return within(b, 1, 2, 2, 9, 2)
	}
	tests := []struct {
		name string
		sig  Signal
		body []byte
		want int
		err  string // "" where it is valid
	}{
		{"empty", Traces, nil, 0, ""},
		{"unknown fields", Logs, []byte("\x98\x3e\x01\x39abcdefgh\x3dabcd\x3a\x00"), 0, ""},
		{"unknown group", Logs, []byte("\x3b\x08\x01\x43\x44\x3c"), 0, ""},
		{"long tag", Traces, []byte("\x8a\x80\x00\x00"), 0, ""},
		{"scalar for a message", Traces, []byte("\x08\x01"), 0, ""},
		{"message for a scalar", Traces, within([]byte("\xff\xff"), 1, 2, 2, 7), 1, ""},
		{"unpacked numbers", Metrics, within([]byte("\x10\x05"), 1, 2, 2, 10, 1, 8), 1, ""},
		{"packed numbers", Metrics, within([]byte("\x05\x80\x01"), 1, 2, 2, 10, 1, 8, 2), 1, ""},
		{"bytes need no UTF-8", Traces, within([]byte("\xff"), 1, 2, 2, 1), 1, ""},
		{"two kinds of data: the last stays", Metrics,
			within(append(lengthField(5, points(2)), lengthField(7, points(3))...), 1, 2, 2), 3, ""},
		{"the same kind twice: merged", Metrics,
			within(append(lengthField(5, points(2)), lengthField(5, points(3))...), 1, 2, 2), 5, ""},
		{"back to the first kind", Metrics,
			within(append(append(lengthField(5, points(2)), lengthField(7, points(3))...), lengthField(5, points(1))...), 1, 2, 2), 1, ""},
		{"as deep as can be", Traces, deep(maxDepth), 1, ""},

		{"too deep", Traces, deep(maxDepth + 2), 0, "too deeply nested field"},
		{"field 0", Traces, []byte("\x02\x00"), 0, "request: bad number of field 0 at byte 0"},
		{"field over the range", Traces, []byte("\x80\x80\x80\x80\x10\x00"), 0, "bad number of"},
		{"tag cut", Traces, []byte("\x80"), 0, "bad number of"},
		{"reserved wire type", Traces, []byte("\x0e"), 0, "bad wire type of field 1"},
		{"end of no group", Traces, []byte("\x0c"), 0, "unmatched group in field 1"},
		{"group without end", Traces, []byte("\x3b\x08\x01"), 0, "unmatched group in field 7"},
		{"group ended by another", Traces, []byte("\x3b\x44"), 0, "unmatched group in field 7"},
		{"varint of 65 bits", Traces, []byte("\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), 0, "bad varint in field 7"},
		{"fixed64 cut", Traces, within([]byte("\x08\x01\x39abcdefg"), 1, 2, 2), 0,
			"resource_spans.scope_spans.spans: truncated field 7 at byte 8"},
		{"fixed32 cut", Traces, []byte("\x3dabc"), 0, "truncated field 7"},
		{"length past the message", Traces, append(within([]byte("\x12\x05abc"), 1), "\x0a\x00"...), 0,
			"resource_spans: truncated field 2 at byte 2"},
		{"length past 64 bits", Traces, []byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), 0, "truncated field 1"},
		{"packed varint cut", Metrics, within([]byte("\x05\x80"), 1, 2, 2, 10, 1, 8, 2), 0, "positive: truncated number in field 2"},
		{"packed fixed64 cut", Metrics, within([]byte("1234567"), 1, 2, 2, 9, 1, 6), 0, "truncated number in field 6"},
		{"no UTF-8", Logs, within([]byte("ab\xff"), 1, 2, 2, 6, 1), 0,
			"resource_logs.scope_logs.log_records.attributes: invalid UTF-8 in field 1"},
		{"no UTF-8 in the middle", Logs, within([]byte("abcdefghijk\xc3lmnopqrs"), 1, 3), 0, "resource_logs: invalid UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Validate(tt.sig, Protobuf, tt.body)
			if got != tt.want {
				t.Errorf("records = %d, want %d", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("err = %v, want %q", err, tt.err)
			}
			checkAgainstOfficial(t, tt.sig, tt.body)
		})
	}
}

// checkAgainstOfficial says whether Validate and the official types agree on body.
func checkAgainstOfficial(t *testing.T, sig Signal, body []byte) {
	t.Helper()
	got, err := Validate(sig, Protobuf, body)
	m, officialErr := decode(sig, body)
	if err != nil && strings.Contains(err.Error(), faultDepth) {
		return // Go's protobuf has another limit for groups
	}
	if (err == nil) != (officialErr == nil) {
		t.Fatalf("Validate: %v, official: %v", err, officialErr)
	}
	if err == nil && got != recordsOf(m) {
		t.Fatalf("Validate counts %d records, official %d", got, recordsOf(m))
	}
}

func TestValidateRandomProtobuf(t *testing.T) {
	for seed := range uint64(40) {
		r := newRand(seed)
		for _, sig := range allSignals {
			body := randomRequest(t, r, sig, 3)
			checkAgainstOfficial(t, sig, body)
			if len(body) == 0 {
				continue
			}
			checkAgainstOfficial(t, sig, body[:r.IntN(len(body))])
			for range 10 {
				body[r.IntN(len(body))] ^= 1 << r.IntN(8)
				checkAgainstOfficial(t, sig, body)
			}
		}
	}
}

func TestValidateAllocatesNothing(t *testing.T) {
	for _, p := range realRequests(t) {
		if p.Compression != None {
			continue
		}
		if n := testing.AllocsPerRun(10, func() { Validate(p.Signal, p.Encoding, p.Body) }); n != 0 {
			t.Errorf("%s: %v allocations", p.name, n)
		}
	}
}

func FuzzValidateProtobuf(f *testing.F) {
	for _, p := range plainRequests(f, Protobuf) {
		f.Add(uint8(p.Signal), p.Body)
	}
	for _, sig := range allSignals {
		f.Add(uint8(sig), randomRequest(f, newRand(1), sig, 2))
	}
	f.Add(uint8(Metrics), within([]byte("\x2a\x02\x0a\x00\x3a\x02\x0a\x00"), 1, 2, 2))
	f.Fuzz(func(t *testing.T, sig uint8, body []byte) {
		checkAgainstOfficial(t, Signal(sig%SignalCount), body)
	})
}

// TestConcatenation is the fact that merging rests on: requests in a row decode as their merge.
func TestConcatenation(t *testing.T) {
	for seed := range uint64(50) {
		r := newRand(seed)
		for _, sig := range []Signal{Traces, Metrics, Logs} {
			a, b := randomRequest(t, r, sig, 2), randomRequest(t, r, sig, 2)
			want := mustDecode(t, sig, a)
			proto.Merge(want, mustDecode(t, sig, b))
			if got := mustDecode(t, sig, append(a, b...)); !proto.Equal(got, want) {
				t.Fatalf("seed %d: %s differ", seed, sig)
			}
		}
	}
}

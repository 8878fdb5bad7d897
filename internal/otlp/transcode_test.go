package otlp

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestJSONFields holds the table against the official descriptors: names, numbers and kinds, all fields.
func TestJSONFields(t *testing.T) {
	seen := map[message]bool{}
	var check func(m message, d protoreflect.MessageDescriptor)
	check = func(m message, d protoreflect.MessageDescriptor) {
		if seen[m] {
			return
		}
		seen[m] = true
		if got, want := len(jsonFields[m]), d.Fields().Len(); got != want {
			t.Errorf("%s has %d fields, want %d", d.FullName(), got, want)
		}
		for _, f := range jsonFields[m] {
			fd := d.Fields().ByNumber(protoreflect.FieldNumber(f.num))
			if fd == nil || fd.JSONName() != f.name || fd.IsList() != f.list || jsonKindOf(fd) != f.as {
				t.Errorf("%s: the row %+v is not of %v", d.FullName(), f, fd)
				continue
			}
			if f.as == jsonMessage {
				check(schema[m][f.num].of, fd.Message())
			}
		}
	}
	for _, sig := range allSignals {
		check(requests[sig], newRequest(sig).ProtoReflect().Descriptor())
	}
}

func jsonKindOf(fd protoreflect.FieldDescriptor) jsonKind {
	if fd.FullName() == "opentelemetry.proto.common.v1.AnyValue.int_value" || fd.FullName() == "opentelemetry.proto.slim.common.v1.AnyValue.int_value" {
		return jsonAnyInt
	}
	if isID(fd) {
		return jsonHex
	}
	return map[protoreflect.Kind]jsonKind{
		protoreflect.MessageKind: jsonMessage, protoreflect.BoolKind: jsonBool, protoreflect.EnumKind: jsonInt32,
		protoreflect.Int32Kind: jsonInt32, protoreflect.Int64Kind: jsonInt64, protoreflect.Uint32Kind: jsonUint32,
		protoreflect.Uint64Kind: jsonUint64, protoreflect.Sint32Kind: jsonSint32, protoreflect.Fixed32Kind: jsonFixed32,
		protoreflect.Fixed64Kind: jsonFixed64, protoreflect.Sfixed64Kind: jsonSfixed64, protoreflect.DoubleKind: jsonFloat,
		protoreflect.StringKind: jsonString, protoreflect.BytesKind: jsonBase64,
	}[fd.Kind()]
}

// isID says whether OTLP's JSON has the field in hexadecimal digits.
func isID(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.BytesKind && strings.HasSuffix(string(fd.Name()), "_id")
}

// toProtoJSON turns OTLP's JSON, decoded into v, into what protojson reads: ids in base64, and no member that
// protojson knows by another name. ok is false where an id has no such form.
func toProtoJSON(v any, d protoreflect.MessageDescriptor) (ok bool) {
	object, isObject := v.(map[string]any)
	if !isObject {
		return true
	}
	ok = true
	for name, value := range object {
		fd := d.Fields().ByJSONName(name)
		switch {
		case fd == nil:
			delete(object, name)
		case isID(fd):
			text, isText := value.(string)
			id, err := hex.DecodeString(text)
			if object[name] = base64.StdEncoding.EncodeToString(id); value == nil {
				delete(object, name)
			} else if !isText || err != nil {
				ok = false
			}
		case fd.Message() != nil && fd.IsList():
			elements, _ := value.([]any)
			for i, e := range elements {
				if e == nil {
					elements[i] = map[string]any{} // keeps its place
				}
				ok = toProtoJSON(elements[i], fd.Message()) && ok
			}
		case fd.Message() != nil:
			ok = toProtoJSON(value, fd.Message()) && ok
		}
	}
	return ok
}

var errNoID = errors.New("an id is not in hexadecimal digits")

// decodeOfficially is what the official types make of a request in OTLP's JSON.
func decodeOfficially(sig Signal, body []byte) (proto.Message, error) {
	v, err := decodeJSON(body)
	if err != nil {
		return nil, err
	}
	m := newRequest(sig)
	if !toProtoJSON(v, m.ProtoReflect().Descriptor()) {
		return nil, errNoID
	}
	if body, err = json.Marshal(v); err != nil {
		return nil, err
	}
	return m, protojson.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(body, m)
}

// toOTLPJSON is the other way: protojson's form of m with its ids in hexadecimal digits, numbers for enums.
func toOTLPJSON(t testing.TB, m proto.Message) []byte {
	t.Helper()
	body, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	v, err := decodeJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	var ids func(v any, d protoreflect.MessageDescriptor)
	ids = func(v any, d protoreflect.MessageDescriptor) {
		for name, value := range v.(map[string]any) {
			fd := d.Fields().ByJSONName(name)
			switch {
			case isID(fd):
				id, err := base64.StdEncoding.DecodeString(value.(string))
				if err != nil {
					t.Fatal(err)
				}
				v.(map[string]any)[name] = hex.EncodeToString(id)
			case fd.Message() != nil && fd.IsList():
				for _, e := range value.([]any) {
					ids(e, fd.Message())
				}
			case fd.Message() != nil:
				ids(value, fd.Message())
			}
		}
	}
	ids(v, m.ProtoReflect().Descriptor())
	if body, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	return body
}

// TestTranscodeKeepsEverything writes random requests, with every field there is, as OTLP's JSON and back.
func TestTranscodeKeepsEverything(t *testing.T) {
	for seed := range uint64(60) {
		for _, sig := range allSignals {
			m := mustDecode(t, sig, randomRequest(t, newRand(seed), sig, 3))
			walk(m.ProtoReflect(), func(m protoreflect.Message) { m.SetUnknown(nil) })
			got, err := AppendProtobuf([]byte("before"), sig, toOTLPJSON(t, m))
			if err != nil {
				t.Fatalf("seed %d: %s: %v", seed, sig, err)
			}
			if string(got[:6]) != "before" || !proto.Equal(mustDecode(t, sig, got[6:]), m) {
				t.Fatalf("seed %d: %s came out changed", seed, sig)
			}
		}
	}
}

func TestTranscodeRealRequests(t *testing.T) {
	for _, p := range plainRequests(t, JSON) {
		checkTranscode(t, p.Signal, p.Body)
	}
}

// checkTranscode transcodes a request that the receiver lets in: what comes out is a request of as many records, and
// the one that the official types read.
func checkTranscode(t *testing.T, sig Signal, body []byte) {
	t.Helper()
	records, err := Validate(sig, JSON, body)
	if err != nil {
		return
	}
	got, err := AppendProtobuf(nil, sig, body)
	want, officialErr := decodeOfficially(sig, body)
	if err != nil {
		if officialErr == nil && !duplicateMembers(body) {
			t.Fatalf("refused: %v: %q", err, body)
		}
		return
	}
	if n, err := Validate(sig, Protobuf, got); err != nil || n > records {
		t.Fatalf("made %d records of %d, %v: %q", n, records, err, body)
	}
	if officialErr == nil && !duplicateMembers(body) && !proto.Equal(mustDecode(t, sig, got), want) {
		t.Fatalf("came out changed:\n%v\nwant\n%v\nof %q", mustDecode(t, sig, got), want, body)
	}
}

// duplicateMembers says whether an object of body may hold a name twice, which decoders disagree about.
func duplicateMembers(body []byte) bool {
	dup := false
	var visit func(s *jsonScan)
	visit = func(s *jsonScan) {
		switch s.peek() {
		case '{':
			seen := map[string]bool{}
			for more := s.enter('{', '}'); more; more = s.next('}') {
				name := string(appendUnescaped(nil, s.key()))
				dup = dup || seen[name]
				seen[name] = true
				visit(s)
			}
		case '[':
			for more := s.enter('[', ']'); more; more = s.next(']') {
				visit(s)
			}
		default:
			s.skip()
		}
	}
	visit(&jsonScan{b: body})
	return dup
}

func TestTranscodeValues(t *testing.T) {
	attr := func(value string) string {
		return `{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"k","value":` + value + `}]}]}]}]}`
	}
	span := func(members string) string {
		return `{"resourceSpans":[{"scopeSpans":[{"spans":[{` + members + `}]}]}]}`
	}
	for name, body := range map[string]string{
		"null is absence":             span(`"name":null,"status":null,"attributes":null,"kind":null,"flags":null`),
		"upper-case ids":              span(`"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174"`),
		"empty ids":                   span(`"traceId":"","parentSpanId":""`),
		"numbers as strings":          span(`"startTimeUnixNano":"1544712660000000000","droppedEventsCount":"3","kind":2`),
		"numbers as numbers":          span(`"startTimeUnixNano":1544712660000000000,"endTimeUnixNano":1.5e18`),
		"largest fixed64":             span(`"endTimeUnixNano":"18446744073709551615"`),
		"zeros of a oneof":            attr(`{"intValue":"0"}`),
		"false":                       attr(`{"boolValue":false}`),
		"empty string of a oneof":     attr(`{"stringValue":""}`),
		"empty value":                 attr(`{}`),
		"escapes":                     attr(`{"stringValue":"\u00e9\n\ud83d\ude00\""}`),
		"escaped names":               span(`"na\u006de":"x"`),
		"bytes, standard":             attr(`{"bytesValue":"+/8="}`),
		"bytes, for URLs, unpadded":   attr(`{"bytesValue":"-_8"}`),
		"nested lists":                attr(`{"arrayValue":{"values":[{"intValue":1},null,{"kvlistValue":{"values":[{"key":"a","value":{"doubleValue":"NaN"}}]}}]}}`),
		"unknown members":             span(`"name":"x","somethingNew":{"a":[1,{"b":null}]},"trace_id":"zz"`),
		"a long message in a message": attr(`{"stringValue":"` + strings.Repeat("x", 300) + `"}`),
		"infinities":                  attr(`{"doubleValue":"-Infinity"}`),
		"pretty":                      "{\n  \"resourceSpans\": [ {\n \"scopeSpans\": [ { \"spans\": [ { \"name\" : \"x\" } ] } ] } ]\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeOfficially(Traces, []byte(body)); err != nil {
				t.Fatalf("the official types refuse it: %v", err)
			}
			checkTranscode(t, Traces, []byte(body))
		})
	}
}

// TestTranscodeWholeDoubles: JavaScript writes whole doubles as intValue; one such value must not cost the request.
func TestTranscodeWholeDoubles(t *testing.T) {
	for value, want := range map[string]string{
		`1e+308`: `{"doubleValue":1e+308}`, `1.5`: `{"doubleValue":1.5}`, `9223372036854775808`: `{"doubleValue":9223372036854775808}`,
		`9223372036854775000`: `{"intValue":"9223372036854775000"}`, `1e3`: `{"intValue":"1000"}`, `"-7"`: `{"intValue":"-7"}`,
	} {
		body := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%}]}]}]}`
		got, err := AppendProtobuf(nil, Logs, []byte(strings.Replace(body, "%", `{"intValue":`+value+`}`, 1)))
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		official, err := decodeOfficially(Logs, []byte(strings.Replace(body, "%", want, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(mustDecode(t, Logs, got), official) {
			t.Errorf("%s became %v, want %s", value, mustDecode(t, Logs, got), want)
		}
	}
}

func TestTranscodeErrors(t *testing.T) {
	for body, want := range map[string]string{
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":"SPAN_KIND_SERVER"}]}]}]}`:          "resourceSpans.scopeSpans.spans.kind: expected a 32-bit integer at byte 51",
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}`:                    "spans.traceId: expected an id in hexadecimal digits",
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":7}]}]}]}`:                           "spans.name: expected a string",
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"flags":-1}]}]}]}`:                         "spans.flags: expected an unsigned 32-bit integer",
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"status":[]}]}]}]}`:                        "spans.status: expected an object",
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":1.5}]}]}]}`:              "spans.endTimeUnixNano: expected an unsigned 64-bit integer",
		`{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":{"boolValue":1}}]}}]}`: "resource.attributes.value.boolValue: expected true or false",
		`{"resourceSpans":[{"resource":{"attributes":[{"value":{"bytesValue":"#"}}]}}]}`:        "value.bytesValue: expected a string in base64",
		`{"resourceSpans":[{"resource":{"attributes":[{"value":{"intValue":"many"}}]}}]}`:       "value.intValue: expected a number",
		`{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":["a",1]}]}}]}`:                  "entityRefs.idKeys: expected a string",
		`{"resourceSpans":[`: "unexpected end",
		`{} {}`:              "text after the end",
	} {
		out, err := AppendProtobuf([]byte("kept"), Traces, []byte(body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
		if string(out) != "kept" {
			t.Errorf("%s: dst is %q after the error", body, out)
		}
	}
}

func FuzzTranscode(f *testing.F) {
	for _, p := range plainRequests(f, JSON) {
		f.Add(uint8(p.Signal), p.Body)
	}
	for _, sig := range allSignals {
		for seed := range uint64(4) {
			m, err := decode(sig, randomRequest(f, newRand(seed), sig, 2))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(sig), toOTLPJSON(f, m))
		}
	}
	f.Fuzz(func(t *testing.T, sig uint8, body []byte) {
		checkTranscode(t, Signal(sig%SignalCount), body)
	})
}

func BenchmarkTranscode(b *testing.B) {
	m, err := decode(Traces, randomRequest(b, newRand(1), Traces, 8))
	if err != nil {
		b.Fatal(err)
	}
	body := toOTLPJSON(b, m)
	var dst []byte
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if dst, err = AppendProtobuf(dst[:0], Traces, body); err != nil {
			b.Fatal(err)
		}
	}
}

package otlp

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	profilespb "go.opentelemetry.io/proto/slim/otlp/profiles/v1development"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var allSignals = []Signal{Traces, Metrics, Logs, Profiles}

// newRequest is an empty request of the official types. Of profiles it is ProfilesData, which has the same
// fields as the request.
func newRequest(sig Signal) proto.Message {
	switch sig {
	case Traces:
		return new(tracepb.ExportTraceServiceRequest)
	case Metrics:
		return new(metricspb.ExportMetricsServiceRequest)
	case Logs:
		return new(logspb.ExportLogsServiceRequest)
	}
	return new(profilespb.ProfilesData)
}

// decode decodes as any protobuf implementation does, up to the depth that most allow.
func decode(sig Signal, body []byte) (proto.Message, error) {
	m := newRequest(sig)
	return m, proto.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(body, m)
}

func mustDecode(t *testing.T, sig Signal, body []byte) proto.Message {
	t.Helper()
	m, err := decode(sig, body)
	if err != nil {
		t.Fatalf("decode %s: %v", sig, err)
	}
	return m
}

// recordsOf counts the records of a decoded request.
func recordsOf(m proto.Message) int {
	n := 0
	walk(m.ProtoReflect(), func(m protoreflect.Message) {
		switch m.Descriptor().Name() {
		case "Span", "LogRecord", "Profile", "NumberDataPoint", "HistogramDataPoint",
			"ExponentialHistogramDataPoint", "SummaryDataPoint":
			n++
		}
	})
	return n
}

// walk visits m and every message in it.
func walk(m protoreflect.Message, visit func(protoreflect.Message)) {
	visit(m)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				walk(v.List().Get(i).Message(), visit)
			}
		default:
			walk(v.Message(), visit)
		}
		return true
	})
}

// fill sets fields of m at random, with unknown fields among them. Lists have up to width elements; the
// outermost levels have one at least, lest there be no records.
func fill(r *rand.Rand, m protoreflect.Message, width, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		least := 0
		if depth > 9-3 {
			least = 1
		}
		switch {
		case least == 0 && r.IntN(4) == 0:
		case f.Message() != nil && depth == 0:
		case f.IsList():
			list := m.Mutable(f).List()
			for range least + r.IntN(width+1-least) {
				list.Append(randomValue(r, f, list.NewElement, width, depth))
			}
		default:
			m.Set(f, randomValue(r, f, func() protoreflect.Value { return m.NewField(f) }, width, depth))
		}
	}
	if r.IntN(8) == 0 {
		m.SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), r.Uint64()))
	}
}

func randomValue(
	r *rand.Rand, f protoreflect.FieldDescriptor, zero func() protoreflect.Value, width, depth int,
) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.MessageKind:
		v := zero()
		fill(r, v.Message(), width, depth-1)
		return v
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(strings.Repeat("é\"a", r.IntN(9)))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(bytes.Repeat([]byte{0xff}, r.IntN(20)))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(3)))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.Float64())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(r.Uint32())
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(r.Uint64())
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()))
	}
	panic("no random " + f.Kind().String())
}

// randomRequest is a request with up to width elements on each level.
func randomRequest(t testing.TB, r *rand.Rand, sig Signal, width int) []byte {
	m := newRequest(sig)
	fill(r, m.ProtoReflect(), width, 9)
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// randomJSON is a random request in JSON, in its shortest form, with members that OTLP does not know.
func randomJSON(t testing.TB, r *rand.Rand, sig Signal, width int) []byte {
	m := newRequest(sig)
	if err := proto.Unmarshal(randomRequest(t, r, sig, width), m); err != nil {
		t.Fatal(err)
	}
	body, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	v, err := decodeJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	var extend func(v any)
	extend = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, child := range v {
				extend(child)
			}
			if r.IntN(4) == 0 {
				v["unknown"] = []any{"}", json.Number("1e+308"), nil}
			}
		case []any:
			for _, child := range v {
				extend(child)
			}
		}
	}
	extend(v)
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(out.Bytes())
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// realRequest is a file of testdata: a request that a real SDK sent.
type realRequest struct {
	name string
	Payload
}

// realRequests reads the files of testdata, whose names tell what they are.
func realRequests(t testing.TB) []realRequest {
	files, err := filepath.Glob("testdata/*-http-*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no requests in testdata: %v", err)
	}
	var all []realRequest
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := realRequest{name: filepath.Base(file), Payload: Payload{Body: body, Size: len(body)}}
		for _, sig := range allSignals {
			if strings.Contains(file, "-"+sig.String()+"-") {
				p.Signal = sig
			}
		}
		if strings.Contains(file, "-http-json-") {
			p.Encoding = JSON
		}
		switch filepath.Ext(file) {
		case ".zz":
			p.Compression = Deflate
		case ".zst":
			p.Compression = Zstd
		}
		all = append(all, p)
	}
	return all
}

// plainRequests are the real requests in enc, decompressed.
func plainRequests(t testing.TB, enc Encoding) []realRequest {
	var plain []realRequest
	var d Decompressor
	for _, p := range realRequests(t) {
		if p.Encoding != enc {
			continue
		}
		body, err := d.Append(nil, p.Body, p.Compression, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		p.Body, p.Compression, p.Size = body, None, len(body)
		plain = append(plain, p)
	}
	return plain
}

// Generic JSON: what encoding/json makes of it, with the numbers as they are written.

func decodeJSON(body []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	return v, d.Decode(&v)
}

// jsonPaths are the names on the way from a signal's request to its records; of the alternatives one.
var jsonPaths = [SignalCount][][]string{
	Traces:   {{"resourceSpans"}, {"scopeSpans"}, {"spans"}},
	Metrics:  {{"resourceMetrics"}, {"scopeMetrics"}, {"metrics"}, {"gauge", "sum", "histogram", "exponentialHistogram", "summary"}, {"dataPoints"}},
	Logs:     {{"resourceLogs"}, {"scopeLogs"}, {"logRecords"}},
	Profiles: {{"resourceProfiles"}, {"scopeProfiles"}, {"profiles"}},
}

// countGeneric counts the records below v, and says whether the levels on the way have the right shape.
func countGeneric(v any, path [][]string) (n int, ok bool) {
	object, isObject := v.(map[string]any)
	if !isObject {
		return 0, false
	}
	for _, name := range path[0] {
		child := object[name]
		if child == nil {
			continue
		}
		elements, isList := child.([]any)
		if len(path[0]) > 1 {
			elements, isList = []any{child}, true
		}
		if !isList {
			return 0, false
		}
		for _, e := range elements {
			if len(path) == 1 {
				if _, isObject := e.(map[string]any); !isObject {
					return 0, false
				}
				n++
				continue
			}
			below, ok := countGeneric(e, path[1:])
			if !ok {
				return 0, false
			}
			n += below
		}
	}
	return n, true
}

// deepJSON says whether b may nest deeper than we allow, at a glance.
func deepJSON(b []byte) bool {
	return bytes.Count(b, []byte("{"))+bytes.Count(b, []byte("[")) > maxJSONDepth
}

// plausibleJSON says whether encoding/json agrees that b is JSON by our rules: its own, in UTF-8.
func plausibleJSON(b []byte) bool { return json.Valid(b) && utf8.Valid(b) }

package otlp

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/proto"
)

// payload wraps body into a Payload, compressed with c.
func payload(t testing.TB, sig Signal, enc Encoding, c Compression, body []byte) Payload {
	t.Helper()
	if c == Zstd {
		return Payload{Signal: sig, Encoding: enc, Compression: c, Body: zstdFrame(t, body), Size: len(body)}
	}
	var z Compressor
	compressed, err := z.Append(nil, body, c)
	if err != nil {
		t.Fatal(err)
	}
	return Payload{Signal: sig, Encoding: enc, Compression: c, Body: compressed, Size: len(body)}
}

func TestMergeProtobuf(t *testing.T) {
	var d Decompressor
	for seed := range uint64(60) {
		r := newRand(seed)
		for _, sig := range []Signal{Traces, Metrics, Logs} {
			want := newRequest(sig)
			var ps []Payload
			records := 0
			for range r.IntN(5) {
				body := randomRequest(t, r, sig, 2)
				proto.Merge(want, mustDecode(t, sig, body))
				ps = append(ps, payload(t, sig, Protobuf, []Compression{None, Gzip, Zstd}[r.IntN(3)], body))
				n, _ := Validate(sig, Protobuf, body)
				records += n
			}
			got, err := Merge([]byte("before"), ps, &d)
			if err != nil || !bytes.HasPrefix(got, []byte("before")) {
				t.Fatalf("Merge: %q…, %v", got[:6], err)
			}
			got = got[len("before"):]
			if n, err := Validate(sig, Protobuf, got); n != records || err != nil {
				t.Fatalf("%d records, %v; want %d", n, err, records)
			}
			if !proto.Equal(mustDecode(t, sig, got), want) {
				t.Fatalf("seed %d: merged %s decode to something else", seed, sig)
			}
		}
	}
}

func TestMergeJSON(t *testing.T) {
	tests := []struct {
		name   string
		bodies []string
		want   string
	}{
		{"one", []string{`{"resourceSpans":[{"a":1}]}`}, `{"resourceSpans":[{"a":1}]}`},
		{"two", []string{`{"resourceSpans":[{"a":1}]}`, ` { "resourceSpans" : [ {"a": 2} , {"a":3} ] } `},
			`{"resourceSpans":[{"a":1},{"a": 2} , {"a":3}]}`},
		{"no elements", []string{`{}`, `{"resourceSpans":null}`, `{"resourceSpans":[ ]}`}, `{"resourceSpans":[]}`},
		{"some without", []string{`{}`, `{"resourceSpans":[{}]}`, `{"resourceSpans":[]}`, `{"resourceSpans":[{}]}`}, `{"resourceSpans":[{},{}]}`},
		{"escaped name", []string{`{"resource\u0053pans":[1]}`}, `{"resourceSpans":[1]}`},
		{"other members", []string{`{"x":1,"resourceSpans":[],"y" : [ 2 ]}`, `{"\u0078":3,"z":"}"}`}, `{"resourceSpans":[],"x":1,"y":[ 2 ],"z":"}"}`},
		{"values stay as they are", []string{`{"resourceSpans":[{"n":1e+308,"m":9223372036854775807.0,"s":"\u00e9é","b":null}]}`},
			`{"resourceSpans":[{"n":1e+308,"m":9223372036854775807.0,"s":"\u00e9é","b":null}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []Compression{None, Gzip, Zstd} {
				var ps []Payload
				for _, body := range tt.bodies {
					ps = append(ps, payload(t, Traces, JSON, c, []byte(body)))
				}
				got, err := Merge(nil, ps, new(Decompressor))
				if err != nil || string(got) != tt.want {
					t.Errorf("%s: %s, %v; want %s", c, got, err, tt.want)
				}
			}
		})
	}
}

// TestMergeJSONForCollector has the collector read real requests alone and merged.
func TestMergeJSONForCollector(t *testing.T) {
	for _, p := range plainRequests(t, JSON) {
		ps := []Payload{p.Payload, p.Payload, p.Payload}
		merged, err := Merge(nil, ps, new(Decompressor))
		if err != nil {
			t.Fatal(err)
		}
		one, three := collectorJSON(t, p.Signal, p.Body), collectorJSON(t, p.Signal, merged)
		list := jsonLevels[p.Signal].children[0]
		want := []any{one[list].([]any)[0], one[list].([]any)[0], one[list].([]any)[0]}
		if !reflect.DeepEqual(three[list], any(want)) {
			t.Errorf("%s: the collector reads something else from the merge", p.name)
		}
	}
}

// collectorJSON is what the collector makes of body, in its own JSON.
func collectorJSON(t *testing.T, sig Signal, body []byte) map[string]any {
	t.Helper()
	var out []byte
	var err error
	switch sig {
	case Traces:
		td, readErr := new(ptrace.JSONUnmarshaler).UnmarshalTraces(body)
		err = readErr
		if err == nil {
			out, err = new(ptrace.JSONMarshaler).MarshalTraces(td)
		}
	case Metrics:
		md, readErr := new(pmetric.JSONUnmarshaler).UnmarshalMetrics(body)
		err = readErr
		if err == nil {
			out, err = new(pmetric.JSONMarshaler).MarshalMetrics(md)
		}
	case Logs:
		ld, readErr := new(plog.JSONUnmarshaler).UnmarshalLogs(body)
		err = readErr
		if err == nil {
			out, err = new(plog.JSONMarshaler).MarshalLogs(ld)
		}
	}
	if err != nil {
		t.Fatalf("collector: %v", err)
	}
	var v map[string]any
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMergeErrors(t *testing.T) {
	good := payload(t, Traces, JSON, Gzip, []byte(`{}`))
	cut := good
	cut.Body = cut.Body[:len(cut.Body)-3]
	bomb := payload(t, Traces, JSON, Gzip, bytes.Repeat([]byte("a"), 1<<20))
	bomb.Size = 10
	for _, tt := range []struct {
		name string
		bad  Payload
		err  string
	}{
		{"cut", cut, "merge payload 1: decompress gzip: unexpected EOF"},
		{"larger than it says", bomb, "merge payload 1: decompress gzip: larger than the limit"},
		{"no JSON", payload(t, Traces, JSON, None, []byte(`{"resourceSpans":[`)), "merge payload 1: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Merge([]byte("kept"), []Payload{good, tt.bad}, new(Decompressor))
			if err == nil || !strings.Contains(err.Error(), tt.err) || string(got) != "kept" {
				t.Errorf("%q, %v; want %q", got, err, tt.err)
			}
		})
	}
	_, err := Merge(nil, []Payload{bomb}, new(Decompressor))
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
}

func TestMergeOfWhatCannotBeMerged(t *testing.T) {
	for name, ps := range map[string][]Payload{
		"profiles":  {{Signal: Profiles}, {Signal: Profiles}},
		"signals":   {{Signal: Traces}, {Signal: Logs}},
		"encodings": {{Encoding: JSON}, {Encoding: Protobuf}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "BUG: ") {
					t.Errorf("panic %q", s)
				}
			}()
			Merge(nil, ps, new(Decompressor))
		})
	}
}

func FuzzMergeProtobuf(f *testing.F) {
	for _, p := range plainRequests(f, Protobuf) {
		f.Add(uint8(p.Signal), p.Body, p.Body)
	}
	f.Fuzz(func(t *testing.T, s uint8, a, b []byte) {
		sig := Signal(s % (SignalCount - 1))
		na, errA := Validate(sig, Protobuf, a)
		nb, errB := Validate(sig, Protobuf, b)
		if errA != nil || errB != nil {
			return
		}
		merged, err := Merge(nil, []Payload{payload(t, sig, Protobuf, None, a), payload(t, sig, Protobuf, None, b)}, new(Decompressor))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Validate(sig, Protobuf, merged); err != nil || n != na+nb {
			t.Fatalf("%d records, %v; want %d", n, err, na+nb)
		}
		want := mustDecode(t, sig, a)
		proto.Merge(want, mustDecode(t, sig, b))
		if !proto.Equal(mustDecode(t, sig, merged), want) {
			t.Fatal("decodes to something else")
		}
	})
}

func FuzzMergeJSON(f *testing.F) {
	for _, p := range plainRequests(f, JSON) {
		f.Add(uint8(p.Signal), p.Body, p.Body)
	}
	f.Add(uint8(0), []byte(`{"resourceSpans":[{}],"a":1}`), []byte(`{"a":2,"b":[],"resourceSpans":null}`))
	f.Fuzz(func(t *testing.T, s uint8, a, b []byte) {
		sig := Signal(s % (SignalCount - 1))
		na, errA := Validate(sig, JSON, a)
		nb, errB := Validate(sig, JSON, b)
		if errA != nil || errB != nil || repeatsName(a) || repeatsName(b) {
			return
		}
		merged, err := Merge(nil, []Payload{payload(t, sig, JSON, None, a), payload(t, sig, JSON, None, b)}, new(Decompressor))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := Validate(sig, JSON, merged); err != nil || n != na+nb {
			t.Fatalf("%d records, %v; want %d", n, err, na+nb)
		}
		checkMergedJSON(t, jsonLevels[sig].children[0], merged, a, b)
	})
}

// repeatsName says whether an object has two members of one name, of which encoding/json keeps the last and
// Merge the first.
func repeatsName(body []byte) bool {
	seen := make(map[string]bool)
	s := jsonScan{b: body}
	for more := s.enter('{', '}'); more; more = s.next('}') {
		name, _ := jsonText([]byte(`"` + string(s.key()) + `"`))
		if seen[name] {
			return true
		}
		seen[name] = true
		s.skip()
	}
	return false
}

// checkMergedJSON compares a merge of a and b, as generic JSON, with what appending b to a gives.
func checkMergedJSON(t *testing.T, list string, merged, a, b []byte) {
	t.Helper()
	want := make(map[string]any)
	elements := []any{}
	for _, body := range [][]byte{a, b} {
		v, err := decodeJSON(body)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range v.(map[string]any) {
			if _, seen := want[name]; name != list && !seen {
				want[name] = value
			}
		}
		more, _ := v.(map[string]any)[list].([]any)
		elements = append(elements, more...)
	}
	want[list] = elements
	got, err := decodeJSON(merged)
	if err != nil || !reflect.DeepEqual(got, any(want)) {
		t.Fatalf("%s: %v", merged, err)
	}
}

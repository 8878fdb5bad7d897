package otlptest

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func TestBuild(t *testing.T) {
	for sig := range otlp.Signal(otlp.SignalCount) {
		for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
			t.Run(sig.String()+" "+enc.ContentType(), func(t *testing.T) {
				b := &Builder{Name: "build"}
				seen := map[string]bool{}
				for _, n := range []int{0, 1, 2, 30} {
					built := b.Build(sig, enc, n)
					d, err := Decode(sig, enc, built.Body)
					if err != nil {
						t.Fatal(err)
					}
					if d.Records != n || !slices.Equal(d.IDs, built.IDs) {
						t.Errorf("%d records: decoded %d, ids %v, want %v", n, d.Records, d.IDs, built.IDs)
					}
					for _, id := range built.IDs {
						if id == "" || seen[id] {
							t.Errorf("id %q comes twice", id)
						}
						seen[id] = true
					}
				}
				again := (&Builder{Name: "build"}).Build(sig, enc, 0)
				if first := (&Builder{Name: "build"}).Build(sig, enc, 0); !bytes.Equal(again.Body, first.Body) {
					t.Error("the same calls make different bytes")
				}
			})
		}
	}
}

func TestBuildSize(t *testing.T) {
	b := &Builder{Name: "size"}
	if perSpan := len(b.Build(otlp.Traces, otlp.Protobuf, 512).Body) / 512; perSpan < 440 || perSpan > 540 {
		t.Errorf("%d bytes a span, want about 490", perSpan)
	}
	b.Pad = 5000
	for sig := range otlp.Signal(otlp.SignalCount) {
		if n := len(b.Build(sig, otlp.Protobuf, 3).Body); n < 15000 || n > 19000 {
			t.Errorf("%s: %d bytes for three records of 5000", sig, n)
		}
	}
}

func TestEqual(t *testing.T) {
	for _, sig := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		t.Run(sig.String(), func(t *testing.T) {
			b := &Builder{Name: "equal"}
			one, two := b.Build(sig, otlp.Protobuf, 9).Body, b.Build(sig, otlp.Protobuf, 5).Body
			merged := slices.Concat(two, one) // concatenated requests are one request
			want := [][]byte{one, two}
			if err := Equal(sig, otlp.Protobuf, want, [][]byte{merged}); err != nil {
				t.Errorf("merged: %v", err)
			}
			if err := Equal(sig, otlp.Protobuf, want, [][]byte{one}); err == nil {
				t.Error("a lost request goes unnoticed")
			}
			if err := Equal(sig, otlp.Protobuf, want, [][]byte{one, merged}); err == nil {
				t.Error("a doubled request goes unnoticed")
			}
			for _, field := range []string{"eu-west-1", "0.61.0", "equal-1", "1.43.0"} { // resource, scope, record, schema
				if field == "equal-1" && sig == otlp.Traces {
					field = "orders/1?"
				}
				changed := bytes.Replace(merged, []byte(field), []byte(strings.ToUpper("X"+field[1:])), 1)
				if bytes.Equal(changed, merged) {
					t.Fatalf("no %q in the request", field)
				}
				if err := Equal(sig, otlp.Protobuf, want, [][]byte{changed}); err == nil {
					t.Errorf("a change of %q goes unnoticed", field)
				}
			}
		})
	}
}

func TestEqualJSON(t *testing.T) {
	const metric = `{"name":"m","sum":{"isMonotonic":true,"dataPoints":[%]}}`
	const around = `{"resourceMetrics":[{"resource":{},"scopeMetrics":[{"metrics":[%]}]}]}`
	in := func(outer, inner string) string { return strings.Replace(outer, "%", inner, 1) }
	one := in(around, in(metric, `{"asInt":1}`))
	both := in(around, in(metric, `{"asInt":1},{"asInt":"2"}`))
	tests := []struct {
		name      string
		want, got []string
		equal     bool
	}{
		{"same", []string{both}, []string{both}, true},
		{"split", []string{both}, []string{one, in(around, in(metric, `{"asInt":"2"}`))}, true},
		{"keys in another order", []string{`{"resourceMetrics":[{"schemaUrl":"u","scopeMetrics":[]}]}`},
			[]string{`{"resourceMetrics":[{"scopeMetrics":[],"schemaUrl":"u"}]}`}, true},
		{"number as a string", []string{one}, []string{in(around, in(metric, `{"asInt":"1"}`))}, false},
		{"lost point", []string{both}, []string{one}, false},
		{"lost member of the metric", []string{one}, []string{strings.Replace(one, `"isMonotonic":true,`, ``, 1)}, false},
		{"lost empty metric", []string{in(around, `{"name":"empty"}`)}, []string{`{}`}, false},
		{"lost empty resource", []string{`{"resourceMetrics":[{}]}`}, []string{`{}`}, false},
		{"not decodable", []string{`{}`}, []string{`{`}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := Equal(otlp.Metrics, otlp.JSON, bodies(tt.want), bodies(tt.got)); (err == nil) != tt.equal {
				t.Errorf("got %v", err)
			}
		})
	}
}

func bodies(texts []string) [][]byte {
	var all [][]byte
	for _, s := range texts {
		all = append(all, []byte(s))
	}
	return all
}

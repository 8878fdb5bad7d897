package otlptest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const corpusPath = "../e2e/testdata/corpus.zip"

// The corpus's index was written by another decoder, and pdata is a third: all must count alike.
func TestDecodeCorpus(t *testing.T) {
	entries, err := Corpus(corpusPath)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 286 {
		t.Fatalf("%d entries, want 286", len(entries))
	}
	for _, e := range entries {
		body, err := e.Plain()
		if err != nil {
			t.Errorf("%s: %v", e.File, err)
			continue
		}
		d, err := Decode(e.Signal, e.Encoding, body)
		if err != nil {
			t.Errorf("%s: %v", e.File, err)
			continue
		}
		if d.Records != e.Records || len(body) != e.Size || len(d.IDs) != e.Records {
			t.Errorf("%s: %d records of %d ids in %d bytes, index says %d in %d",
				e.File, d.Records, len(d.IDs), len(body), e.Records, e.Size)
		}
		if n := countByPdata(t, e.Signal, e.Encoding, body); n != d.Records {
			t.Errorf("%s: %d records, pdata counts %d", e.File, d.Records, n)
		}
		if e.Records > 20 {
			continue // what follows says no more of a large request than of a small one
		}
		if err := Equal(e.Signal, e.Encoding, [][]byte{body}, [][]byte{body}); err != nil {
			t.Errorf("%s is not equal to itself: %v", e.File, err)
		}
	}
}

func countByPdata(t *testing.T, sig otlp.Signal, enc otlp.Encoding, body []byte) int {
	t.Helper()
	var err error
	unmarshal := func(r interface {
		UnmarshalProto([]byte) error
		UnmarshalJSON([]byte) error
	}) {
		if enc == otlp.JSON {
			err = r.UnmarshalJSON(body)
		} else {
			err = r.UnmarshalProto(body)
		}
		if err != nil {
			t.Error(err)
		}
	}
	switch sig {
	case otlp.Traces:
		r := ptraceotlp.NewExportRequest()
		unmarshal(r)
		return r.Traces().SpanCount()
	case otlp.Metrics:
		r := pmetricotlp.NewExportRequest()
		unmarshal(r)
		return r.Metrics().DataPointCount()
	}
	r := plogotlp.NewExportRequest()
	unmarshal(r)
	return r.Logs().LogRecordCount()
}

func TestDecodeJSON(t *testing.T) {
	span := func(inside string) string { return `{"resourceSpans":[{"scopeSpans":[{"spans":[{` + inside + `}]}]}]}` }
	tests := []struct {
		name, body string
		records    int
		ok         bool
	}{
		{"empty object", `{}`, 0, true},
		{"null list", `{"resourceSpans":null}`, 0, true},
		{"unknown field", `{"new":[1]}`, 0, true},
		{"double as int", span(`"attributes":[{"key":"a","value":{"intValue":1e+308}}]`), 1, true},
		{"null value", span(`"attributes":[{"key":"a","value":{"intValue":null}}]`), 1, true},
		{"upper case id", span(`"spanId":"EEE19B7EC3C1B174"`), 1, true},
		{"nothing", ``, 0, false},
		{"null", `null`, 0, true},
		{"list", `[]`, 0, false},
		{"two objects", `{} {}`, 0, false},
		{"cut", `{"resourceSpans":[`, 0, false},
		{"list expected", `{"resourceSpans":5}`, 0, false},
		{"object expected", `{"resourceSpans":[5]}`, 0, false},
		{"no hex", span(`"spanId":"zz"`), 0, false},
		{"short id", span(`"spanId":"eee1"`), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Decode(otlp.Traces, otlp.JSON, []byte(tt.body))
			if (err == nil) != tt.ok || err == nil && d.Records != tt.records {
				t.Errorf("got %+v, %v", d, err)
			}
		})
	}
}

func TestDecodeProtobufIsStrict(t *testing.T) {
	built := (&Builder{Name: "strict"}).Build(otlp.Traces, otlp.Protobuf, 3)
	if _, err := Decode(otlp.Traces, otlp.Protobuf, built.Body[:len(built.Body)-1]); err == nil {
		t.Error("a cut request was decoded")
	}
	if _, err := Decode(otlp.Traces, otlp.Protobuf, bytes.Replace(built.Body, []byte("orders"), []byte("\xff\xfeders"), 1)); err == nil {
		t.Error("invalid UTF-8 was decoded")
	}
}

func TestDecompress(t *testing.T) {
	member := gzipped("hello")
	tests := []struct {
		name, coding string
		body         []byte
		limit        int
		want         string
		err          error // any, if errAny
	}{
		{"identity", "identity", []byte("hello"), 5, "hello", nil},
		{"gzip", "gzip", member, 5, "hello", nil},
		{"over the limit", "gzip", member, 4, "", errTooLarge},
		{"two members", "gzip", append(bytes.Clone(member), member...), 99, "", errAny},
		{"bytes after the end", "gzip", append(bytes.Clone(member), 0), 99, "", errAny},
		{"cut", "gzip", member[:len(member)-3], 99, "", errAny},
		{"not zlib", "deflate", member, 99, "", errAny},
		{"not zstd", "zstd", member, 99, "", errAny},
		{"unknown", "br", member, 99, "", errCoding},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decompress(tt.coding, tt.body, tt.limit)
			if string(got) != tt.want || (err == nil) != (tt.err == nil) || tt.err != nil && tt.err != errAny && !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

var errAny = errors.New("any error")

func gzipped(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.Bytes()
}

func TestCorpusErrors(t *testing.T) {
	if _, err := Corpus("testdata/none.zip"); err == nil || !strings.Contains(err.Error(), "open the corpus") {
		t.Errorf("got %v", err)
	}
}

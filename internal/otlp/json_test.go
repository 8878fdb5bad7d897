package otlp

import (
	"fmt"
	"strings"
	"testing"
)

func TestValidateJSON(t *testing.T) {
	nest := func(levels int) string { // an object, then arrays
		return `{"x":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + "}"
	}
	tests := []struct {
		name string
		sig  Signal
		body string
		want int
		err  string // "" where it is valid
	}{
		{"empty object", Traces, ` {} `, 0, ""},
		{"null lists", Traces, `{"resourceSpans":null}`, 0, ""},
		{"null below", Logs, `{"resourceLogs":[{"scopeLogs":null},{"scopeLogs":[{"logRecords":null}]}]}`, 0, ""},
		{"spans", Traces, `{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]},{"spans":[{}]}]},{"scopeSpans":[]}]}`, 3, ""},
		{"keys in any order, pretty", Traces, "{\n\t\"resourceSpans\" : [ {\r\n \"scopeSpans\":[ { \"spans\" : [ { " +
			"\"name\" : \"a\" } ] , \"scope\":{} } ] , \"resource\" : {} } ] }", 1, ""},
		{"escaped names", Traces, `{"resource\u0053pans":[{"\u0073copeSpans":[{"span\u0073":[{}]}]}]}`, 1, ""},
		{"escapes in other names", Traces, `{"resource\"Spans":[],"\ud83d\ude00":1,"\/":2}`, 0, ""},
		{"names as in protobuf are unknown", Traces, `{"resource_spans":[{"scope_spans":7}]}`, 0, ""},
		{"another signal's names are unknown", Logs, `{"resourceSpans":3}`, 0, ""},
		{"data points", Metrics, `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{},{}]}},
			{"sum":{"dataPoints":[{}]}},{"histogram":{"dataPoints":[{}]}},{"exponentialHistogram":{"dataPoints":[{}]}},
			{"summary":{"dataPoints":[{}]}},{"name":"none"},{"gauge":null},{"gauge":{}},{"gauge":{"dataPoints":null}}]}]}]}`, 6, ""},
		{"profiles", Profiles, `{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{}]}]}],"dictionary":{"stringTable":[""]}}`, 1, ""},
		{"leaves are not looked at", Logs, `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":null,"timeUnixNano":1e+308,
			"severityNumber":-0.5E-3,"traceId":"zz","flags":"x","attributes":{}}]}]}]}`, 1, ""},
		{"half a surrogate pair, as JavaScript cuts", Traces, `{"a":"\ud83d"}`, 0, ""},
		{"as deep as can be", Traces, nest(maxJSONDepth), 0, ""},

		{"too deep", Traces, nest(maxJSONDepth + 1), 0, "nested too deeply at byte 204"},
		{"nothing", Traces, ``, 0, "request: unexpected end at byte 0"},
		{"white space", Traces, ` `, 0, "unexpected end"},
		{"array", Traces, `[]`, 0, "request: expected an object at byte 0"},
		{"null", Traces, `null`, 0, "expected an object"},
		{"byte order mark", Traces, "\ufeff{}", 0, "expected an object"},
		{"list is an object", Traces, `{"resourceSpans":{}}`, 0, "resourceSpans: expected an array or null at byte 17"},
		{"list is a string", Traces, `{"resourceSpans":[{"scopeSpans":"a"}]}`, 0, "resourceSpans.scopeSpans: expected an array or null"},
		{"element is null", Traces, `{"resourceSpans":[null]}`, 0, "resourceSpans: expected an object at byte 18"},
		{"record is a number", Traces, `{"resourceSpans":[{"scopeSpans":[{"spans":[{},1]}]}]}`, 0,
			"resourceSpans.scopeSpans.spans: expected an object at byte 46"},
		{"metric's data is a list", Metrics, `{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":[]}]}]}]}`, 0,
			"resourceMetrics.scopeMetrics.metrics.sum: expected an object"},
		{"list twice", Traces, `{"resourceSpans":[],"resource\u0053pans":[]}`, 0, "resourceSpans: second member of this name"},
		{"cut", Traces, `{"resourceSpans":[{"scopeSpans":[{"spans":[{"na`, 0, "resourceSpans.scopeSpans.spans: unexpected end at byte 47"},
		{"two values", Traces, `{}{}`, 0, "text after the end of the request at byte 2"},
		{"trailing comma in an object", Traces, `{"a":1,}`, 0, "expected a member's name at byte 7"},
		{"trailing comma in an array", Traces, `{"a":[1,]}`, 0, "expected a value at byte 8"},
		{"no comma", Traces, `{"a":1 "b":2}`, 0, "expected a comma"},
		{"no colon", Traces, `{"a" 1}`, 0, "expected a colon"},
		{"name without quotes", Traces, `{a:1}`, 0, "expected a member's name"},
		{"wrong bracket", Traces, `{"a":[1}}`, 0, "expected a comma or the end"},
		{"comment", Traces, `{/**/}`, 0, "expected a member's name"},
		{"control character", Traces, "{\"a\":\"abcdefgh\x1f\"}", 0, "control character in a string at byte 14"},
		{"bad escape", Traces, `{"a":"\x41"}`, 0, "bad escape in a string"},
		{"bad unicode escape", Traces, `{"a":"\u12g4"}`, 0, "bad escape in a string"},
		{"no UTF-8", Traces, "{\"a\":\"abcdefgh\xff\"}", 0, "invalid UTF-8 in a string"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Validate(tt.sig, JSON, []byte(tt.body))
			if got != tt.want {
				t.Errorf("records = %d, want %d", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("err = %v, want %q", err, tt.err)
			}
			checkAgainstGeneric(t, tt.sig, []byte(tt.body))
		})
	}
}

func TestJSONValues(t *testing.T) {
	for _, value := range []string{
		`0`, `-0`, `10`, `0.5`, `1e9`, `1E-9`, `1.25e+10`, `true`, `false`, `null`, `""`, `"\u00e9\\\""`, `"é"`, "\"\x7f\"", `[]`, `{}`,
		`[[],{},"a"]`, `{"":{"a":[]}}`, ``, `-`, `01`, `1.`, `.5`, `1e`, `1e+`, `+1`, `--1`, `0x1`, `NaN`, `Infinity`, `tru`, `truex`, `nul`,
		`True`, `'a'`, `"`, `"\`, `"\u`, `"\u00`, "\"\n\"", "\"\x00\"", `[`, `[1`, `[,]`, `{"a"}`, `{"a":}`, `{1:2}`, `1 2`, `"abcdefg\"`,
		`"abcdefgh\`, "\"abc\xc3\"", "\"\xed\xa0\x80\"",
	} {
		checkAgainstGeneric(t, Traces, fmt.Appendf(nil, `{"a":%s}`, value))
		checkAgainstGeneric(t, Traces, fmt.Appendf(nil, `{"a":[%s , 1]}`, value))
	}
}

// checkAgainstGeneric says whether Validate and encoding/json agree on body.
func checkAgainstGeneric(t *testing.T, sig Signal, body []byte) {
	t.Helper()
	got, err := Validate(sig, JSON, body)
	if !plausibleJSON(body) {
		if err == nil {
			t.Fatalf("accepted, though it is no JSON in UTF-8: %q", body)
		}
		return
	}
	v, decodeErr := decodeJSON(body)
	if decodeErr != nil {
		t.Fatal(decodeErr)
	}
	want, shaped := countGeneric(v, jsonPaths[sig])
	switch {
	case err == nil && (!shaped || got != want):
		t.Fatalf("counts %d records, want %d (right shape: %v): %q", got, want, shaped, body)
	case err != nil && shaped && !deepJSON(body) && !strings.Contains(err.Error(), "second member"):
		t.Fatalf("refused: %v: %q", err, body)
	}
}

func TestValidateRealRequests(t *testing.T) {
	want := map[string]int{
		"go-http-json-traces-1.json": 1, "go-http-protobuf-traces-1.pb": 1, "java-http-protobuf-metrics-4.pb": 4,
		"node-http-json-logs-1.json": 1, "node-http-protobuf-traces-1.pb": 1, "python-http-json-metrics-1.json": 1,
		"python-http-protobuf-logs-1.pb": 1, "python-http-protobuf-traces-20.pb.zz": 20,
		"rust-http-json-traces-1-2.json": 1, "rust-http-protobuf-logs-20.pb.zst": 20,
	}
	for _, p := range append(plainRequests(t, Protobuf), plainRequests(t, JSON)...) {
		got, err := Validate(p.Signal, p.Encoding, p.Body)
		if err != nil || got != want[p.name] {
			t.Errorf("%s: %d records, %v; want %d", p.name, got, err, want[p.name])
		}
	}
}

func FuzzValidateJSON(f *testing.F) {
	for _, p := range plainRequests(f, JSON) {
		f.Add(uint8(p.Signal), p.Body)
	}
	f.Add(uint8(Metrics), []byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"dataPoints":[{}]},"gauge":null}]}]}]}`))
	f.Add(uint8(Traces), []byte(`{"resource\u0053pans":[{"scopeSpans":[{"spans":[{"a":[-1.5e+3,true,false,null,"\n\ud83d\ude00é"]}]}]}]}`))
	f.Fuzz(func(t *testing.T, sig uint8, body []byte) {
		checkAgainstGeneric(t, Signal(sig%SignalCount), body)
	})
}

func TestJSONStrings(t *testing.T) {
	for _, s := range []string{"", "plain", "quote\" back\\slash /", "\b\f\n\r\t\x00\x1f\x7f", "é ü 😀", "bad\xffbytes\xc3"} {
		quoted := appendJSONString(nil, s)
		v, err := decodeJSON(quoted)
		if want := strings.ToValidUTF8(s, "\uFFFD"); err != nil || v != want {
			t.Errorf("%q is written %s, read back %q, %v", s, quoted, v, err)
		}
	}
	for _, raw := range []string{`"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\ude00\ud83d\ude00"`, `"\u00E9\b\f\n\r\t\/\\\""`} {
		want, err := decodeJSON([]byte(raw))
		if got, ok := jsonText([]byte(raw)); err != nil || !ok || got != want {
			t.Errorf("%s is read %q, want %q", raw, got, want)
		}
	}
}

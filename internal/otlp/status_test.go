package otlp

import (
	"math"
	"strings"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestHTTPStatus(t *testing.T) {
	for code, want := range map[Code]int{
		OK: 200, InvalidArgument: 400, FailedPrecondition: 400, Unauthenticated: 401, PermissionDenied: 403, NotFound: 404,
		ResourceExhausted: 429, Internal: 500, Unknown: 500, 6: 500, 99: 500, -1: 500, Unimplemented: 501, Unavailable: 503,
		Canceled: 503, Aborted: 503, OutOfRange: 503, DataLoss: 503, DeadlineExceeded: 504,
	} {
		if got := HTTPStatus(code); got != want {
			t.Errorf("code %d is HTTP %d, want %d", code, got, want)
		}
	}
}

func TestCodeForHTTP(t *testing.T) {
	for status, want := range map[int]Code{
		200: OK, 202: OK, 204: OK, 301: Unknown, 308: Unknown, 100: Unknown, 0: Unknown, 400: InvalidArgument, 401: Unauthenticated,
		403: PermissionDenied, 404: NotFound, 405: Unimplemented, 408: DeadlineExceeded, 409: Aborted, 411: InvalidArgument,
		412: FailedPrecondition, 413: ResourceExhausted, 415: InvalidArgument, 422: InvalidArgument, 429: ResourceExhausted,
		431: InvalidArgument, 499: Canceled, 500: Internal, 501: Unimplemented, 502: Unavailable, 503: Unavailable,
		504: DeadlineExceeded, 507: Internal, 599: Internal, 600: Unknown,
	} {
		if got := CodeForHTTP(status); got != want {
			t.Errorf("HTTP %d is code %d, want %d", status, got, want)
		}
	}
	for _, status := range []int{200, 400, 401, 403, 404, 429, 500, 501, 503, 504} {
		if got := HTTPStatus(CodeForHTTP(status)); got != status {
			t.Errorf("HTTP %d comes back as %d", status, got)
		}
	}
}

var messages = []string{"", "bad data", "quote \" slash \\ tab \t nul \x00 del \x7f", "Grüße 😀", "cut\xc3", strings.Repeat("long ", 100)}

// marshal writes m as the official types do.
func marshal(t *testing.T, enc Encoding, m proto.Message) []byte {
	t.Helper()
	out, err := proto.Marshal(m)
	if enc == JSON {
		out, err = protojson.Marshal(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unmarshal reads body as the official types do.
func unmarshal(t *testing.T, enc Encoding, body []byte, m proto.Message) {
	t.Helper()
	err := proto.Unmarshal(body, m)
	if enc == JSON {
		err = protojson.Unmarshal(body, m)
	}
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
}

func TestStatus(t *testing.T) {
	for _, enc := range []Encoding{Protobuf, JSON} {
		for _, code := range []Code{OK, InvalidArgument, Unauthenticated, math.MaxInt32, -1} {
			for _, message := range messages {
				valid := strings.ToValidUTF8(message, "\uFFFD")
				body := AppendStatus([]byte("before"), enc, code, message)[len("before"):]
				var official statuspb.Status
				unmarshal(t, enc, body, &official)
				if official.Code != int32(code) || official.Message != valid {
					t.Errorf("%q is read as %v", body, &official)
				}
				for _, body := range [][]byte{body, marshal(t, enc, &official)} {
					gotCode, gotMessage, ok := ParseStatus(enc, body)
					if says := code != OK || message != ""; gotCode != code || gotMessage != valid || says && !ok {
						t.Errorf("%q: %d, %q, %v", body, gotCode, gotMessage, ok)
					}
				}
			}
		}
	}
}

func TestParseStatusOfOthers(t *testing.T) {
	tests := []struct {
		enc     Encoding
		body    string
		code    Code
		message string
		ok      bool
	}{
		{JSON, ` { "details":[{"@type":"x"}] , "message" : "a\u0041\n" , "code" : 3 } `, 3, "aA\n", true},
		{JSON, `{"code":"14"}`, 14, "", true},
		{JSON, `{"code":5.0,"message":null}`, 5, "", true},
		{JSON, `{"message":"Forbidden"}`, 0, "Forbidden", true},
		{JSON, `{}`, 0, "", false},
		{JSON, ``, 0, "", false},
		{JSON, `null`, 0, "", false},
		{JSON, `[{"code":3}]`, 0, "", false},
		{JSON, `"Forbidden"`, 0, "", false},
		{JSON, `{"code":3}x`, 0, "", false},
		{JSON, `{"code":3`, 0, "", false},
		{JSON, `{"code":"BAD","message":"x"}`, 0, "", false},
		{JSON, `{"code":1e300}`, 0, "", false},
		{JSON, `{"code":2147483648}`, 0, "", false},
		{JSON, `{"code":3,"message":{}}`, 0, "", false},
		{JSON, `<html>502 Bad Gateway</html>`, 0, "", false},
		{Protobuf, "\x08\x03\x12\x01a\x1a\x02\x0a\x00\x98\x3e\x01", 3, "a", true},
		{Protobuf, "\x12\x01a", 0, "a", true},
		{Protobuf, "", 0, "", false},
		{Protobuf, "\x1a\x00", 0, "", false},
		{Protobuf, "\x08\x03\x12\x05a", 0, "", false},
		{Protobuf, "\x08\x03\x12\x01\xff", 0, "", false},
		{Protobuf, "404 page not found\n", 0, "", false},
		{Protobuf, "<html>502 Bad Gateway</html>", 0, "", false},
		{Protobuf, `{"code":3}`, 0, "", false},
		{Protobuf, "Forbidden", 0, "", false},
	}
	for _, tt := range tests {
		code, message, ok := ParseStatus(tt.enc, []byte(tt.body))
		if code != tt.code || message != tt.message || ok != tt.ok {
			t.Errorf("%q: %d, %q, %v; want %d, %q, %v", tt.body, code, message, ok, tt.code, tt.message, tt.ok)
		}
	}
}

// newResponse is an official response, with p in it if it is not nil. There is none for profiles, whose
// protobuf is like the others'.
func newResponse(sig Signal, p *PartialSuccess) proto.Message {
	switch sig {
	case Metrics:
		m := new(metricspb.ExportMetricsServiceResponse)
		if p != nil {
			m.PartialSuccess = &metricspb.ExportMetricsPartialSuccess{RejectedDataPoints: p.Rejected, ErrorMessage: p.Message}
		}
		return m
	case Logs:
		m := new(logspb.ExportLogsServiceResponse)
		if p != nil {
			m.PartialSuccess = &logspb.ExportLogsPartialSuccess{RejectedLogRecords: p.Rejected, ErrorMessage: p.Message}
		}
		return m
	}
	m := new(tracepb.ExportTraceServiceResponse)
	if p != nil {
		m.PartialSuccess = &tracepb.ExportTracePartialSuccess{RejectedSpans: p.Rejected, ErrorMessage: p.Message}
	}
	return m
}

func TestResponse(t *testing.T) {
	for _, enc := range []Encoding{Protobuf, JSON} {
		for _, sig := range allSignals {
			for _, rejected := range []int64{0, 1, 42, math.MaxInt64, -1} {
				for _, message := range messages {
					checkResponse(t, enc, sig, &PartialSuccess{rejected, message})
				}
			}
			checkResponse(t, enc, sig, nil)
		}
	}
}

func checkResponse(t *testing.T, enc Encoding, sig Signal, p *PartialSuccess) {
	t.Helper()
	body := AppendResponse([]byte("before"), enc, sig, p)[len("before"):]
	want := p
	if p != nil {
		want = &PartialSuccess{p.Rejected, strings.ToValidUTF8(p.Message, "\uFFFD")}
	}
	bodies := [][]byte{body}
	if enc == Protobuf || sig != Profiles {
		official := newResponse(sig, nil)
		unmarshal(t, enc, body, official)
		if !proto.Equal(official, newResponse(sig, want)) {
			t.Errorf("%q is read as %v", body, official)
		}
		bodies = append(bodies, marshal(t, enc, official))
	}
	for _, body := range bodies {
		got, err := ParseResponse(enc, sig, body)
		if want == nil || *want == (PartialSuccess{}) {
			if got != nil || err != nil {
				t.Errorf("%q: %v, %v; want none", body, got, err)
			}
		} else if err != nil || got == nil || *got != *want {
			t.Errorf("%q: %v, %v; want %v", body, got, err, want)
		}
	}
}

func TestAppendResponseJSON(t *testing.T) {
	for sig, want := range map[Signal]string{
		Traces:   `{"partialSuccess":{"rejectedSpans":"7","errorMessage":"no"}}`,
		Metrics:  `{"partialSuccess":{"rejectedDataPoints":"7","errorMessage":"no"}}`,
		Logs:     `{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"no"}}`,
		Profiles: `{"partialSuccess":{"rejectedProfiles":"7","errorMessage":"no"}}`,
	} {
		if got := string(AppendResponse(nil, JSON, sig, &PartialSuccess{7, "no"})); got != want {
			t.Errorf("%s: %s, want %s", sig, got, want)
		}
	}
	if got := string(AppendResponse(nil, JSON, Traces, nil)); got != "{}" {
		t.Errorf("all taken: %s, want {}", got)
	}
}

func TestParseResponseOfOthers(t *testing.T) {
	twice := append(AppendResponse(nil, Protobuf, Traces, &PartialSuccess{Rejected: 1}),
		AppendResponse(nil, Protobuf, Traces, &PartialSuccess{Message: "x"})...)
	tests := []struct {
		enc  Encoding
		body string
		want *PartialSuccess
		err  string
	}{
		{JSON, `{"partialSuccess":{"rejectedSpans":3}}`, &PartialSuccess{3, ""}, ""},
		{JSON, `{"partialSuccess":{"rejectedSpans":3.0,"unknown":[]},"more":{}}`, &PartialSuccess{3, ""}, ""},
		{JSON, `{"partialSuccess":{"rejectedSpans":"9007199254740993"}}`, &PartialSuccess{9007199254740993, ""}, ""},
		{JSON, `{"partialSuccess":{"errorMessage":"\u00e9\""}}`, &PartialSuccess{0, `é"`}, ""},
		{JSON, ` {"partialSuccess" : { } } `, nil, ""},
		{JSON, `{"partialSuccess":null,"x":1}`, nil, ""},
		{JSON, `{"partialSuccess":{"rejectedSpans":null,"errorMessage":null}}`, nil, ""},
		{JSON, `{"partialSuccess":{"rejectedLogRecords":3}}`, nil, ""},
		{JSON, ``, nil, ""},
		{JSON, `ok`, nil, "read traces response: "},
		{JSON, `[]`, nil, "read traces response: expected an object at byte 0"},
		{JSON, `{"partialSuccess":7}`, nil, "expected an object"},
		{JSON, `{"partialSuccess":{"rejectedSpans":"many"}}`, nil, "bad value of a partial success"},
		{JSON, `{"partialSuccess":{"rejectedSpans":1.5}}`, nil, "bad value"},
		{JSON, `{"partialSuccess":{"rejectedSpans":1e19}}`, nil, "bad value"},
		{JSON, `{"partialSuccess":{"errorMessage":5}}`, nil, "bad value"},
		{JSON, `{"partialSuccess":{}`, nil, "read traces response: "},
		{Protobuf, string(twice), &PartialSuccess{1, "x"}, ""},
		{Protobuf, string(protowire.AppendVarint([]byte("\x98\x3e"), 5)), nil, ""},
		{Protobuf, "\x0a\x00", nil, ""},
		{Protobuf, "\x0a\x05", nil, "read traces response: truncated field 1 at byte 0"},
		{Protobuf, "\x0a\x02\x12\x05", nil, "partial_success: truncated field 2 at byte 0"},
		{Protobuf, "\x0a\x03\x12\x01\xff", nil, "partial_success: invalid UTF-8 in field 2"},
		{Protobuf, "OK", nil, "read traces response: "},
	}
	for _, tt := range tests {
		got, err := ParseResponse(tt.enc, Traces, []byte(tt.body))
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%q: %v, want %v", tt.body, got, tt.want)
		}
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: %v, want %q", tt.body, err, tt.err)
		}
	}
}

func FuzzParseAnswers(f *testing.F) {
	for _, enc := range []Encoding{Protobuf, JSON} {
		f.Add(uint8(enc), AppendStatus(nil, enc, Unavailable, "try \"later\""))
		f.Add(uint8(enc), AppendResponse(nil, enc, Traces, &PartialSuccess{7, "no\n"}))
	}
	f.Fuzz(func(t *testing.T, e uint8, body []byte) {
		enc := Encoding(e % 2)
		if code, message, ok := ParseStatus(enc, body); ok {
			again, text, ok := ParseStatus(enc, AppendStatus(nil, enc, code, message))
			if again != code || text != message || !ok && (code != OK || message != "") {
				t.Fatalf("%d %q comes back as %d %q", code, message, again, text)
			}
			var official statuspb.Status
			if enc == Protobuf && (proto.Unmarshal(body, &official) != nil || official.Code != int32(code) || official.Message != message) {
				// Its details are not looked into.
				if len(official.Details) == 0 && proto.Unmarshal(body, &statuspb.Status{}) == nil {
					t.Fatalf("%d %q, official %v", code, message, &official)
				}
			}
		}
		if p, err := ParseResponse(enc, Traces, body); err == nil && p != nil {
			again, err := ParseResponse(enc, Traces, AppendResponse(nil, enc, Traces, p))
			if err != nil || *again != *p {
				t.Fatalf("%v comes back as %v, %v", p, again, err)
			}
		}
	})
}

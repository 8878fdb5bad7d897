package otlp

import (
	"math"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// detailed is a google.rpc.Status with the details, as the official types write it.
func detailed(t testing.TB, details ...proto.Message) []byte {
	t.Helper()
	s := &statuspb.Status{Code: 14, Message: "later"}
	for _, d := range details {
		a, err := anypb.New(d)
		if err != nil {
			t.Fatal(err)
		}
		s.Details = append(s.Details, a)
	}
	body, err := proto.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestRetryInfo(t *testing.T) {
	for _, delay := range []time.Duration{0, 1, time.Millisecond, 1500 * time.Millisecond, time.Hour, 292 * 365 * 24 * time.Hour} {
		ours := AppendRetryInfo(AppendStatus(nil, Protobuf, Unavailable, "later"), delay)
		var official statuspb.Status
		unmarshal(t, Protobuf, ours, &official)
		var info errdetails.RetryInfo
		if len(official.Details) != 1 || official.Details[0].UnmarshalTo(&info) != nil || info.RetryDelay.AsDuration() != delay || official.Message != "later" {
			t.Errorf("%v is read as %v", delay, &official)
		}
		theirs := detailed(t, &errdetails.DebugInfo{Detail: "x"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}, &errdetails.ErrorInfo{Reason: "y"})
		for _, body := range [][]byte{ours, theirs} {
			if got, ok := ParseRetryInfo(body); got != delay || !ok {
				t.Errorf("%q: %v, %v, want %v", body, got, ok, delay)
			}
		}
	}
}

func TestRetryInfoOfOthers(t *testing.T) {
	info := func(seconds int64, nanos int32) []byte {
		return detailed(t, &errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: seconds, Nanos: nanos}})
	}
	whole := info(3, 0)
	for name, test := range map[string]struct {
		status []byte
		delay  time.Duration
		ok     bool
	}{
		"nothing":            {nil, 0, false},
		"no details":         {detailed(t), 0, false},
		"another detail":     {detailed(t, &errdetails.ErrorInfo{Reason: "quota"}), 0, false},
		"no delay":           {detailed(t, &errdetails.RetryInfo{}), 0, true},
		"negative":           {info(-5, 0), 0, true},
		"negative nanos":     {info(3, -1), 3*time.Second - 1, true},
		"far negative":       {info(math.MinInt64, math.MaxInt32), 0, true},
		"longest":            {info(math.MaxInt64, math.MaxInt32), math.MaxInt64, true},
		"cut":                {whole[:len(whole)-1], 0, false},
		"an error after":     {append(whole[:len(whole):len(whole)], 0xff), 0, false},
		"text":               {[]byte("service unavailable"), 0, false},
		"a broken RetryInfo": {appendBytesField(nil, statusDetails, appendBytesField(appendBytesField(nil, detailType, retryInfoType), detailValue, "\x0a\x05x")), 0, false},
	} {
		if delay, ok := ParseRetryInfo(test.status); ok != test.ok || ok && delay != test.delay {
			t.Errorf("%s: %v, %v, want %v, %v", name, delay, ok, test.delay, test.ok)
		}
	}
}

func FuzzParseRetryInfo(f *testing.F) {
	f.Add(detailed(f, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}))
	f.Add(AppendRetryInfo(nil, math.MaxInt64))
	f.Fuzz(func(t *testing.T, status []byte) {
		if delay, ok := ParseRetryInfo(status); delay < 0 || !ok && delay != 0 {
			t.Errorf("%v, %v", delay, ok)
		}
	})
}

package receiver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// call is an Export as net/http hands it to a handler.
func call(sig otlp.Signal, encoding string, body io.Reader) *http.Request {
	q := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: sig.Method()}, Header: http.Header{"Content-Type": {"application/grpc"}},
		Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: -1, Body: io.NopCloser(body),
	}
	if encoding != "" {
		q.Header["Grpc-Encoding"] = []string{encoding}
	}
	return q
}

// FuzzCall sends any body in any coding. A message is taken where the official types take it, and then reaches the
// sink once, unless it has no records; the status says why not.
func FuzzCall(f *testing.F) {
	build := &otlptest.Builder{Name: "fuzz"}
	for _, sig := range otlp.Signals() {
		plain := build.Build(sig, otlp.Protobuf, 2).Body
		for _, coding := range []otlp.Compression{otlp.None, otlp.Gzip, otlp.Deflate, otlp.Zstd} {
			body := compress(f, coding, plain)
			framed := append(binary.BigEndian.AppendUint32([]byte{min(1, byte(coding))}, uint32(len(body))), body...)
			f.Add(uint8(sig), coding.String(), framed)
			f.Add(uint8(sig), coding.String(), framed[:len(framed)-1])
			f.Add(uint8(sig), coding.String(), append(framed, framed...))
		}
	}
	f.Add(uint8(0), "", []byte{})
	f.Add(uint8(0), "gzip", []byte("\x00\x00\x00\x00\x00"))
	f.Add(uint8(0), "snappy", []byte("\x01\x00\x00\x00\x01x"))
	f.Add(uint8(0), "", []byte("\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, sig uint8, encoding string, body []byte) {
		fuzzCall(t, otlp.Signal(sig%otlp.SignalCount), encoding, body)
	})
}

func fuzzCall(t *testing.T, sig otlp.Signal, encoding string, body []byte) {
	var got []otlp.Payload
	r := receiver.New(receiver.Config{
		Sink:     sinkFunc(func(p otlp.Payload) error { got = append(got, p); return nil }),
		MaxBytes: fuzzLimit,
	})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, call(sig, encoding, bytes.NewReader(body)))
	want, decoded := expectCall(sig, encoding, body)
	values := w.Header()["Grpc-Status"]
	if want == otlp.OK {
		values = w.Header()[http.TrailerPrefix+"Grpc-Status"]
	}
	if len(values) != 1 || values[0] != strconv.Itoa(int(want)) || w.Code != 200 {
		t.Fatalf("HTTP %d, header %v; want the status %v", w.Code, w.Header(), want)
	}
	if _, err := url.PathUnescape(w.Header().Get("Grpc-Message")); err != nil {
		t.Fatal(err)
	}
	if want == otlp.OK && len(got) != min(1, decoded.Records) || want != otlp.OK && len(got) > 0 {
		t.Fatalf("%d requests reached the sink with the status %v", len(got), want)
	}
	if len(got) == 1 && (got[0].Records != decoded.Records || !bytes.Equal(got[0].Body, body[5:])) {
		t.Fatalf("payload of %d records, want %d, and the message as sent", got[0].Records, decoded.Records)
	}
}

// expectCall is what to answer to a body, by the plainest reading of the specification.
func expectCall(sig otlp.Signal, encoding string, body []byte) (otlp.Code, *otlptest.Decoded) {
	switch {
	case len(body) == 0:
		return otlp.Unimplemented, nil
	case len(body) < 5, body[0] > 1:
		return otlp.Internal, nil
	}
	size := int(binary.BigEndian.Uint32(body[1:]))
	switch {
	case size > fuzzLimit:
		return otlp.ResourceExhausted, nil
	case len(body)-5 < size:
		return otlp.Internal, nil
	case len(body)-5 > size:
		return otlp.Unimplemented, nil
	}
	coding := ""
	if body[0] == 1 {
		switch coding = lower(encoding); {
		case !knownCoding(coding):
			return otlp.Unimplemented, nil
		case coding == "" || coding == "none" || coding == "identity":
			return otlp.Internal, nil
		}
	}
	plain, fits, err := reference(coding, body[5:])
	if !fits {
		return otlp.ResourceExhausted, nil
	}
	if err != nil {
		return otlp.InvalidArgument, nil
	}
	decoded, err := otlptest.Decode(sig, otlp.Protobuf, plain)
	if err != nil {
		return otlp.InvalidArgument, nil
	}
	return otlp.OK, decoded
}

func lower(s string) string { return string(bytes.ToLower(bytes.TrimSpace([]byte(s)))) }

// FuzzStatus carries any error. By what the official types read of it, a client decides as the error says; message
// and delay survive, and the code where it does not contradict.
func FuzzStatus(f *testing.F) {
	for code := range int32(18) {
		f.Add(code, "down", true, int64(1500))
		f.Add(code, " slow ü%41 \xff\n", false, int64(0))
	}
	one := message(1)
	f.Fuzz(func(t *testing.T, code int32, text string, retryable bool, wait int64) {
		sent := &otlp.Error{Code: otlp.Code(code), HTTPStatus: 500, Message: text, Retryable: retryable, RetryAfter: max(0, time.Duration(wait))}
		r := receiver.New(receiver.Config{Sink: sinkFunc(func(otlp.Payload) error { return sent })})
		w := httptest.NewRecorder()
		r.ServeHTTP(w, call(otlp.Traces, "", bytes.NewReader(one)))
		n, err := strconv.ParseInt(w.Header().Get("Grpc-Status"), 10, 32)
		raw := w.Header().Get("Grpc-Message")
		said, err2 := url.PathUnescape(raw)
		if err != nil || err2 != nil || !httpguts.ValidHeaderFieldValue(raw) || strings.Trim(raw, " \t") != raw {
			t.Fatalf("header %v: %v, %v", w.Header(), err, err2)
		}
		st := detailsOf(t, w.Header(), int32(n), said)
		again, delay := clientRetries(st)
		if again != retryable || again && delay != sent.RetryAfter {
			t.Fatalf("%+v reads as %v: again %v after %v", sent, st, again, delay)
		}
		if strings.ToValidUTF8(text, "\uFFFD") != said && len(text) <= 1024 {
			t.Fatalf("message %q became %q", text, said)
		}
		if consistent(sent) && code != int32(n) {
			t.Fatalf("code %d became %d", code, n)
		}
	})
}

// detailsOf is the status with its details, where there are any.
func detailsOf(t *testing.T, h http.Header, code int32, message string) *rpcstatus.Status {
	st := &rpcstatus.Status{Code: code, Message: message}
	values := h["Grpc-Status-Details-Bin"]
	if values == nil {
		return st
	}
	bin, err := base64.RawStdEncoding.DecodeString(values[0])
	full := new(rpcstatus.Status)
	if err != nil || proto.Unmarshal(bin, full) != nil || full.Code != code || full.Message != message {
		t.Fatalf("details %v (%v) of %v", full, err, st)
	}
	return full
}

// clientRetries is how the OTLP specification has a client decide.
func clientRetries(st *rpcstatus.Status) (again bool, wait time.Duration) {
	var info errdetails.RetryInfo
	for _, d := range st.Details {
		if d.UnmarshalTo(&info) == nil {
			again, wait = true, info.RetryDelay.AsDuration()
		}
	}
	switch codes.Code(st.Code) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return true, wait
	case codes.ResourceExhausted:
		return again, wait
	}
	return false, 0
}

// consistent says whether e's code alone, or with a RetryInfo, says what e.Retryable does.
func consistent(e *otlp.Error) bool {
	if e.Code <= 0 || e.Code > 16 {
		return false
	}
	again, _ := clientRetries(&rpcstatus.Status{Code: int32(e.Code)})
	return again == e.Retryable || e.Code == otlp.ResourceExhausted
}

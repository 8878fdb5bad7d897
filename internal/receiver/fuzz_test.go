package receiver_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

const fuzzLimit = 64 << 10

// compress writes body in a coding.
func compress(t testing.TB, coding otlp.Compression, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch coding {
	case otlp.None:
		return body
	case otlp.Gzip:
		w = gzip.NewWriter(&out)
	case otlp.Deflate:
		w = zlib.NewWriter(&out)
	case otlp.Zstd:
		w, err = zstd.NewWriter(&out)
	}
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// reference decompresses with streams of the plainest kind; fits is false where there is more than the limit.
func reference(coding string, body []byte) (plain []byte, fits bool, err error) {
	in := bytes.NewReader(body)
	var r io.Reader = in
	switch coding {
	case "gzip":
		r, err = gzip.NewReader(in)
	case "deflate":
		r, err = zlib.NewReader(in)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
		if len(body) == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		return nil, true, err
	}
	plain, err = io.ReadAll(io.LimitReader(r, fuzzLimit+1))
	if err == nil && len(plain) <= fuzzLimit && in.Len() > 0 {
		err = io.ErrNoProgress // bytes after the end
	}
	return plain, len(plain) <= fuzzLimit, err
}

// FuzzReceiver sends any body under any headers. Input never causes a 5xx; a body is taken where the official
// types take it, and then reaches the sink once, unless it has no records.
func FuzzReceiver(f *testing.F) {
	build := &otlptest.Builder{Name: "fuzz"}
	for _, sig := range otlp.Signals() {
		for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
			for _, coding := range []otlp.Compression{otlp.None, otlp.Gzip, otlp.Deflate, otlp.Zstd} {
				body := compress(f, coding, build.Build(sig, enc, 2).Body)
				f.Add(uint8(sig), enc.ContentType(), coding.String(), body, coding == otlp.Gzip)
				f.Add(uint8(sig), enc.ContentType()+"; charset=utf-8", coding.String(), body[:len(body)/2], false)
			}
			f.Add(uint8(sig), enc.ContentType(), "", []byte{}, true)
		}
	}
	f.Add(uint8(0), "text/plain", "br", []byte("{}"), false)
	f.Add(uint8(1), "application/json", "gzip, gzip", []byte("{}"), false)
	f.Add(uint8(2), "application/json", "", []byte(`{"resourceLogs":null}`), false)
	f.Add(uint8(0), "application/x-protobuf", "zstd", compress(f, otlp.Zstd, make([]byte, 1<<20)), false)
	f.Fuzz(func(t *testing.T, sig uint8, contentType, coding string, body []byte, chunked bool) {
		fuzzOne(t, otlp.Signal(sig%otlp.SignalCount), contentType, coding, body, chunked)
	})
}

func fuzzOne(t *testing.T, sig otlp.Signal, contentType, coding string, body []byte, chunked bool) {
	var got []otlp.Payload
	r := receiver.New(receiver.Config{
		Sink:     sinkFunc(func(p otlp.Payload) error { got = append(got, p); return nil }),
		MaxBytes: fuzzLimit,
	})
	q := request(contentType, coding, body)
	q.URL.Path = sig.Path()
	if chunked {
		q.ContentLength = -1
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)

	enc := otlp.JSON
	if w.Header().Get("Content-Type") == otlp.Protobuf.ContentType() {
		enc = otlp.Protobuf
	}
	if w.Code != 200 && len(got) > 0 {
		t.Fatalf("status %d, but the sink got it", w.Code)
	}
	switch w.Code {
	case 200, 400, 413:
		judge(t, w.Code, sig, enc, strings.ToLower(strings.TrimSpace(coding)), body, got)
	case 415:
		if knownCoding(coding) && (contentType == "application/json" || contentType == "application/x-protobuf") {
			t.Fatalf("status 415 for %q, %q", contentType, coding)
		}
	default:
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
}

func knownCoding(coding string) bool {
	switch coding {
	case "", "none", "identity", "gzip", "deflate", "zstd":
		return true
	}
	return false
}

// judge compares the answer with what the official types make of the body.
func judge(t *testing.T, status int, sig otlp.Signal, enc otlp.Encoding, coding string, body []byte, got []otlp.Payload) {
	if !knownCoding(coding) {
		return // a list, of which only one is not identity
	}
	plain, fits, err := reference(coding, body)
	if len(body) > fuzzLimit || !fits {
		if status == 200 {
			t.Fatalf("status 200 for %d bytes, decompressed at least %d", len(body), len(plain))
		}
		return
	}
	var decoded *otlptest.Decoded
	if err == nil {
		decoded, err = otlptest.Decode(sig, enc, plain)
	}
	if enc == otlp.JSON {
		// Decode checks each value of a record as a strict backend would; the receiver looks at JSON itself only.
		// encoding/json, behind Decode, forgives what is not UTF-8.
		valid := json.Valid(plain) && utf8.Valid(plain)
		if status == 200 && !valid {
			t.Fatalf("status 200 for what is not JSON: %q", plain)
		}
		if err == nil && valid && status != 200 && !repeats(plain) {
			t.Fatalf("status %d for JSON that a strict backend takes: %q", status, plain)
		}
	} else if (status == 200) != (err == nil) {
		t.Fatalf("status %d, but decoding says: %v", status, err)
	}
	if status == 200 && err == nil && len(got) != min(1, decoded.Records) {
		t.Fatalf("%d records reached the sink in %d requests", decoded.Records, len(got))
	}
	if len(got) == 1 && err == nil && (got[0].Records != decoded.Records || got[0].Size != len(plain) || !bytes.Equal(got[0].Body, body)) {
		t.Fatalf("payload of %d records, %d bytes; want %d, %d, and the body as sent", got[0].Records, got[0].Size, decoded.Records, len(plain))
	}
}

// repeats says whether JSON may have two members of one name in an object: decoders disagree about those.
func repeats(body []byte) bool {
	var tree any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&tree) != nil {
		return true
	}
	return bytes.Count(body, []byte(":")) != members(tree) // a colon in a string counts too: then nothing is known
}

func members(tree any) int {
	n := 0
	switch v := tree.(type) {
	case map[string]any:
		n = len(v)
		for _, child := range v {
			n += members(child)
		}
	case []any:
		for _, child := range v {
			n += members(child)
		}
	}
	return n
}

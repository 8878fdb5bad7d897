package otlp

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// stdDeflate and stdGzip are the standard library's.
func stdDeflate(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	w.Write(body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func stdGzip(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zstdStream is a frame that does not tell its size.
func zstdStream(t testing.TB, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(body)
	w.Flush() // lest it sees the end coming
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zstdFrame is one frame, which tells its size.
func zstdFrame(t testing.TB, body []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(body, nil)
}

// compressed is body in each coding that can be taken.
func compressed(t testing.TB, body []byte) map[string]Payload {
	t.Helper()
	var c Compressor
	ours := func(to Compression) []byte {
		out, err := c.Append([]byte("before"), body, to)
		if err != nil || !bytes.HasPrefix(out, []byte("before")) {
			t.Fatalf("compress to %s: %v", to, err)
		}
		return out[len("before"):]
	}
	return map[string]Payload{
		"none": {Compression: None, Body: ours(None)}, "gzip": {Compression: Gzip, Body: ours(Gzip)},
		"zstd": {Compression: Zstd, Body: zstdFrame(t, body)}, "std gzip": {Compression: Gzip, Body: stdGzip(t, body)},
		"zlib": {Compression: Deflate, Body: stdDeflate(t, body)}, "zstd stream": {Compression: Zstd, Body: zstdStream(t, body)},
	}
}

func TestCompressRoundTrip(t *testing.T) {
	var d Decompressor
	for _, n := range []int{0, 1, 100, 5_000, gzipStep, gzipStep + 1, 300_000} {
		body := bytes.Repeat([]byte("resource attributes and so on; "), n/31+1)[:n]
		for name, p := range compressed(t, body) {
			for _, limit := range []int{n, n + 1, 10 * n, 1 << 20} {
				got, err := d.Append([]byte("before"), p.Body, p.Compression, limit)
				if err != nil || string(got) != "before"+string(body) {
					t.Fatalf("%s of %d bytes, limit %d: %d bytes, %v", name, n, limit, len(got), err)
				}
			}
			if n == 0 {
				continue
			}
			for _, limit := range []int{n - 1, n / 2, 0} {
				got, err := d.Append([]byte("before"), p.Body, p.Compression, limit)
				if !errors.Is(err, ErrTooLarge) || string(got) != "before" {
					t.Fatalf("%s of %d bytes, limit %d: %q, %v; want ErrTooLarge", name, n, limit, got, err)
				}
			}
		}
	}
}

func TestGzipIsOneMemberThatOthersRead(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 20_000)
	out, err := new(Compressor).Append(nil, body, Gzip)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(body))
	}
}

func TestCompressToWhatBackendsNeedNotTake(t *testing.T) {
	for _, to := range []Compression{Deflate, Zstd} {
		if got, err := new(Compressor).Append([]byte("kept"), []byte("x"), to); err == nil || string(got) != "kept" {
			t.Errorf("%s: %q, %v; want an error", to, got, err)
		}
	}
}

func TestDecompressSeveral(t *testing.T) {
	a, b := bytes.Repeat([]byte("a"), 50_000), []byte("the second")
	want := string(a) + string(b)
	pa, pb := compressed(t, a), compressed(t, b)
	for _, name := range []string{"gzip", "std gzip", "zstd", "zstd stream"} {
		body := append(bytes.Clone(pa[name].Body), pb[name].Body...)
		var d Decompressor
		for _, limit := range []int{len(want), len(want) + 1, 1 << 20} {
			if got, err := d.Append(nil, body, pa[name].Compression, limit); err != nil || string(got) != want {
				t.Errorf("%s, limit %d: %d bytes, %v; want %d", name, limit, len(got), err, len(want))
			}
		}
		if _, err := d.Append(nil, body, pa[name].Compression, len(want)-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", name, err)
		}
	}
}

func TestDecompressMalformed(t *testing.T) {
	var d Decompressor
	body := bytes.Repeat([]byte("some telemetry, "), 1000)
	for name, p := range compressed(t, body) {
		if p.Compression == None {
			continue
		}
		flipped := bytes.Clone(p.Body)
		flipped[len(flipped)-1] ^= 1 // in the checksum, or in the size
		for what, bad := range map[string][]byte{
			"nothing": nil, "cut at the end": p.Body[:len(p.Body)-1], "cut in half": p.Body[:len(p.Body)/2],
			"only the head": p.Body[:3], "garbage after it": append(bytes.Clone(p.Body), "garbage"...),
			"one byte after it": append(bytes.Clone(p.Body), 0), "not compressed": body, "flipped": flipped,
		} {
			got, err := d.Append([]byte("kept"), bad, p.Compression, 1<<20)
			if err == nil || string(got) != "kept" {
				t.Errorf("%s, %s: %d bytes, %v; want an error", name, what, len(got), err)
			}
		}
		if got, err := d.Append(nil, p.Body, p.Compression, 1<<20); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s after the errors: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestRawDeflateIsRefused(t *testing.T) {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, 1)
	w.Write([]byte("no zlib header"))
	w.Close()
	if _, err := new(Decompressor).Append(nil, out.Bytes(), Deflate, 1000); err == nil {
		t.Error("want an error")
	}
}

// TestBomb decompresses bodies that are a thousand times larger than they look.
func TestBomb(t *testing.T) {
	const limit = 1 << 20
	for name, p := range compressed(t, make([]byte, 10<<20)) {
		var d Decompressor
		d.Append(nil, p.Body[:min(len(p.Body), 100)], p.Compression, limit) // makes the decoder
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := d.Append(nil, p.Body, p.Compression, limit)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 3*limit {
			t.Errorf("%s: allocated %d bytes at a limit of %d", name, used, limit)
		}
	}
}

func TestDecompressRealRequests(t *testing.T) {
	for _, p := range realRequests(t) {
		body, err := new(Decompressor).Append(nil, p.Body, p.Compression, 1<<20)
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		} else if _, err := Validate(p.Signal, p.Encoding, body); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

func FuzzCompress(f *testing.F) {
	for _, p := range plainRequests(f, Protobuf) {
		f.Add(p.Body, uint16(len(p.Body)), uint8(Gzip))
	}
	var c Compressor
	var d Decompressor
	f.Fuzz(func(t *testing.T, body []byte, limit uint16, coding uint8) {
		to := []Compression{None, Gzip}[coding%2]
		out, err := c.Append(nil, body, to)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Append(nil, out, to, int(limit))
		if len(body) <= int(limit) && (err != nil || !bytes.Equal(got, body)) {
			t.Fatalf("%s: %d bytes, %v; want %d", to, len(got), err, len(body))
		}
		if len(body) > int(limit) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("%s: %v, want ErrTooLarge", to, err)
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for _, p := range plainRequests(f, Protobuf) {
		for _, c := range compressed(f, p.Body) {
			f.Add(uint8(c.Compression), c.Body)
		}
	}
	const limit = 10_000
	var d Decompressor
	f.Fuzz(func(t *testing.T, coding uint8, body []byte) {
		from := Compression(coding % 4)
		got, err := d.Append(nil, body, from, limit)
		if len(got) > limit || err != nil && got != nil {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		want, stdErr := stdDecompress(from, body, limit)
		if errors.Is(stdErr, errors.ErrUnsupported) {
			return
		}
		if (err == nil) != (stdErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes, %v; the standard library %d, %v", from, len(got), err, len(want), stdErr)
		}
	})
}

// stdDecompress is the standard library's judgement.
func stdDecompress(from Compression, body []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(body)
	var r io.Reader
	var err error
	switch from {
	case None:
		r = src
	case Gzip:
		r, err = gzip.NewReader(src)
	case Deflate:
		r, err = zlib.NewReader(src)
	default:
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case err != nil:
		return nil, err
	case len(out) > limit:
		return nil, ErrTooLarge
	case src.Len() > 0:
		return nil, errors.New("something after the end")
	}
	return out, nil
}

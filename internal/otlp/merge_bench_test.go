package otlp

import "testing"

// BenchmarkMerge merges 1,000 payloads of 5.5 KB (10 spans each) into a kept buffer.
func BenchmarkMerge(b *testing.B) {
	for name, p := range map[string]Payload{
		"protobuf":      payload(b, Traces, Protobuf, None, benchBody(b, Protobuf, 10)),
		"protobuf-gzip": payload(b, Traces, Protobuf, Gzip, benchBody(b, Protobuf, 10)),
		"json":          payload(b, Traces, JSON, None, benchBody(b, JSON, 10)),
	} {
		b.Run(name, func(b *testing.B) {
			ps := make([]Payload, 1000)
			for i := range ps {
				ps[i] = p
			}
			var d Decompressor
			var out []byte
			b.SetBytes(int64(1000 * p.Size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = Merge(out[:0], ps, &d); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*10_000), "ns/span")
		})
	}
}

// BenchmarkSplit cuts a request of 5,000 spans into parts of 1 MiB.
func BenchmarkSplit(b *testing.B) {
	for _, enc := range []Encoding{Protobuf, JSON} {
		b.Run(enc.ContentType(), func(b *testing.B) {
			body := benchBody(b, enc, 5000)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Split(Traces, enc, body, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*5000), "ns/span")
		})
	}
}

// BenchmarkCompress compresses 50 merged requests of 10 spans each, a usual flush, and one alone.
func BenchmarkCompress(b *testing.B) {
	for _, to := range []Compression{Gzip} {
		for _, size := range []struct {
			name     string
			requests int
		}{{"1x10spans", 1}, {"50x10spans", 50}} {
			b.Run(to.String()+"/"+size.name, func(b *testing.B) {
				var body []byte
				for i := range size.requests {
					body = append(body, marshalBench(b, benchRequest(10*i, 10))...)
				}
				var c Compressor
				var out []byte
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if out, err = c.Append(out[:0], body, to); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(body))/float64(len(out)), "ratio")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*10*size.requests), "ns/span")
			})
		}
	}
}

// BenchmarkDecompress is what taking an SDK's compressed request costs.
func BenchmarkDecompress(b *testing.B) {
	for _, from := range []Compression{Gzip, Zstd} {
		b.Run(from.String(), func(b *testing.B) {
			p := payload(b, Traces, Protobuf, from, benchBody(b, Protobuf, 100))
			var d Decompressor
			b.SetBytes(int64(p.Size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Append(nil, p.Body, from, 64<<20); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*100), "ns/span")
		})
	}
}

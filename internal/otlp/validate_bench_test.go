package otlp

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

var benchSpans = []int{1, 10, 100, 512}

// benchRequest is a request of n spans, from number first on, as instrumented HTTP, DynamoDB and SQL clients
// make them: 10 attributes and about 450 bytes a span.
func benchRequest(first, n int) *tracepb.ExportTraceServiceRequest {
	resource := &resourcepb.Resource{}
	for i := range 14 {
		resource.Attributes = append(resource.Attributes, stringAttr(fmt.Sprintf("cloud.resource.%d", i), "arn:aws:lambda:eu-west-1:123456789012"))
	}
	scopes := []*spanpb.ScopeSpans{
		{Scope: &commonpb.InstrumentationScope{Name: "opentelemetry.instrumentation.http", Version: "1.4.2"}},
		{Scope: &commonpb.InstrumentationScope{Name: "opentelemetry.instrumentation.aws-sdk", Version: "0.44.0"}},
	}
	for i := range n {
		scopes[i%2].Spans = append(scopes[i%2].Spans, benchSpan(first+i))
	}
	return &tracepb.ExportTraceServiceRequest{ResourceSpans: []*spanpb.ResourceSpans{{
		Resource: resource, ScopeSpans: scopes, SchemaUrl: "https://opentelemetry.io/schemas/1.43.0",
	}}}
}

func benchSpan(i int) *spanpb.Span {
	s := &spanpb.Span{
		TraceId:           append(randomID(i/10), randomID(-1-i/10)...),
		SpanId:            randomID(1000 + i),
		ParentSpanId:      randomID(1000 + i - 1),
		Name:              "GET /orders/{id}",
		Kind:              spanpb.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: 1_764_000_000_000_000_000 + uint64(i)*1_000_003,
		EndTimeUnixNano:   1_764_000_000_002_000_000 + uint64(i)*1_000_003,
		Flags:             257,
		Status:            &spanpb.Status{},
		Attributes: []*commonpb.KeyValue{
			stringAttr("http.request.method", "GET"),
			stringAttr("url.full", fmt.Sprintf("https://api.example.com/orders/%d", i)),
			stringAttr("server.address", "api.example.com"),
			intAttr("server.port", 443),
			intAttr("http.response.status_code", 200),
			stringAttr("network.protocol.version", "1.1"),
			stringAttr("db.system.name", "dynamodb"),
			stringAttr("db.operation.name", "GetItem"),
			stringAttr("aws.request_id", fmt.Sprintf("%016X", randomID(2000+i))),
			stringAttr("db.collection.name", "orders"),
		},
	}
	if i%10 == 9 {
		s.Events = []*spanpb.Span_Event{{
			TimeUnixNano: s.EndTimeUnixNano, Name: "exception",
			Attributes: []*commonpb.KeyValue{
				stringAttr("exception.type", "TimeoutError"),
				stringAttr("exception.stacktrace", strings.Repeat("at handler (/var/task/index.js:12:7)\n", 4)),
			},
		}}
	}
	return s
}

// randomID is 8 bytes that compress as little as real ids do, the same for the same seed.
func randomID(seed int) []byte {
	return binary.BigEndian.AppendUint64(nil, newRand(uint64(seed)).Uint64())
}

func stringAttr(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func intAttr(key string, value int64) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: value}}}
}

// benchBody is benchRequest in enc; its JSON is what the collector writes.
func benchBody(b testing.TB, enc Encoding, spans int) []byte {
	body := marshalBench(b, benchRequest(0, spans))
	if enc == Protobuf {
		return body
	}
	request := ptraceotlp.NewExportRequest()
	if err := request.UnmarshalProto(body); err != nil {
		b.Fatal(err)
	}
	body, err := request.MarshalJSON()
	if err != nil {
		b.Fatal(err)
	}
	return body
}

func marshalBench(b testing.TB, request *tracepb.ExportTraceServiceRequest) []byte {
	body, err := proto.Marshal(request)
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// perSpan runs f once per loop, on a request of each size.
func perSpan(b *testing.B, enc Encoding, f func(body []byte) error) {
	for _, n := range benchSpans {
		b.Run(fmt.Sprintf("%dspans", n), func(b *testing.B) {
			body := benchBody(b, enc, n)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := f(body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/span")
		})
	}
}

func BenchmarkValidateProtobuf(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		perSpan(b, Protobuf, func(body []byte) error {
			_, err := Validate(Traces, Protobuf, body)
			return err
		})
	})
	b.Run("proto.Unmarshal", func(b *testing.B) {
		perSpan(b, Protobuf, func(body []byte) error {
			return proto.Unmarshal(body, new(tracepb.ExportTraceServiceRequest))
		})
	})
	b.Run("pdata", func(b *testing.B) {
		perSpan(b, Protobuf, func(body []byte) error {
			_, err := new(ptrace.ProtoUnmarshaler).UnmarshalTraces(body)
			return err
		})
	})
}

func BenchmarkValidateJSON(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		perSpan(b, JSON, func(body []byte) error {
			_, err := Validate(Traces, JSON, body)
			return err
		})
	})
	b.Run("pdata", func(b *testing.B) {
		perSpan(b, JSON, func(body []byte) error {
			_, err := new(ptrace.JSONUnmarshaler).UnmarshalTraces(body)
			return err
		})
	})
}

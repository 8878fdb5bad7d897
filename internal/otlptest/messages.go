package otlptest

import (
	"fmt"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	profiles "go.opentelemetry.io/proto/slim/otlp/profiles/v1development"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

const schemaURL = "https://opentelemetry.io/schemas/1.43.0"

// message is an export request with a record for each key, the first half in one scope, the rest in another.
func (b *Builder) message(sig otlp.Signal, keys []key) proto.Message {
	half := (len(keys) + 1) / 2
	parts := [][]key{keys[:half]}
	if half < len(keys) {
		parts = append(parts, keys[half:])
	}
	switch sig {
	case otlp.Metrics:
		rm := &metrics.ResourceMetrics{Resource: function(), SchemaUrl: schemaURL}
		for i, part := range parts {
			rm.ScopeMetrics = append(rm.ScopeMetrics, &metrics.ScopeMetrics{Scope: scope(i), Metrics: instruments(part)})
		}
		return &colmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{rm}}
	case otlp.Logs:
		rl := &logs.ResourceLogs{Resource: function(), SchemaUrl: schemaURL}
		for i, part := range parts {
			rl.ScopeLogs = append(rl.ScopeLogs, &logs.ScopeLogs{Scope: scope(i), LogRecords: each(part, logRecord)})
		}
		return &collogs.ExportLogsServiceRequest{ResourceLogs: []*logs.ResourceLogs{rl}}
	case otlp.Profiles:
		return profilesData(keys)
	}
	rs := &trace.ResourceSpans{Resource: function(), SchemaUrl: schemaURL}
	for i, part := range parts {
		rs.ScopeSpans = append(rs.ScopeSpans, &trace.ScopeSpans{Scope: scope(i), Spans: each(part, span)})
	}
	return &coltrace.ExportTraceServiceRequest{ResourceSpans: []*trace.ResourceSpans{rs}}
}

func each[T any](keys []key, make func(key) T) []T {
	var all []T
	for _, k := range keys {
		all = append(all, make(k))
	}
	return all
}

func text(k, v string) *common.KeyValue {
	return &common.KeyValue{Key: k, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: v}}}
}

func number(k string, v int64) *common.KeyValue {
	return &common.KeyValue{Key: k, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: v}}}
}

// function is the resource of a Lambda function, as an SDK's detectors describe it.
func function() *resource.Resource {
	return &resource.Resource{Attributes: []*common.KeyValue{
		text("service.name", "orders-api"),
		text("service.version", "2026.11.3"),
		text("deployment.environment.name", "production"),
		text("cloud.provider", "aws"),
		text("cloud.platform", "aws_lambda"),
		text("cloud.region", "eu-west-1"),
		text("cloud.account.id", "123456789012"),
		text("faas.name", "orders-api-handler"),
		text("faas.version", "$LATEST"),
		text("faas.instance", "2026/11/24/[$LATEST]4f2d8b1c9e7a4c53b0a6d2e1f3987654"),
		number("faas.max_memory", 536_870_912),
		text("telemetry.sdk.name", "opentelemetry"),
		text("telemetry.sdk.language", "go"),
		text("telemetry.sdk.version", "1.47.0"),
	}}
}

func scope(i int) *common.InstrumentationScope {
	names := []string{"github.com/example/orders/internal/handler", "github.com/example/otelaws"}
	return &common.InstrumentationScope{Name: names[i], Version: "0.61.0"}
}

func span(k key) *trace.Span {
	s := &trace.Span{
		TraceId: k.traceID(), SpanId: k.spanID(), Flags: 257,
		Name: "GET /orders/{id}", Kind: trace.Span_SPAN_KIND_CLIENT,
		StartTimeUnixNano: k.time(), EndTimeUnixNano: k.time() + 23_417_000,
		Attributes: []*common.KeyValue{
			text("http.request.method", "GET"),
			text("url.full", fmt.Sprintf("https://orders.internal.example.com/orders/%d?expand=items", k.n)),
			number("http.response.status_code", 200),
			text("server.address", "orders.internal.example.com"),
			number("server.port", 443),
			text("network.protocol.version", "1.1"),
			text("user_agent.original", "aws-sdk-go-v2/1.47.7 os/linux"),
			text("db.system.name", "aws.dynamodb"),
			text("db.query.text", "SELECT * FROM orders WHERE id = ? AND state <> ?"),
			number("http.response.body.size", 1024+k.n%4096),
		},
		Status: &trace.Status{Code: trace.Status_STATUS_CODE_OK},
	}
	if k.n%2 == 1 {
		s.ParentSpanId = k.hash[24:]
	}
	if k.n%10 == 9 {
		s.Events = []*trace.Span_Event{{TimeUnixNano: k.time(), Name: "exception", Attributes: []*common.KeyValue{
			text("exception.type", "*net.OpError"), text("exception.message", "read tcp: connection reset by peer"),
		}}}
	}
	if k.pad > 0 {
		s.Attributes = append(s.Attributes, text("padding", k.padding()))
	}
	return s
}

func logRecord(k key) *logs.LogRecord {
	return &logs.LogRecord{
		TimeUnixNano: k.time(), ObservedTimeUnixNano: k.time() + 1000,
		SeverityNumber: logs.SeverityNumber_SEVERITY_NUMBER_INFO, SeverityText: "INFO",
		Body:       text("", "order accepted, payment authorised, stock reserved").Value,
		Attributes: k.attributes(text("order.state", "accepted"), number("order.items", k.n%9)),
		TraceId:    k.traceID(), SpanId: k.spanID(), Flags: 1,
	}
}

// attributes are those of a record whose id is an attribute.
func (k key) attributes(more ...*common.KeyValue) []*common.KeyValue {
	all := append([]*common.KeyValue{text(IDAttribute, k.name)}, more...)
	if k.pad > 0 {
		all = append(all, text("padding", k.padding()))
	}
	return all
}

// instruments spreads the points over metrics of three kinds, four points to a metric.
func instruments(keys []key) []*metrics.Metric {
	var all []*metrics.Metric
	for i := 0; i < len(keys); i += 4 {
		all = append(all, instrument(i/4, keys[i:min(i+4, len(keys))]))
	}
	return all
}

func instrument(i int, keys []key) *metrics.Metric {
	const cumulative = metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	m := &metrics.Metric{Unit: "ms", Description: "made for a test"}
	switch i % 3 {
	case 0:
		m.Name = "orders.in_flight"
		m.Data = &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: each(keys, numberPoint)}}
	case 1:
		m.Name = "orders.accepted"
		m.Data = &metrics.Metric_Sum{Sum: &metrics.Sum{
			DataPoints: each(keys, numberPoint), AggregationTemporality: cumulative, IsMonotonic: true}}
	default:
		m.Name = "http.client.request.duration"
		m.Data = &metrics.Metric_Histogram{Histogram: &metrics.Histogram{
			DataPoints: each(keys, histogramPoint), AggregationTemporality: cumulative}}
	}
	return m
}

func numberPoint(k key) *metrics.NumberDataPoint {
	return &metrics.NumberDataPoint{
		StartTimeUnixNano: k.time() - 1_000_000_000, TimeUnixNano: k.time(),
		Attributes: k.attributes(text("http.route", "/orders/{id}")),
		Value:      &metrics.NumberDataPoint_AsInt{AsInt: k.n},
	}
}

func histogramPoint(k key) *metrics.HistogramDataPoint {
	return &metrics.HistogramDataPoint{
		StartTimeUnixNano: k.time() - 1_000_000_000, TimeUnixNano: k.time(),
		Attributes: k.attributes(text("http.route", "/orders/{id}")),
		Count:      10, Sum: proto.Float64(123.5), Min: proto.Float64(1), Max: proto.Float64(60),
		ExplicitBounds: []float64{5, 10, 25, 50}, BucketCounts: []uint64{1, 4, 3, 1, 1},
	}
}

// profilesData is a request of profiles: its dictionary's first elements are empty, as the proto demands.
func profilesData(keys []key) proto.Message {
	dictionary := &profiles.ProfilesDictionary{
		MappingTable:   []*profiles.Mapping{{}},
		LocationTable:  []*profiles.Location{{}, {Lines: []*profiles.Line{{FunctionIndex: 1, Line: 42}}}},
		FunctionTable:  []*profiles.Function{{}, {NameStrindex: 3}},
		LinkTable:      []*profiles.Link{{}},
		StringTable:    []string{"", "cpu", "nanoseconds", "main.handler"},
		AttributeTable: []*profiles.KeyValueAndUnit{{}},
		StackTable:     []*profiles.Stack{{}, {LocationIndices: []int32{1}}},
	}
	scoped := &profiles.ScopeProfiles{}
	for _, k := range keys {
		dictionary.StringTable = append(dictionary.StringTable, k.padding())
		scoped.Profiles = append(scoped.Profiles, &profiles.Profile{
			ProfileId:    k.hash[:16],
			SampleType:   &profiles.ValueType{TypeStrindex: 1, UnitStrindex: 2},
			PeriodType:   &profiles.ValueType{TypeStrindex: 1, UnitStrindex: 2},
			Samples:      []*profiles.Sample{{StackIndex: 1, Values: []int64{k.n}}},
			TimeUnixNano: k.time(), DurationNano: 1_000_000, Period: 10_000,
		})
	}
	return &profiles.ProfilesData{
		ResourceProfiles: []*profiles.ResourceProfiles{{ScopeProfiles: []*profiles.ScopeProfiles{scoped}}},
		Dictionary:       dictionary,
	}
}

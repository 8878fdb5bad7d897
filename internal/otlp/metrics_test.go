package otlp

import (
	"strings"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// TestMeasurements reads what Append writes with the official types.
func TestMeasurements(t *testing.T) {
	signal := []Attribute{{Key: "signal", Text: "traces"}}
	long := strings.Repeat("x", 300)
	m := Measurements{
		Resource: []Attribute{{Key: "faas.name", Text: "fn"}, {Key: "faas.max_memory", Int: 134217728, IsInt: true}, {Key: "empty"}},
		Scope:    "scope", Version: "1",
		Start: time.Unix(1, 0), Time: time.Unix(2, 5),
		Metrics: []Metric{
			{Name: "a.counter", Unit: "By", Description: long, Kind: CounterMetric, Points: []Point{{signal, 7}, {nil, 0}}},
			{Name: "a.gauge", Unit: "1", Kind: GaugeMetric, Points: []Point{{nil, -3}}},
			{Name: "an.up_down_counter", Kind: UpDownCounterMetric, Points: []Point{{signal, 9}}},
		},
	}
	body, points := m.Append([]byte("before"))
	if string(body[:6]) != "before" || points != 4 {
		t.Errorf("%q, %d points", body[:6], points)
	}
	body = body[6:]
	if n, err := Validate(Metrics, Protobuf, body); err != nil || n != 4 {
		t.Errorf("validated %d, %v", n, err)
	}
	want := new(metricspb.ExportMetricsServiceRequest)
	if err := protojson.Unmarshal([]byte(`{"resourceMetrics":[{
		"resource":{"attributes":[{"key":"faas.name","value":{"stringValue":"fn"}},{"key":"faas.max_memory","value":{"intValue":134217728}},
			{"key":"empty","value":{"stringValue":""}}]},
		"scopeMetrics":[{"scope":{"name":"scope","version":"1"},"metrics":[
			{"name":"a.counter","unit":"By","description":"`+long+`","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
				{"startTimeUnixNano":1000000000,"timeUnixNano":2000000005,"asInt":7,"attributes":[{"key":"signal","value":{"stringValue":"traces"}}]},
				{"startTimeUnixNano":1000000000,"timeUnixNano":2000000005,"asInt":0}]}},
			{"name":"a.gauge","unit":"1","gauge":{"dataPoints":[{"timeUnixNano":2000000005,"asInt":-3}]}},
			{"name":"an.up_down_counter","sum":{"aggregationTemporality":2,"dataPoints":[
				{"startTimeUnixNano":1000000000,"timeUnixNano":2000000005,"asInt":9,"attributes":[{"key":"signal","value":{"stringValue":"traces"}}]}]}}
		]}]}]}`), want); err != nil {
		t.Fatal(err)
	}
	got := new(metricspb.ExportMetricsServiceRequest)
	if err := proto.Unmarshal(body, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

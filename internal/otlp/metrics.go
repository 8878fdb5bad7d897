package otlp

import (
	"encoding/binary"
	"time"
)

// Attribute is a key and its value.
type Attribute struct {
	Key   string
	Text  string
	Int   int64
	IsInt bool // the value is Int, not Text
}

// MetricKind is how a metric's values relate to one another.
type MetricKind uint8

// The kinds (OpenTelemetry metrics data model): what is now; what only grows, since Measurements.Start; what goes up and down and
// may be summed over processes.
const (
	GaugeMetric MetricKind = iota
	CounterMetric
	UpDownCounterMetric
)

// Metric is a metric with whole numbers for values.
type Metric struct {
	Name, Unit, Description string
	Kind                    MetricKind
	Points                  []Point
}

// Point is a value of a metric.
type Point struct {
	Attributes []Attribute
	Value      int64
}

// Measurements is what one source measured of itself.
type Measurements struct {
	Resource       []Attribute
	Scope, Version string    // of the instrumentation
	Start, Time    time.Time // since when it counts, and now
	Metrics        []Metric
}

// Field numbers and values of OTLP that Measurements needs beside those of wire_schema.go.
const (
	sumTemporality         = 2
	sumMonotonic           = 3
	temporalityCumulative  = 2
	pointStart, pointTime  = 2, 3
	pointInt, pointAttrs   = 6, 7
	anyValueText           = 1
	anyValueInt            = 3
	metricGauge, metricSum = 5, 7
)

// Append appends m as an ExportMetricsServiceRequest, and says how many data points that is.
func (m *Measurements) Append(dst []byte) (request []byte, points int) {
	dst = appendNested(dst, 1, func(dst []byte) []byte { // resource_metrics
		dst = appendNested(dst, 1, func(dst []byte) []byte { return appendAttributes(dst, 1, m.Resource) })
		return appendNested(dst, 2, func(dst []byte) []byte { // scope_metrics
			dst = appendNested(dst, 1, func(dst []byte) []byte {
				return appendTextField(appendTextField(dst, 1, m.Scope), 2, m.Version)
			})
			for i := range m.Metrics {
				dst = appendNested(dst, 2, func(dst []byte) []byte { return m.appendMetric(dst, &m.Metrics[i]) })
				points += len(m.Metrics[i].Points)
			}
			return dst
		})
	})
	return dst, points
}

func (m *Measurements) appendMetric(dst []byte, metric *Metric) []byte {
	dst = appendTextField(dst, 1, metric.Name)
	dst = appendTextField(dst, 2, metric.Description)
	dst = appendTextField(dst, 3, metric.Unit)
	data := uint8(metricSum)
	if metric.Kind == GaugeMetric {
		data = metricGauge
	}
	return appendNested(dst, data, func(dst []byte) []byte {
		for _, p := range metric.Points {
			dst = appendNested(dst, 1, func(dst []byte) []byte { return m.appendPoint(dst, metric.Kind, p) })
		}
		if metric.Kind != GaugeMetric {
			dst = appendIntField(dst, sumTemporality, temporalityCumulative)
		}
		if metric.Kind == CounterMetric {
			dst = appendIntField(dst, sumMonotonic, 1)
		}
		return dst
	})
}

func (m *Measurements) appendPoint(dst []byte, kind MetricKind, p Point) []byte {
	if kind != GaugeMetric {
		dst = appendFixed64Field(dst, pointStart, uint64(m.Start.UnixNano()))
	}
	dst = appendFixed64Field(dst, pointTime, uint64(m.Time.UnixNano()))
	dst = appendFixed64Field(dst, pointInt, uint64(p.Value)) // of a oneof: a zero is written too
	return appendAttributes(dst, pointAttrs, p.Attributes)
}

func appendAttributes(dst []byte, num uint8, attrs []Attribute) []byte {
	for _, a := range attrs {
		dst = appendNested(dst, num, func(dst []byte) []byte {
			dst = appendTextField(dst, 1, a.Key)
			return appendNested(dst, 2, func(dst []byte) []byte {
				if a.IsInt {
					return binary.AppendUvarint(appendTag(dst, anyValueInt, wireVarint), uint64(a.Int))
				}
				return appendBytesField(dst, anyValueText, a.Text)
			})
		})
	}
	return dst
}

func appendFixed64Field(dst []byte, num uint8, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(appendTag(dst, num, wireFixed64), v)
}

// appendNested appends a field that holds the message which build appends.
func appendNested(dst []byte, num uint8, build func([]byte) []byte) []byte {
	dst = appendTag(dst, num, wireBytes)
	start := len(dst)
	return sealed(build(append(dst, 0)), start)
}

package otlp

// kind is what a length-delimited field holds. Only those need a look: a scalar is read by its wire type, and
// a known field of another wire type is, to a decoder, an unknown one.
type kind uint8

const (
	opaque        kind = iota // bytes, or a field that OTLP does not know
	text                      // a string: it must be UTF-8 (proto3)
	packedVarint              // repeated numbers
	packedFixed64             // repeated numbers of 8 bytes
	nested                    // a message
	nestedRecord              // a message that counts: a span, data point, log record or profile
	nestedMetric              // a Metric
	nestedData                // a member of Metric's oneof
)

// field describes one field of a message.
type field struct {
	is kind
	of message // where it is nested
}

// maxField is the largest field number in OTLP (Span.flags).
const maxField = 16

// message is a type of OTLP's messages.
type message uint8

const (
	traceRequest message = iota
	metricsRequest
	logsRequest
	profilesRequest
	resourceSpans
	resourceMetrics
	resourceLogs
	resourceProfiles
	scopeSpans
	scopeMetrics
	scopeLogs
	scopeProfiles
	resource
	entityRef
	instrumentationScope
	keyValue
	anyValue
	arrayValue
	keyValueList
	span
	spanEvent
	spanLink
	spanStatus
	metric
	gauge
	sum
	histogram
	exponentialHistogram
	summary
	numberDataPoint
	histogramDataPoint
	exponentialHistogramDataPoint
	summaryDataPoint
	buckets
	valueAtQuantile
	exemplar
	logRecord
	profile
	valueType
	sample
	profilesDictionary
	mapping
	location
	line
	function
	profileLink
	keyValueAndUnit
	stack
	messageCount
)

// requests are the signals' top messages.
var requests = [SignalCount]message{traceRequest, metricsRequest, logsRequest, profilesRequest}

// schema lists the length-delimited fields of OTLP 1.11 (profiles: v1development 0.4) by number. A test holds
// it against the official descriptors.
var schema = [messageCount][maxField + 1]field{
	traceRequest:    {1: {nested, resourceSpans}},
	metricsRequest:  {1: {nested, resourceMetrics}},
	logsRequest:     {1: {nested, resourceLogs}},
	profilesRequest: {1: {nested, resourceProfiles}, 2: {nested, profilesDictionary}},

	resourceSpans:    {1: {nested, resource}, 2: {nested, scopeSpans}, 3: {is: text}},
	resourceMetrics:  {1: {nested, resource}, 2: {nested, scopeMetrics}, 3: {is: text}},
	resourceLogs:     {1: {nested, resource}, 2: {nested, scopeLogs}, 3: {is: text}},
	resourceProfiles: {1: {nested, resource}, 2: {nested, scopeProfiles}, 3: {is: text}},

	scopeSpans:    {1: {nested, instrumentationScope}, 2: {nestedRecord, span}, 3: {is: text}},
	scopeMetrics:  {1: {nested, instrumentationScope}, 2: {nestedMetric, metric}, 3: {is: text}},
	scopeLogs:     {1: {nested, instrumentationScope}, 2: {nestedRecord, logRecord}, 3: {is: text}},
	scopeProfiles: {1: {nested, instrumentationScope}, 2: {nestedRecord, profile}, 3: {is: text}},

	resource:             {1: {nested, keyValue}, 3: {nested, entityRef}},
	entityRef:            {1: {is: text}, 2: {is: text}, 3: {is: text}, 4: {is: text}},
	instrumentationScope: {1: {is: text}, 2: {is: text}, 3: {nested, keyValue}},
	keyValue:             {1: {is: text}, 2: {nested, anyValue}},
	anyValue:             {1: {is: text}, 5: {nested, arrayValue}, 6: {nested, keyValueList}},
	arrayValue:           {1: {nested, anyValue}},
	keyValueList:         {1: {nested, keyValue}},

	span: {
		3: {is: text}, 5: {is: text}, 9: {nested, keyValue}, 11: {nested, spanEvent}, 13: {nested, spanLink},
		15: {nested, spanStatus},
	},
	spanEvent:  {2: {is: text}, 3: {nested, keyValue}},
	spanLink:   {3: {is: text}, 4: {nested, keyValue}},
	spanStatus: {2: {is: text}},

	metric: {
		1: {is: text}, 2: {is: text}, 3: {is: text}, 5: {nestedData, gauge}, 7: {nestedData, sum},
		9: {nestedData, histogram}, 10: {nestedData, exponentialHistogram}, 11: {nestedData, summary},
		12: {nested, keyValue},
	},
	gauge:                {1: {nestedRecord, numberDataPoint}},
	sum:                  {1: {nestedRecord, numberDataPoint}},
	histogram:            {1: {nestedRecord, histogramDataPoint}},
	exponentialHistogram: {1: {nestedRecord, exponentialHistogramDataPoint}},
	summary:              {1: {nestedRecord, summaryDataPoint}},
	numberDataPoint:      {5: {nested, exemplar}, 7: {nested, keyValue}},
	histogramDataPoint: {
		6: {is: packedFixed64}, 7: {is: packedFixed64}, 8: {nested, exemplar}, 9: {nested, keyValue},
	},
	exponentialHistogramDataPoint: {
		1: {nested, keyValue}, 8: {nested, buckets}, 9: {nested, buckets}, 11: {nested, exemplar},
	},
	summaryDataPoint: {6: {nested, valueAtQuantile}, 7: {nested, keyValue}},
	buckets:          {2: {is: packedVarint}},
	exemplar:         {7: {nested, keyValue}},

	logRecord: {3: {is: text}, 5: {nested, anyValue}, 6: {nested, keyValue}, 12: {is: text}},

	profile: {
		1: {nested, valueType}, 2: {nested, sample}, 5: {nested, valueType}, 9: {is: text},
		11: {is: packedVarint},
	},
	sample: {2: {is: packedVarint}, 4: {is: packedVarint}, 5: {is: packedFixed64}},
	profilesDictionary: {
		1: {nested, mapping}, 2: {nested, location}, 3: {nested, function}, 4: {nested, profileLink},
		5: {is: text}, 6: {nested, keyValueAndUnit}, 7: {nested, stack},
	},
	mapping:         {5: {is: packedVarint}},
	location:        {3: {nested, line}, 4: {is: packedVarint}},
	keyValueAndUnit: {2: {nested, anyValue}},
	stack:           {1: {is: packedVarint}},
}

// fieldNames are the names of the nested fields, for errors.
var fieldNames = [messageCount][maxField + 1]string{
	traceRequest:         {1: "resource_spans"},
	metricsRequest:       {1: "resource_metrics"},
	logsRequest:          {1: "resource_logs"},
	profilesRequest:      {1: "resource_profiles", 2: "dictionary"},
	resourceSpans:        {1: "resource", 2: "scope_spans"},
	resourceMetrics:      {1: "resource", 2: "scope_metrics"},
	resourceLogs:         {1: "resource", 2: "scope_logs"},
	resourceProfiles:     {1: "resource", 2: "scope_profiles"},
	scopeSpans:           {1: "scope", 2: "spans"},
	scopeMetrics:         {1: "scope", 2: "metrics"},
	scopeLogs:            {1: "scope", 2: "log_records"},
	scopeProfiles:        {1: "scope", 2: "profiles"},
	resource:             {1: "attributes", 3: "entity_refs"},
	instrumentationScope: {3: "attributes"},
	keyValue:             {2: "value"},
	anyValue:             {5: "array_value", 6: "kvlist_value"},
	arrayValue:           {1: "values"},
	keyValueList:         {1: "values"},
	span:                 {9: "attributes", 11: "events", 13: "links", 15: "status"},
	spanEvent:            {3: "attributes"},
	spanLink:             {4: "attributes"},
	metric: {
		5: "gauge", 7: "sum", 9: "histogram", 10: "exponential_histogram", 11: "summary", 12: "metadata",
	},
	gauge:                         {1: "data_points"},
	sum:                           {1: "data_points"},
	histogram:                     {1: "data_points"},
	exponentialHistogram:          {1: "data_points"},
	summary:                       {1: "data_points"},
	numberDataPoint:               {5: "exemplars", 7: "attributes"},
	histogramDataPoint:            {8: "exemplars", 9: "attributes"},
	exponentialHistogramDataPoint: {1: "attributes", 8: "positive", 9: "negative", 11: "exemplars"},
	summaryDataPoint:              {6: "quantile_values", 7: "attributes"},
	exemplar:                      {7: "filtered_attributes"},
	logRecord:                     {5: "body", 6: "attributes"},
	profile:                       {1: "sample_type", 2: "samples", 5: "period_type"},
	profilesDictionary: {
		1: "mapping_table", 2: "location_table", 3: "function_table", 4: "link_table", 6: "attribute_table",
		7: "stack_table",
	},
	location:        {3: "lines"},
	keyValueAndUnit: {2: "value"},
}

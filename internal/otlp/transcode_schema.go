package otlp

// jsonKind is how a field's value is written in JSON, and in protobuf.
type jsonKind uint8

const (
	jsonMessage jsonKind = iota
	jsonBool
	jsonInt32 // or an enum: a number, never a name
	jsonInt64
	jsonAnyInt // AnyValue.int_value
	jsonUint32
	jsonUint64
	jsonSint32
	jsonFixed32
	jsonFixed64
	jsonSfixed64
	jsonFloat
	// From here on a JSON string, and a length-delimited field.
	jsonString
	jsonHex    // ids (OTLP specification, "JSON Protobuf Encoding")
	jsonBase64 // other bytes
)

// jsonKindNames say what a value should have been.
var jsonKindNames = [...]string{
	jsonMessage: "an object", jsonBool: "true or false", jsonInt32: "a 32-bit integer", jsonInt64: "a 64-bit integer",
	jsonAnyInt: "a number", jsonUint32: "an unsigned 32-bit integer", jsonUint64: "an unsigned 64-bit integer",
	jsonSint32: "a 32-bit integer", jsonFixed32: "an unsigned 32-bit integer", jsonFixed64: "an unsigned 64-bit integer",
	jsonSfixed64: "a 64-bit integer", jsonFloat: "a number", jsonString: "a string",
	jsonHex: "an id in hexadecimal digits", jsonBase64: "a string in base64",
}

// wire is the wire type of a number.
func (k jsonKind) wire() uint64 {
	switch k {
	case jsonFixed32:
		return wireFixed32
	case jsonFixed64, jsonSfixed64, jsonFloat:
		return wireFixed64
	}
	return wireVarint
}

// jsonField is one field of a message as JSON has it.
type jsonField struct {
	name string // in lowerCamelCase: OTLP's JSON knows no other
	num  uint8
	as   jsonKind
	list bool
}

// anyValueDouble is the number of AnyValue.double_value.
const anyValueDouble = 4

// jsonFieldOf is the field of a message that a member of this (escaped) name is; nil where OTLP has none.
func jsonFieldOf(of message, name []byte) *jsonField {
	fields := jsonFields[of]
	for i := range fields {
		if jsonNameIs(name, fields[i].name) {
			return &fields[i]
		}
	}
	return nil
}

// jsonFields lists the fields of OTLP 1.11 (profiles: v1development 0.4); what a nested one is stands in schema. A test
// holds it against the official descriptors.
var jsonFields = [messageCount][]jsonField{
	traceRequest: {
		{name: "resourceSpans", num: 1, as: jsonMessage, list: true},
	},
	metricsRequest: {
		{name: "resourceMetrics", num: 1, as: jsonMessage, list: true},
	},
	logsRequest: {
		{name: "resourceLogs", num: 1, as: jsonMessage, list: true},
	},
	profilesRequest: {
		{name: "resourceProfiles", num: 1, as: jsonMessage, list: true},
		{name: "dictionary", num: 2, as: jsonMessage},
	},
	resourceSpans: {
		{name: "resource", num: 1, as: jsonMessage},
		{name: "scopeSpans", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	resourceMetrics: {
		{name: "resource", num: 1, as: jsonMessage},
		{name: "scopeMetrics", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	resourceLogs: {
		{name: "resource", num: 1, as: jsonMessage},
		{name: "scopeLogs", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	resourceProfiles: {
		{name: "resource", num: 1, as: jsonMessage},
		{name: "scopeProfiles", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	scopeSpans: {
		{name: "scope", num: 1, as: jsonMessage},
		{name: "spans", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	scopeMetrics: {
		{name: "scope", num: 1, as: jsonMessage},
		{name: "metrics", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	scopeLogs: {
		{name: "scope", num: 1, as: jsonMessage},
		{name: "logRecords", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	scopeProfiles: {
		{name: "scope", num: 1, as: jsonMessage},
		{name: "profiles", num: 2, as: jsonMessage, list: true},
		{name: "schemaUrl", num: 3, as: jsonString},
	},
	resource: {
		{name: "attributes", num: 1, as: jsonMessage, list: true},
		{name: "droppedAttributesCount", num: 2, as: jsonUint32},
		{name: "entityRefs", num: 3, as: jsonMessage, list: true},
	},
	entityRef: {
		{name: "schemaUrl", num: 1, as: jsonString},
		{name: "type", num: 2, as: jsonString},
		{name: "idKeys", num: 3, as: jsonString, list: true},
		{name: "descriptionKeys", num: 4, as: jsonString, list: true},
	},
	instrumentationScope: {
		{name: "name", num: 1, as: jsonString},
		{name: "version", num: 2, as: jsonString},
		{name: "attributes", num: 3, as: jsonMessage, list: true},
		{name: "droppedAttributesCount", num: 4, as: jsonUint32},
	},
	keyValue: {
		{name: "key", num: 1, as: jsonString},
		{name: "value", num: 2, as: jsonMessage},
		{name: "keyStrindex", num: 3, as: jsonInt32},
	},
	anyValue: {
		{name: "stringValue", num: 1, as: jsonString},
		{name: "boolValue", num: 2, as: jsonBool},
		{name: "intValue", num: 3, as: jsonAnyInt},
		{name: "doubleValue", num: 4, as: jsonFloat},
		{name: "arrayValue", num: 5, as: jsonMessage},
		{name: "kvlistValue", num: 6, as: jsonMessage},
		{name: "bytesValue", num: 7, as: jsonBase64},
		{name: "stringValueStrindex", num: 8, as: jsonInt32},
	},
	arrayValue: {
		{name: "values", num: 1, as: jsonMessage, list: true},
	},
	keyValueList: {
		{name: "values", num: 1, as: jsonMessage, list: true},
	},
	span: {
		{name: "traceId", num: 1, as: jsonHex},
		{name: "spanId", num: 2, as: jsonHex},
		{name: "traceState", num: 3, as: jsonString},
		{name: "parentSpanId", num: 4, as: jsonHex},
		{name: "flags", num: 16, as: jsonFixed32},
		{name: "name", num: 5, as: jsonString},
		{name: "kind", num: 6, as: jsonInt32},
		{name: "startTimeUnixNano", num: 7, as: jsonFixed64},
		{name: "endTimeUnixNano", num: 8, as: jsonFixed64},
		{name: "attributes", num: 9, as: jsonMessage, list: true},
		{name: "droppedAttributesCount", num: 10, as: jsonUint32},
		{name: "events", num: 11, as: jsonMessage, list: true},
		{name: "droppedEventsCount", num: 12, as: jsonUint32},
		{name: "links", num: 13, as: jsonMessage, list: true},
		{name: "droppedLinksCount", num: 14, as: jsonUint32},
		{name: "status", num: 15, as: jsonMessage},
	},
	spanEvent: {
		{name: "timeUnixNano", num: 1, as: jsonFixed64},
		{name: "name", num: 2, as: jsonString},
		{name: "attributes", num: 3, as: jsonMessage, list: true},
		{name: "droppedAttributesCount", num: 4, as: jsonUint32},
	},
	spanLink: {
		{name: "traceId", num: 1, as: jsonHex},
		{name: "spanId", num: 2, as: jsonHex},
		{name: "traceState", num: 3, as: jsonString},
		{name: "attributes", num: 4, as: jsonMessage, list: true},
		{name: "droppedAttributesCount", num: 5, as: jsonUint32},
		{name: "flags", num: 6, as: jsonFixed32},
	},
	spanStatus: {
		{name: "message", num: 2, as: jsonString},
		{name: "code", num: 3, as: jsonInt32},
	},
	metric: {
		{name: "name", num: 1, as: jsonString},
		{name: "description", num: 2, as: jsonString},
		{name: "unit", num: 3, as: jsonString},
		{name: "gauge", num: 5, as: jsonMessage},
		{name: "sum", num: 7, as: jsonMessage},
		{name: "histogram", num: 9, as: jsonMessage},
		{name: "exponentialHistogram", num: 10, as: jsonMessage},
		{name: "summary", num: 11, as: jsonMessage},
		{name: "metadata", num: 12, as: jsonMessage, list: true},
	},
	gauge: {
		{name: "dataPoints", num: 1, as: jsonMessage, list: true},
	},
	sum: {
		{name: "dataPoints", num: 1, as: jsonMessage, list: true},
		{name: "aggregationTemporality", num: 2, as: jsonInt32},
		{name: "isMonotonic", num: 3, as: jsonBool},
	},
	histogram: {
		{name: "dataPoints", num: 1, as: jsonMessage, list: true},
		{name: "aggregationTemporality", num: 2, as: jsonInt32},
	},
	exponentialHistogram: {
		{name: "dataPoints", num: 1, as: jsonMessage, list: true},
		{name: "aggregationTemporality", num: 2, as: jsonInt32},
	},
	summary: {
		{name: "dataPoints", num: 1, as: jsonMessage, list: true},
	},
	numberDataPoint: {
		{name: "attributes", num: 7, as: jsonMessage, list: true},
		{name: "startTimeUnixNano", num: 2, as: jsonFixed64},
		{name: "timeUnixNano", num: 3, as: jsonFixed64},
		{name: "asDouble", num: 4, as: jsonFloat},
		{name: "asInt", num: 6, as: jsonSfixed64},
		{name: "exemplars", num: 5, as: jsonMessage, list: true},
		{name: "flags", num: 8, as: jsonUint32},
	},
	histogramDataPoint: {
		{name: "attributes", num: 9, as: jsonMessage, list: true},
		{name: "startTimeUnixNano", num: 2, as: jsonFixed64},
		{name: "timeUnixNano", num: 3, as: jsonFixed64},
		{name: "count", num: 4, as: jsonFixed64},
		{name: "sum", num: 5, as: jsonFloat},
		{name: "bucketCounts", num: 6, as: jsonFixed64, list: true},
		{name: "explicitBounds", num: 7, as: jsonFloat, list: true},
		{name: "exemplars", num: 8, as: jsonMessage, list: true},
		{name: "flags", num: 10, as: jsonUint32},
		{name: "min", num: 11, as: jsonFloat},
		{name: "max", num: 12, as: jsonFloat},
	},
	exponentialHistogramDataPoint: {
		{name: "attributes", num: 1, as: jsonMessage, list: true},
		{name: "startTimeUnixNano", num: 2, as: jsonFixed64},
		{name: "timeUnixNano", num: 3, as: jsonFixed64},
		{name: "count", num: 4, as: jsonFixed64},
		{name: "sum", num: 5, as: jsonFloat},
		{name: "scale", num: 6, as: jsonSint32},
		{name: "zeroCount", num: 7, as: jsonFixed64},
		{name: "positive", num: 8, as: jsonMessage},
		{name: "negative", num: 9, as: jsonMessage},
		{name: "flags", num: 10, as: jsonUint32},
		{name: "exemplars", num: 11, as: jsonMessage, list: true},
		{name: "min", num: 12, as: jsonFloat},
		{name: "max", num: 13, as: jsonFloat},
		{name: "zeroThreshold", num: 14, as: jsonFloat},
	},
	summaryDataPoint: {
		{name: "attributes", num: 7, as: jsonMessage, list: true},
		{name: "startTimeUnixNano", num: 2, as: jsonFixed64},
		{name: "timeUnixNano", num: 3, as: jsonFixed64},
		{name: "count", num: 4, as: jsonFixed64},
		{name: "sum", num: 5, as: jsonFloat},
		{name: "quantileValues", num: 6, as: jsonMessage, list: true},
		{name: "flags", num: 8, as: jsonUint32},
	},
	buckets: {
		{name: "offset", num: 1, as: jsonSint32},
		{name: "bucketCounts", num: 2, as: jsonUint64, list: true},
	},
	valueAtQuantile: {
		{name: "quantile", num: 1, as: jsonFloat},
		{name: "value", num: 2, as: jsonFloat},
	},
	exemplar: {
		{name: "filteredAttributes", num: 7, as: jsonMessage, list: true},
		{name: "timeUnixNano", num: 2, as: jsonFixed64},
		{name: "asDouble", num: 3, as: jsonFloat},
		{name: "asInt", num: 6, as: jsonSfixed64},
		{name: "spanId", num: 4, as: jsonHex},
		{name: "traceId", num: 5, as: jsonHex},
	},
	logRecord: {
		{name: "timeUnixNano", num: 1, as: jsonFixed64},
		{name: "observedTimeUnixNano", num: 11, as: jsonFixed64},
		{name: "severityNumber", num: 2, as: jsonInt32},
		{name: "severityText", num: 3, as: jsonString},
		{name: "body", num: 5, as: jsonMessage},
		{name: "attributes", num: 6, as: jsonMessage, list: true},
		{name: "droppedAttributesCount", num: 7, as: jsonUint32},
		{name: "flags", num: 8, as: jsonFixed32},
		{name: "traceId", num: 9, as: jsonHex},
		{name: "spanId", num: 10, as: jsonHex},
		{name: "eventName", num: 12, as: jsonString},
	},
	profile: {
		{name: "sampleType", num: 1, as: jsonMessage},
		{name: "samples", num: 2, as: jsonMessage, list: true},
		{name: "timeUnixNano", num: 3, as: jsonFixed64},
		{name: "durationNano", num: 4, as: jsonUint64},
		{name: "periodType", num: 5, as: jsonMessage},
		{name: "period", num: 6, as: jsonInt64},
		{name: "profileId", num: 7, as: jsonHex},
		{name: "droppedAttributesCount", num: 8, as: jsonUint32},
		{name: "originalPayloadFormat", num: 9, as: jsonString},
		{name: "originalPayload", num: 10, as: jsonBase64},
		{name: "attributeIndices", num: 11, as: jsonInt32, list: true},
	},
	valueType: {
		{name: "typeStrindex", num: 1, as: jsonInt32},
		{name: "unitStrindex", num: 2, as: jsonInt32},
	},
	sample: {
		{name: "stackIndex", num: 1, as: jsonInt32},
		{name: "attributeIndices", num: 2, as: jsonInt32, list: true},
		{name: "linkIndex", num: 3, as: jsonInt32},
		{name: "values", num: 4, as: jsonInt64, list: true},
		{name: "timestampsUnixNano", num: 5, as: jsonFixed64, list: true},
	},
	profilesDictionary: {
		{name: "mappingTable", num: 1, as: jsonMessage, list: true},
		{name: "locationTable", num: 2, as: jsonMessage, list: true},
		{name: "functionTable", num: 3, as: jsonMessage, list: true},
		{name: "linkTable", num: 4, as: jsonMessage, list: true},
		{name: "stringTable", num: 5, as: jsonString, list: true},
		{name: "attributeTable", num: 6, as: jsonMessage, list: true},
		{name: "stackTable", num: 7, as: jsonMessage, list: true},
	},
	mapping: {
		{name: "memoryStart", num: 1, as: jsonUint64},
		{name: "memoryLimit", num: 2, as: jsonUint64},
		{name: "fileOffset", num: 3, as: jsonUint64},
		{name: "filenameStrindex", num: 4, as: jsonInt32},
		{name: "attributeIndices", num: 5, as: jsonInt32, list: true},
	},
	location: {
		{name: "mappingIndex", num: 1, as: jsonInt32},
		{name: "address", num: 2, as: jsonUint64},
		{name: "lines", num: 3, as: jsonMessage, list: true},
		{name: "attributeIndices", num: 4, as: jsonInt32, list: true},
	},
	line: {
		{name: "functionIndex", num: 1, as: jsonInt32},
		{name: "line", num: 2, as: jsonInt64},
		{name: "column", num: 3, as: jsonInt64},
	},
	function: {
		{name: "nameStrindex", num: 1, as: jsonInt32},
		{name: "systemNameStrindex", num: 2, as: jsonInt32},
		{name: "filenameStrindex", num: 3, as: jsonInt32},
		{name: "startLine", num: 4, as: jsonInt64},
	},
	profileLink: {
		{name: "traceId", num: 1, as: jsonHex},
		{name: "spanId", num: 2, as: jsonHex},
	},
	keyValueAndUnit: {
		{name: "keyStrindex", num: 1, as: jsonInt32},
		{name: "value", num: 2, as: jsonMessage},
		{name: "unitStrindex", num: 3, as: jsonInt32},
	},
	stack: {
		{name: "locationIndices", num: 1, as: jsonInt32, list: true},
	},
}

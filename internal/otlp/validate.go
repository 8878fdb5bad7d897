package otlp

// Validate checks that body, without compression, is an export request of sig in enc, and counts its records:
// spans, metric data points, log records or profiles. It makes one pass and allocates only for an error, which
// names the path and the byte.
//
// Protobuf is accepted where the official Go types would decode it, nested maxDepth levels deep at most; an
// empty body is a request without records. JSON is accepted where it is RFC 8259 in UTF-8 and the levels down
// to the records are arrays of objects, or null; what the records hold is not looked at. An empty body is no
// JSON.
func Validate(sig Signal, enc Encoding, body []byte) (records int, err error) {
	if enc == JSON {
		return countJSON(body, jsonLevels[sig])
	}
	return scanMessage(body, requests[sig])
}

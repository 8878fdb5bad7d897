package otlp

import (
	"math"
	"time"
)

// The fields on the way to a delay: google.rpc.Status, Any, RetryInfo, Duration.
const (
	statusDetails = 3
	detailType    = 1
	detailValue   = 2
	retryDelay    = 1
	seconds       = 1
	nanos         = 2
)

const retryInfoType = "type.googleapis.com/google.rpc.RetryInfo"

// AppendRetryInfo appends to a google.rpc.Status in protobuf the detail with which OTLP/gRPC says that the same
// request may be sent again, after delay (OTLP specification, "OTLP/gRPC Throttling").
func AppendRetryInfo(dst []byte, delay time.Duration) []byte {
	span := appendIntField(nil, seconds, int64(delay/time.Second))
	span = appendIntField(span, nanos, int64(delay%time.Second))
	detail := appendBytesField(nil, detailType, retryInfoType)
	detail = appendBytesField(detail, detailValue, appendBytesField(nil, retryDelay, span))
	return appendBytesField(dst, statusDetails, detail)
}

// ParseRetryInfo looks for a RetryInfo among the details of a google.rpc.Status in protobuf. A delay that the
// message leaves out, or below 0, is 0; one beyond a time.Duration is the longest one.
func ParseRetryInfo(status []byte) (delay time.Duration, ok bool) {
	r := wireReader{b: status}
	for r.next() {
		if !r.is(statusDetails) {
			continue
		}
		var kind, value []byte
		detail := wireReader{b: r.content}
		for detail.next() {
			switch {
			case detail.is(detailType):
				kind = detail.content
			case detail.is(detailValue):
				value = detail.content
			}
		}
		if detail.fault == "" && string(kind) == retryInfoType {
			delay, ok = parseRetryDelay(value)
		}
	}
	if r.fault != "" {
		return 0, false
	}
	return delay, ok
}

// parseRetryDelay reads a google.rpc.RetryInfo.
func parseRetryDelay(info []byte) (delay time.Duration, ok bool) {
	r := wireReader{b: info}
	for r.next() {
		if !r.is(retryDelay) {
			continue
		}
		var s, ns int64
		span := wireReader{b: r.content}
		for span.next() {
			switch {
			case span.num == seconds && span.wire == wireVarint:
				s = int64(span.number)
			case span.num == nanos && span.wire == wireVarint:
				ns = int64(int32(span.number))
			}
		}
		if span.fault != "" {
			return 0, false
		}
		delay = durationOf(s, ns)
	}
	if r.fault != "" {
		return 0, false
	}
	return delay, true
}

// durationOf is s seconds and ns nanoseconds within the bounds of 0 and the longest time.Duration.
func durationOf(s, ns int64) time.Duration {
	const most = math.MaxInt64/int64(time.Second) - 3 // ns is an int32: less than three seconds
	if s > most {
		return math.MaxInt64
	}
	return max(0, time.Duration(max(s, -3))*time.Second+time.Duration(ns))
}

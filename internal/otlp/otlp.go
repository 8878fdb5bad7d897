// Package otlp is the vocabulary that every other package speaks: signals, payloads, the Sink they flow
// through, the Error that a Sink answers with, and what can be done to a payload without decoding it
// (validate, merge, split, compress).
package otlp

import (
	"context"
	"time"
)

// Signal is one of the four kinds of telemetry that OTLP carries.
type Signal uint8

// The signals, in the order of their appearance in OTLP.
const (
	Traces Signal = iota
	Metrics
	Logs
	Profiles

	// SignalCount is the number of signals: arrays that hold one element a signal have this length.
	SignalCount = 4
)

var signalNames = [SignalCount]string{"traces", "metrics", "logs", "profiles"}

// The paths of OTLP/HTTP (OTLP specification, "OTLP/HTTP Request").
var signalPaths = [SignalCount]string{"/v1/traces", "/v1/metrics", "/v1/logs", "/v1development/profiles"}

// The paths of OTLP/gRPC: the Export method of each signal's collector service.
var signalMethods = [SignalCount]string{
	"/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
	"/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	"/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
}

// String is the signal's name as OTLP's environment variables and paths spell it, in lower case.
func (s Signal) String() string { return signalNames[s] }

// Signals are all signals, in order.
func Signals() [SignalCount]Signal { return [SignalCount]Signal{Traces, Metrics, Logs, Profiles} }

// Path is where OTLP/HTTP takes the signal's export requests, with a leading slash.
func (s Signal) Path() string { return signalPaths[s] }

// Method is where OTLP/gRPC takes the signal's export requests, with a leading slash.
func (s Signal) Method() string { return signalMethods[s] }

// Mergeable says whether requests of this signal may be merged and split. Profiles may not: each request
// carries a dictionary that its profiles refer to by index.
func (s Signal) Mergeable() bool { return s != Profiles }

// Encoding is how a request's message is written: binary protobuf or OTLP's JSON.
type Encoding uint8

// The two encodings of OTLP/HTTP.
const (
	Protobuf Encoding = iota
	JSON
)

// ContentType is the encoding's media type (OTLP specification, "OTLP/HTTP Request").
func (e Encoding) ContentType() string {
	if e == JSON {
		return "application/json"
	}
	return "application/x-protobuf"
}

// Compression is a content coding of HTTP.
type Compression uint8

// What the receiver takes. What backends must take, and so all that is sent, is None and Gzip (OTLP specification,
// "OTLP/HTTP Request").
const (
	None Compression = iota
	Gzip
	Deflate // the zlib format of RFC 1950, as HTTP means it
	Zstd
)

var compressionNames = [...]string{"none", "gzip", "deflate", "zstd"}

// String is the coding's name as OTEL_EXPORTER_OTLP_COMPRESSION and Content-Encoding spell it; "none" for None.
func (c Compression) String() string { return compressionNames[c] }

// Payload is one OTLP export request, raw as it came.
//
// A Payload is immutable: whoever makes one gives Body away, and nobody writes to it as long as the payload lives.
type Payload struct {
	Signal      Signal
	Encoding    Encoding
	Compression Compression // of Body
	Body        []byte
	Size        int       // bytes of Body without compression
	Records     int       // spans, metric data points, log records, or profiles
	Received    time.Time // wall time of its arrival: it may span a freeze

	// Lent says that Body is memory of a Bodies, and nobody else's: whoever drops the payload for good may return it.
	Lent bool
}

// A Sink accepts telemetry. Payloads are immutable: a Sink may keep p, and nobody writes to p.Body again.
//
// A nil error means that every record was taken. A *PartialSuccess means that the request was taken but some
// of its records were not, for good. An *Error says whether the sender may try again, and when.
type Sink interface {
	Send(ctx context.Context, p Payload) error
}

// Reason is why a record was dropped: the ledger counts by it.
type Reason string

// Every reason there is.
const (
	DroppedQueueFull     Reason = "queue_full"    // the oldest, to make room for newer ones
	DroppedTooLarge      Reason = "too_large"     // one record over the destination's request limit
	DroppedRejected      Reason = "rejected"      // the backend's partial_success
	DroppedRefused       Reason = "refused"       // the backend's permanent error
	DroppedMisconfigured Reason = "misconfigured" // no usable destination
	DroppedShutdown      Reason = "shutdown"      // still undelivered when the environment ended
	DroppedPanic         Reason = "internal"      // a bug of ours was caught while they were being sent
	DroppedCorrupt       Reason = "corrupt"       // what an earlier process kept of them is damaged
	DroppedFatal         Reason = "fatal"         // three processes died over them, one after the other
)

package extension

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Protocol is how a destination is spoken to.
type Protocol string

// The protocols.
const (
	HTTP   Protocol = "http/protobuf" // OTLP/HTTP, in the encoding that payloads came in
	GRPC   Protocol = "grpc"          // OTLP/gRPC
	Stdout Protocol = "stdout"        // the extension's own output, for debugging
)

// Destination is where one signal goes.
type Destination struct {
	Protocol    Protocol
	URL         *url.URL // HTTP: whole, with the signal's path. GRPC: grpc or grpcs, host and port. nil otherwise
	Header      http.Header
	Compression otlp.Compression
	Timeout     time.Duration // of one attempt; 0: none of its own
	Certificate string        // PEM file of the authorities to trust; empty: the system's
	ClientCert  string        // PEM file
	ClientKey   string        // PEM file

	Service string // AWS's, where the endpoint is one of its: lambda (a function URL), xray, monitoring, logs or osis
	Region  string // of Service
	Signed  bool   // with SigV4, for Service and Region

	// Secrets are the references that have to be resolved before anything can be sent. Until then what they stand
	// for is missing above, the URL too where it is one of theirs.
	Secrets []reference

	Err error // a mistake that leaves the signal without a destination

	variable string // of the endpoint
}

// ErrNoEndpoint is what a signal without any destination carries.
var ErrNoEndpoint = errors.New("no backend is configured: set OTLP_RELAY_ENDPOINT to its OTLP endpoint, such as https://otlp.example.com")

// destination reads where a signal goes. c says where the extension itself listens.
func (e *environment) destination(sig otlp.Signal, c *Config) Destination {
	l := lookup{e: e, sig: sig}
	endpoint := l.get("ENDPOINT")
	if endpoint.name == "" {
		l.standard = true
		endpoint = l.get("ENDPOINT")
	}
	if endpoint.name == "" {
		return Destination{Err: ErrNoEndpoint}
	}
	d := Destination{Protocol: l.protocol(), variable: endpoint.name}
	if endpoint.value != "" {
		if err := l.aim(&d, endpoint, c); err != nil {
			return Destination{Err: err}
		}
	}
	d.Header = l.headers()
	d.Timeout = l.timeout()
	d.Compression = l.compression()
	d.Certificate = l.get("CERTIFICATE").value
	d.ClientCert = l.get("CLIENT_CERTIFICATE").value
	d.ClientKey = l.get("CLIENT_KEY").value
	if l.err != nil {
		return Destination{Err: l.err}
	}
	d.Secrets = l.missing
	if d.URL != nil {
		l.check(&d, endpoint)
		l.sign(&d, endpoint)
	}
	return d
}

// Limits of one request, uncompressed.
const (
	maxHTTPBytes = 20 << 20 // several backends take no more
	maxGRPCBytes = 4 << 20  // what gRPC servers take unless told otherwise
)

// maxBytes is the most that one of d's requests may hold, uncompressed.
func (d *Destination) maxBytes() int {
	switch {
	case d.Protocol == GRPC:
		return maxGRPCBytes
	case d.Protocol == Stdout:
		return export.StdoutMaxBytes
	case d.awsTelemetry():
		return awsEndpoints[d.Service].maxBytes
	}
	return maxHTTPBytes
}

// place is what logs call the destination: its host, or the variable where that is a secret.
func (d *Destination) place() string {
	switch {
	case d.Protocol == Stdout:
		return "stdout"
	case d.URL == nil:
		return d.variable
	}
	return d.URL.Host
}

// secure says whether d is spoken to over TLS.
func (d *Destination) secure() bool {
	return d.URL != nil && strings.HasSuffix(d.URL.Scheme, "s")
}

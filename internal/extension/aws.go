package extension

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// awsEndpoint is one of CloudWatch's OTLP endpoints, by the service that requests are signed for. Each takes one
// signal, OTLP/HTTP alone, uncompressed or with gzip (CloudWatch User Guide, "OTLP Endpoints").
type awsEndpoint struct {
	signal   otlp.Signal
	maxBytes int // of a request, uncompressed
}

var awsEndpoints = map[string]awsEndpoint{
	"xray":       {otlp.Traces, 5_000_000},
	"monitoring": {otlp.Metrics, 1_000_000},
	"logs":       {otlp.Logs, 1_000_000},
}

// awsTelemetry says whether d is one of CloudWatch's OTLP endpoints.
func (d *Destination) awsTelemetry() bool {
	_, ok := awsEndpoints[d.Service]
	return ok
}

// aws finds out whether an AWS service takes d's requests, and refuses what that would refuse.
func (l *lookup) aws(d *Destination, endpoint variable) error {
	if host := strings.ToLower(d.URL.Hostname()); isQueue(host) {
		return errQueue(endpoint)
	}
	d.Service, d.Region, _ = export.ServiceOf(&url.URL{Scheme: "https", Host: d.URL.Host})
	special := awsEndpoints[d.Service]
	switch {
	case d.Service != "" && (d.Protocol == GRPC || !d.secure()):
		return fmt.Errorf("%s is AWS's, which speaks OTLP/HTTP over TLS alone: write it with https://, and set %sPROTOCOL to http/protobuf", endpoint.name, prefix)
	case d.awsTelemetry() && special.signal != l.sig:
		return fmt.Errorf("%s is AWS's endpoint for %s alone: set %s%s_ENDPOINT to it, and those of the other signals to theirs",
			endpoint.name, special.signal, prefix, upper(special.signal))
	}
	return nil
}

// isQueue says whether a host is SQS (AWS General Reference, "Amazon SQS endpoints and quotas").
func isQueue(host string) bool {
	name, _, found := strings.Cut(host, ".amazonaws.com")
	return found && (strings.HasPrefix(name, "sqs.") || strings.HasSuffix("."+name, ".queue"))
}

// errQueue is about a way to the relay that comes later.
func errQueue(endpoint variable) error {
	return fmt.Errorf("%s: queues and streams are not supported by this version: set it to the backend's OTLP endpoint, https://…", endpoint.name)
}

// sign decides whether d's requests are signed: to AWS, unless the user has brought a way in.
func (l *lookup) sign(d *Destination, endpoint variable) {
	d.Signed = d.Service != "" && d.URL.User == nil && d.Header.Get("Authorization") == ""
	if d.Service == "logs" && len(l.missing) == 0 && (d.Header.Get("x-aws-log-group") == "" || d.Header.Get("x-aws-log-stream") == "") {
		l.e.warn("%s is CloudWatch Logs, which has to be told where to: set %sLOGS_HEADERS to x-aws-log-group=NAME,x-aws-log-stream=NAME", endpoint.name, prefix)
	}
}

package extension

import (
	"fmt"
	"slices"
	"strings"

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

// awsHost is the AWS service and region that a host stands for: one of CloudWatch's OTLP endpoints, a Lambda
// function URL, or SQS. Both are empty for any other.
func awsHost(host string) (service, region string) {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(host), "."), ".")
	cut := func(suffix ...string) bool {
		n := len(labels) - len(suffix)
		if n <= 0 || !slices.Equal(labels[n:], suffix) {
			return false
		}
		labels = labels[:n]
		return true
	}
	if cut("on", "aws") { // <id>.lambda-url.<region>.on.aws
		if len(labels) == 3 && labels[1] == "lambda-url" {
			return "lambda", labels[2]
		}
		return "", ""
	}
	if !cut("amazonaws", "com") && !cut("amazonaws", "com", "cn") && !cut("api", "aws") {
		return "", ""
	}
	cut("vpce")
	if cut("queue") { // SQS, as old SDKs spell it
		return "sqs", labels[len(labels)-1]
	}
	if len(labels) < 2 {
		return "", ""
	}
	service, region = strings.TrimSuffix(labels[len(labels)-2], "-fips"), labels[len(labels)-1]
	if _, telemetry := awsEndpoints[service]; !telemetry && service != "sqs" {
		return "", ""
	}
	return service, region
}

// aws finds out whether AWS takes d's requests, and refuses what it would refuse.
func (l *lookup) aws(d *Destination, endpoint variable) error {
	d.Service, d.Region = awsHost(d.URL.Hostname())
	special := awsEndpoints[d.Service]
	switch {
	case d.Service == "sqs":
		return errQueue(endpoint)
	case d.Service != "" && d.Protocol == GRPC:
		return fmt.Errorf("%s is AWS's, which does not speak OTLP/gRPC: write it with https://, and set %sPROTOCOL to http/protobuf", endpoint.name, prefix)
	case d.awsTelemetry() && special.signal != l.sig:
		return fmt.Errorf("%s is AWS's endpoint for %s alone: set %s%s_ENDPOINT to it, and those of the other signals to theirs",
			endpoint.name, special.signal, prefix, upper(special.signal))
	}
	return nil
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

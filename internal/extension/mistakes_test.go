package extension

import (
	"slices"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Every mistake is said in one line that names the variable, what is wrong with it, and the remedy.
func TestMistakes(t *testing.T) {
	const fine = "OTLP_RELAY_ENDPOINT=https://b.example.com"
	tests := []struct {
		vars string // after fine; separated by blanks that are not escaped
		want string
	}{
		// Units and numbers.
		{"OTLP_RELAY_FLUSH_TIMEOUT=5sec", `OTLP_RELAY_FLUSH_TIMEOUT="5sec" is not a duration: using 1s; write 5s`},
		{"OTLP_RELAY_FLUSH_TIMEOUT=1,5s", `OTLP_RELAY_FLUSH_TIMEOUT="1,5s" is not a duration: using 1s; write 1.5s`},
		{"OTLP_RELAY_FLUSH_TIMEOUT=500\\ msec", `OTLP_RELAY_FLUSH_TIMEOUT="500 msec" is not a duration: using 1s; write 500ms`},
		{"OTLP_RELAY_FLUSH_INTERVAL=1minute", `OTLP_RELAY_FLUSH_INTERVAL="1minute" is not a duration: using 5s; write 1m`},
		{"OTLP_RELAY_FLUSH_INTERVAL=soon", `OTLP_RELAY_FLUSH_INTERVAL="soon" is not a duration: using 5s; write it as 5s, 500ms, or a number of milliseconds`},
		{"OTLP_RELAY_FLUSH_INTERVAL=1.5", `OTLP_RELAY_FLUSH_INTERVAL="1.5" is not a duration: using 5s; write it as 5s, 500ms, or a number of milliseconds`},
		{"OTLP_RELAY_FLUSH_TIMEOUT=-1s", `OTLP_RELAY_FLUSH_TIMEOUT="-1s" is below 0: using 1s; set it to 0 or more`},
		{"OTLP_RELAY_TIMEOUT=5000000000", `OTLP_RELAY_TIMEOUT="5000000000" is more than 1h0m0s: using 10s; set it to 1h0m0s or less; a bare number is in milliseconds`},
		{"OTLP_RELAY_TIMEOUT=99999999999999999999", `OTLP_RELAY_TIMEOUT="99999999999999999999" is not a duration: using 10s; write it as 5s, 500ms, or a number of milliseconds`},
		{"OTLP_RELAY_BUFFER_BYTES=10MB", `OTLP_RELAY_BUFFER_BYTES="10MB" is not a whole number of bytes: using the default; write 10000000`},
		{"OTLP_RELAY_BUFFER_BYTES=8MiB", `OTLP_RELAY_BUFFER_BYTES="8MiB" is not a whole number of bytes: using the default; write 8388608`},
		{"OTLP_RELAY_BUFFER_BYTES=1_000_000", `OTLP_RELAY_BUFFER_BYTES="1_000_000" is not a whole number of bytes: using the default; write 1000000`},
		{"OTLP_RELAY_BUFFER_BYTES=big", `OTLP_RELAY_BUFFER_BYTES="big" is not a whole number of bytes: using the default; write digits only`},
		{"OTLP_RELAY_BUFFER_BYTES=16", `OTLP_RELAY_BUFFER_BYTES="16" is too small: using the default; set it to 4096 or more`},
		{"OTLP_RELAY_BUFFER_BYTES=40000000 AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", `OTLP_RELAY_BUFFER_BYTES="40000000" is too large: using the default; set it to 33554432 or less`},
		{"OTLP_RELAY_BUFFER_ITEMS=0", `OTLP_RELAY_BUFFER_ITEMS="0" is too small: using the default; set it to 1 or more`},
		{"OTLP_RELAY_BUFFER_ITEMS=99999999999999999999", `OTLP_RELAY_BUFFER_ITEMS="99999999999999999999" is not a whole number of records: using the default; write digits only`},

		// Words.
		{"OTLP_RELAY_FLUSH=nxt", `OTLP_RELAY_FLUSH="nxt" is not known: using auto; set it to next`},
		{"OTLP_RELAY_FLUSH=sometimes", `OTLP_RELAY_FLUSH="sometimes" is not known: using auto; set it to auto, end, next or interval`},
		{"OTLP_RELAY_LOG_LEVEL=warning", `OTLP_RELAY_LOG_LEVEL="warning" is not known: using info; set it to debug, info, warn or error`},
		{"OTLP_RELAY_SPOOL=/tmp", `OTLP_RELAY_SPOOL="/tmp" is not known: using off; set it to tmp`},
		{"OTLP_RELAY_SPOOL=disk", `OTLP_RELAY_SPOOL="disk" is not known: using off; set it to off or tmp`},
		{"OTLP_RELAY_SPOOL=tmp AWS_LAMBDA_INITIALIZATION_TYPE=lambda-managed-instances",
			`OTLP_RELAY_SPOOL="tmp" has no use on Managed Instances, where an environment that failed is replaced: using off; remove it`},
		{"OTLP_RELAY_COMPRESSION=lz4", `OTLP_RELAY_COMPRESSION="lz4" is not known: using gzip; set it to gzip or none`},
		{"OTLP_RELAY_PROTOCOL=http/protobuff", `OTLP_RELAY_PROTOCOL="http/protobuff" is not known: using http/protobuf; set it to http/protobuf`},
		{"OTLP_RELAY_PROTOCOL=http/json", `OTLP_RELAY_PROTOCOL=http/json is not converted to, payloads leave in the encoding they came in: set it to http/protobuf`},
		{"OTLP_RELAY_INSECURE=yes OTLP_RELAY_PROTOCOL=grpc OTLP_RELAY_ENDPOINT=b:1", `OTLP_RELAY_INSECURE="yes" is not known: using false; set it to true or false`},

		// Addresses.
		{"OTLP_RELAY_HTTP_ADDR=4318", `OTLP_RELAY_HTTP_ADDR="4318" is not host:port: using 127.0.0.1:4318; write it as 127.0.0.1:4318`},
		{"OTLP_RELAY_HTTP_ADDR=http://127.0.0.1:4318", `OTLP_RELAY_HTTP_ADDR="http://127.0.0.1:4318" is not host:port: using 127.0.0.1:4318; write it as 127.0.0.1:4318`},
		{"OTLP_RELAY_GRPC_ADDR=127.0.0.1:70000", `OTLP_RELAY_GRPC_ADDR="127.0.0.1:70000" has no port from 1 to 65535: using 127.0.0.1:4317; write it as 127.0.0.1:4317`},
		{"OTLP_RELAY_HTTP_ADDR=127.0.0.1:4319", `OTLP_RELAY_HTTP_ADDR="127.0.0.1:4319" has the port of the Telemetry API listener: using 127.0.0.1:4318; choose another`},
		{"OTLP_RELAY_HTTP_ADDR=127.0.0.1:4317", `OTLP_RELAY_GRPC_ADDR has the port of OTLP_RELAY_HTTP_ADDR, 4317: set one of them to another`},

		// What a paste brings along.
		{"OTLP_RELAY_FLUSH='end'", `OTLP_RELAY_FLUSH has quotes around its value, which are left out: set it without them`},
		{"OTLP_RELAY_FLUSH=end\\ ", `OTLP_RELAY_FLUSH has white space around its value, which is left out: set it without`},
		{`OTEL_EXPORTER_OTLP_HEADERS="a=b" OTEL_EXPORTER_OTLP_ENDPOINT=https://b OTLP_RELAY_ENDPOINT=`,
			`OTEL_EXPORTER_OTLP_HEADERS has quotes around its value, which are left out: set it without them`},

		// Names.
		{"OTLP_RELAY_FLUSH_TIMOUT=1s", `OTLP_RELAY_FLUSH_TIMOUT is not a setting of otlp-relay; did you mean OTLP_RELAY_FLUSH_TIMEOUT?`},
		{"OTLP_RELAY_ENDPOINT_TRACES=https://b", `OTLP_RELAY_ENDPOINT_TRACES is not a setting of otlp-relay; did you mean OTLP_RELAY_TRACES_ENDPOINT?`},
		{"OTLP_RELAY_HEADER=a=b", `OTLP_RELAY_HEADER is not a setting of otlp-relay; did you mean OTLP_RELAY_HEADERS?`},
		{"OTLP_RELAY_COLOUR=blue", `OTLP_RELAY_COLOUR is not a setting of otlp-relay: remove it; relayctl env lists those there are`},
		{"OTLP_RELAY_Flush=end", `OTLP_RELAY_Flush is not a setting of otlp-relay; did you mean OTLP_RELAY_FLUSH?`},
		{"otlp_relay_flush=end", `otlp_relay_flush is not read: did you mean OTLP_RELAY_FLUSH?`},
		{"OTEL_RELAY_TRACES_ENDPOINT=https://b", `OTEL_RELAY_TRACES_ENDPOINT is not read: did you mean OTLP_RELAY_TRACES_ENDPOINT?`},
		{"OTLPRELAY_FLUSH=end", `OTLPRELAY_FLUSH is not read: did you mean OTLP_RELAY_FLUSH?`},

		// Header lists.
		{"OTLP_RELAY_HEADERS=a=b,c", `OTLP_RELAY_HEADERS: entry 2 is not name=value with a percent-encoded value, and is left out: write name=value,name=value with %25 for %`},
		{"OTLP_RELAY_HEADERS=a=100%", `OTLP_RELAY_HEADERS: entry 1 is not name=value with a percent-encoded value, and is left out: write name=value,name=value with %25 for %`},
		{"OTLP_RELAY_HEADERS==b", `OTLP_RELAY_HEADERS: entry 1 is not name=value with a percent-encoded value, and is left out: write name=value,name=value with %25 for %`},

		// Endpoints.
		{"OTLP_RELAY_ENDPOINT=", `no backend is configured: set OTLP_RELAY_ENDPOINT to its OTLP endpoint, such as https://otlp.example.com`},
		{"OTLP_RELAY_ENDPOINT=b.example.com", `OTLP_RELAY_ENDPOINT has no scheme: write it as https://host[:port], or grpcs://host[:port] for OTLP/gRPC`},
		{"OTLP_RELAY_ENDPOINT=b.example.com:4317", `OTLP_RELAY_ENDPOINT has no scheme: write it as https://host[:port], or grpcs://host[:port] for OTLP/gRPC`},
		{"OTLP_RELAY_ENDPOINT=htps://b", `OTLP_RELAY_ENDPOINT must begin with https://, http://, grpcs:// or grpc://, or be stdout:`},
		{"OTLP_RELAY_ENDPOINT=stdout:x", `OTLP_RELAY_ENDPOINT has no scheme: write it as https://host[:port], or grpcs://host[:port] for OTLP/gRPC`},
		{"OTLP_RELAY_ENDPOINT=https:///x", `OTLP_RELAY_ENDPOINT has no host: write it as https://host[:port][/path]`},
		{"OTLP_RELAY_ENDPOINT=https://u:pa55word@[b", `OTLP_RELAY_ENDPOINT is not a URL: write it as https://host[:port][/path]`},
		{"OTLP_RELAY_ENDPOINT=https://<pa55word>", `OTLP_RELAY_ENDPOINT has a character in its host that no host has: write it as https://host[:port], other alphabets in their xn-- form`},
		{"OTLP_RELAY_ENDPOINT=https://bücher.example", `OTLP_RELAY_ENDPOINT has a character in its host that no host has: write it as https://host[:port], other alphabets in their xn-- form`},
		{"OTLP_RELAY_ENDPOINT=https://b:70000", `OTLP_RELAY_ENDPOINT has a port that is not from 1 to 65535: write it as https://host[:port]`},
		{"OTLP_RELAY_ENDPOINT=http://localhost:4318", `OTLP_RELAY_ENDPOINT points at this extension itself: set it to the backend's endpoint`},
		{"OTLP_RELAY_ENDPOINT=sqs+https://q", `OTLP_RELAY_ENDPOINT: queues and streams are not supported by this version: set it to the backend's OTLP endpoint, https://…`},
		{"OTLP_RELAY_ENDPOINT=kinesis+https://k/s", `OTLP_RELAY_ENDPOINT: queues and streams are not supported by this version: set it to the backend's OTLP endpoint, https://…`},
		{"OTLP_RELAY_ENDPOINT=https://sqs.eu-west-1.amazonaws.com/1/q", `OTLP_RELAY_ENDPOINT: queues and streams are not supported by this version: set it to the backend's OTLP endpoint, https://…`},
		{"OTLP_RELAY_ENDPOINT=https://xray.eu-west-1.amazonaws.com", `OTLP_RELAY_ENDPOINT is AWS's endpoint for traces alone: set OTLP_RELAY_TRACES_ENDPOINT to it, and those of the other signals to theirs`},
		{"OTLP_RELAY_TRACES_ENDPOINT=grpcs://xray.eu-west-1.amazonaws.com", `OTLP_RELAY_TRACES_ENDPOINT is AWS's, which speaks OTLP/HTTP over TLS alone: write it with https://, and set OTLP_RELAY_PROTOCOL to http/protobuf`},
		{"OTLP_RELAY_LOGS_ENDPOINT=https://logs.eu-west-1.amazonaws.com/v1/logs", `OTLP_RELAY_LOGS_ENDPOINT is CloudWatch Logs, which has to be told where to: set OTLP_RELAY_LOGS_HEADERS to x-aws-log-group=NAME,x-aws-log-stream=NAME`},
		{"OTLP_RELAY_ENDPOINT=https://b/v1/traces", `OTLP_RELAY_ENDPOINT ends with /v1/traces, to which each signal's own path is appended: leave that out, or set OTLP_RELAY_TRACES_ENDPOINT`},
		{"OTLP_RELAY_TRACES_ENDPOINT=https://b", `OTLP_RELAY_TRACES_ENDPOINT is used as it is and has no path: write it with the one that the backend takes traces at, such as /v1/traces`},

		// What does not go together.
		{"OTLP_RELAY_ENDPOINT=http://b:4317", `OTLP_RELAY_ENDPOINT has port 4317, which is usually OTLP/gRPC's: set OTLP_RELAY_PROTOCOL to grpc, or use port 4318`},
		{"OTLP_RELAY_ENDPOINT=grpc://b:4318", `OTLP_RELAY_ENDPOINT has port 4318, which is usually OTLP/HTTP's: set OTLP_RELAY_PROTOCOL to http/protobuf, or use port 4317`},
		{"OTLP_RELAY_ENDPOINT=grpc://b OTLP_RELAY_PROTOCOL=http/protobuf", `OTLP_RELAY_ENDPOINT begins with grpc://, which is OTLP/gRPC whatever the protocol setting says: set OTLP_RELAY_PROTOCOL to grpc, or the endpoint to https://…`},
		{"OTLP_RELAY_ENDPOINT=grpc://b:1/v1/traces", `OTLP_RELAY_ENDPOINT has a path or query, which OTLP/gRPC has no use for: leave it out`},
		{"OTLP_RELAY_ENDPOINT=https://b OTLP_RELAY_COMPRESSION=zstd", `OTLP_RELAY_COMPRESSION="zstd" is not known: using gzip; set it to gzip or none`},
		{"OTLP_RELAY_ENDPOINT=http://b OTLP_RELAY_CERTIFICATE=/ca.pem",
			`OTLP_RELAY_CERTIFICATE has no effect, as OTLP_RELAY_ENDPOINT is spoken to without TLS: begin that with https:// or grpcs://`},
		{"OTLP_RELAY_INSECURE=true", `OTLP_RELAY_INSECURE has no effect, as the scheme of OTLP_RELAY_ENDPOINT asks for TLS: remove it, or begin the endpoint with http:// or grpc://`},
		{"OTLP_RELAY_ENDPOINT= OTEL_EXPORTER_OTLP_ENDPOINT=https://b OTEL_EXPORTER_OTLP_TIMEOUT=10",
			`OTEL_EXPORTER_OTLP_TIMEOUT is taken as milliseconds, as the specification has it, so that an attempt ends after 10ms; where your SDK reads it as seconds, set OTLP_RELAY_TIMEOUT for the extension`},

		// References.
		{"OTLP_RELAY_HEADERS=k=${ssm:/x", `OTLP_RELAY_HEADERS holds a reference that is not understood: write ${ssm:NAME} or ${secretsmanager:ID#key}`},
		{"OTLP_RELAY_HEADERS=k=${env:pa55word}", `OTLP_RELAY_HEADERS holds a reference that is not understood: write ${ssm:NAME} or ${secretsmanager:ID#key}`},
		{"OTLP_RELAY_HEADERS=${secretsmanager:x#}", `OTLP_RELAY_HEADERS holds a reference that is not understood: write ${ssm:NAME} or ${secretsmanager:ID#key}`},
		{"OTLP_RELAY_ENDPOINT=https://b/${ssm:}", `OTLP_RELAY_ENDPOINT holds a reference that is not understood: write ${ssm:NAME} or ${secretsmanager:ID#key}`},
		{"OTLP_RELAY_HEADERS=k={{resolve:ssm:/x}}", `OTLP_RELAY_HEADERS holds {{resolve:…}}, which CloudFormation has not resolved: write ${ssm:NAME} or ${secretsmanager:ID#key}`},
		{"OTLP_RELAY_FLUSH=${ssm:/x}", `OTLP_RELAY_FLUSH holds a reference, which is resolved in a destination's settings only: set the value itself`},
	}
	for _, tt := range tests {
		t.Run(tt.vars, func(t *testing.T) {
			cfg := parse(append([]string{fine}, fields(tt.vars)...)...)
			said := slices.Clone(cfg.Warnings)
			for _, sig := range otlp.Signals() {
				if err := cfg.Destinations[sig].Err; err != nil && !slices.Contains(said, err.Error()) {
					said = append(said, err.Error())
				}
			}
			if !slices.Equal(said, []string{tt.want}) {
				t.Errorf("said\n%s\nwant\n%s", strings.Join(said, "\n"), tt.want)
			}
			if strings.Contains(strings.Join(said, ""), "pa55word") {
				t.Errorf("a secret is repeated: %q", said)
			}
		})
	}
}

// fields splits at blanks without a backslash before them.
func fields(s string) []string {
	f := strings.Split(strings.ReplaceAll(s, `\ `, "\x00"), " ")
	for i := range f {
		f[i] = strings.ReplaceAll(f[i], "\x00", " ")
	}
	return f
}

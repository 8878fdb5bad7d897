package extension

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func TestQueues(t *testing.T) {
	for host, want := range map[string]bool{
		"sqs.us-east-1.amazonaws.com": true, "us-west-2.queue.amazonaws.com": true, "queue.amazonaws.com": true, "sqs.cn-north-1.amazonaws.com.cn": true,
		"xray.us-east-1.amazonaws.com": false, "sqs.example.com": false, "amazonaws.com": false, "myqueue.amazonaws.com": false, "": false,
	} {
		if got := isQueue(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestWhoSigns(t *testing.T) {
	const url = "OTLP_RELAY_ENDPOINT=https://abc.lambda-url.eu-west-1.on.aws/"
	for _, tt := range []struct {
		vars   []string
		signed bool
	}{
		{[]string{url}, true},
		{[]string{url, "OTLP_RELAY_HEADERS=x-tenant=a"}, true},
		{[]string{url, "OTLP_RELAY_HEADERS=authorization=Bearer%20x"}, false},
		{[]string{"OTLP_RELAY_ENDPOINT=https://u:p@abc.lambda-url.eu-west-1.on.aws/"}, false},
		{[]string{"OTLP_RELAY_ENDPOINT=https://otlp.example.com"}, false},
	} {
		d := parse(tt.vars...).Destinations[otlp.Traces]
		if d.Err != nil || d.Signed != tt.signed || tt.signed && d.Region != "eu-west-1" {
			t.Errorf("%q: %+v, want signed %v", tt.vars, d, tt.signed)
		}
	}
}

func TestLimitsOfARequest(t *testing.T) {
	for endpoint, want := range map[string]int{
		"https://b/v1/traces": 20 << 20,
		"grpc://b":            4 << 20,
		"stdout:":             180 << 10,
		"https://xray.us-east-1.amazonaws.com/v1/traces":  5_000_000,
		"https://abc.lambda-url.eu-west-1.on.aws/v1/logs": 20 << 20,
	} {
		d := parse("OTLP_RELAY_TRACES_ENDPOINT=" + endpoint).Destinations[otlp.Traces]
		if got := d.maxBytes(); d.Err != nil || got != want {
			t.Errorf("%s: %d bytes, %v; want %d", endpoint, got, d.Err, want)
		}
	}
}

func TestSources(t *testing.T) {
	cfg := parse("OTLP_RELAY_FLUSH=end", "OTLP_RELAY_FLUSH_TIMEOUT=5sec", "OTLP_RELAY_ENDPOINT=https://b", "OTLP_RELAY_LOGS_ENDPOINT=https://l/in",
		"OTEL_EXPORTER_OTLP_HEADERS=a=b", "OTLP_RELAY_TRACES_TIMEOUT=1s", "OTLP_RELAY_COMPRESSION=lz4")
	want := map[string]string{"FLUSH": "OTLP_RELAY_FLUSH", "TRACES_TIMEOUT": "OTLP_RELAY_TRACES_TIMEOUT", "LOGS_ENDPOINT": "OTLP_RELAY_LOGS_ENDPOINT"}
	for _, sig := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Profiles} {
		want[upper(sig)+"_ENDPOINT"] = "OTLP_RELAY_ENDPOINT"
	}
	if !maps.Equal(cfg.Sources, want) {
		t.Errorf("sources %v, want %v: what is in force, not what was refused", cfg.Sources, want)
	}
}

func TestReferences(t *testing.T) {
	cfg := parse("OTLP_RELAY_ENDPOINT=https://${ssm:/host}/x?t=${ssm:/token}", "OTLP_RELAY_HEADERS=key=${secretsmanager:s#k},other=a%20b${ssm:/token}%21,${ssm:/list}",
		"OTLP_RELAY_TIMEOUT=${ssm:/timeout}", "OTLP_RELAY_LOGS_ENDPOINT=https://l/in", "OTLP_RELAY_LOGS_HEADERS=key=${ssm:/token}", "OTLP_RELAY_LOGS_TIMEOUT=1s")
	d := cfg.Destinations[otlp.Traces]
	all := []reference{"${ssm:/host}", "${ssm:/token}", "${secretsmanager:s#k}", "${ssm:/list}", "${ssm:/timeout}"}
	if d.Err != nil || d.URL != nil || !slices.Equal(d.Secrets, all) || len(cfg.Warnings) > 0 {
		t.Fatalf("before: %+v, warnings %q", d, cfg.Warnings)
	}
	if d := cfg.Destinations[otlp.Logs]; d.URL == nil || !slices.Equal(d.Secrets, all[1:2]) {
		t.Errorf("logs before: %+v", d)
	}

	secrets := map[reference]string{"${ssm:/host}": "b.example.com", "${ssm:/token}": "100%,=", "${secretsmanager:s#k}": "50%41",
		"${ssm:/list}": "x=1%202,y=3", "${ssm:/timeout}": "250"}
	d, warnings := cfg.resolve(otlp.Logs, secrets)
	if d.Err != nil || len(d.Secrets) > 0 || d.Header.Get("key") != "100%,=" || len(warnings) > 0 {
		t.Errorf("logs: %+v, warnings %q", d, warnings)
	}
	secrets["${ssm:/token}"] = "tok"
	d, warnings = cfg.resolve(otlp.Traces, secrets)
	want := http.Header{"Key": {"50%41"}, "Other": {"a btok!"}, "X": {"1 2"}, "Y": {"3"}}
	if d.Err != nil || len(d.Secrets) > 0 || d.URL.String() != "https://b.example.com/x/v1/traces?t=tok" ||
		!maps.EqualFunc(d.Header, want, slices.Equal) || d.Timeout.Milliseconds() != 250 || len(warnings) > 0 {
		t.Errorf("traces: %+v, warnings %q", d, warnings)
	}
}

// What is wrong with a secret is said without the secret.
func TestMistakesInSecrets(t *testing.T) {
	cfg := parse("OTLP_RELAY_ENDPOINT=${ssm:/e}", "OTLP_RELAY_HEADERS=${ssm:/h}", "OTLP_RELAY_COMPRESSION=${ssm:/c}")
	d, warnings := cfg.resolve(otlp.Traces, map[reference]string{"${ssm:/e}": "https://b", "${ssm:/h}": "pa55word", "${ssm:/c}": "pa55word"})
	want := []string{`OTLP_RELAY_HEADERS: entry 1 is not name=value with a percent-encoded value, and is left out: write name=value,name=value with %25 for %`,
		`OTLP_RELAY_COMPRESSION="${ssm:/c}" is not known: using gzip; set it to gzip or none`}
	if d.Err != nil || !slices.Equal(warnings, want) {
		t.Errorf("%v; warnings\n%q, want\n%q", d.Err, warnings, want)
	}
	d, _ = cfg.resolve(otlp.Traces, map[reference]string{"${ssm:/e}": "pa55word", "${ssm:/h}": "a=b", "${ssm:/c}": "none"})
	if d.Err == nil || d.Err.Error() != "OTLP_RELAY_ENDPOINT has no scheme: write it as https://host[:port], or grpcs://host[:port] for OTLP/gRPC" {
		t.Errorf("error %v", d.Err)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/extension"
)

// env runs relayctl env on a file with those lines.
func env(t *testing.T, lines string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := dispatch(t.Context(), append([]string{"env", "--env-file", path}, args...), &out)
	return out.String(), err
}

func TestEnvShowsSources(t *testing.T) {
	out, err := env(t, `# a comment
OTLP_RELAY_FLUSH=end
OTLP_RELAY_FLUSH_TIMEOUT=5sec
AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512

OTLP_RELAY_ENDPOINT=https://user:pa55word@otlp.example.com/x?token=pa55word
OTLP_RELAY_HEADERS=api-key=pa55word,authorization=Bearer%20${ssm:/key}
OTEL_EXPORTER_OTLP_HEADERS=api-key=pa55word
OTLP_RELAY_LOGS_ENDPOINT=https://pa55word@${ssm:/host}/in
OTLP_RELAY_PROFILES_ENDPOINT=grpc://profiles:4000
`)
	if err != nil {
		t.Error(err)
	}
	got := strings.Join(strings.FieldsFunc(out, func(c rune) bool { return c == ' ' }), " ")
	for _, want := range []string{
		"FLUSH end OTLP_RELAY_FLUSH\n", "FLUSH_TIMEOUT 1s default\n", "FLUSH_INTERVAL 5s default\n", "SPOOL off default\n",
		"BUFFER_BYTES 33554432 AWS_LAMBDA_FUNCTION_MEMORY_SIZE\n", "BUFFER_ITEMS 65536 BUFFER_BYTES\n", "GOMAXPROCS 1 AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
		"\ntraces, metrics\n ENDPOINT https://********@otlp.example.com/x/v1/traces?token=******** OTLP_RELAY_ENDPOINT\n" +
			" ENDPOINT https://********@otlp.example.com/x/v1/metrics?token=******** OTLP_RELAY_ENDPOINT\n PROTOCOL http/protobuf ENDPOINT\n",
		"HEADERS api-key=********, authorization=********${ssm:/key} OTLP_RELAY_HEADERS\n", "COMPRESSION gzip default\n", "TIMEOUT 10s default\n",
		"secrets ${ssm:/key} fetched once the extension runs\n",
		"\nlogs\n ENDPOINT ********${ssm:/host}******** OTLP_RELAY_LOGS_ENDPOINT\n", "secrets ${ssm:/host} ${ssm:/key} fetched",
		"\nprofiles\n ENDPOINT grpc://profiles:4000 OTLP_RELAY_PROFILES_ENDPOINT\n PROTOCOL grpc ENDPOINT\n INSECURE true ENDPOINT\n",
		"\nset, but not used\n OTEL_EXPORTER_OTLP_HEADERS\n",
		"\nwarnings\n OTLP_RELAY_FLUSH_TIMEOUT=\"5sec\" is not a duration: using 1s; write 5s\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(out, "pa55word") || strings.Contains(out, "\nerrors") || t.Failed() {
		t.Errorf("shown:\n%s", out)
	}
}

func TestEnvExitStatus(t *testing.T) {
	const fine = "OTLP_RELAY_ENDPOINT=https://b\n"
	for lines, want := range map[string]string{
		fine:                                  "",
		"export " + fine:                      "",
		"OTLP_RELAY_TRACES_ENDPOINT=stdout:":  "", // the other signals have none, as is meant
		"":                                    "no backend is configured",
		fine + "OTLP_RELAY_LOGS_ENDPOINT=b":   "OTLP_RELAY_LOGS_ENDPOINT has no scheme",
		fine + "OTLP_RELAY_HEADERS=k=${ssm:}": "OTLP_RELAY_HEADERS holds a reference that is not understood",
	} {
		out, err := env(t, lines)
		if wrong := errors.Is(err, errWrongDestination); wrong != (want != "") || wrong && !strings.Contains(out, "\nerrors\n  "+want) {
			t.Errorf("%q: %v\n%s", lines, err, out)
		}
	}
	for _, args := range [][]string{{"env", "--env-file", "no-such-file"}, {"env", "extra"}, {"env", "--colour"}} {
		var misuse usageError
		if err := dispatch(t.Context(), args, &bytes.Buffer{}); !errors.As(err, &misuse) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if _, err := env(t, "OTLP_RELAY_HEADERS=a=b\nkey-pa55word"); err == nil || !strings.Contains(err.Error(), "line 2 is not KEY=VALUE") || strings.Contains(err.Error(), "pa55word") {
		t.Errorf("a broken line: %v", err)
	}
}

// What is not on this machine is an error where this is the extension's environment, and a warning elsewhere.
func TestEnvChecksFiles(t *testing.T) {
	const want = "OTLP_RELAY_TRACES_CERTIFICATE: read the authorities: open /var/task/ca.pem"
	vars := map[string]string{"OTLP_RELAY_ENDPOINT": "https://b", "OTLP_RELAY_TRACES_CERTIFICATE": "/var/task/ca.pem"}
	lines := ""
	for k, v := range vars {
		lines += k + "=" + v + "\n"
		t.Setenv(k, v)
	}
	out, err := env(t, lines)
	if err != nil || !strings.Contains(out, "\nwarnings\n  on this machine: "+want) {
		t.Errorf("%v\n%s", err, out)
	}
	var here bytes.Buffer
	err = dispatch(t.Context(), []string{"env"}, &here)
	if !errors.Is(err, errWrongDestination) || !strings.Contains(here.String(), "\nerrors\n  "+want) {
		t.Errorf("%v\n%s", err, here.String())
	}
}

func TestEnvJSON(t *testing.T) {
	out, err := env(t, "OTLP_RELAY_ENDPOINT=https://b\nOTLP_RELAY_LOGS_ENDPOINT=b\nOTLP_RELAY_HEADERS=k=pa55word\nOTLP_RELAY_FLUSH=now\n", "--json")
	if !errors.Is(err, errWrongDestination) {
		t.Error(err)
	}
	var e effective
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatal(err)
	}
	var signals, names []string
	for _, d := range e.Destinations {
		signals = append(signals, d.Signal)
	}
	for _, r := range e.Settings {
		names = append(names, r.Name)
	}
	if !slices.Equal(signals, []string{"traces", "metrics", "logs", "profiles"}) || e.Destinations[0].Settings[0] != (row{"ENDPOINT", "https://b/v1/traces", "OTLP_RELAY_ENDPOINT"}) ||
		len(e.Warnings) != 1 || len(e.Errors) != 1 || e.Destinations[2].Error != e.Errors[0] || strings.Contains(out, "pa55word") {
		t.Errorf("%s", out)
	}
	for _, name := range extension.Settings() {
		if !slices.Contains(names, name) {
			t.Errorf("no row for %s", name)
		}
	}
}

// Every setting of the extension's has a value in force, be it the default: a setting without one was forgotten here.
func TestEnvKnowsEverySetting(t *testing.T) {
	cfg := extension.ParseConfig("otlp-relay", []string{"OTLP_RELAY_ENDPOINT=https://b"})
	others := []string{"EXEC_WRAPPER", "CONFIG"} // the wrapper's, the relay's
	for _, r := range settingRows(&cfg, nil) {
		if r.Value == "" && !slices.Contains(others, r.Name) {
			t.Errorf("%s has no value", r.Name)
		}
	}
}

func TestEnvShowsTheOneAddressOfGRPCOnce(t *testing.T) {
	out, err := env(t, "OTLP_RELAY_ENDPOINT=grpcs://b\n")
	if err != nil || strings.Count(out, "grpcs://b") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/e2e/toolchain"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// The exporters of Python and Node.js drive the receiver's conformance suite, over every protocol that they have.
func TestExportersOfOtherLanguages(t *testing.T) {
	for _, sdk := range toolchain.SDKs() {
		if sdk.Language != "python" && sdk.Language != "node" {
			continue
		}
		t.Run(sdk.String(), func(t *testing.T) {
			tool := toolchain.Need(t, sdk.Language)
			p := otlptest.HTTP
			if sdk.Protocol == "grpc" {
				p = otlptest.GRPC
			}
			otlptest.ExporterConformance(t, p, startReceiver, func(t *testing.T, baseURL string, squeeze bool) []otlptest.Exporter {
				return startExporter(t, sdk, tool, baseURL, squeeze)
			})
		})
	}
}

// startReceiver runs a receiver until the test ends.
func startReceiver(t *testing.T, sink otlp.Sink, maxBytes int) (baseURL string) {
	return "http://" + listen(t, receiver.Config{Sink: sink, MaxBytes: maxBytes})
}

// startExporter starts testdata/exporters' program for the SDK's language, and is its exporters.
func startExporter(t *testing.T, sdk toolchain.SDK, tool, baseURL string, squeeze bool) []otlptest.Exporter {
	t.Helper()
	var cmd *exec.Cmd
	scripts, err := filepath.Abs(filepath.Join("testdata", "exporters"))
	if err != nil {
		t.Fatal(err)
	}
	var again func(*otlp.Error) bool
	if sdk.Language == "python" {
		cmd = exec.Command(filepath.Join(tool, "bin", "python3"), filepath.Join(scripts, "exporter.py"))
		cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Join(tool, "..", "..", "..", "examples", "python"))
		if sdk.Protocol == "grpc" {
			again = func(e *otlp.Error) bool { return e.Retryable || e.Code == otlp.ResourceExhausted } // with a RetryInfo or not
		}
	} else {
		cmd = exec.Command(filepath.Join(tool, "runtime", "node"), filepath.Join(scripts, "exporter.mjs"))
		cmd.Env = append(os.Environ(), "FUNCTION="+filepath.Join(tool, "function"),
			"OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=otlp", "OTEL_LOGS_EXPORTER=otlp")
		if sdk.Protocol == "grpc" {
			again = func(*otlp.Error) bool { return false } // whatever it says
		}
	}
	cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+baseURL, "OTEL_EXPORTER_OTLP_PROTOCOL="+sdk.Protocol,
		"OTEL_METRIC_EXPORT_INTERVAL=3600000", "OTEL_BSP_SCHEDULE_DELAY=3600000", "OTEL_BLRP_SCHEDULE_DELAY=3600000")
	if squeeze {
		cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_COMPRESSION=gzip")
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	t.Cleanup(func() {
		in.Close() // it ends then
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("the exporter ended (%v) and had said on the way:\n%s", err, complaints.Bytes())
		}
	})
	var exporters []otlptest.Exporter
	for _, sig := range threeSignals {
		exporters = append(exporters, otlptest.Exporter{
			Signal: sig, Silent: true, Patient: true, Again: again,
			Export: func(ctx context.Context) error {
				defer context.AfterFunc(ctx, func() {
					if context.Cause(ctx) == context.DeadlineExceeded {
						cmd.Process.Kill()
					}
				})()
				if _, err := fmt.Fprintln(in, sig); err != nil {
					return err
				}
				line, err := said.ReadString('\n')
				for err == nil && line != "flushed\n" {
					line, err = said.ReadString('\n')
				}
				if err != nil {
					t.Fatalf("the exporter has ended: %v", err)
				}
				return nil
			},
		})
	}
	return exporters
}

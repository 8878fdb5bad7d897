// Command collector is an OpenTelemetry Collector as a Lambda extension, for the benchmark to compare with: built from
// the collector's published modules, with the components that a function's telemetry passes (OTLP receiver, batch
// processor, OTLP/HTTP exporter) and as much of the extension's lifecycle as that takes. It registers, starts the
// collector before its first event/next as the OpenTelemetry Lambda layer does, and shuts it down at SHUTDOWN.
//
// It is a module of its own, so that what it needs is no dependency of the project.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "collector:", err)
		os.Exit(1)
	}
}

// run is the extension's life.
func run(ctx context.Context) error {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"register", bytes.NewReader([]byte(`{"events":["INVOKE","SHUTDOWN"]}`)))
	if err != nil {
		return err
	}
	req.Header.Set("Lambda-Extension-Name", filepath.Base(os.Args[0]))
	header, _, err := call(req)
	if err != nil {
		return err
	}
	col, ended, err := start(ctx)
	if err != nil {
		return err
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"event/next", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Lambda-Extension-Identifier", header.Get("Lambda-Extension-Identifier"))
		_, body, err := call(req)
		if err != nil {
			return err
		}
		var event struct {
			EventType string `json:"eventType"`
		}
		if err := json.Unmarshal(body, &event); err != nil {
			return fmt.Errorf("decode the event: %w", err)
		}
		if event.EventType == "SHUTDOWN" {
			col.Shutdown()
			return <-ended
		}
	}
}

// start runs the collector whose configuration is in COLLECTOR_CONFIG, and returns when it runs. Its end is sent to ended.
func start(ctx context.Context) (col *otelcol.Collector, ended chan error, err error) {
	col, err = otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.NewDefaultBuildInfo(),
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{"env:COLLECTOR_CONFIG"},
			ProviderFactories: []confmap.ProviderFactory{envprovider.NewFactory()},
		}},
	})
	if err != nil {
		return nil, nil, err
	}
	ended = make(chan error, 1)
	go func() { ended <- col.Run(ctx) }()
	for col.GetState() != otelcol.StateRunning { // the collector has no other way to tell
		select {
		case err := <-ended:
			return nil, nil, fmt.Errorf("start the collector: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
	return col, ended, nil
}

// factories are the components.
func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	processors, err2 := otelcol.MakeFactoryMap[processor.Factory](batchprocessor.NewFactory())
	exporters, err3 := otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory())
	return otelcol.Factories{
		Receivers: receivers, Processors: processors, Exporters: exporters, Telemetry: otelconftelemetry.NewFactory(),
	}, errors.Join(err, err2, err3)
}

// call sends a request to the Extensions API.
func call(req *http.Request) (http.Header, []byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", req.Method, req.URL.Path, resp.Status)
	}
	return resp.Header, body, err
}

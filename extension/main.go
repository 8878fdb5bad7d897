// Command otlp-relay is the Lambda extension: it receives OpenTelemetry data from the function on localhost
// and sends it to a backend without holding the function up.
package main

import (
	"context"
	"os"

	"github.com/otlp-relay/otlp-relay/internal/extension"
)

func main() {
	cfg := extension.ParseConfig(os.Args[0], os.Environ())
	if err := extension.Run(context.Background(), cfg, os.Stdout); err != nil {
		os.Exit(1)
	}
}

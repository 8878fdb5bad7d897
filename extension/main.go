// What these would bring is not wanted, and asking the system for it costs 5 % of a cold start's CPU: Multipath
// TCP on loopback, and a GOMAXPROCS that follows the cgroup (package tune sets it by the memory size).
//
//go:debug multipathtcp=0
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command otlp-relay is the Lambda extension: it receives OpenTelemetry data from the function on localhost
// and sends it to a backend without holding the function up.
package main

import (
	"context"
	"os"

	"github.com/otlp-relay/otlp-relay/internal/extension"
	_ "github.com/otlp-relay/otlp-relay/internal/onecore"
)

func main() {
	cfg := extension.ParseConfig(os.Args[0], os.Environ())
	if err := extension.Run(context.Background(), cfg, os.Stdout); err != nil {
		os.Exit(1)
	}
}

// Command handshake sends one request over TLS in a fresh process and prints the CPU time that took, in nanoseconds, and
// the resident memory after it, in bytes. Its arguments are the roots to trust (ours, x509, or a PEM file) and the URL.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/export"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(trust, to string) error {
	debug.SetGCPercent(-1) // as the extension runs
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	before := cpu()
	cfg := export.HTTPConfig{URL: u, Timeout: time.Minute, Roots: &export.Roots{File: os.Getenv("SSL_CERT_FILE")}}
	switch trust {
	case "ours":
	case "x509": // as crypto/tls does where nobody tells it what to trust
		all, err := x509.SystemCertPool()
		if err != nil {
			return err
		}
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: all}
	default:
		if cfg.TLS, err = export.LoadTLS(trust, "", ""); err != nil {
			return err
		}
	}
	h, err := export.NewHTTP(cfg)
	if err != nil {
		return err
	}
	if err := h.Send(context.Background(), otlp.Payload{}); err != nil {
		return err
	}
	took := cpu() - before
	fmt.Println(int64(took), resident())
	return nil
}

// cpu is the CPU time of the process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is the process's resident memory in bytes (proc_pid_statm(5)).
func resident() int {
	b, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize()
}

package receiver_test

import (
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
	"github.com/otlp-relay/otlp-relay/internal/receiver"
)

// serve runs a receiver on loopback until the test ends, and returns its base URL.
func serve(t testing.TB, c receiver.Config) (r *receiver.Receiver, baseURL string) {
	t.Helper()
	l, err := receiver.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = receiver.New(c)
	served := make(chan error, 1)
	go func() { served <- r.Serve(l) }()
	t.Cleanup(func() {
		r.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r, "http://" + l.Addr().String()
}

func TestConformance(t *testing.T) {
	for p, name := range []string{otlptest.HTTP: "OTLP/HTTP", otlptest.GRPC: "OTLP/gRPC"} {
		t.Run(name, func(t *testing.T) {
			otlptest.Conformance(t, otlptest.Protocol(p), func(t *testing.T, sink otlp.Sink, maxBytes int) string {
				_, url := serve(t, receiver.Config{Sink: sink, MaxBytes: maxBytes})
				return url
			})
		})
	}
}

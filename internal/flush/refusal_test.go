package flush

import (
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// How servers of gRPC say that a message is too large, and what they say with the same code besides.
func TestSizeIsToldApartFromQuota(t *testing.T) {
	for text, want := range map[string]bool{
		"grpc: received message larger than max (5000000 vs. 4194304)":                    true, // grpc-go
		"grpc: received message after decompression larger than max (5000 vs. 4194)":      true,
		"gRPC message exceeds maximum size 4194304: 5000000":                              true, // grpc-java
		"Decompressed gRPC message exceeds maximum size 4194304":                          true,
		"SERVER: Received message larger than max (5000000 vs. 4194304)":                  true, // C core: Python, Ruby, C++
		"Received message larger than max (5000000 vs 4194304)":                           true, // Node.js
		"Received message exceeds the maximum configured message size.":                   true, // .NET
		"traces request: larger than the limit of 4194304 bytes: let the exporter send …": true, // ours
		"too many requests":                           false,
		"quota exceeded: 5 GB of spans a day":         false,
		"this key exceeds its rate of 100 per minute": false,
		"": false,
	} {
		e := &otlp.Error{Code: otlp.ResourceExhausted, Message: text}
		if got := isTooLarge(e); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
		e.Code = otlp.Internal
		if isTooLarge(e) {
			t.Errorf("%q of another code is taken for it", text)
		}
	}
}

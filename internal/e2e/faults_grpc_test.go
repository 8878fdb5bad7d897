package e2e

import (
	"maps"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// grpcFaults are the faults of a backend of OTLP/gRPC. There a verdict comes last: an answer that breaks off leaves
// none.
func grpcFaults() map[string]fateOf {
	status := func(code otlp.Code, retryAfter string) otlptest.Fault { return answering(int(code), retryAfter) }
	rows := map[string]fateOf{
		"reset in the answer":           {otlptest.Fault{Kind: otlptest.ResetMidAnswer}, doubled},
		"messages without end":          {otlptest.Fault{Kind: otlptest.SlowBody, Every: 10 * time.Millisecond}, doubled},
		"large messages without end":    {otlptest.Fault{Kind: otlptest.EndlessBody}, arrives},
		"RESOURCE_EXHAUSTED":            {status(otlp.ResourceExhausted, ""), refused},
		"RESOURCE_EXHAUSTED, RetryInfo": {status(otlp.ResourceExhausted, "1"), arrives},
		"RESOURCE_EXHAUSTED, negative":  {status(otlp.ResourceExhausted, "-5"), arrives},
		"RESOURCE_EXHAUSTED, garbage":   {status(otlp.ResourceExhausted, "soon"), refused},
		"UNAVAILABLE, RetryInfo":        {status(otlp.Unavailable, "1"), arrives},
		"UNAVAILABLE, garbage":          {status(otlp.Unavailable, "soon"), arrives},
	}
	maps.Copy(rows, commonFaults())
	for _, code := range []otlp.Code{otlp.Canceled, otlp.DeadlineExceeded, otlp.Aborted, otlp.OutOfRange, otlp.Unavailable, otlp.DataLoss} {
		rows[code.String()] = fateOf{status(code, ""), arrives}
	}
	for _, code := range []otlp.Code{otlp.Unknown, otlp.InvalidArgument, otlp.NotFound, otlp.PermissionDenied, otlp.FailedPrecondition, otlp.Unimplemented, otlp.Internal, otlp.Unauthenticated} {
		rows[code.String()] = fateOf{status(code, ""), refused}
	}
	return rows
}

// TestBackendFaultsOverGRPC is TestBackendFaults for OTLP/gRPC, in the modes that differ in what they wait for.
func TestBackendFaultsOverGRPC(t *testing.T) {
	for name, f := range grpcFaults() {
		for _, mode := range []string{"end", "auto", "auto, frequent"} {
			t.Run(name+"/"+mode, func(t *testing.T) { meet(t, f, mode, otlptest.Options{GRPC: true}) })
		}
	}
}

package otlptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// dialGRPC is a client of b, with b's CA and a certificate of its own where b speaks TLS.
func dialGRPC(t *testing.T, b *Backend) *grpc.ClientConn {
	t.Helper()
	creds := insecure.NewCredentials()
	if b.opts.TLS {
		config := &tls.Config{RootCAs: x509.NewCertPool()}
		config.RootCAs.AppendCertsFromPEM(b.CA())
		pair, err := tls.X509KeyPair(b.ClientCert())
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
		creds = credentials.NewTLS(config)
	}
	c, err := grpc.NewClient("passthrough:///"+b.Addr(), grpc.WithTransportCredentials(creds), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// call sends one message.
func call(ctx context.Context, c *grpc.ClientConn, method string, body []byte, opts ...grpc.CallOption) (reply []byte, err error) {
	err = c.Invoke(ctx, method, &body, &reply, opts...)
	return reply, err
}

func TestGRPCBackendTakesEverySignal(t *testing.T) {
	b := start(t, Options{GRPC: true, Keep: true, Paths: map[string]otlp.Signal{"/custom.Service/Export": otlp.Logs}})
	if want := "grpc://" + b.Addr(); b.URL() != want {
		t.Errorf("URL %s, want %s", b.URL(), want)
	}
	c := dialGRPC(t, b)
	builder := &Builder{Name: "takes"}
	var made []string
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "one")
	for sig, method := range GRPCMethods {
		sig := otlp.Signal(sig)
		plain, squeezed := builder.Build(sig, otlp.Protobuf, 7), builder.Build(sig, otlp.Protobuf, 8)
		made = append(append(made, plain.IDs...), squeezed.IDs...)
		for _, err := range []error{
			second(call(ctx, c, method, plain.Body)),
			second(call(ctx, c, method, squeezed.Body, grpc.UseCompressor("gzip"))),
		} {
			if err != nil {
				t.Fatalf("%s: %v", sig, err)
			}
		}
		if err := Equal(sig, otlp.Protobuf, [][]byte{plain.Body, squeezed.Body}, b.Bodies(sig, otlp.Protobuf)); err != nil {
			t.Errorf("%s: %v", sig, err)
		}
		got := b.Totals(sig)
		if got.Requests != 2 || got.Taken != 2 || got.Records != 15 || got.Size != len(plain.Body)+len(squeezed.Body) || got.Wire >= got.Size {
			t.Errorf("%s: %+v", sig, got)
		}
		last := b.Requests()[len(b.Requests())-2:]
		if last[0].Coding != "" || last[0].Wire != len(plain.Body)+5 || last[1].Coding != "gzip" || last[1].Wire >= len(squeezed.Body) ||
			last[0].Header.Get("X-Tenant") != "one" || last[0].Status != 200 || last[0].Code != otlp.OK || last[0].Path != method {
			t.Errorf("%s: %+v, %+v", sig, last[0], last[1])
		}
	}
	if lost, twice := b.Lost(made), b.Duplicates(); len(lost)+len(twice) > 0 {
		t.Errorf("lost %v, duplicates %v", lost, twice)
	}
	if _, err := call(ctx, c, "/custom.Service/Export", b.Bodies(otlp.Logs, otlp.Protobuf)[0]); err != nil || len(b.Duplicates()) != 7 {
		t.Errorf("a further path: %v, duplicates %v", err, b.Duplicates())
	}
	if b.Conns() != 1 {
		t.Errorf("%d connections", b.Conns())
	}
}

func second[T any](_ T, err error) error { return err }

func TestGRPCBackendRefuses(t *testing.T) {
	b := start(t, Options{GRPC: true})
	b.SetMaxBody(4000)
	b.PoisonIf(func(q *Request) bool { return bytes.Contains(q.Body, []byte("poison")) })
	c := dialGRPC(t, b)
	builder := &Builder{Name: "poison"}
	logs := GRPCMethods[otlp.Logs]
	for _, tt := range []struct {
		name, method string
		body         []byte
		opts         []grpc.CallOption
		code         codes.Code
	}{
		{"unknown method", "/a.B/Export", nil, nil, codes.Unimplemented},
		{"malformed", logs, []byte("\x0a\x05x"), nil, codes.InvalidArgument},
		{"too large", logs, builder.Build(otlp.Logs, otlp.Protobuf, 50).Body, nil, codes.ResourceExhausted},
		{"too large when decompressed", logs, builder.Build(otlp.Logs, otlp.Protobuf, 50).Body, []grpc.CallOption{grpc.UseCompressor("gzip")}, codes.ResourceExhausted},
		{"poison", logs, builder.Build(otlp.Logs, otlp.Protobuf, 1).Body, nil, codes.InvalidArgument},
		{"no poison", logs, nil, nil, codes.OK},
	} {
		_, err := call(t.Context(), c, tt.method, tt.body, tt.opts...)
		if status.Code(err) != tt.code {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.code)
		}
		if requests := b.Requests(); tt.method == logs && requests[len(requests)-1].Code != otlp.Code(tt.code) {
			t.Errorf("%s: journal has code %d", tt.name, requests[len(requests)-1].Code)
		}
	}
	if got := b.Totals(otlp.Logs); got.Requests != 5 || got.Taken != 1 || got.Records != 0 {
		t.Errorf("%+v", got)
	}
}

func TestGRPCFaults(t *testing.T) {
	tests := []struct {
		fault Fault
		code  codes.Code
		taken bool
	}{
		{Fault{Kind: Refuse}, codes.Unavailable, false},
		{Fault{Kind: Hang}, codes.Unavailable, false},
		{Fault{Kind: Hang, Take: true}, codes.Unavailable, true},
		{Fault{Kind: ResetBeforeRead, Take: true}, codes.Unavailable, false},
		{Fault{Kind: ResetAfterRead}, codes.Unavailable, false},
		{Fault{Kind: ResetAfterRead, Take: true}, codes.Unavailable, true},
		{Fault{Kind: ResetMidAnswer}, codes.Unavailable, true},
		{Fault{Kind: HalfClose}, codes.Unavailable, false},
		{Fault{Kind: Garbage}, codes.Unavailable, false},
		{Fault{Kind: SlowBody, Every: time.Microsecond}, codes.Internal, true},
		{Fault{Kind: EndlessBody}, codes.Internal, false},
		{Fault{Kind: Status, Code: 429}, codes.ResourceExhausted, false},
		{Fault{Kind: Status, Code: int(otlp.DataLoss)}, codes.DataLoss, false},
		{Fault{Kind: Partial, Rejected: 2}, codes.OK, true},
	}
	for _, opts := range []Options{{GRPC: true}, {GRPC: true, TLS: true, ClientCert: true}} {
		for _, tt := range tests {
			t.Run(tt.fault.Kind.String(), func(t *testing.T) {
				b := start(t, opts)
				built := (&Builder{Name: "fault"}).Build(otlp.Traces, otlp.Protobuf, 5)
				b.FailNext(1, tt.fault)
				if tt.fault.Kind == Hang {
					go func() {
						b.WaitRequests(t.Context(), otlp.Traces, 1)
						b.Close() // ends what hangs
					}()
				}
				_, err := call(t.Context(), dialGRPC(t, b), GRPCMethods[otlp.Traces], built.Body)
				if status.Code(err) != tt.code {
					t.Errorf("got %v, want %v", err, tt.code)
				}
				wantLost := 5
				if tt.taken {
					wantLost = int(tt.fault.Rejected)
				}
				if lost := b.Lost(built.IDs); len(lost) != wantLost {
					t.Errorf("lost %v, want %d", lost, wantLost)
				}
			})
		}
	}
}

func TestGRPCFaultDetails(t *testing.T) {
	b := start(t, Options{GRPC: true})
	c := dialGRPC(t, b)
	for retryAfter, want := range map[string]time.Duration{"30": 30 * time.Second, "1500ms": 1500 * time.Millisecond, "0": 0} {
		b.Fail(Fault{Kind: Status, Code: 503, RetryAfter: retryAfter, Message: "busy: ü%"})
		st := status.Convert(second(call(t.Context(), c, GRPCMethods[otlp.Traces], nil)))
		if st.Code() != codes.Unavailable || st.Message() != "busy: ü%" || len(st.Details()) != 1 {
			t.Fatalf("%s: %v", retryAfter, st)
		}
		if info, ok := st.Details()[0].(*errdetails.RetryInfo); !ok || info.RetryDelay.AsDuration() != want {
			t.Errorf("%s: %v, want %v", retryAfter, st.Details()[0], want)
		}
	}
	b.Fail(Fault{Kind: Status, RetryAfter: "soon"})
	st := status.Convert(second(call(t.Context(), c, GRPCMethods[otlp.Traces], nil)))
	if _, broken := st.Details()[0].(error); st.Code() != codes.Unavailable || !broken {
		t.Errorf("a detail that cannot be decoded: %v", st)
	}
	b.Fail(Fault{Kind: Partial, Rejected: 2, Message: "no room"})
	reply, err := call(t.Context(), c, GRPCMethods[otlp.Traces], nil, grpc.UseCompressor("gzip"))
	var p coltrace.ExportTraceServiceResponse
	if err != nil || proto.Unmarshal(reply, &p) != nil || p.PartialSuccess.GetRejectedSpans() != 2 || p.PartialSuccess.GetErrorMessage() != "no room" {
		t.Errorf("%q, %v", reply, err)
	}
}

// A gzip body of two members is what some backends cannot read.
func TestGRPCBackendTakesOneGzipMember(t *testing.T) {
	body := (&Builder{Name: "members"}).Build(otlp.Logs, otlp.Protobuf, 1).Body
	twice := slices.Concat(gzipped(string(body)), gzipped(string(body)))
	if _, err := (strictGzip{}).Do(bytes.NewReader(twice)); err == nil {
		t.Error("two members were taken for one")
	}
}

func TestGRPCRefuseKeepsThePort(t *testing.T) {
	b := start(t, Options{GRPC: true})
	for range 3 {
		c := dialGRPC(t, b)
		if err := second(call(t.Context(), c, GRPCMethods[otlp.Traces], nil)); err != nil {
			t.Fatal(err)
		}
		b.Fail(Fault{Kind: Refuse})
		if err := second(call(t.Context(), c, GRPCMethods[otlp.Traces], nil)); status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v", err)
		}
		b.Heal()
	}
	b.Fail(Fault{Kind: Refuse})
	b.Close()
	b.Close()
}

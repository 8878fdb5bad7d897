package otlptest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // with it grpc-go answers in the coding that it was asked in
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// GRPCMethods are the paths of OTLP/gRPC, by signal.
var GRPCMethods = [otlp.SignalCount]string{
	otlp.Traces:   coltrace.TraceService_Export_FullMethodName,
	otlp.Metrics:  colmetrics.MetricsService_Export_FullMethodName,
	otlp.Logs:     collogs.LogsService_Export_FullMethodName,
	otlp.Profiles: "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
}

// newGRPC is grpc-go's server in front of b. It takes messages as bytes: b decodes them itself, and keeps them.
func newGRPC(b *Backend) *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.UnknownServiceHandler(b.export),
		grpc.ForceServerCodecV2(bytesCodec{}),
		grpc.StatsHandler(wireStats{}),
		grpc.RPCDecompressor(strictGzip{}),
		grpc.MaxRecvMsgSize(maxBody),
	}
	if b.opts.TLS {
		opts = append(opts, grpc.Creds(credentials.NewTLS(b.pki.serverConfig(b.opts.ClientCert))))
	}
	return grpc.NewServer(opts...)
}

// export takes one export request, or meets it with the fault of the hour.
func (b *Backend) export(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	sig, ok := b.grpcSignal(method)
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	fault := b.begin(sig)
	defer b.end(sig)
	q := &Request{Signal: sig, Method: http.MethodPost, Path: method, Header: http.Header{}, Arrived: time.Now()}
	md, _ := metadata.FromIncomingContext(s.Context())
	for name, values := range md {
		q.Header[http.CanonicalHeaderKey(name)] = values
	}
	if fault.Kind == ResetBeforeRead {
		b.note(q)
		return b.actGRPC(fault, q, s)
	}
	if err := receive(q, s); err != nil {
		q.Status, q.Code = http.StatusOK, otlp.Code(status.Code(err))
		b.note(q)
		return err
	}
	var refused *answer
	if limit, _ := b.limits(); len(q.Body) > limit {
		refused = refusal(http.StatusRequestEntityTooLarge, "a message of %d bytes is larger than the limit of %d", len(q.Body), limit)
	} else {
		refused = b.judge(q)
	}
	answer := b.settle(q, fault, refused)
	if answer != nil {
		q.Status, q.Code = http.StatusOK, answer.grpcCode()
	}
	b.note(q)
	b.pause()
	if answer == nil {
		return b.actGRPC(fault, q, s)
	}
	return answer.send(s)
}

func (b *Backend) grpcSignal(method string) (otlp.Signal, bool) {
	if sig, ok := b.opts.Paths[method]; ok {
		return sig, true
	}
	for sig, m := range GRPCMethods {
		if m == method {
			return otlp.Signal(sig), true
		}
	}
	return 0, false
}

// receive reads the one message of a unary call. Its coding and size are those that wireStats has seen.
func receive(q *Request, s grpc.ServerStream) error {
	if err := s.RecvMsg(&q.Body); err != nil {
		return err
	}
	wire := s.Context().Value(wireKey{}).(*wire)
	q.Wire, q.Coding = wire.size, wire.coding
	var more []byte
	if err := s.RecvMsg(&more); err != io.EOF {
		return status.Errorf(codes.Unimplemented, "a unary call has one message; after it came %v", err)
	}
	return nil
}

// grpcCode is the code that says what a.code does.
func (a *answer) grpcCode() otlp.Code {
	if a.code < 100 {
		return otlp.Code(a.code)
	}
	return otlp.CodeForHTTP(a.code)
}

// send sends the answer of a unary call.
func (a *answer) send(s grpc.ServerStream) error {
	if code := a.grpcCode(); code != otlp.OK {
		said := a.message.(*rpcstatus.Status)
		return status.FromProto(&rpcstatus.Status{Code: int32(code), Message: said.Message, Details: grpcDetails(a.retryAfter)}).Err()
	}
	body, err := proto.Marshal(a.message)
	if err != nil {
		panic("BUG: a response of ours cannot be encoded: " + err.Error())
	}
	return s.SendMsg(&body)
}

// grpcDetails is a RetryInfo with so many seconds, or with a Go duration; of anything else it has the type but
// cannot be decoded.
func grpcDetails(retryAfter string) []*anypb.Any {
	if retryAfter == "" {
		return nil
	}
	wait, err := time.ParseDuration(retryAfter)
	if seconds, notInt := strconv.Atoi(retryAfter); notInt == nil {
		wait, err = time.Duration(seconds)*time.Second, nil
	}
	detail, packErr := anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if packErr != nil {
		panic("BUG: a RetryInfo cannot be encoded: " + packErr.Error())
	}
	if err != nil {
		detail.Value = []byte("\x0a\xff" + retryAfter)
	}
	return []*anypb.Any{detail}
}

// bytesCodec passes messages on as they are: v is always a *[]byte.
type bytesCodec struct{}

// Marshal is v's bytes.
func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

// Unmarshal sets v's bytes.
func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// Name is the codec that this one stands for.
func (bytesCodec) Name() string { return "proto" }

// strictGzip takes one gzip member a message, as backends do that are not written in Go.
type strictGzip struct{}

// Type is the coding's name.
func (strictGzip) Type() string { return "gzip" }

// Do decompresses a message.
func (strictGzip) Do(r io.Reader) ([]byte, error) {
	var in bytes.Buffer
	if _, err := in.ReadFrom(r); err != nil {
		return nil, err
	}
	return decompress("gzip", in.Bytes(), maxBody)
}

// wire is what only grpc-go's statistics say about a request: the coding of its message, as far as it was
// compressed, and its size in bytes as sent, with the frame.
type wire struct {
	announced, coding string
	size              int
}

type wireKey struct{}

// wireStats collects it.
type wireStats struct{}

// TagRPC makes room for what is collected.
func (wireStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, wireKey{}, new(wire))
}

// HandleRPC collects. grpc-go calls it on the goroutine that reads the message.
func (wireStats) HandleRPC(ctx context.Context, s stats.RPCStats) {
	w := ctx.Value(wireKey{}).(*wire)
	switch s := s.(type) {
	case *stats.InHeader:
		w.announced = s.Compression
	case *stats.InPayload:
		w.size += s.WireLength
		if s.CompressedLength != s.Length {
			w.coding = w.announced
		}
	}
}

// TagConn does nothing.
func (wireStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (wireStats) HandleConn(context.Context, stats.ConnStats) {}

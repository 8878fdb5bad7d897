package export

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// GRPCConfig says where and how a GRPC sends: as HTTPConfig says, but that of URL only the scheme (http for plain
// text, https for TLS), the userinfo, the host and the port count, that Header becomes the call's metadata, and
// that there is no Signer.
type GRPCConfig = HTTPConfig

// GRPC is a Sink that sends each payload in one unary call of OTLP/gRPC. It keeps one connection between calls;
// of concurrent Sends each further one dials its own.
//
// It sends protobuf without compression or in gzip, which every server of OTLP/gRPC must take, and refuses the rest.
//
// Send's error is a *otlp.PartialSuccess or an *otlp.Error. The latter has an HTTPStatus only where an answer has
// no gRPC status; without any verdict (refused, reset, timed out, not HTTP/2) it is retryable, and its Err is the
// cause. A success without a readable message is a success.
type GRPC struct {
	client
	metadata metadata
}

// NewGRPC returns a GRPC, or an error that says which setting is wrong. It opens no connection.
func NewGRPC(cfg GRPCConfig) (*GRPC, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	c.dialer.protocol = overHTTP2
	m, err := newMetadata(cfg)
	if err != nil {
		return nil, err
	}
	return &GRPC{client: c, metadata: m}, nil
}

// Send calls the Export method of p's signal and reports the backend's verdict.
func (g *GRPC) Send(ctx context.Context, p otlp.Payload) error {
	switch {
	case p.Encoding != otlp.Protobuf:
		return unsendable("JSON")
	case p.Compression != otlp.None && p.Compression != otlp.Gzip:
		return unsendable(p.Compression.String())
	}
	ctx, cancel := g.within(ctx)
	defer cancel()
	r, err := g.roundTrip(ctx, unary{p, &g.metadata})
	if err != nil {
		return g.noAnswer(ctx, err)
	}
	return g.verdict(r, p)
}

// unsendable refuses what must have been converted before it came here.
func unsendable(what string) error {
	return &otlp.Error{Code: otlp.Internal, Message: fmt.Sprintf("BUG: %s came to a client of OTLP/gRPC, which sends protobuf in gzip or as it is", what)}
}

// unary is a call over HTTP/2.
type unary struct {
	otlp.Payload
	metadata *metadata
}

func (u unary) begin(ctx context.Context, c *conn) (exchange, error) {
	if c.h2 == nil {
		c.h2 = newH2(c)
	}
	m := &message{body: u.Body}
	if u.Compression == otlp.Gzip {
		m.prefix[0] = 1
	}
	binary.BigEndian.PutUint32(m.prefix[1:], uint32(len(u.Body)))
	return c.h2.begin(func(dst []byte) []byte { return u.metadata.appendTo(dst, ctx, u.Payload) }, m), nil
}

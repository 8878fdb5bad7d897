package export

import (
	"context"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// maxMetadata is the largest header of a request: more than 8 KiB is refused by gRPC servers ("Requests" of gRPC
// over HTTP/2), and by us in time.
const maxMetadata = 8 << 10

// metadata writes the headers of the calls to one destination (gRPC over HTTP/2, "Requests").
type metadata struct {
	before, after string // what is the same in each call, before and after its method's path
}

// newMetadata builds the fixed part of what newHead has checked.
func newMetadata(cfg GRPCConfig) (metadata, error) {
	before := appendField(nil, ":method", "POST")
	before = appendField(before, ":scheme", cfg.URL.Scheme)
	before = appendField(before, ":authority", hostHeader(cfg.URL))
	after := appendField(nil, "content-type", "application/grpc")
	after = appendField(after, "te", "trailers")
	header := ownHeader(cfg)
	size := len(before) + len(after)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "grpc-") {
			continue // gRPC's own
		}
		for _, v := range header[name] {
			after = appendField(after, lower, textproto.TrimString(v))
			size += headerField{name, v}.size()
		}
	}
	if size > maxMetadata {
		return metadata{}, fmt.Errorf("headers of %d bytes are more than gRPC servers take, 8 KiB: shorten OTLP_RELAY_HEADERS", size)
	}
	return metadata{before: string(before), after: string(after)}, nil
}

// appendTo appends the header block of p's call. The time that ctx has left goes with it.
func (m *metadata) appendTo(dst []byte, ctx context.Context, p otlp.Payload) []byte {
	dst = append(dst, m.before...)
	dst = appendField(dst, ":path", p.Signal.Method())
	dst = append(dst, m.after...)
	if deadline, ok := ctx.Deadline(); ok {
		dst = appendField(dst, "grpc-timeout", grpcTimeout(time.Until(deadline)))
	}
	if p.Compression != otlp.None {
		dst = appendField(dst, "grpc-encoding", p.Compression.String())
	}
	return dst
}

// grpcTimeout is d as gRPC writes it: at most eight digits and a unit.
func grpcTimeout(d time.Duration) string {
	ms := max(1, d.Milliseconds())
	if ms < 1e8 {
		return strconv.FormatInt(ms, 10) + "m"
	}
	return strconv.FormatInt(min(ms/1000, 1e8-1), 10) + "S"
}

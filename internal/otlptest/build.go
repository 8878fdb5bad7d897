package otlptest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// Builder makes export requests that look like those of a real function: 14 resource attributes, two scopes,
// ten attributes a span, about 490 bytes a span. Every record has an id that no other record of this Builder
// has; the same Builder called the same way makes the same bytes. It may be used from any goroutine.
type Builder struct {
	Name string // part of every id: give Builders that feed one backend different names
	Pad  int    // bytes of an extra attribute on each record, for tests of size limits

	made atomic.Int64
}

// Built is one request.
type Built struct {
	Signal   otlp.Signal
	Encoding otlp.Encoding
	Body     []byte // not compressed
	IDs      []string
}

// Build makes a request with n records. Metrics come as gauges, sums and histograms of a few points each.
func (b *Builder) Build(sig otlp.Signal, enc otlp.Encoding, n int) Built {
	out := Built{Signal: sig, Encoding: enc}
	first := b.made.Add(int64(n)) - int64(n)
	keys := make([]key, n)
	for i := range keys {
		keys[i] = b.key(first + int64(i))
		switch sig {
		case otlp.Traces:
			out.IDs = append(out.IDs, hex.EncodeToString(keys[i].spanID()))
		case otlp.Profiles:
			out.IDs = append(out.IDs, hex.EncodeToString(keys[i].hash[:16]))
		default:
			out.IDs = append(out.IDs, keys[i].name)
		}
	}
	var err error
	if out.Body, err = proto.Marshal(b.message(sig, keys)); err == nil && enc == otlp.JSON {
		out.Body, err = toJSON(sig, out.Body)
	}
	if err != nil {
		panic("BUG: a built request cannot be encoded: " + err.Error())
	}
	return out
}

// Payload is the request as the extension passes it on, uncompressed.
func (b Built) Payload(received time.Time) otlp.Payload {
	return otlp.Payload{
		Signal: b.Signal, Encoding: b.Encoding, Body: b.Body, Size: len(b.Body), Records: len(b.IDs), Received: received,
	}
}

// key is what makes a record unique.
type key struct {
	name string
	n    int64
	hash [32]byte
	pad  int
}

func (b *Builder) key(n int64) key {
	name := fmt.Sprintf("%s-%d", b.Name, n)
	return key{name: name, n: n, hash: sha256.Sum256([]byte(name)), pad: b.Pad}
}

func (k key) traceID() []byte { return k.hash[8:24] }
func (k key) spanID() []byte  { return k.hash[:8] }

// time is a fixed moment, some microseconds later for each record.
func (k key) time() uint64 { return 1_790_000_000_000_000_000 + uint64(k.n)*137_000 }

func (k key) padding() string { return strings.Repeat("p", k.pad) }

func toJSON(sig otlp.Signal, body []byte) ([]byte, error) {
	var r interface {
		UnmarshalProto([]byte) error
		MarshalJSON() ([]byte, error)
	}
	switch sig {
	case otlp.Traces:
		r = ptraceotlp.NewExportRequest()
	case otlp.Metrics:
		r = pmetricotlp.NewExportRequest()
	case otlp.Logs:
		r = plogotlp.NewExportRequest()
	default:
		r = pprofileotlp.NewExportRequest()
	}
	if err := r.UnmarshalProto(body); err != nil {
		return nil, err
	}
	return r.MarshalJSON()
}

package otlptest

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	profiles "go.opentelemetry.io/proto/slim/otlp/profiles/v1development"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// IDAttribute is the attribute that names a log record or a data point, so that a lost or doubled one is
// told apart from the others. Spans and profiles are named by their own ids, in lower-case hex.
const IDAttribute = "test.id"

var (
	errTooLarge = errors.New("larger than the backend's limit")
	errCoding   = errors.New("unknown Content-Encoding")
)

// decompress undoes a Content-Encoding with the plainest decoder there is; limit is in bytes of output.
// Only the first member of a gzip body counts and the rest is an error, as real backends have it that run one
// inflate per body.
func decompress(coding string, body []byte, limit int) ([]byte, error) {
	var r io.Reader
	in := bytes.NewReader(body)
	switch coding {
	case "", "none", "identity":
		r = in
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		r = z
	case "deflate":
		z, err := zlib.NewReader(in)
		if err != nil {
			return nil, err
		}
		r = z
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return nil, fmt.Errorf("%w: %s", errCoding, coding)
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("decompress %s: %w", coding, err)
	case len(out) > limit:
		return nil, errTooLarge
	case in.Len() > 0:
		return nil, fmt.Errorf("decompress %s: %d bytes after its end", coding, in.Len())
	}
	return out, nil
}

// Decode reads one uncompressed export request with the official types: Message of the answer is set for
// protobuf, Tree for JSON. It refuses what a strict backend refuses.
func Decode(sig otlp.Signal, enc otlp.Encoding, body []byte) (*Decoded, error) {
	d := &Decoded{}
	note := func(r record) {
		if r.here {
			d.Records++
			d.IDs = append(d.IDs, r.id)
		}
	}
	if enc == otlp.JSON {
		tree, err := parseJSON(body)
		if err != nil {
			return nil, err
		}
		d.Tree = tree
		if err := walkJSON(sig, tree, false, note); err != nil {
			return nil, err
		}
		return d, nil
	}
	d.Message = newRequest(sig)
	if err := proto.Unmarshal(body, d.Message); err != nil {
		return nil, err
	}
	walkProto(sig, d.Message, false, note)
	return d, nil
}

// Decoded is an export request as the official types, or a plain JSON decoder, read it.
type Decoded struct {
	Message proto.Message  // Export…ServiceRequest; of profiles: ProfilesData, the same on the wire. nil for JSON
	Tree    map[string]any // numbers as json.Number; nil for protobuf
	Records int            // spans, data points, log records, profiles
	IDs     []string       // one a record, in their order; "" where the record has none
}

// record is what the walkers hand out: one span, data point, log record or profile.
// Where here is false the enclosing message has no record in it; equality wants to know of it all the same.
type record struct {
	here bool
	id   string
	key  string // a canonical form of the record and of all that encloses it; "" where nobody asked for keys
}

// The lists on the way from a request to its records, as the field names of protobuf.
var recordPaths = [otlp.SignalCount][]protoreflect.Name{
	otlp.Traces:   {"resource_spans", "scope_spans", "spans"},
	otlp.Metrics:  {"resource_metrics", "scope_metrics", "metrics"},
	otlp.Logs:     {"resource_logs", "scope_logs", "log_records"},
	otlp.Profiles: {"resource_profiles", "scope_profiles", "profiles"},
}

func newRequest(sig otlp.Signal) proto.Message {
	switch sig {
	case otlp.Traces:
		return new(coltrace.ExportTraceServiceRequest)
	case otlp.Metrics:
		return new(colmetrics.ExportMetricsServiceRequest)
	case otlp.Logs:
		return new(collogs.ExportLogsServiceRequest)
	}
	return new(profiles.ProfilesData)
}

func walkProto(sig otlp.Signal, m proto.Message, keys bool, visit func(record)) {
	w := protoWalk{keys, visit}
	for _, child := range w.children(m.ProtoReflect(), recordPaths[sig][0]) {
		w.lists(child, recordPaths[sig][1:], "")
	}
}

type protoWalk struct {
	keys  bool
	visit func(record)
}

// lists goes down the lists of path; enclosing is the key of all above m.
func (w protoWalk) lists(m protoreflect.Message, path []protoreflect.Name, enclosing string) {
	if len(path) == 0 {
		w.record(m, enclosing)
		return
	}
	here := enclosing + w.key(m, path[0])
	children := w.children(m, path[0])
	if len(children) == 0 {
		w.visit(record{key: here})
	}
	for _, child := range children {
		w.lists(child, path[1:], here)
	}
}

// record visits a record, or the points of a metric.
func (w protoWalk) record(m protoreflect.Message, enclosing string) {
	if m.Descriptor().Name() != "Metric" {
		w.visit(record{true, protoID(m), enclosing + w.key(m, "")})
		return
	}
	data := m.WhichOneof(m.Descriptor().Oneofs().ByName("data"))
	if data == nil {
		w.visit(record{key: enclosing + w.key(m, "")})
		return
	}
	here := enclosing + w.key(m, data.Name())
	holder := m.Get(data).Message()
	here += w.key(holder, "data_points")
	points := w.children(holder, "data_points")
	if len(points) == 0 {
		w.visit(record{key: here})
	}
	for _, point := range points {
		w.visit(record{true, protoID(point), here + w.key(point, "")})
	}
}

func (w protoWalk) children(m protoreflect.Message, name protoreflect.Name) []protoreflect.Message {
	list := m.Get(m.Descriptor().Fields().ByName(name)).List()
	all := make([]protoreflect.Message, list.Len())
	for i := range all {
		all[i] = list.Get(i).Message()
	}
	return all
}

// key writes a message canonically, without one of its fields; fields unknown to the official types stay.
func (w protoWalk) key(m protoreflect.Message, without protoreflect.Name) string {
	if !w.keys {
		return ""
	}
	bare := m.New()
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Name() != without {
			bare.Set(f, v)
		}
		return true
	})
	bare.SetUnknown(m.GetUnknown())
	return string(m.Descriptor().Name()) + ":" + marshal(bare.Interface()) + ";"
}

func marshal(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("BUG: a message that was decoded cannot be encoded: " + err.Error())
	}
	return string(b)
}

func protoID(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	switch m.Descriptor().Name() {
	case "Span":
		return hex.EncodeToString(m.Get(fields.ByName("span_id")).Bytes())
	case "Profile":
		return hex.EncodeToString(m.Get(fields.ByName("profile_id")).Bytes())
	}
	attributes := m.Get(fields.ByName("attributes")).List()
	for i := range attributes.Len() {
		kv := attributes.Get(i).Message()
		names := kv.Descriptor().Fields()
		if kv.Get(names.ByName("key")).String() == IDAttribute {
			value := kv.Get(names.ByName("value")).Message()
			return value.Get(value.Descriptor().Fields().ByName("string_value")).String()
		}
	}
	return ""
}

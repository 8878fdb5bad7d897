package flush

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// jsonSpan is a request in OTLP's JSON that holds one span.
func jsonSpan(member string) string {
	return fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{%s}]}]}]}`, member)
}

// TestJSONForADestinationThatTakesNone: what came as JSON leaves as protobuf, merged; a request that has no protobuf form is
// dropped alone, counted, with what is wrong with it.
func TestJSONForADestinationThatTakesNone(t *testing.T) {
	for name, tt := range map[string]struct {
		compression otlp.Compression
		bodies      []string
		names       []string // delivered spans
		dropped     int
	}{
		"one":                {otlp.None, []string{jsonSpan(`"name":"a"`)}, []string{"a"}, 0},
		"merged":             {otlp.None, []string{jsonSpan(`"name":"a"`), jsonSpan(`"name":"b"`)}, []string{"a", "b"}, 0},
		"compressed":         {otlp.Gzip, []string{jsonSpan(`"name":"a"`), jsonSpan(`"name":"b"`)}, []string{"a", "b"}, 0},
		"one without a form": {otlp.None, []string{jsonSpan(`"name":"a"`), jsonSpan(`"kind":"SERVER"`), jsonSpan(`"name":"c"`)}, []string{"a", "c"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			r := newRig(t, func(_ context.Context, p otlp.Payload) error {
				if p.Encoding != otlp.Protobuf || p.Compression != tt.compression {
					return fmt.Errorf("got %v, %v", p.Encoding, p.Compression)
				}
				var d otlp.Decompressor
				raw, err := d.Append(nil, p.Body, p.Compression, 1<<20)
				if err != nil {
					return err
				}
				if len(raw) != p.Size {
					return fmt.Errorf("Size is %d of %d", p.Size, len(raw))
				}
				got = append(got, spanNames(t, raw)...)
				return nil
			}, func(r *Route) { r.NoJSON, r.Compression = true, tt.compression })
			for _, body := range tt.bodies {
				p := otlp.Payload{Signal: otlp.Traces, Encoding: otlp.JSON, Body: []byte(body), Size: len(body), Records: 1}
				if err := r.queue.Send(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if strings.Join(got, " ") != strings.Join(tt.names, " ") || r.counts.records != len(tt.names) {
				t.Errorf("delivered %q, counted %d; want %q", got, r.counts.records, tt.names)
			}
			if r.counts.dropped[otlp.DroppedRefused] != tt.dropped {
				t.Errorf("dropped %v, want %d refused", r.counts.dropped, tt.dropped)
			}
			if tt.dropped > 0 && !strings.Contains(errors.Join(r.counts.causes...).Error(), "spans.kind: expected a 32-bit integer") {
				t.Errorf("dropped with %v", r.counts.causes)
			}
		})
	}
}

func spanNames(t *testing.T, body []byte) (names []string) {
	t.Helper()
	var req tracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		t.Fatal(err)
	}
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

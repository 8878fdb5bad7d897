package e2e

import (
	"testing"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

func TestFirstLight(t *testing.T) {
	for _, mode := range []string{"auto", "end", "next", "interval"} {
		t.Run(mode, func(t *testing.T) {
			c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_FLUSH": mode}})
			for range 10 {
				c.invoke(3)
			}
			c.mustArrive(c.shutdown())
			if n := len(c.logged("level=WARN")) + len(c.logged("level=ERROR")); n > 0 {
				t.Errorf("%d warnings where nothing is wrong", n)
			}
		})
	}
}

// Every signal in both encodings comes through without a changed field; what may be merged is, and profiles,
// which may not, are sent one by one.
func TestEverySignalInBothEncodings(t *testing.T) {
	c, b := posters(t, setup{
		vars:    map[string]string{"OTLP_RELAY_FLUSH": "next"},
		backend: newBackend(t, otlptest.Options{Keep: true}),
	})
	const each = 3
	var sent [otlp.SignalCount][2][][]byte // the bodies, by signal and encoding
	var all []otlptest.Built
	for _, sig := range otlp.Signals() {
		for _, enc := range []otlp.Encoding{otlp.Protobuf, otlp.JSON} {
			for range each {
				r := b.Build(sig, enc, 7)
				sent[sig][enc] = append(sent[sig][enc], r.Body)
				all = append(all, r)
			}
		}
	}
	c.post(all...)
	c.mustArrive(c.shutdown())
	for _, sig := range otlp.Signals() {
		for enc, bodies := range sent[sig] {
			enc := otlp.Encoding(enc)
			if err := otlptest.Equal(sig, enc, bodies, c.backend.Bodies(sig, enc)); err != nil {
				t.Errorf("%s in %s: %v", sig, enc.ContentType(), err)
			}
		}
		want := 2 // one of each encoding
		if sig == otlp.Profiles {
			want = 2 * each
		}
		if n := c.backend.Totals(sig).Requests; n != want {
			t.Errorf("%s: %d requests arrived, want %d", sig, n, want)
		}
	}
}

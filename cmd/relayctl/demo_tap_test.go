package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

func decoded(t *testing.T, b otlptest.Built) proto.Message {
	t.Helper()
	d, err := otlptest.Decode(b.Signal, b.Encoding, b.Body)
	if err != nil {
		t.Fatal(err)
	}
	return d.Message
}

func mustFingerprint(t *testing.T, m proto.Message) []string {
	t.Helper()
	ids, err := fingerprints(m)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestFingerprintsFollowARecordIntoAMergedRequest(t *testing.T) {
	for _, sig := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		b := &otlptest.Builder{Name: "demo"}
		one, two := b.Build(sig, otlp.Protobuf, 20), b.Build(sig, otlp.Protobuf, 3)
		want := slices.Concat(mustFingerprint(t, decoded(t, one)), mustFingerprint(t, decoded(t, two)))
		merged := otlptest.Built{Signal: sig, Body: slices.Concat(one.Body, two.Body)}
		got := mustFingerprint(t, decoded(t, merged))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the fingerprints of a merged request are not those of its parts", sig)
		}
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != 23 {
			t.Errorf("%s: %d different fingerprints of 23 records", sig, n)
		}
	}
}

func TestFingerprintsTellAChangedRecord(t *testing.T) {
	for _, sig := range []otlp.Signal{otlp.Traces, otlp.Metrics, otlp.Logs} {
		plain := (&otlptest.Builder{Name: "demo"}).Build(sig, otlp.Protobuf, 1)
		padded := (&otlptest.Builder{Name: "demo", Pad: 1}).Build(sig, otlp.Protobuf, 1)
		if slices.Equal(mustFingerprint(t, decoded(t, plain)), mustFingerprint(t, decoded(t, padded))) {
			t.Errorf("%s: a record with one more attribute has the same fingerprint", sig)
		}
	}
}

func TestFingerprintsRefuseWhatTheyCannotTell(t *testing.T) {
	b := (&otlptest.Builder{Name: "demo"}).Build(otlp.Profiles, otlp.Protobuf, 1)
	if ids, err := fingerprints(decoded(t, b)); err == nil {
		t.Errorf("fingerprints of profiles are %v, want an error", ids)
	}
}

// post sends a request through the tap and answers the status, or 0 where the connection broke.
func post(t *testing.T, tap *tap, path string, body []byte) int {
	t.Helper()
	resp, err := http.Post(tap.url()+path, "application/x-protobuf", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func TestTapPassesOnAndTakesNote(t *testing.T) {
	receiver, err := otlptest.StartBackend(otlptest.Options{Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	tap, err := startTap(receiver.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer tap.close()

	b := (&otlptest.Builder{Name: "demo"}).Build(otlp.Logs, otlp.Protobuf, 5)
	if status := post(t, tap, "/v1/logs", b.Body); status != http.StatusOK {
		t.Errorf("through the tap the receiver answered %d, want 200", status)
	}
	receiver.Fail(otlptest.Fault{Kind: otlptest.Status, Code: 503})
	if status := post(t, tap, "/v1/logs", b.Body); status != http.StatusServiceUnavailable {
		t.Errorf("through the tap the receiver answered %d, want 503", status)
	}
	receiver.Fail(otlptest.Fault{Kind: otlptest.ResetAfterRead})
	if status := post(t, tap, "/v1/logs", b.Body); status != 0 {
		t.Errorf("the tap answered %d for a receiver that broke the connection, want none", status)
	}

	seen, problems := tap.account()
	if len(seen) != 3 || len(problems) != 1 {
		t.Fatalf("%d exchanges and the problems %v, want 3 and the broken connection", len(seen), problems)
	}
	for i, want := range []struct {
		status int
		taken  bool
	}{{200, true}, {503, false}, {0, false}} {
		if x := seen[i]; x.Status != want.status || x.Taken != want.taken || x.Signal != otlp.Logs || len(x.Records) != 5 {
			t.Errorf("exchange %d is noted as %+v, want status %d of 5 logs", i, x, want.status)
		}
	}
	arrived, err := backendExchanges(receiver.Requests(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if gone := missing(seen, arrived); len(gone) != 0 {
		t.Errorf("%d records that went through the tap are missing", len(gone))
	}
}

func TestTapSaysWhatItCannotRead(t *testing.T) {
	receiver, err := otlptest.StartBackend(otlptest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	tap, err := startTap(receiver.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer tap.close()
	post(t, tap, "/v1/traces", []byte("{}"))
	if _, problems := tap.account(); len(problems) != 1 || !strings.Contains(problems[0].Error(), "/v1/traces") {
		t.Errorf("the tap's problems are %v, want the body that is no protobuf", problems)
	}
}

func TestParseDemo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(binary, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if o, err := parseDemo([]string{"--extension", binary, "--function", binary, "--flush", "next"}, io.Discard); err != nil || o.flush != "next" {
		t.Errorf("parseDemo of a good line = %+v, %v", o, err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no function", []string{"--extension", binary}, "make demo"},
		{"no extension", []string{"--extension", binary + "x", "--function", binary}, "make demo"},
		{"unknown mode", []string{"--extension", binary, "--function", binary, "--flush", "soon"}, "not one of auto"},
		{"an argument", []string{"--extension", binary, "--function", binary, "now"}, `"now"`},
		{"unknown flag", []string{"--fast"}, "fast"},
	} {
		var misuse usageError
		if _, err := parseDemo(tt.args, io.Discard); !errors.As(err, &misuse) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: parseDemo answers %v, want a usage error with %q", tt.name, err, tt.want)
		}
	}
	var help bytes.Buffer
	if err := runDemo(context.Background(), []string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "--extension BIN") {
		t.Errorf("--help answers %v and prints %q", err, &help)
	}
}

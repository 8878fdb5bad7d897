package extension

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

func TestSpoolDirectory(t *testing.T) {
	for vars, want := range map[string]string{
		"":                                     "",
		"OTLP_RELAY_SPOOL=off":                 "",
		"OTLP_RELAY_SPOOL=tmp":                 "/tmp/otlp-relay",
		"OTLP_RELAY_SPOOL=TMP TMPDIR=/scratch": "/scratch/otlp-relay",
	} {
		if got := parse(strings.Fields(vars)...).Spool; got != want {
			t.Errorf("%s: %q, want %q", vars, got, want)
		}
	}
}

// spooled gives the sandbox a spool and replays what it finds there.
func (s *sandbox) spooled(dir string) {
	s.app.spool = newSpooling(dir, 1<<20)
	s.app.spool.begin(s.app)
	<-s.app.spool.replayed
	synctest.Wait()
}

// take hands a built request over, as the receiver does.
func (s *sandbox) take(r otlptest.Built) {
	_ = (*intake)(s.app).Send(s.t.Context(), r.Payload(s.wall()))
}

// end is shutdown with a reason, and everything that Run does after it. It answers the ledger's figures.
func (s *sandbox) end(reason string) account {
	s.t.Helper()
	s.events <- lambdaapi.Event{Type: lambdaapi.Shutdown, Deadline: s.wall().Add(1400 * time.Millisecond), ShutdownReason: reason}
	ev := <-s.ended
	s.app.shutdown(s.t.Context(), ev)
	s.app.leave(ev.ShutdownReason)
	s.app.settle()
	_, line, ok := strings.Cut(s.log.String(), "msg=ledger")
	if !ok || !strings.Contains(line, "balanced=true") {
		s.t.Errorf("no ledger, or it does not balance: %s", line)
	}
	a := account{}
	for _, m := range regexp.MustCompile(`([a-z_.]+)=(\d+)`).FindAllStringSubmatch(line, -1) {
		a[m[1]], _ = strconv.Atoi(m[2])
	}
	return a
}

type account map[string]int

func (a account) must(t *testing.T, want account) {
	t.Helper()
	for k, v := range want {
		if a[k] != v {
			t.Errorf("%s is %d, want %d; account: %v", k, a[k], v, a)
		}
	}
}

var errDead = &otlp.Error{Retryable: true, HTTPStatus: http.StatusServiceUnavailable}

func dead(context.Context, otlp.Payload) error { return errDead }

// A chain of processes, ended in every way there is: what one leaves the next one finds, to the byte.
func TestSpoolChain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	b := otlptest.Builder{Name: "chain"}
	sum := account{}
	size := 0
	process := func(reason string, backend func(context.Context, otlp.Payload) error, sizes ...int) (a account) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := newSandbox(t, options{mode: flush.End})
			s.setBackend(backend)
			s.spooled(dir)
			for _, n := range sizes {
				r := b.Build(otlp.Traces, otlp.Protobuf, n)
				size += len(r.Body)
				s.take(r)
			}
			a = s.end(reason)
			for k, v := range a {
				sum[k] += v
			}
		})
		return a
	}
	process("timeout", dead, 10, 20).must(t, account{"traces.accepted.records": 30, "traces.spooled.records": 30, "traces.spooled.bytes": size})
	process("failure", dead, 5).must(t, account{"traces.replayed.records": 30, "traces.spooled.records": 35, "traces.spooled.bytes": size})
	// It takes the first 10 of all, and nothing else: the rest of the payloads is left, in parts.
	taken := 0
	process("timeout", func(_ context.Context, p otlp.Payload) error {
		switch {
		case p.Records > 10:
			return &otlp.Error{HTTPStatus: http.StatusRequestEntityTooLarge}
		case taken == 0:
			taken = p.Records
			return nil
		}
		return errDead
	}).must(t, account{"traces.replayed.records": 35, "traces.spooled.records": 35 - taken})
	if taken != 10 {
		t.Errorf("%d records taken: this test proves too little", taken)
	}
	// Now the largest payload is half-delivered.
	taken = 0
	left := process("timeout", func(_ context.Context, p otlp.Payload) error {
		switch {
		case p.Records > 10:
			return &otlp.Error{HTTPStatus: http.StatusRequestEntityTooLarge}
		case taken < 10:
			taken += p.Records
			return nil
		}
		return errDead
	})
	left.must(t, account{"traces.replayed.records": 25, "traces.delivered.records": taken, "traces.spooled.records": 25 - taken})
	if taken == 0 || taken >= 20 {
		t.Errorf("%d records taken: this test proves too little", taken)
	}
	process("spindown", func(context.Context, otlp.Payload) error { return nil }, 3).must(t, account{
		"traces.replayed.records": 25 - taken, "traces.replayed.bytes": left["traces.spooled.bytes"], "traces.spooled.records": 0,
	})
	sum.must(t, account{"traces.accepted.records": 38, "traces.delivered.records": 38, "traces.accepted.bytes": size, "traces.delivered.bytes": size,
		"traces.replayed.records": sum["traces.spooled.records"], "traces.replayed.bytes": sum["traces.spooled.bytes"]})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// What is found is dropped where there is no destination for it any more, or where it is damaged, and counted.
func TestSpoolLosses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	b := otlptest.Builder{Name: "losses"}
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		s.setBackend(dead)
		s.spooled(dir)
		s.take(b.Build(otlp.Traces, otlp.Protobuf, 7))
		s.take(b.Build(otlp.Logs, otlp.Protobuf, 5))
		s.take(b.Build(otlp.Metrics, otlp.Protobuf, 3))
		s.end("timeout")
	})
	segments, err := filepath.Glob(filepath.Join(dir, "*-logs"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	image, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	image[len(image)-1]++
	if err := os.WriteFile(segments[0], image, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		refusal := errors.New("no endpoint")
		s.app.refusals[otlp.Traces].Store(&refusal)
		s.spooled(dir)
		s.end("timeout").must(t, account{
			"traces.replayed.records": 7, "traces.dropped.misconfigured.records": 7,
			"logs.replayed.records": 5, "logs.dropped.corrupt.records": 5,
			"metrics.replayed.records": 3, "metrics.delivered.records": 3,
		})
	})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// What an earlier process left goes before what is new, and when the queue is full it is the first to go.
func TestSpoolIsOlderThanWhatIsNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	b := otlptest.Builder{Name: "old", Pad: 50_000}
	old := b.Build(otlp.Traces, otlp.Protobuf, 2)
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		s.setBackend(dead)
		s.spooled(dir)
		s.take(b.Build(otlp.Logs, otlp.Protobuf, 1))
		s.take(old)
		s.end("timeout")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.Next})
		s.take(b.Build(otlp.Traces, otlp.Protobuf, 3))
		s.spooled(dir)
		if s.sent() > 0 {
			t.Error("sent before the mode asks for it")
		}
		var got []otlp.Payload
		s.setBackend(func(_ context.Context, p otlp.Payload) error {
			if p.Signal == otlp.Traces {
				got = append(got, p)
			}
			return nil
		})
		s.take(b.Build(otlp.Metrics, otlp.Protobuf, 15)) // more than there is room for
		s.end("spindown").must(t, account{"logs.dropped.queue_full.records": 1, "traces.delivered.records": 5, "metrics.delivered.records": 15})
		if len(got) != 1 || !bytes.HasPrefix(got[0].Body, old.Body) {
			t.Errorf("%d requests, or what was left did not go first", len(got))
		}
	})
}

// Where no copy can be made, that is said once; and once when one can be made again.
func TestSpoolTrouble(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "no", "spool")
	b := otlptest.Builder{Name: "trouble"}
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		s.spooled(dir)
		for range 3 {
			s.take(b.Build(otlp.Traces, otlp.Protobuf, 1))
		}
		s.end("timeout").must(t, account{"traces.accepted.records": 3, "traces.delivered.records": 3})
		if n := strings.Count(s.log.String(), "kept in memory only"); n != 1 {
			t.Errorf("said %d times:\n%s", n, s.log)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSandbox(t, options{mode: flush.End})
		s.app.spool = newSpooling(filepath.Join(t.TempDir(), "spool"), 2000)
		s.setBackend(dead)
		s.take(b.Build(otlp.Traces, otlp.Protobuf, 2))
		for range 3 {
			s.take(b.Build(otlp.Traces, otlp.Protobuf, 20)) // more than the limit
		}
		s.take(b.Build(otlp.Traces, otlp.Protobuf, 1))
		s.app.spool.begin(s.app)
		s.end("timeout").must(t, account{"traces.spooled.records": 3, "traces.dropped.shutdown.records": 60})
		for _, text := range []string{"kept in memory only", "kept in the spool again"} {
			if n := strings.Count(s.log.String(), text); n != 1 {
				t.Errorf("%q said %d times:\n%s", text, n, s.log)
			}
		}
	})
}

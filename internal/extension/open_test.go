package extension

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// keeper is where secrets are kept: it answers as it is told.
type keeper struct {
	mu     sync.Mutex
	answer func(ctx context.Context, r reference) (string, error)
	asked  int
}

func (k *keeper) read(ctx context.Context, r reference) (string, error) {
	k.mu.Lock()
	k.asked++
	answer := k.answer
	k.mu.Unlock()
	return answer(ctx, r)
}

// times is how often it was asked.
func (k *keeper) times() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

func (k *keeper) set(answer func(context.Context, reference) (string, error)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer = answer
}

// hangs is a keeper that never answers.
func hangs(ctx context.Context, _ reference) (string, error) {
	<-ctx.Done()
	return "", &otlp.Error{Code: otlp.DeadlineExceeded, Retryable: true, Err: context.Cause(ctx)}
}

// after is a keeper that takes its time.
func after(d time.Duration, secret string, err error) func(context.Context, reference) (string, error) {
	return func(ctx context.Context, _ reference) (string, error) {
		select {
		case <-time.After(d):
			return secret, err
		case <-ctx.Done():
			return hangs(ctx, "")
		}
	}
}

var (
	throttled = fmt.Errorf("read it: %w", &otlp.Error{Code: otlp.ResourceExhausted, HTTPStatus: 400, Message: "ThrottlingException", Retryable: true})
	denied    = fmt.Errorf("read it: %w", &otlp.Error{Code: otlp.PermissionDenied, HTTPStatus: 400, Message: "AccessDeniedException (allow ssm:GetParameter)"})
)

// withSecrets is a sandbox whose traces and metrics need a secret; its clients send to the sandbox's backend.
func withSecrets(mode flush.Mode, k *keeper, vars ...string) options {
	cfg := parse(append([]string{"OTLP_RELAY_ENDPOINT=https://b.example.com", "OTLP_RELAY_TRACES_HEADERS=key=${ssm:/key}", "OTLP_RELAY_METRICS_HEADERS=key=${ssm:/key}"}, vars...)...)
	return options{mode: mode, route: func(a *app, sig otlp.Signal, client otlp.Sink) flush.Route {
		if a.vault == nil {
			a.cfg.Destinations, a.cfg.Sources, a.cfg.vars, a.cfg.HTTPAddr = cfg.Destinations, cfg.Sources, cfg.vars, cfg.HTTPAddr
			a.vault = a.openVault(k.read)
			a.client = func(otlp.Signal, *Destination) (otlp.Sink, error) { return client, nil }
		}
		r, err := a.firstRoute(sig, &a.cfg.Destinations[sig])
		if err != nil {
			panic(err)
		}
		return r
	}}
}

func (s *sandbox) dropped(sig otlp.Signal, why otlp.Reason) int64 {
	s.app.ledger.mu.Lock()
	defer s.app.ledger.mu.Unlock()
	if d := s.app.ledger.entries[sig].dropped[why]; d != nil {
		return d.records
	}
	return 0
}

func TestSecrets(t *testing.T) {
	for _, mode := range []flush.Mode{flush.End, flush.Next} {
		k := &keeper{answer: after(100*time.Millisecond, "s3cret-value", nil)}
		bubble(mode.String()+": data waits for its secret, and leaves", t, withSecrets(mode, k), func(t *testing.T, s *sandbox) {
			s.invoke("1")
			s.emit(otlp.Traces, 10)
			s.emit(otlp.Metrics, 10)
			s.emit(otlp.Logs, 10) // needs none
			s.returned("1")
			if held := s.held(); held > 100*time.Millisecond {
				t.Errorf("held %v for a secret of 100 ms", held)
			}
			s.invoke("2")
			s.returned("2")
			s.held()
			if s.delivered() != 3 || k.times() != 1 {
				t.Errorf("delivered %d, asked %d times", s.delivered(), k.times())
			}
			s.shutdown()
		})
	}
}

func TestSecretThatComesLate(t *testing.T) {
	k := &keeper{answer: hangs}
	bubble("hangs", t, withSecrets(flush.End, k), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.returned("1")
		if held := s.held(); held > time.Second {
			t.Errorf("held %v, more than the budget", held)
		}
		for _, id := range []string{"2", "3", "4"} {
			s.invoke(id)
			s.emit(otlp.Traces, 10)
			s.returned(id)
			s.mustBeInNext("invocation " + id + " without a secret")
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if n := strings.Count(s.log.String(), "a secret cannot be read for now"); n != 1 || s.dropped(otlp.Traces, otlp.DroppedMisconfigured) != 0 {
			t.Errorf("logged %d times, dropped some:\n%s", n, s.log)
		}
		k.set(after(10*time.Millisecond, "s3cret-value", nil))
		s.freeze(time.Minute, false)
		s.invoke("5")
		time.Sleep(10 * time.Second) // the round that hangs ends, and the next one comes
		synctest.Wait()
		if s.delivered() != 4 {
			t.Errorf("delivered %d once the secret is there, want all 4", s.delivered())
		}
	})
	k = &keeper{answer: after(time.Millisecond, "", throttled)}
	bubble("throttled", t, withSecrets(flush.Next, k), func(t *testing.T, s *sandbox) {
		for i := range 50 {
			id := fmt.Sprint(i)
			s.invoke(id)
			s.emit(otlp.Traces, 10)
			s.returned(id)
			s.held()
			s.freeze(2*time.Second, i%2 == 0)
		}
		if k.times() > 12 {
			t.Errorf("asked %d times in 100 s, want fewer and fewer", k.times())
		}
		s.shutdown()
		if s.dropped(otlp.Traces, otlp.DroppedShutdown) != 50 || !strings.Contains(s.log.String(), "ThrottlingException") {
			t.Errorf("what was left is not counted:\n%s", s.log)
		}
	})
}

func TestSecretThatCannotBeHad(t *testing.T) {
	k := &keeper{answer: after(300*time.Millisecond, "", denied)}
	bubble("denied", t, withSecrets(flush.End, k), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.emit(otlp.Traces, 10)
		s.returned("1")
		s.held()
		s.emit(otlp.Traces, 10)
		s.emit(otlp.Metrics, 10)
		s.emit(otlp.Logs, 10)
		synctest.Wait()
		if traces, metrics := s.dropped(otlp.Traces, otlp.DroppedMisconfigured), s.dropped(otlp.Metrics, otlp.DroppedMisconfigured); traces != 3 || metrics != 1 {
			t.Errorf("dropped %d traces and %d metrics, want 3 and 1", traces, metrics)
		}
		if s.delivered() != 1 {
			t.Errorf("delivered %d, want the logs", s.delivered())
		}
		const want = `level=ERROR msg="degraded: telemetry is accepted and dropped" signal="[traces metrics]" ` +
			`error="OTLP_RELAY_METRICS_HEADERS: ${ssm:/key}: read it: HTTP 400: AccessDeniedException (allow ssm:GetParameter)"`
		if n := strings.Count(s.log.String(), "level=ERROR"); n != 1 || !strings.Contains(s.log.String(), want) {
			t.Errorf("%d errors, want one:\n%s\n%s", n, want, s.log)
		}
		if k.times() != 1 {
			t.Errorf("asked %d times", k.times())
		}
		s.shutdown()
	})
	k = &keeper{answer: after(0, "  ", nil)}
	bubble("only traces: nothing is held for", t, withSecrets(flush.End, k), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.returned("1")
		s.held()
		s.invoke("2")
		s.mustBeInNext("at once: nothing can be sent")
		if !strings.Contains(s.log.String(), "${ssm:/key}: it is empty: store the value there") {
			t.Errorf("log:\n%s", s.log)
		}
		s.shutdown()
	})
	k = &keeper{answer: after(0, "http://localhost:4318/secret-path", nil)}
	bubble("a destination that is none", t, withSecrets(flush.End, k, "OTLP_RELAY_LOGS_ENDPOINT=${ssm:/e}"), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Logs, 10)
		s.returned("1")
		s.held()
		if s.dropped(otlp.Logs, otlp.DroppedMisconfigured) != 1 || strings.Count(s.log.String(), "OTLP_RELAY_LOGS_ENDPOINT points at this extension itself") < 1 ||
			strings.Contains(s.log.String(), "secret-path") {
			t.Errorf("log:\n%s", s.log)
		}
		s.shutdown()
	})
}

func TestShutdownWithoutSecrets(t *testing.T) {
	k := &keeper{answer: hangs}
	bubble("hangs", t, withSecrets(flush.Next, k), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		if took := s.shutdown(); took > 1400*time.Millisecond {
			t.Errorf("shutdown took %v of 1.4 s", took)
		}
		if s.dropped(otlp.Traces, otlp.DroppedShutdown) != 1 {
			t.Errorf("what was left is not counted:\n%s", s.log)
		}
	})
	k = &keeper{answer: hangs}
	bubble("a fetch that hangs since before a freeze is begun afresh", t, withSecrets(flush.Next, k), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.invoke("2")
		s.held()
		k.set(after(20*time.Millisecond, "s3cret-value", nil))
		s.freeze(time.Hour, false)
		if s.shutdown(); s.delivered() != 1 {
			t.Errorf("delivered %d:\n%s", s.delivered(), s.log)
		}
	})
	k = &keeper{answer: after(0, "", denied)}
	bubble("denied", t, withSecrets(flush.Next, k), func(t *testing.T, s *sandbox) {
		s.invoke("1")
		s.emit(otlp.Traces, 10)
		s.shutdown()
		if s.dropped(otlp.Traces, otlp.DroppedMisconfigured) != 1 {
			t.Errorf("log:\n%s", s.log)
		}
	})
}

// A round that was begun before a freeze, in which its connections died, does not speak for the next export.
func TestPrefetchThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{answer: after(time.Second, "", throttled)}
		v := newVault()
		v.all, v.fetch, v.known = []reference{"${ssm:/a}", "${ssm:/b}"}, k.read, func(string) {}
		go v.resolve(t.Context(), v.all)
		synctest.Wait()
		k.set(after(time.Second, "x", nil))
		begin := time.Now()
		secrets, err := v.resolve(t.Context(), v.all[:1])
		synctest.Wait() // the other one comes at the same time
		if err != nil || len(secrets) != 1 || secrets["${ssm:/a}"] != "x" || time.Since(begin) != 2*time.Second || k.times() != 4 {
			t.Errorf("%v, %v after %v, asked %d times", secrets, err, time.Since(begin), k.times())
		}
		k.set(func(context.Context, reference) (string, error) { panic("not asked again") })
		if secrets, err := v.resolve(t.Context(), v.all); err != nil || len(secrets) != 2 {
			t.Errorf("%v, %v", secrets, err)
		}
	})
}

func TestVault(t *testing.T) {
	keeps := func(answer func(context.Context, reference) (string, error), refs ...reference) (*vault, *[]error) {
		var refused []error
		v := newVault()
		v.all, v.fetch, v.known = append(refs, "${ssm:/a}"), answer, func(string) {}
		v.refused = func(_ reference, err error) { refused = append(refused, err) }
		return v, &refused
	}
	synctest.Test(t, func(t *testing.T) {
		v, refused := keeps(hangs)
		begin := time.Now()
		_, err := v.resolve(t.Context(), v.all)
		if !errors.Is(err, errSecretsTimeout) || !maySucceed(err) || time.Since(begin) != secretsTimeout || len(*refused) > 0 {
			t.Errorf("%v after %v, refused %v", err, time.Since(begin), *refused)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		v, refused := keeps(func(context.Context, reference) (string, error) { panic("a bug") })
		for range 2 {
			_, err := v.resolve(t.Context(), v.all)
			if err == nil || maySucceed(err) || !strings.HasPrefix(err.Error(), "BUG: fetch ${ssm:/a}: a bug") || len(*refused) != 1 {
				t.Errorf("%v, refused %v", err, *refused)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		v, _ := keeps(hangs)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errShutdown)
		defer cancel()
		begin := time.Now()
		_, err := v.resolve(ctx, v.all)
		if !errors.Is(err, errShutdown) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		v, _ := keeps(func(ctx context.Context, r reference) (string, error) {
			switch r {
			case "${ssm:/slow}":
				return hangs(ctx, r)
			case "${ssm:/busy}":
				return "", throttled
			}
			return "x", nil
		}, "${ssm:/slow}", "${ssm:/busy}")
		begin := time.Now()
		if secrets, err := v.resolve(t.Context(), []reference{"${ssm:/a}"}); err != nil || len(secrets) != 1 || time.Since(begin) > 0 {
			t.Errorf("%v, %v after %v: it waited for another's secret", secrets, err, time.Since(begin))
		}
		if _, err := v.resolve(t.Context(), []reference{"${ssm:/busy}"}); !errors.Is(err, throttled) || time.Since(begin) > secretsTimeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		time.Sleep(secretsTimeout) // the last round ends by itself
	})
}

// Nothing is asked for before event/next is called.
func TestSecretsAreNotFetchedBeforeNext(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"eventType":"SHUTDOWN"}`)
	}))
	defer api.Close()
	cfg := parse("OTLP_RELAY_ENDPOINT=${ssm:/e}", "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"))
	a := newApp(cfg, io.Discard)
	asked := make(chan reference, 1)
	a.vault.fetch = func(_ context.Context, r reference) (string, error) {
		asked <- r
		return "https://b", nil
	}
	a.connect(t.Context())
	if len(asked) > 0 {
		t.Error("asked before next")
	}
	for range 2 {
		if _, err := a.next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-asked; r != "${ssm:/e}" {
		t.Errorf("asked for %s", r)
	}
}

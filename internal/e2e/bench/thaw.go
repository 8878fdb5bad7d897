package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// frozen is how long the environment lies frozen between two invocations.
const frozen = 20 * time.Millisecond

// thaw is a way to send after a freeze.
type thaw struct {
	size     int // MB; 0: full CPU
	protocol string
	backend  otlptest.Options
}

// measureThaw counts how often the first request after a freeze fails where the backend has closed the
// connection meanwhile.
func measureThaw(ctx context.Context, l *lab) ([]table, error) {
	freezes := l.n(1000, 5)
	t := table{
		title: "First request after a freeze",
		method: fmt.Sprintf("The backend closes its kept connections while the environment is frozen for %v; mode `end`; %d freezes each. "+
			"Failed: an invocation whose data did not arrive before it ended.", frozen, freezes),
		columns: []string{"CPU", "over", "goal", "failed", "arrived twice", "verdict"},
	}
	ways := []thaw{{0, "HTTP", otlptest.Options{}}, {0, "HTTPS", otlptest.Options{TLS: true}}, {0, "gRPC", otlptest.Options{GRPC: true}}}
	if l.shares && !l.quick {
		ways = append(ways, thaw{128, "HTTP", otlptest.Options{}})
	}
	for _, w := range ways {
		l.say("  %s over %s", memoryName(w.size), w.protocol)
		failed, twice, err := l.thawOften(ctx, w, freezes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.protocol, err)
		}
		t.row(memoryName(w.size), w.protocol, "0 %", fmt.Sprintf("%d of %d", failed, freezes), count(float64(twice)), verdict(float64(failed), 0))
	}
	t.note("A plain net/http client loses 53 to 100 %% of these requests (measured on another day): its transport finds out only by sending.")
	return []table{t}, nil
}

func (l *lab) thawOften(ctx context.Context, w thaw, freezes int) (failed, twice int, err error) {
	b, err := otlptest.StartBackend(w.backend)
	if err != nil {
		return 0, 0, err
	}
	defer b.Close()
	vars := map[string]string{"OTLP_RELAY_FLUSH": "end"}
	if w.backend.TLS {
		ca := filepath.Join(l.dir, "ca.pem")
		if err := os.WriteFile(ca, b.CA(), 0o644); err != nil {
			return 0, 0, err
		}
		vars["OTLP_RELAY_CERTIFICATE"] = ca
	}
	env, err := l.start(ctx, setup{extension: ours, memoryMB: max(w.size, 128), share: w.size > 0, backend: b, vars: vars})
	if err != nil {
		return 0, 0, err
	}
	defer env.Close()
	for i := range freezes + 1 {
		if _, err := invoke(ctx, env, work{1, 20, 1}); err != nil {
			return 0, 0, err
		}
		if got := b.Totals(otlp.Traces).Records; i > 0 && got < (i+1)*20 {
			failed++
		}
		b.CutConns()
		pause(ctx, frozen)
	}
	if _, err := env.Shutdown(ctx, ""); err != nil {
		return 0, 0, err
	}
	got, made := b.Totals(otlp.Traces).Records, 20*(freezes+1)
	if got < made {
		return 0, 0, fmt.Errorf("%d of %d spans arrived", got, made)
	}
	return failed, got - made, nil
}

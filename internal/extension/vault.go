package extension

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// secretsTimeout is the most that one round of fetching secrets takes, retries included.
const secretsTimeout = 5 * time.Second

var errSecretsTimeout = fmt.Errorf("no answer within %v: %w", secretsTimeout, context.DeadlineExceeded)

// vault fetches the secrets that settings refer to, all in one round, each once: whoever needs them meanwhile waits
// for the round that is under way. A secret that cannot be had for good is not asked for again; any other is, in
// the next round that somebody asks for. It is safe for concurrent use.
type vault struct {
	all     []reference
	fetch   func(ctx context.Context, r reference) (string, error)
	refused func(r reference, err error) // told once of each that cannot be had for good
	known   func(secret string)          // told of each that is known now, before anybody else

	mu      sync.Mutex // guards what follows
	secrets map[reference]string
	lost    map[reference]error // for good
	round   *round              // the one that is under way, or nil
}

// round is one try to fetch what is missing.
type round struct {
	cancel context.CancelCauseFunc
	done   chan struct{}       // closed when it is over
	failed map[reference]error // for the moment; to be read when it is over
}

// resolve waits until every reference's secret is known. A round that was begun before, in which connections may
// have died in a freeze, does not speak for the caller: where it fails another follows.
func (v *vault) resolve(ctx context.Context, refs []reference) (map[reference]string, error) {
	for began := false; ; {
		secrets, r, err := v.look(refs)
		if secrets != nil || err != nil {
			return secrets, err
		}
		if r == nil {
			r, began = v.begin(ctx), true
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			// What it waited for may never come: whoever asks next begins afresh.
			r.cancel(context.Cause(ctx))
			return nil, fmt.Errorf("stop waiting for secrets: %w", context.Cause(ctx))
		}
		for _, ref := range refs {
			if err := r.failed[ref]; err != nil && began {
				return nil, err
			}
		}
	}
}

// look is the secrets of refs where they are all known, else the round under way if there is one.
func (v *vault) look(refs []reference) (map[reference]string, *round, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	secrets := make(map[reference]string, len(refs))
	for _, r := range refs {
		if err := v.lost[r]; err != nil {
			return nil, nil, err
		}
		if s, ok := v.secrets[r]; ok {
			secrets[r] = s
		}
	}
	if len(secrets) == len(refs) {
		return secrets, nil, nil
	}
	return nil, v.round, nil
}

// begin starts a round, or joins one that somebody else has just started. It outlives the caller, but not for long.
func (v *vault) begin(ctx context.Context) *round {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.round != nil {
		return v.round
	}
	var missing []reference
	for _, r := range v.all {
		if _, known := v.secrets[r]; !known && v.lost[r] == nil {
			missing = append(missing, r)
		}
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &round{cancel: cancel, done: make(chan struct{}), failed: map[reference]error{}}
	v.round = r
	go v.run(ctx, r, missing)
	return r
}

// run fetches the missing ones side by side: one that hangs must not cost another its turn.
func (v *vault) run(ctx context.Context, r *round, missing []reference) {
	ctx, cancel := context.WithTimeoutCause(ctx, secretsTimeout, errSecretsTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, ref := range missing {
		wg.Go(func() {
			secret, err := v.get(ctx, ref)
			v.settle(r, ref, secret, err)
		})
	}
	wg.Wait()
	v.mu.Lock()
	v.round = nil
	v.mu.Unlock()
	r.cancel(nil)
	close(r.done)
}

// get fetches one secret, and survives a bug on the way.
func (v *vault) get(ctx context.Context, ref reference) (secret string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("BUG: fetch %s: %v", ref, p)
		}
	}()
	return v.fetch(ctx, ref)
}

// settle notes the outcome of one fetch.
func (v *vault) settle(r *round, ref reference, secret string, err error) {
	if err == nil {
		v.known(secret)
	}
	passing := err != nil && maySucceed(err)
	v.mu.Lock()
	switch {
	case err == nil:
		v.secrets[ref] = secret
	case passing:
		r.failed[ref] = err
	default:
		v.lost[ref] = err
	}
	v.mu.Unlock()
	if err != nil && !passing {
		v.refused(ref, err)
	}
}

// maySucceed says whether a fetch that failed may succeed later.
func maySucceed(err error) bool {
	var e *otlp.Error
	return errors.As(err, &e) && e.Retryable || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

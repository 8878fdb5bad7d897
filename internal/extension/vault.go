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
	refused func(r reference, err error) // told once of each that cannot be had for good, before anybody else
	known   func(secret string)          // told of each that is known now, before anybody else

	mu      sync.Mutex // guards what follows
	secrets map[reference]string
	lost    map[reference]error // for good
	round   *round              // the one that is under way, or nil
	settled chan struct{}       // closed and replaced whenever one is known or lost
}

func newVault() *vault {
	return &vault{secrets: map[reference]string{}, lost: map[reference]error{}, settled: make(chan struct{})}
}

// round is one try to fetch what is missing.
type round struct {
	cancel context.CancelCauseFunc
	done   chan struct{}       // closed when it is over
	failed map[reference]error // for the moment; guarded by the vault's mu
}

// resolve waits until every reference's secret is known. A round that was begun before, in which connections may
// have died in a freeze, does not speak for the caller: where it fails another follows.
func (v *vault) resolve(ctx context.Context, refs []reference) (map[reference]string, error) {
	var own *round
	for {
		v.mu.Lock()
		secrets, err := v.lookLocked(refs, own)
		if secrets != nil || err != nil {
			v.mu.Unlock()
			return secrets, err
		}
		if v.round == nil {
			own = v.beginLocked(ctx)
		}
		r, settled := v.round, v.settled
		v.mu.Unlock()
		select {
		case <-settled:
		case <-r.done:
		case <-ctx.Done():
			// What it waited for may never come: whoever asks next begins afresh.
			r.cancel(context.Cause(ctx))
			return nil, fmt.Errorf("stop waiting for secrets: %w", context.Cause(ctx))
		}
	}
}

// lookLocked is the secrets of refs where all are known, or why one is not to be had: for good, or in round r. Both
// are nil where that is open. The caller holds mu.
func (v *vault) lookLocked(refs []reference, r *round) (map[reference]string, error) {
	secrets := make(map[reference]string, len(refs))
	for _, ref := range refs {
		if err := v.lost[ref]; err != nil {
			return nil, err
		}
		if s, ok := v.secrets[ref]; ok {
			secrets[ref] = s
		} else if r != nil && r.failed[ref] != nil {
			return nil, r.failed[ref]
		}
	}
	if len(secrets) < len(refs) {
		return nil, nil
	}
	return secrets, nil
}

// beginLocked starts a round. It outlives the caller's ctx, but not for long. The caller holds mu.
func (v *vault) beginLocked(ctx context.Context) *round {
	var missing []reference
	for _, r := range v.all {
		if _, known := v.secrets[r]; !known && v.lost[r] == nil {
			missing = append(missing, r)
		}
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	v.round = &round{cancel: cancel, done: make(chan struct{}), failed: map[reference]error{}}
	go v.run(ctx, v.round, missing)
	return v.round
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
	passing := err != nil && maySucceed(err)
	switch {
	case err == nil:
		v.known(secret)
	case !passing:
		v.refused(ref, err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err == nil:
		v.secrets[ref] = secret
	case passing:
		r.failed[ref] = err
	default:
		v.lost[ref] = err
	}
	close(v.settled)
	v.settled = make(chan struct{})
}

// maySucceed says whether a fetch that failed may succeed later.
func maySucceed(err error) bool {
	var e *otlp.Error
	return errors.As(err, &e) && e.Retryable || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

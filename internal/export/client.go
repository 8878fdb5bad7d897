package export

import (
	"context"
	"fmt"
	"time"
)

// client is what the clients of OTLP have in common.
type client struct {
	*link
	timeout time.Duration
	tooLate error // the cause of an attempt that timed out
	warn    func(string)
}

func newClient(cfg HTTPConfig) (client, error) {
	l, err := newLink(cfg)
	return client{
		link:    l,
		timeout: cfg.Timeout,
		tooLate: fmt.Errorf("no answer within %v (OTLP_RELAY_TIMEOUT): %w", cfg.Timeout, context.DeadlineExceeded),
		warn:    cfg.Warn,
	}, err
}

// within is ctx for the time that one Send may take.
func (c *client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, c.timeout, c.tooLate)
}

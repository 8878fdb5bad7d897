package lambdasim

import (
	"context"
	"sync"
	"time"
)

// stopClock is a clock that stands still while the environment is frozen. It begins standing.
type stopClock struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced by start and stop
	running bool
	since   time.Time     // of the last start
	passed  time.Duration // up to it
}

func newStopClock() *stopClock { return &stopClock{changed: make(chan struct{})} }

func (c *stopClock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running {
		c.running, c.since = true, time.Now()
		c.wakeLocked()
	}
}

func (c *stopClock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.running, c.passed = false, c.passed+time.Since(c.since)
		c.wakeLocked()
	}
}

func (c *stopClock) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// now is how long the clock ran since it was made.
func (c *stopClock) now() time.Duration { return c.read().ran }

// reading is what the clock shows at one moment.
type reading struct {
	at      time.Time     // the moment, in the time of the world
	ran     time.Duration // since the clock was made
	running bool
	changed <-chan struct{} // closed at the next start or stop
}

func (c *stopClock) read() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := reading{at: time.Now(), ran: c.passed, running: c.running, changed: c.changed}
	if c.running {
		r.ran += r.at.Sub(c.since)
	}
	return r
}

// sleep waits until the clock has run for d more, or ctx ends. It says whether it was the former.
func (c *stopClock) sleep(ctx context.Context, d time.Duration) bool {
	end := c.now() + d
	for {
		r := c.read()
		if r.ran >= end {
			return true
		}
		var timer <-chan time.Time
		if r.running {
			timer = time.After(end - r.ran)
		}
		select {
		case <-timer:
		case <-r.changed:
		case <-ctx.Done():
			return false
		}
	}
}

// awaitDue waits until t has passed, in the time of the world, and the clock runs: what fell due while frozen
// is due at the thaw. It answers a moment at which both held; wake and the end of ctx end it early, with the
// zero time.
func (c *stopClock) awaitDue(ctx context.Context, t time.Time, wake <-chan struct{}) time.Time {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	for due := false; ; {
		r := c.read()
		if due && r.running {
			return r.at
		}
		select {
		case <-timer.C:
			due = true
		case <-r.changed:
		case <-wake:
			return time.Time{}
		case <-ctx.Done():
			return time.Time{}
		}
	}
}

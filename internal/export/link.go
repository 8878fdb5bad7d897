package export

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxIdle is how long a connection may have been idle, by the wall clock, to be used again: below the
	// 60 s after which AWS load balancers, the most impatient of the usual peers, forget a flow.
	maxIdle = 50 * time.Second

	// frozenFor is how much later than it should a timeout must come, by the wall clock, to be the mark of a
	// freeze rather than of a busy machine.
	frozenFor = time.Second
)

// link carries exchanges to one destination. It keeps one connection between them; of concurrent exchanges each
// further one dials its own.
type link struct {
	dialer *dialer
	head   head
	now    func() time.Time // the wall clock

	mu   sync.Mutex
	idle *conn // the kept connection, or nil; guarded by mu
}

// call is what a link carries.
type call interface {
	// begin prepares an attempt on an open connection.
	begin(ctx context.Context, c *conn) (exchange, error)
}

// request is a call over HTTP/1.1.
type request struct {
	// head appends the request's head, the empty line included. It is asked for each attempt, on an open
	// connection: what it says of the time (a signature) must be true when it leaves.
	head func(ctx context.Context, dst []byte) ([]byte, error)
	body []byte
}

func (r request) begin(ctx context.Context, c *conn) (exchange, error) {
	head, err := r.head(ctx, c.buf[:0])
	return exchange{
		long:  len(r.body) > inlineBody,
		write: func() error { return c.write(head, r.body) },
		read:  c.receive,
	}, err
}

// newLink checks what cfg says about the destination. It opens no connection.
func newLink(cfg HTTPConfig) (*link, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, err
	}
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	head, err := newHead(cfg, d.proxy)
	if err != nil {
		return nil, err
	}
	l := &link{dialer: d, head: head, now: cfg.Now}
	if l.now == nil {
		l.now = func() time.Time { return time.Now().Round(0) }
	}
	return l, nil
}

// Close drops the kept connection. The link may be used again after it.
func (l *link) Close() { l.keep(nil) }

// post sends body, signed where a login of AWS was given; coding is its content coding, or empty. A refusal of the
// signature's time is answered by one further request with the right one.
func (l *link) post(ctx context.Context, contentType, coding string, body []byte) (*response, error) {
	var signed time.Time
	req := request{body: body, head: func(ctx context.Context, dst []byte) (head []byte, err error) {
		head, signed, err = l.head.appendTo(ctx, dst, contentType, coding, body)
		return head, err
	}}
	r, err := l.roundTrip(ctx, req)
	if err == nil && l.head.signer.mistimed(r, signed) {
		return l.roundTrip(ctx, req)
	}
	return r, err
}

// roundTrip sends a call on the kept connection if that still lives. Where it dies before an answer begins, the
// peer has most likely dropped it before the request came: it is sent once more on a fresh one.
func (l *link) roundTrip(ctx context.Context, do call) (*response, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c := l.take()
	for fresh := c == nil; ; fresh = true {
		if fresh {
			var err error
			if c, err = l.dialer.dial(ctx); err != nil {
				return nil, err
			}
		}
		x, err := do.begin(ctx, c)
		if err != nil {
			c.Close()
			return nil, err
		}
		r, err := l.exchange(ctx, c, x)
		if err == nil || fresh || c.answered || ctx.Err() != nil {
			return r, err
		}
	}
}

// exchange sends a request over c and reads the answer, then keeps or closes c.
func (l *link) exchange(ctx context.Context, c *conn, x exchange) (*response, error) {
	c.frozen = l.freezeDetector(ctx)
	r, err := c.exchange(ctx, x)
	if err != nil || !r.keep {
		c.Close()
		return r, err
	}
	c.used = l.now()
	l.keep(c)
	return r, nil
}

// freezeDetector returns a function that says whether ctx's deadline was noticed so much later than it was
// due that the process must have been frozen.
func (l *link) freezeDetector(ctx context.Context) func() bool {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	start, left := l.now(), time.Until(deadline)
	return func() bool {
		return errors.Is(ctx.Err(), context.DeadlineExceeded) && l.now().Sub(start) > left+frozenFor
	}
}

// take returns the kept connection if it may be trusted with a request, else nil.
func (l *link) take() *conn {
	c := l.swapIdle(nil)
	if c == nil {
		return nil
	}
	// An idle time below 0 means that the clock was set back: the true one is unknown.
	if idle := l.now().Sub(c.used); idle < 0 || idle > maxIdle || !c.alive() {
		c.Close()
		return nil
	}
	return c
}

// keep makes c, or nil, the kept connection, and closes the one that was.
func (l *link) keep(c *conn) {
	if old := l.swapIdle(c); old != nil {
		old.Close()
	}
}

// swapIdle makes c the kept connection and returns the one that was.
func (l *link) swapIdle(c *conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.idle
	l.idle = c
	return old
}

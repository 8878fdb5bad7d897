package lambdaapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

// errNoAnswer marks a connection that failed before any answer came. If it was a kept one, it may have been
// dead for long, and a fresh one does better.
var errNoAnswer = errors.New("no answer came")

// roundTrip sends a request and reads the answer, on the kept connection if there is one. If that one fails
// before an answer comes, the request is sent once more on a fresh one.
func (c *Client) roundTrip(ctx context.Context, message []byte) (response, error) {
	if kept := c.takeIdle(); kept != nil {
		resp, err := c.exchange(ctx, kept, message)
		if !errors.Is(err, errNoAnswer) {
			return resp, err
		}
	}
	fresh, err := c.connect(ctx)
	if err != nil {
		return response{}, err
	}
	return c.exchange(ctx, fresh, message)
}

func (c *Client) takeIdle() *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.idle
	c.idle = nil
	return kept
}

func (c *Client) connect(ctx context.Context) (*conn, error) {
	dial := c.Dial
	if dial == nil {
		// No keep-alive probes: the peer is the platform beneath us, it does not vanish alone.
		dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	nc, err := dial(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	nc = tcp.Wrap(nc)
	return &conn{Conn: nc, r: bufio.NewReaderSize(nc, 2048)}, nil
}

// exchange sends and receives on one connection, and keeps or closes it.
func (c *Client) exchange(ctx context.Context, on *conn, message []byte) (response, error) {
	stop := context.AfterFunc(ctx, func() { on.SetDeadline(time.Unix(1, 0)) })
	resp, reusable, err := on.exchange(message)
	if undisturbed := stop(); undisturbed && reusable && err == nil {
		c.keep(on)
	} else {
		on.Close()
	}
	if err != nil && ctx.Err() != nil {
		return response{}, context.Cause(ctx)
	}
	return resp, err
}

// keep makes the connection the one that the next call takes.
func (c *Client) keep(on *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil {
		c.idle.Close()
	}
	c.idle = on
}

// Close closes the kept connection.
func (c *Client) Close() {
	if kept := c.takeIdle(); kept != nil {
		kept.Close()
	}
}

// exchange is one request and its response. reusable says whether another may follow on this connection.
func (c *conn) exchange(message []byte) (_ response, reusable bool, _ error) {
	if _, err := c.Write(message); err != nil {
		return response{}, false, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	if _, err := c.r.Peek(1); err != nil {
		return response{}, false, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	if n, ok := readPlain(c.r, isSuccess); ok {
		body, err := readAnswer(c.r, int64(n))
		return response{status: http.StatusOK, body: body}, c.r.Buffered() == 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return response{}, false, fmt.Errorf("read the answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := readAnswer(resp.Body, resp.ContentLength)
	reusable = err == nil && !resp.Close && c.r.Buffered() == 0
	return response{resp.StatusCode, resp.Header, body}, reusable, err
}

// isSuccess says whether a status line is that of the usual answer.
func isSuccess(first []byte) bool { return bytes.HasPrefix(first, []byte("HTTP/1.1 200 ")) }

// readAnswer reads a body of size bytes; negative: to its end.
func readAnswer(r io.Reader, size int64) ([]byte, error) {
	body, err := readUpTo(r, int(size), maxResponse)
	switch {
	case errors.Is(err, errTooLarge):
		return nil, fmt.Errorf("the answer is larger than %d bytes", maxResponse)
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return body, nil
}

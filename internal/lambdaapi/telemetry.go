package lambdaapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

// The host name under which the platform reaches extensions, and a fixed port: after a reset the platform may go
// on delivering to the address of the subscription before.
const (
	telemetryHost = "sandbox.localdomain"
	telemetryPort = "4319"
)

// PlatformEvent is what we need of one Telemetry API event.
type PlatformEvent struct {
	Type      string    // such as platform.runtimeDone
	Time      time.Time // when the platform made the event; zero if it cannot be read
	RequestID string    // empty where the event has none
	Status    string    // success, failure, error, timeout; or empty
	ErrorType string    // such as Runtime.ExitError; or empty
}

// Listener receives telemetry from the platform, over HTTP/1.1. It takes any method on any path and always answers
// 200: the platform would send a batch that it is refused again and again. net/http's server would cost each
// invocation twice as much.
type Listener struct {
	uri   string
	limit int // of a body, bytes
	emit  func(PlatformEvent)
	l     net.Listener
	all   sync.WaitGroup // the goroutines of the Listener

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
}

// ListenTelemetry listens on addr, host:port; an empty addr means port 4319 of the address that
// sandbox.localdomain has in the hosts file, else of 127.0.0.1. maxBytes is that of the subscription: of a body larger
// than 2*maxBytes + 64 KiB nothing is used (the API promises 2*maxBytes and metadata).
//
// emit is called for every event, in order, before the platform gets its answer, and possibly for the same event
// twice: it must only note it down. Calls do not overlap unless the platform's requests do.
func ListenTelemetry(addr string, maxBytes int, emit func(PlatformEvent)) (*Listener, error) {
	uri := ""
	if addr == "" {
		addr = net.JoinHostPort(sandboxAddr(), telemetryPort)
		uri = "http://" + net.JoinHostPort(telemetryHost, telemetryPort)
	}
	l, err := tcp.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("listen for telemetry: %w", err)
	}
	if uri == "" {
		uri = "http://" + l.Addr().String()
	}
	t := &Listener{uri: uri, limit: 2*maxBytes + 64<<10, emit: emit, l: l, conns: map[net.Conn]struct{}{}}
	t.all.Go(t.accept)
	return t, nil
}

// URI is the destination of a subscription.
func (t *Listener) URI() string { return t.uri }

// Close stops listening, cuts every connection, and waits until no more events can come.
func (t *Listener) Close() {
	t.mu.Lock()
	t.closed = true
	t.l.Close()
	for c := range t.conns {
		c.Close()
	}
	t.mu.Unlock()
	t.all.Wait()
}

// accept serves connections until the Listener is closed. A failure to accept one (no file descriptor is left) passes.
func (t *Listener) accept() {
	for {
		c, err := t.l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(acceptAgain)
		case t.enter(c):
			t.all.Go(func() {
				defer t.leave(c)
				t.serve(c)
			})
		}
	}
}

// acceptAgain is how long to wait after a failure to accept a connection.
const acceptAgain = 50 * time.Millisecond

// enter notes a connection, or closes it where the Listener is closed.
func (t *Listener) enter(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		c.Close()
		return false
	}
	t.conns[c] = struct{}{}
	return true
}

func (t *Listener) leave(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
	c.Close()
}

const (
	answer200        = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	answer100        = "HTTP/1.1 100 Continue\r\n\r\n"
	maxTelemetryHead = 64 << 10 // bytes
)

// serve takes batches from a connection until it ends, or what comes is not HTTP/1.1.
func (t *Listener) serve(c net.Conn) {
	defer func() { _ = recover() }() // a bug costs the connection; the platform sends again what was lost
	bounded := &io.LimitedReader{R: c}
	for r := bufio.NewReaderSize(bounded, 4096); ; {
		bounded.N = maxTelemetryHead
		if _, err := r.Peek(1); err != nil {
			return
		}
		last, err := t.take(c, r, bounded)
		if _, writeErr := io.WriteString(c, answer200); err != nil || writeErr != nil || last {
			return
		}
	}
}

// take reads a batch and emits its events. last says that the peer wants no other one on this connection; after an
// error there can be none.
func (t *Listener) take(c net.Conn, r *bufio.Reader, bounded *io.LimitedReader) (last bool, err error) {
	if n, ok := readPlain(r, isRequest); ok {
		bounded.N = math.MaxInt64
		return false, t.read(r, n)
	}
	req, err := http.ReadRequest(r)
	if err != nil {
		return true, err
	}
	bounded.N = math.MaxInt64
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(c, answer100); err != nil {
			return true, err
		}
	}
	err = t.read(req.Body, int(req.ContentLength))
	return req.Close, err
}

func isRequest(first []byte) bool { return bytes.HasSuffix(first, []byte(" HTTP/1.1")) }

// read reads a body of size bytes; negative: to its end. One over the limit is thrown away.
func (t *Listener) read(r io.Reader, size int) error {
	body, err := readUpTo(r, size, t.limit)
	switch {
	case errors.Is(err, errTooLarge) && size > 0:
		_, err = io.CopyN(io.Discard, r, int64(size))
	case errors.Is(err, errTooLarge):
		_, err = io.Copy(io.Discard, r)
	case err == nil:
		parseTelemetry(body, t.emit)
	}
	return err
}

var errTooLarge = errors.New("larger than the limit")

// readUpTo reads all of r, whose size is known, or is negative. It stops at the limit, in bytes.
func readUpTo(r io.Reader, size, limit int) ([]byte, error) {
	if size > limit {
		return nil, errTooLarge
	}
	if size >= 0 {
		body := make([]byte, size)
		_, err := io.ReadFull(r, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if len(body) > limit {
		return nil, errTooLarge
	}
	return body, err
}

// sandboxAddr is where the platform's name for this environment leads to, by the hosts file; where that does not
// know it, 127.0.0.1. No name server knows it, and Go's resolver would read its whole configuration for it.
func sandboxAddr() string {
	hosts, _ := os.ReadFile("/etc/hosts") // without one nothing is found in it
	if addr := findHost(string(hosts), telemetryHost); addr != "" {
		return addr
	}
	return "127.0.0.1"
}

// findHost is the first address of name in a hosts file (hosts(5)); empty where there is none.
func findHost(hosts, name string) string {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], func(f string) bool { return strings.EqualFold(f, name) }) {
			continue
		}
		if _, err := netip.ParseAddr(fields[0]); err == nil {
			return fields[0]
		}
	}
	return ""
}

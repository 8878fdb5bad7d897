package lambdaapi

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
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

// Listener receives telemetry from the platform.
type Listener struct {
	uri    string
	server *http.Server
	done   chan struct{} // closed when the server has ended
}

// ListenTelemetry listens on addr, host:port; an empty addr means port 4319 of the address that
// sandbox.localdomain has in the hosts file, else of 127.0.0.1. maxBytes is that of the subscription.
//
// emit is called for every event, in order, before the platform gets its answer, and possibly for the same event
// twice: it must only note it down. Calls do not overlap unless the platform's requests do.
func ListenTelemetry(addr string, maxBytes int, emit func(PlatformEvent)) (*Listener, error) {
	uri := ""
	if addr == "" {
		addr = net.JoinHostPort(sandboxAddr(), telemetryPort)
		uri = "http://" + net.JoinHostPort(telemetryHost, telemetryPort)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for telemetry: %w", err)
	}
	if uri == "" {
		uri = "http://" + l.Addr().String()
	}
	t := &Listener{uri: uri, done: make(chan struct{}), server: &http.Server{
		Handler:  TelemetryHandler(maxBytes, emit),
		ErrorLog: log.New(io.Discard, "", 0), // the platform sends again what was lost
	}}
	go func() {
		defer close(t.done)
		t.server.Serve(l)
	}()
	return t, nil
}

// URI is the destination of a subscription.
func (t *Listener) URI() string { return t.uri }

// Close stops listening and cuts every connection.
func (t *Listener) Close() {
	t.server.Close()
	<-t.done
}

// TelemetryHandler takes the platform's batches on any path and always answers 200: the platform would send a
// batch that it is refused again and again. It reads bodies up to 2*maxBytes + 64 KiB (the API promises 2*maxBytes and
// metadata); of a larger one nothing is used.
func TelemetryHandler(maxBytes int, emit func(PlatformEvent)) http.Handler {
	limit := 2*maxBytes + 64<<10
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := readUpTo(r.Body, int(r.ContentLength), limit)
		if err == nil {
			parseTelemetry(body, emit)
		}
		io.Copy(io.Discard, r.Body) // of a body over the limit, so that the connection can be kept
	})
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

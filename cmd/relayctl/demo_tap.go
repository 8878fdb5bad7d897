package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
	"github.com/otlp-relay/otlp-relay/internal/otlptest"
)

// exchange is one OTLP request with its answer, as somebody who is neither SDK nor extension saw it.
type exchange struct {
	Signal  otlp.Signal
	From    time.Time // the request had come
	To      time.Time // the answer left; From where none did
	Status  int       // of the answer; 0 where there was none
	Taken   bool      // the records changed hands
	Records []string  // their fingerprints
}

// tap stands between the function's SDK and the extension and notes what is handed over, so that the demo's
// account rests on neither one's word. It is never frozen, and costs a request some 0.1 ms.
type tap struct {
	target   string // host:port of the extension's receiver
	listener net.Listener
	server   *http.Server
	client   *http.Client
	served   chan struct{}

	mu       sync.Mutex
	seen     []exchange
	problems []error
}

// startTap listens on a free loopback port and passes everything on to target. Close it.
func startTap(target string) (*tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the function's SDK: %w", err)
	}
	t := &tap{target: target, listener: l, served: make(chan struct{})}
	// A connection of its own for every request: a kept one would die with the extension at a reset.
	t.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	t.server = &http.Server{Handler: t}
	go func() {
		defer close(t.served)
		t.server.Serve(l) // ends with ErrServerClosed
	}()
	return t, nil
}

func (t *tap) url() string { return "http://" + t.listener.Addr().String() }

func (t *tap) close() {
	t.server.Close()
	<-t.served
}

// account is every exchange so far, in the order of the answers, and what went wrong on the way.
func (t *tap) account() ([]exchange, []error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.seen), slices.Clone(t.problems)
}

// ServeHTTP passes one request on and notes it.
func (t *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{From: time.Now()}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the function was ended in the middle of it
	}
	status, err := t.forward(w, r, body)
	x.To, x.Status, x.Taken = time.Now(), status, status == http.StatusOK
	if decodeErr := x.decode(r, body); decodeErr != nil {
		err = errors.Join(err, fmt.Errorf("read what the function sent to %s: %w", r.URL.Path, decodeErr))
	}
	t.mu.Lock()
	t.seen = append(t.seen, x)
	if err != nil {
		t.problems = append(t.problems, err)
	}
	t.mu.Unlock()
	if status == 0 {
		panic(http.ErrAbortHandler) // to the SDK: the connection broke
	}
}

// forward sends the request to the extension and its answer back. The status is 0 where there was none. It
// goes on where the SDK has given up: the extension gets the request, or does not, for certain.
func (t *tap) forward(w http.ResponseWriter, r *http.Request, body []byte) (status int, err error) {
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, "http://"+t.target+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("pass a request on: %w", err)
	}
	out.Header = r.Header.Clone()
	resp, err := t.client.Do(out)
	if err != nil {
		return 0, fmt.Errorf("pass a request on to the extension: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("read the extension's answer: %w", err)
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	w.Write(answer)
	return resp.StatusCode, nil
}

// decode sets the exchange's signal and records. It reads what the demo's own function sends: protobuf
// without compression.
func (x *exchange) decode(r *http.Request, body []byte) error {
	for _, sig := range otlp.Signals() {
		if r.URL.Path == sig.Path() {
			x.Signal = sig
		}
	}
	d, err := otlptest.Decode(x.Signal, otlp.Protobuf, body)
	if err != nil {
		return fmt.Errorf("not plain protobuf, which is all the demo reads: %w", err)
	}
	x.Records, err = fingerprints(d.Message)
	return err
}

// backendExchanges are what a backend with Options.Keep and the given delay saw.
func backendExchanges(requests []*otlptest.Request, delay time.Duration) ([]exchange, error) {
	var all []exchange
	for _, q := range requests {
		x := exchange{Signal: q.Signal, From: q.Arrived, To: q.Arrived, Status: q.Status, Taken: q.Taken}
		if q.Status != 0 {
			x.To = q.Arrived.Add(delay)
		}
		if q.Decoded != nil {
			var err error
			if x.Records, err = fingerprints(q.Message); err != nil {
				return nil, err
			}
		}
		all = append(all, x)
	}
	return all, nil
}

// fingerprints name every record of an export request by its content. A record that arrives with the
// fingerprint it left with has arrived unchanged.
func fingerprints(request proto.Message) ([]string, error) {
	var ids []string
	var failed error
	add := func(kind string, record proto.Message) {
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
		failed = errors.Join(failed, err)
		sum := sha256.Sum256(append([]byte(kind+"\x00"), body...))
		ids = append(ids, hex.EncodeToString(sum[:12]))
	}
	switch m := request.(type) {
	case *coltrace.ExportTraceServiceRequest:
		for _, r := range m.ResourceSpans {
			for _, s := range r.ScopeSpans {
				for _, span := range s.Spans {
					add("span", span)
				}
			}
		}
	case *collogs.ExportLogsServiceRequest:
		for _, r := range m.ResourceLogs {
			for _, s := range r.ScopeLogs {
				for _, record := range s.LogRecords {
					add("log", record)
				}
			}
		}
	case *colmetrics.ExportMetricsServiceRequest:
		for _, r := range m.ResourceMetrics {
			for _, s := range r.ScopeMetrics {
				for _, metric := range s.Metrics {
					for _, point := range points(metric) {
						add("point of "+metric.Name, point)
					}
				}
			}
		}
	default:
		return nil, fmt.Errorf("the demo cannot tell records of %T apart", request)
	}
	return ids, failed
}

// points are a metric's data points, whatever its kind.
func points(m *metrics.Metric) []proto.Message {
	switch d := m.Data.(type) {
	case *metrics.Metric_Sum:
		return messages(d.Sum.DataPoints)
	case *metrics.Metric_Gauge:
		return messages(d.Gauge.DataPoints)
	case *metrics.Metric_Histogram:
		return messages(d.Histogram.DataPoints)
	case *metrics.Metric_ExponentialHistogram:
		return messages(d.ExponentialHistogram.DataPoints)
	case *metrics.Metric_Summary:
		return messages(d.Summary.DataPoints)
	}
	return nil
}

func messages[M proto.Message](list []M) []proto.Message {
	all := make([]proto.Message, len(list))
	for i, m := range list {
		all[i] = m
	}
	return all
}

package otlptest

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// ServeHTTP takes one export request, or meets it with the fault of the hour.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sig, ok := b.signal(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	fault := b.begin(sig)
	defer b.end(sig)
	q := &Request{
		Signal: sig, Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(),
		Coding: r.Header.Get("Content-Encoding"), Arrived: time.Now(),
	}
	if fault.Kind == ResetBeforeRead {
		b.note(q)
		b.act(fault, w, r)
		return
	}
	answer := b.settle(q, fault, b.decode(q, r))
	b.note(q)
	b.pause()
	if answer == nil {
		b.act(fault, w, r)
		return
	}
	answer.write(w, q.Encoding)
}

// pause waits until it is time to answer.
func (b *Backend) pause() {
	if delay := b.delay(); delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-b.closed.Done(): // a client that is gone is noticed on writing
		}
	}
}

// answer is a proper OTLP response.
type answer struct {
	code       int // HTTP status, or Fault.Code
	retryAfter string
	message    proto.Message
}

func refusal(code int, format string, args ...any) *answer {
	return &answer{code: code, message: &status.Status{Code: int32(otlp.InvalidArgument), Message: fmt.Sprintf(format, args...)}}
}

func (a *answer) write(w http.ResponseWriter, enc otlp.Encoding) {
	encode := proto.Marshal
	if enc == otlp.JSON {
		encode = protojson.Marshal
	}
	body, err := encode(a.message)
	if err != nil {
		panic("BUG: a response of ours cannot be encoded: " + err.Error())
	}
	w.Header().Set("Content-Type", enc.ContentType())
	if a.retryAfter != "" {
		w.Header().Set("Retry-After", a.retryAfter)
	}
	w.WriteHeader(a.code)
	w.Write(body)
}

// settle says what to answer to a request that was read, and refused where a is not nil; nil where the fault does
// that. It completes q.
func (b *Backend) settle(q *Request, fault Fault, a *answer) *answer {
	if a == nil && fault.Kind != Healthy {
		q.Taken, q.Status = fault.takes(), fault.code()
		switch fault.Kind {
		case Status:
			a = &answer{fault.code(), fault.RetryAfter, &status.Status{Code: int32(otlp.Unavailable), Message: fault.Message}}
		case Partial:
			a = &answer{code: fault.code(), message: partial(q.Signal, fault.Rejected, fault.Message)}
			q.Records = max(0, q.Records-int(fault.Rejected))
			q.IDs = q.IDs[:q.Records]
		}
	} else if a == nil {
		q.Taken = true
		a = &answer{code: http.StatusOK, message: partial(q.Signal, 0, "")}
	}
	if a != nil {
		q.Status = a.code
	}
	if !b.opts.Keep {
		q.Body = nil
		if q.Decoded != nil {
			q.Message, q.Tree = nil, nil
		}
	}
	return a
}

// decode fills q from the request's body; the answer is nil where there is nothing to object to.
func (b *Backend) decode(q *Request, r *http.Request) *answer {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media == otlp.JSON.ContentType() {
		q.Encoding = otlp.JSON
	}
	raw, readErr := io.ReadAll(io.LimitReader(r.Body, maxBody))
	q.Wire = len(raw)
	switch {
	case readErr != nil:
		return refusal(http.StatusBadRequest, "read the body: %v", readErr)
	case r.Method != http.MethodPost:
		return refusal(http.StatusMethodNotAllowed, "OTLP/HTTP is POST")
	case err != nil, media != q.Encoding.ContentType():
		return refusal(http.StatusUnsupportedMediaType, "Content-Type %q", r.Header.Get("Content-Type"))
	}
	limit, _ := b.limits()
	q.Body, err = decompress(q.Coding, raw, limit)
	switch {
	case errors.Is(err, errTooLarge):
		return refusal(http.StatusRequestEntityTooLarge, "%v: %d bytes", err, limit)
	case errors.Is(err, errCoding):
		return refusal(http.StatusUnsupportedMediaType, "%v", err)
	case err != nil:
		return refusal(http.StatusBadRequest, "%v", err)
	}
	return b.judge(q)
}

// judge fills q from its body.
func (b *Backend) judge(q *Request) *answer {
	_, poison := b.limits()
	q.Size = len(q.Body)
	var err error
	if q.Decoded, err = Decode(q.Signal, q.Encoding, q.Body); err != nil {
		return refusal(http.StatusBadRequest, "%v", err)
	}
	if poison != nil && poison(q) {
		return refusal(http.StatusBadRequest, "poisoned")
	}
	return nil
}

// partial is an Export…ServiceResponse; a bare one where nothing is to be said.
func partial(sig otlp.Signal, rejected int64, message string) proto.Message {
	said := rejected != 0 || message != ""
	switch sig {
	case otlp.Metrics:
		m := new(colmetrics.ExportMetricsServiceResponse)
		if said {
			m.PartialSuccess = &colmetrics.ExportMetricsPartialSuccess{RejectedDataPoints: rejected, ErrorMessage: message}
		}
		return m
	case otlp.Logs:
		m := new(collogs.ExportLogsServiceResponse)
		if said {
			m.PartialSuccess = &collogs.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: message}
		}
		return m
	}
	m := new(coltrace.ExportTraceServiceResponse) // that of profiles is the same on the wire
	if said {
		m.PartialSuccess = &coltrace.ExportTracePartialSuccess{RejectedSpans: rejected, ErrorMessage: message}
	}
	return m
}

func (b *Backend) signal(path string) (otlp.Signal, bool) {
	if sig, ok := b.opts.Paths[path]; ok {
		return sig, true
	}
	for sig := range otlp.Signal(otlp.SignalCount) {
		if strings.HasSuffix(path, sig.Path()) {
			return sig, true
		}
	}
	return 0, false
}

// begin counts a request in and hands out the fault that it meets.
func (b *Backend) begin(sig otlp.Signal) Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := &b.journal
	j.parallel[sig]++
	j.totals[sig].Parallel = max(j.totals[sig].Parallel, j.parallel[sig])
	if b.left == 0 {
		return Fault{}
	}
	if b.left > 0 {
		b.left--
	}
	return b.fault
}

func (b *Backend) end(sig otlp.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.journal.parallel[sig]--
}

func (b *Backend) note(q *Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.journal.addLocked(q)
}

func (b *Backend) delay() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opts.Delay
}

func (b *Backend) limits() (body int, poison func(*Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opts.MaxBody, b.poison
}

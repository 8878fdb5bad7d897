package lambdasim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	typePlatform  = "platform"
	typeFunction  = "function"
	typeExtension = "extension"

	postTimeout  = 5 * time.Second // of one POST, in time that is not frozen
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// telemetryEvent is one event before it is written for a subscriber.
type telemetryEvent struct {
	at       time.Time
	category string // what subscriptions select by
	typ      string
	record   any // a string where it is a log line
}

// encode is the event as the subscriber's schema has it.
func (ev telemetryEvent) encode(s *subscription) []byte {
	record := ev.record
	if line, ok := record.(string); ok && s.json && s.schema != schema2022July {
		if b := []byte(line); len(b) > 0 && b[0] == '{' && json.Valid(b) {
			record = json.RawMessage(b)
		}
	}
	b, err := json.Marshal(struct {
		Time   string `json:"time"`
		Type   string `json:"type"`
		Record any    `json:"record"`
	}{timestamp(ev.at), ev.typ, record})
	if err != nil {
		panic("BUG: lambdasim: marshal telemetry event: " + err.Error())
	}
	return b
}

// subscription is what one extension asked for, and what waits for it.
type subscription struct {
	name     string
	types    []string
	schema   string
	json     bool // the function's log format is JSON
	uri      string
	maxItems int
	maxBytes int
	timeout  time.Duration

	mu      sync.Mutex
	waiting []queued
	bytes   int
	urgent  bool          // send without waiting for the timeout
	drained chan struct{} // closed when everything has been delivered; nil where nobody asked
	kick    chan struct{} // of capacity 1: something above changed
}

type queued struct {
	body []byte
	typ  string
	at   time.Time
}

// hub carries events to subscribers. It outlives resets, as subscriptions do.
type hub struct {
	ctx    context.Context
	clock  *stopClock
	rec    *recorder
	client *http.Client
	wg     sync.WaitGroup

	mu      sync.Mutex
	subs    []*subscription
	backlog []telemetryEvent // of the init phase, for subscribers still to come; nil outside
	keep    bool
}

func newHub(ctx context.Context, clock *stopClock, rec *recorder) *hub {
	return &hub{ctx: ctx, clock: clock, rec: rec, client: &http.Client{Transport: &http.Transport{}}}
}

// beginInit starts to keep events for late subscribers; endInit stops.
func (h *hub) beginInit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep, h.backlog = true, nil
}

func (h *hub) endInit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep, h.backlog = false, nil
}

// subscribe adds s and hands it the init phase's events so far. It answers false where an extension of that
// name subscribed already, before a reset perhaps: the older subscription stays, with its destination.
func (h *hub) subscribe(s *subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.ContainsFunc(h.subs, func(o *subscription) bool { return o.name == s.name }) {
		return false
	}
	s.kick = make(chan struct{}, 1)
	h.subs = append(h.subs, s)
	for _, ev := range h.backlog {
		h.offer(s, ev)
	}
	h.wg.Go(func() { h.run(s) })
	return true
}

func (h *hub) emit(ev telemetryEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keep {
		h.backlog = append(h.backlog, ev)
	}
	for _, s := range h.subs {
		h.offer(s, ev)
	}
}

// offer queues the event if the subscriber wants its kind.
func (h *hub) offer(s *subscription, ev telemetryEvent) {
	if !slices.Contains(s.types, ev.category) {
		return
	}
	body := ev.encode(s)
	s.mu.Lock()
	s.waiting = append(s.waiting, queued{body, ev.typ, time.Now()})
	s.bytes += len(body)
	s.mu.Unlock()
	s.wake()
}

func (s *subscription) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// run sends batches until the hub's context ends.
func (h *hub) run(s *subscription) {
	for h.ctx.Err() == nil {
		due, ok := s.due()
		if !ok { // nothing waits
			select {
			case <-s.kick:
			case <-h.ctx.Done():
			}
			continue
		}
		if start := h.clock.awaitDue(h.ctx, due, s.kick); !start.IsZero() {
			h.send(s, s.take(), start)
		}
	}
}

// due is when the next batch leaves, and whether there is one.
func (s *subscription) due() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.waiting) == 0:
		s.urgent = false
		if s.drained != nil {
			close(s.drained)
			s.drained = nil
		}
		return time.Time{}, false
	case s.urgent || len(s.waiting) >= s.maxItems || s.bytes >= s.maxBytes:
		return time.Time{}, true
	}
	return s.waiting[0].at.Add(s.timeout), true
}

// take removes a batch: as many events as maxItems and maxBytes allow, at least one.
func (s *subscription) take() []queued {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.waiting) && n < s.maxItems && (n == 0 || size+len(s.waiting[n].body) <= s.maxBytes) {
		size += len(s.waiting[n].body)
		n++
	}
	batch := s.waiting[:n:n]
	s.waiting, s.bytes = s.waiting[n:], s.bytes-size
	return batch
}

// send posts the batch, first at start, until the listener takes it, with backoff.
func (h *hub) send(s *subscription, batch []queued, start time.Time) {
	parts := make([][]byte, len(batch))
	var types []string
	for i, q := range batch {
		parts[i] = q.body
		types = append(types, q.typ)
	}
	body := slices.Concat([]byte("["), bytes.Join(parts, []byte(",")), []byte("]"))
	for backoff := firstBackoff; !start.IsZero(); backoff = min(2*backoff, maxBackoff) {
		err := h.post(s.uri, body)
		ev := Event{At: start, Kind: KindTelemetry, Process: s.name, Count: len(batch), Text: strings.Join(types, " "), Duration: time.Since(start)}
		if err == nil {
			h.rec.add(ev)
			return
		}
		ev.Kind, ev.Text = KindTelemetryFail, err.Error()
		if h.ctx.Err() == nil {
			h.rec.add(ev)
		}
		start = h.clock.awaitDue(h.ctx, time.Now().Add(backoff), nil)
	}
}

// post sends one batch. Its time limit stands still with the environment.
func (h *hub) post(uri string, body []byte) error {
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	go func() {
		if h.clock.sleep(ctx, postTimeout) {
			cancel()
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make telemetry request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		return fmt.Errorf("post telemetry: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAPIBody)); err != nil {
		return fmt.Errorf("read answer of telemetry listener: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post telemetry: listener answered %s", resp.Status)
	}
	return nil
}

// flush sends what waits without regard to timeouts, and waits for it up to limit.
func (h *hub) flush(limit time.Duration) {
	h.mu.Lock()
	subs := slices.Clone(h.subs)
	h.mu.Unlock()
	var waits []<-chan struct{}
	for _, s := range subs {
		drained := make(chan struct{})
		s.mu.Lock()
		s.urgent, s.drained = true, drained
		s.mu.Unlock()
		s.wake()
		waits = append(waits, drained)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for _, drained := range waits {
		select {
		case <-drained:
		case <-timer.C:
			return
		case <-h.ctx.Done():
			return
		}
	}
}

// wait returns when every sender is gone; the context must have ended.
func (h *hub) wait() {
	h.wg.Wait()
	h.client.CloseIdleConnections()
}

package extension

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/flush"
	"github.com/otlp-relay/otlp-relay/internal/lambdaapi"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// call is one invocation of a pattern.
type call struct {
	at      time.Duration   // since the pattern's beginning; later where the environment is still busy
	handler time.Duration   // how long it takes
	emits   []time.Duration // when, since its beginning, its SDK sends a request; nil: one at its end
}

// server is a simulated backend.
type server struct {
	roundTrip time.Duration
	down      func(at time.Duration) bool // since the pattern's beginning; nil: never
	hangs     bool                        // when it is down it takes requests and never answers; else it refuses them
}

// strategy is a way to decide when data leaves.
type strategy struct {
	name   string
	mode   flush.Mode
	policy func() policy // in place of the mode's
}

func strategies() []strategy {
	return []strategy{
		{name: "auto", mode: flush.Auto},
		{name: "end", mode: flush.End},
		{name: "next", mode: flush.Next},
		{name: "every 20", mode: flush.Next, policy: func() policy { return &everyNth{n: 20} }},
	}
}

// everyNth exports at each nth INVOKE, beside the handler: a rule that others use.
type everyNth struct{ n, seen int }

func (p *everyNth) Invoke(s flush.Situation) flush.Plan {
	p.seen++
	due := p.seen%p.n == 0
	return flush.Plan{Flush: due, Await: due, Why: "each " + strconv.Itoa(p.n) + "th"}
}

func (p *everyNth) Arrival(flush.Situation) (string, bool)    { return "", false }
func (p *everyNth) Due(flush.Situation) (time.Duration, bool) { return 0, false }

// outcome is what a strategy made of a pattern.
type outcome struct {
	invocations, requests int
	added                 []time.Duration // billed beyond the handler, of each invocation
	late                  []time.Duration // from the SDK's request to the backend's taking it, of each record
	lost                  int
	longest               int // the longest row of invocations held for half of the budget or more
	switches              int // of the regime
}

func (o outcome) meanAdded() time.Duration {
	var sum time.Duration
	for _, d := range o.added {
		sum += d
	}
	return sum / time.Duration(max(1, len(o.added)))
}

// quantile is the value below which a part q of the values is.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// idleLife is how long a simulated environment lives without an invocation. Lambda's own time is not
// documented; it is some minutes.
const idleLife = 10 * time.Minute

// simulation runs the real loop, queue, flusher, breakers and retries through a pattern, in a synctest bubble.
// The environment is frozen between invocations, its monotonic clock with it; the backend is not.
type simulation struct {
	t       *testing.T
	with    strategy
	backend server
	begin   time.Time               // wall clock
	jump    atomic.Int64            // how far wall time is ahead of the bubble's
	s       *sandbox                // the environment; nil where there is none
	done    lambdaapi.PlatformEvent // what the platform delivers at the thaw
	gathers bool
	row     int // of invocations held long, up to now
	out     outcome

	mu    sync.Mutex    // guards what follows
	thaw  chan struct{} // closed at a thaw
	sent  []time.Time   // by request of the SDK
	taken []bool
}

// simulate runs a pattern with a strategy.
func simulate(t *testing.T, with strategy, to server, pattern []call) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		m := &simulation{t: t, with: with, backend: to, begin: time.Now().Round(0), thaw: make(chan struct{})}
		for i, c := range pattern {
			m.invoke(strconv.Itoa(i), c)
		}
		m.freeze(idleLife)
		m.end()
		for _, ok := range m.taken {
			if !ok {
				m.out.lost++
			}
		}
		o = m.out
	})
	return o
}

func (m *simulation) wall() time.Time { return time.Now().Round(0).Add(time.Duration(m.jump.Load())) }

// freeze lets wall time pass while the environment stands still. What the backend answers meanwhile is there at
// the thaw.
func (m *simulation) freeze(d time.Duration) {
	m.jump.Add(int64(d))
	if m.s != nil {
		m.s.jump.Store(m.jump.Load())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.thaw)
	m.thaw = make(chan struct{})
}

// invoke runs one invocation, from the freeze before it to the one after it.
func (m *simulation) invoke(id string, c call) {
	idle := m.begin.Add(c.at).Sub(m.wall())
	if m.s != nil && idle > idleLife {
		m.freeze(idleLife)
		m.end()
		idle -= idleLife
	}
	if idle > 0 {
		m.freeze(idle)
	}
	if m.s == nil {
		m.start()
	}
	select {
	case <-m.s.entered:
	default:
	}
	m.s.events <- lambdaapi.Event{Type: lambdaapi.Invoke, RequestID: id, Deadline: m.wall().Add(15 * time.Minute)}
	synctest.Wait()
	if m.done.RequestID != "" {
		m.s.app.telemetryEvent(m.done)
	}
	m.handle(c)
	m.bill(id)
}

// start begins an environment.
func (m *simulation) start() {
	o := options{mode: m.with.mode, quiet: true}
	if m.with.policy != nil {
		o.policy = m.with.policy()
	}
	m.s = newSandbox(m.t, o)
	m.s.jump.Store(m.jump.Load())
	m.s.setBackend(m.send)
	m.done = lambdaapi.PlatformEvent{}
}

// handle is the function: it works, and its SDK sends.
func (m *simulation) handle(c call) {
	begin := time.Now()
	emits := c.emits
	if emits == nil {
		emits = []time.Duration{c.handler}
	}
	for _, at := range emits {
		time.Sleep(at - time.Since(begin))
		m.emit()
	}
	time.Sleep(c.handler - time.Since(begin))
	synctest.Wait()
}

// bill waits until the extension gives the invocation back, too. The runtime's being done is told 25 ms later,
// or at the next thaw.
func (m *simulation) bill(id string) {
	end := m.wall()
	m.done = lambdaapi.PlatformEvent{Type: "platform.runtimeDone", RequestID: id, Time: end}
	if !m.s.inNext.Load() {
		select {
		case <-m.s.entered:
		case <-time.After(25 * time.Millisecond):
			m.s.app.telemetryEvent(m.done)
			m.done = lambdaapi.PlatformEvent{}
			synctest.Wait()
			if !m.s.inNext.Load() {
				<-m.s.entered
			}
		}
	}
	synctest.Wait()
	added := m.wall().Sub(end)
	m.out.invocations++
	m.out.added = append(m.out.added, added)
	if m.row++; added < m.s.app.cfg.FlushTimeout/2 {
		m.row = 0
	}
	m.out.longest = max(m.out.longest, m.row)
	if gathers := m.s.loop.history.Gathers(); gathers != m.gathers {
		m.gathers = gathers
		m.out.switches++
	}
}

// end shuts the environment down.
func (m *simulation) end() {
	if m.s != nil {
		m.s.shutdown()
		m.s, m.gathers = nil, false
	}
}

// emit is the SDK sending one record, which is its number.
func (m *simulation) emit() {
	m.mu.Lock()
	body := binary.BigEndian.AppendUint64(nil, uint64(len(m.sent)))
	m.sent, m.taken = append(m.sent, m.wall()), append(m.taken, false)
	m.mu.Unlock()
	m.s.post(otlp.Payload{Signal: otlp.Traces, Body: body, Size: len(body), Records: 1, Received: m.wall()})
}

// send is the backend.
func (m *simulation) send(ctx context.Context, p otlp.Payload) error {
	begin := m.wall()
	m.mu.Lock()
	m.out.requests++
	thaw := m.thaw
	m.mu.Unlock()
	down := m.backend.down != nil && m.backend.down(begin.Sub(m.begin))
	if down && !m.backend.hangs {
		time.Sleep(time.Millisecond)
		return &otlp.Error{HTTPStatus: 503, Retryable: true}
	}
	answer := begin.Add(m.backend.roundTrip)
	if down {
		answer = begin.Add(24 * time.Hour)
	}
	patience := time.NewTimer(10 * time.Second) // OTLP_RELAY_TIMEOUT
	defer patience.Stop()
	for {
		left := answer.Sub(m.wall())
		if left <= 0 {
			m.take(p.Body, answer)
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-thaw:
			m.mu.Lock()
			thaw = m.thaw
			m.mu.Unlock()
		case <-patience.C:
			return &otlp.Error{Retryable: true, Err: context.DeadlineExceeded}
		case <-ctx.Done():
			return &otlp.Error{Retryable: true, Err: context.Cause(ctx)}
		}
		timer.Stop()
	}
}

// take notes the records of a request that the backend has answered.
func (m *simulation) take(body []byte, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; len(body) >= 8; body = body[8:] {
		if i := binary.BigEndian.Uint64(body); !m.taken[i] {
			m.taken[i] = true
			m.out.late = append(m.out.late, at.Sub(m.sent[i]))
		}
	}
}

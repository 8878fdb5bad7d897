package extension

import (
	"context"
	"log/slog"

	"github.com/otlp-relay/otlp-relay/internal/flush"
)

// whyTimer is why gathered data leaves without an INVOKE.
const whyTimer = "the oldest data is due by the timer"

// learn takes what the history has become, and tells of a change of regime.
func (l *loop) learn(h flush.History) {
	was := l.history
	l.history = h
	if was.Gathers() == h.Gathers() || !l.explains() {
		return
	}
	invocations, lasted := was.Run()
	if h.Gathers() {
		l.log.Debug("invocations are frequent: data is gathered, and they are not held",
			"invocations", invocations+1, "lasted", lasted, "every", h.Gap(), "interval", h.Interval)
		return
	}
	l.log.Debug("invocations are rare again: each is held until its data is out",
		"invocations", invocations, "lasted", lasted, "every", was.Gap(), "interval", h.Interval)
}

// learnRelease notes that an invocation is given back.
func (l *loop) learnRelease(inv *invocation) {
	if l.adapts {
		l.history = l.history.Release(l.now(), inv.handler)
	}
}

// explains says whether anybody reads the explanations of decisions, which are not free.
func (l *loop) explains() bool { return l.log.Enabled(context.Background(), slog.LevelDebug) }

// explainPlan logs what an INVOKE leads to.
func (l *loop) explainPlan(inv *invocation, s flush.Situation) {
	if !l.explains() {
		return
	}
	l.log.Debug("invoke", "requestId", inv.id, "export", inv.plan.Flush, "hold", inv.plan.AwaitDone || inv.plan.Await, "why", inv.plan.Why,
		"queued", s.Bytes, "age", s.Age, "every", s.History.Gap())
}

// explainFlush logs why data leaves between INVOKEs.
func (l *loop) explainFlush(why string, s flush.Situation) {
	if s.Bytes > 0 && l.explains() {
		l.log.Debug("export", "why", why, "queued", s.Bytes, "age", s.Age)
	}
}

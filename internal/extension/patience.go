package extension

import "time"

// patience keeps a slow destination from turning into billed time again and again. After an invocation was held
// for all of its budget in vain, the next 4 that begin an export are not held for that destination, nor any within
// 1 s; both double with each further loss, to 64 invocations and 1 minute. A hold that ends in time starts it
// afresh. The zero value holds.
//
// It is about waiting only: whether a destination works is the breaker's business.
type patience struct {
	losses int       // in a row
	skip   int       // invocations yet to come that are not held
	until  time.Time // wall clock: it may span freezes
}

const (
	firstSkip, maxSkip     = 4, 64
	firstPause, maxPause   = time.Second, time.Minute
	afterThisManyBothAtMax = 6
)

// lost notes a hold in vain. It says whether that is news.
func (p *patience) lost(now time.Time) (first bool) {
	n := min(p.losses, afterThisManyBothAtMax)
	p.skip = min(firstSkip<<n, maxSkip) + 1 // the loss's own invocation does not count
	p.until = now.Add(min(firstPause<<n, maxPause))
	p.losses++
	return p.losses == 1
}

// kept notes that an invocation was given back in time.
func (p *patience) kept() {
	if p.skip == 0 {
		p.losses = 0
	}
}

// invoke counts an invocation that could be held.
func (p *patience) invoke() { p.skip = max(0, p.skip-1) }

// holds says whether an invocation is to be held. A clock that was set back does not end it for longer than it
// was meant for.
func (p *patience) holds(now time.Time) bool {
	return p.skip == 0 && (!now.Before(p.until) || p.until.Sub(now) > maxPause)
}

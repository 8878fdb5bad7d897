package flush

import "time"

// Margin is what an extension leaves unused before a deadline: 5 % of what is left, at least 50 ms.
func Margin(left time.Duration) time.Duration { return max(50*time.Millisecond, left/20) }

// Until is the latest moment of a wait that begins now: timeout away, but a margin before the deadline.
// It may lie in the past: then there is no time to wait at all.
func Until(now, deadline time.Time, timeout time.Duration) time.Time {
	end := deadline.Add(-Margin(deadline.Sub(now)))
	if t := now.Add(timeout); t.Before(end) {
		return t
	}
	return end
}

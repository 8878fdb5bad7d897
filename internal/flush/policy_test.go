package flush

import (
	"testing"
	"time"
)

func TestUntilLeavesAMargin(t *testing.T) {
	now := time.Unix(1000, 0)
	tests := []struct{ left, timeout, want time.Duration }{
		{10 * time.Second, time.Second, time.Second},
		{time.Second, time.Second, 950 * time.Millisecond},
		{900 * time.Second, time.Hour, 855 * time.Second},
		{30 * time.Millisecond, time.Second, -20 * time.Millisecond},
		{-time.Minute, time.Second, -time.Minute - 50*time.Millisecond},
	}
	for _, tt := range tests {
		if got := Until(now, now.Add(tt.left), tt.timeout).Sub(now); got != tt.want {
			t.Errorf("Until(%v left, %v) = %v, want %v", tt.left, tt.timeout, got, tt.want)
		}
	}
}

func TestPolicy(t *testing.T) {
	const high = 100
	data := func(bytes int, age time.Duration, telemetry bool) Situation {
		return Situation{Bytes: bytes, Age: age, Telemetry: telemetry}
	}
	often := regular(History{Interval: 5 * time.Second}, 121, time.Second)
	frequent := func(bytes int, age time.Duration) Situation {
		return Situation{Bytes: bytes, Age: age, Telemetry: true, History: often}
	}
	tests := []struct {
		name    string
		mode    Mode
		s       Situation
		plan    Plan
		arrival bool
	}{
		{"end, nothing queued", End, data(0, 0, true), Plan{AwaitDone: true, Await: true}, true},
		{"end, left from before", End, data(1, 0, true), Plan{Flush: true, AwaitDone: true, Await: true}, true},
		{"end without telemetry is next", End, data(1, 0, false), Plan{Flush: true, Await: true}, false},
		{"auto, nothing known", Auto, data(0, 0, true), Plan{AwaitDone: true, Await: true}, true},
		{"auto, nothing known, without telemetry", Auto, data(1, 0, false), Plan{Flush: true, Await: true}, false},
		{"auto gathers, nothing queued", Auto, frequent(0, 0), Plan{}, false},
		{"auto gathers, young", Auto, frequent(1, 3900*time.Millisecond), Plan{}, false},
		{"auto gathers, too old by the next INVOKE", Auto, frequent(1, 4*time.Second), Plan{Flush: true, Await: true}, false},
		{"auto gathers, high water", Auto, frequent(high, 0), Plan{Flush: true, Await: true}, true},
		{"next, nothing queued", Next, data(0, 0, true), Plan{}, false},
		{"next, data of the one before", Next, data(1, 0, true), Plan{Flush: true, Await: true}, false},
		{"next, high water", Next, data(high, 0, true), Plan{Flush: true, Await: true}, true},
		{"interval, young", Interval, data(1, 4*time.Second, true), Plan{}, false},
		{"interval, due", Interval, data(1, 5*time.Second, true), Plan{Flush: true, Await: true}, false},
		{"interval, high water", Interval, data(high, 0, true), Plan{Flush: true, Await: true}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Policy{Mode: tt.mode, Interval: 5 * time.Second, HighWater: high}
			got := p.Invoke(tt.s)
			if got.Why == "" {
				t.Error("no reason is given")
			}
			if got.Why = ""; got != tt.plan {
				t.Errorf("Invoke = %+v, want %+v", got, tt.plan)
			}
			if why, got := p.Arrival(tt.s); got != tt.arrival || got != (why != "") {
				t.Errorf("Arrival = %q, %v, want %v", why, got, tt.arrival)
			}
		})
	}
}

func TestDueOnlyWhereDataIsGathered(t *testing.T) {
	p := Policy{Mode: Auto, Interval: 5 * time.Second}
	s := Situation{Bytes: 1, Age: 2 * time.Second, History: regular(History{Interval: 5 * time.Second}, 121, time.Second)}
	if in, ok := p.Due(s); !ok || in != 3*time.Second {
		t.Errorf("auto, gathering: Due = %v, %v", in, ok)
	}
	for _, mode := range []Mode{Auto, End, Next, Interval} {
		p := Policy{Mode: mode, Interval: 5 * time.Second}
		in, ok := p.Due(Situation{Bytes: 1, Age: 2 * time.Second})
		if ok != (mode == Interval) || ok && in != 3*time.Second {
			t.Errorf("%v: Due = %v, %v", mode, in, ok)
		}
		if _, ok := p.Due(Situation{}); ok {
			t.Errorf("%v: due with nothing queued", mode)
		}
		if in, ok := p.Due(Situation{Bytes: 1, Age: time.Hour}); ok && in != 0 {
			t.Errorf("%v: overdue in %v", mode, in)
		}
	}
}

func TestModeNames(t *testing.T) {
	for _, m := range []Mode{Auto, End, Next, Interval} {
		if got, ok := ParseMode(m.String()); !ok || got != m {
			t.Errorf("ParseMode(%q) = %v, %v", m, got, ok)
		}
	}
	if _, ok := ParseMode("sometimes"); ok {
		t.Error("an unknown mode was taken")
	}
}

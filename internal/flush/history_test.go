package flush

import (
	"testing"
	"time"
)

// regular is h after n INVOKEs more at a constant distance.
func regular(h History, n int, gap time.Duration) History {
	at := h.last.Add(gap)
	if h.last.IsZero() {
		at = time.Unix(1_800_000_000, 0)
	}
	for range n {
		h = h.Invoke(at).Release(at, 0)
		at = at.Add(gap)
	}
	return h
}

// held is h after n invocations, each held for so long beyond its handler, with so long a wait after each.
func held(h History, n int, handler, beyond, wait time.Duration) History {
	at := h.given.Add(wait)
	if h.given.IsZero() {
		at = time.Unix(1_800_000_000, 0)
	}
	for range n {
		h = h.Invoke(at)
		at = at.Add(handler + beyond)
		h = h.Release(at, handler)
		at = at.Add(wait)
	}
	return h
}

const (
	second = time.Second
	ms     = time.Millisecond
)

func TestWhatIsFrequent(t *testing.T) {
	none := History{Interval: 5 * second}
	tests := []struct {
		name string
		h    History
		want bool
	}{
		{"nothing seen", none, false},
		{"three quick calls", regular(none, 3, second), false},
		{"many calls in a short time", regular(none, 1000, 9*ms), false},
		{"some calls for a while", regular(none, 9, 2*second), false},
		{"calls that have lasted", regular(none, 101, 100*ms), true},
		{"a call every two seconds", regular(none, 10, 2*second), true},
		{"too far apart", regular(none, 1000, 3*second), false},
		{"held calls that have lasted", held(none, 100, 50*ms, 25*ms, 50*ms), true},
		{"a long handler does not make calls rare", held(none, 10, 4*second, 600*ms, 100*ms), true},
		{"nor does a long hold", held(none, 10, 100*ms, 3*second, 100*ms), true},
		{"where a hold is nothing beside the handler it stays", held(none, 100, 4*second, 25*ms, 100*ms), false},
		{"no interval to gather for", regular(History{}, 1000, ms), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.h.Gathers() != tt.want {
				t.Errorf("gathers: %v, want %v", tt.h.Gathers(), tt.want)
			}
		})
	}
}

func TestTheRegimeDoesNotFollowEachIrregularity(t *testing.T) {
	gathers := regular(History{Interval: 5 * second}, 200, 100*ms)
	for wait, want := range map[time.Duration]bool{4 * second: true, 5 * second: true, 5100 * ms: false, 24 * time.Hour: false} {
		if h := gathers.Invoke(gathers.last.Add(wait)); h.Gathers() != want {
			t.Errorf("after a wait of %v: gathers %v, want %v", wait, h.Gathers(), want)
		}
	}
	rare := gathers.Invoke(gathers.last.Add(time.Minute))
	if h := regular(rare, 99, 100*ms); h.Gathers() {
		t.Error("gathers again before a run has lasted")
	}
	if h := regular(rare, 100, 100*ms); !h.Gathers() {
		t.Error("does not gather again")
	}
}

func TestALongHandlerIsNoWait(t *testing.T) {
	h := held(History{Interval: 5 * second}, 20, 8*second, 900*ms, 100*ms)
	if h = regular(h, 20, 8100*ms); !h.Gathers() { // given back at once
		t.Error("handlers of 8 s in a row are taken for rare")
	}
	if h = regular(h, 1, 14*second); h.Gathers() {
		t.Error("a wait of 6 s is not seen")
	}
}

func TestAClockThatIsSetBackEndsARun(t *testing.T) {
	h := regular(History{Interval: 5 * second}, 200, 100*ms)
	h = h.Invoke(h.last.Add(-time.Hour))
	if n, lasted := h.Run(); h.Gathers() || n != 1 || lasted != 0 {
		t.Errorf("gathers %v after %d INVOKEs in %v", h.Gathers(), n, lasted)
	}
	if h = regular(h, 100, 100*ms); !h.Gathers() {
		t.Error("does not gather by the new clock")
	}
}

// What is left behind when the traffic stops is a small part of it.
func TestDataWaitsForASmallPartOfTheRun(t *testing.T) {
	h := regular(History{Interval: 5 * second}, 201, 100*ms)
	if h.Wait() != second {
		t.Errorf("data waits for %v of a run of 20 s", h.Wait())
	}
	if h = regular(h, 10_000, 100*ms); h.Wait() != 5*second {
		t.Errorf("data waits for %v, want the interval", h.Wait())
	}
	if h.Gap() != 100*ms {
		t.Errorf("the next INVOKE is expected in %v", h.Gap())
	}
}

func TestAveragesFollow(t *testing.T) {
	h := held(History{Interval: 5 * second}, 60, second, 20*ms, 0)
	h = held(h, 60, 100*ms, 400*ms, 0)
	if d := h.handler - 100*ms; d < 0 || d > ms {
		t.Errorf("handler %v", h.handler)
	}
	if d := 400*ms - h.hold; d < 0 || d > ms {
		t.Errorf("hold %v", h.hold)
	}
}

package extension

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pattern is how invocations come, and what the backend is like meanwhile.
type pattern struct {
	name  string
	to    server
	calls []call
	kind  traffic
}

// traffic is what auto should take a pattern for.
type traffic int

const (
	mixed traffic = iota
	rare
	frequent
	costly // frequent, and with a backend so slow that holding costs a lot
)

const ms = time.Millisecond

// patterns is what the flush policy is tried with. What is random has a fixed seed.
func patterns(t *testing.T) []pattern {
	well := server{roundTrip: 20 * ms}
	slow, over := server{roundTrip: 600 * ms}, server{roundTrip: 1200 * ms}
	down := func(from, to time.Duration, hangs bool) server {
		return server{roundTrip: 20 * ms, hangs: hangs, down: func(at time.Duration) bool { return at >= from && at < to }}
	}
	return []pattern{
		{"nightly cron: 3 calls of 300 ms", well, bursts(20, 3, 24*time.Hour, time.Second, 300*ms), rare},
		{"Poisson, 1 a minute", well, poisson(300, time.Minute, 50*ms), rare},
		{"Poisson, 6 a minute", well, poisson(500, 10*time.Second, 50*ms), rare},
		{"Poisson, 20 a minute", well, poisson(1000, 3*time.Second, 50*ms), mixed},
		{"Poisson, 1 a second", well, poisson(2000, time.Second, 50*ms), mixed},
		{"Poisson, 10 a second", well, poisson(8000, 100*ms, 20*ms), frequent},
		{"one after the other, 50 ms", well, every(8000, 0, 50*ms), frequent},
		{"one after the other, 1 s", well, every(1200, 0, time.Second), frequent},
		{"one after the other, 4 s, data each second", well, emitting(every(150, 0, 4*time.Second), time.Second), rare},
		{"every minute, 30 s, data each 5 s", well, emitting(every(60, time.Minute, 30*time.Second), 5*time.Second), rare},
		{"bursts of 40 in 4 s, each 3 minutes", well, bursts(20, 40, 3*time.Minute, 100*ms, 50*ms), rare},
		{"bursts of 300 in 30 s, each 5 minutes", well, bursts(10, 300, 5*time.Minute, 100*ms, 50*ms), mixed},
		{"bursts of 2,000 in 200 s, each 8 minutes", well, bursts(3, 2000, 8*time.Minute, 100*ms, 50*ms), mixed},
		{"a day, from none to 4 a second and back", well, diurnal(4000, 50*ms), mixed},
		{"recorded: a morning's rise", well, recorded(t, "rise", 50*ms), mixed},
		{"recorded: a night", well, recorded(t, "night", 50*ms), rare},
		{"recorded: irregular", well, recorded(t, "irregular", 50*ms), rare},
		{"backend 600 ms: Poisson, 6 a minute", slow, poisson(300, 10*time.Second, 50*ms), mixed},
		{"backend 600 ms: Poisson, 5 a second", slow, poisson(3000, 200*ms, 50*ms), costly},
		{"backend 600 ms: one after the other, 4 s", slow, every(150, 0, 4*time.Second), costly},
		{"backend 1.2 s: Poisson, 6 a minute", over, poisson(300, 10*time.Second, 50*ms), mixed},
		{"backend 1.2 s: Poisson, 5 a second", over, poisson(3000, 200*ms, 50*ms), mixed},
		{"503 for 10 minutes: Poisson, 6 a minute", down(10*time.Minute, 20*time.Minute, false), poisson(300, 10*time.Second, 50*ms), mixed},
		{"503 for 2 minutes: Poisson, 5 a second", down(2*time.Minute, 4*time.Minute, false), poisson(3000, 200*ms, 50*ms), mixed},
		{"no answer for 10 minutes: Poisson, 6 a minute", down(10*time.Minute, 20*time.Minute, true), poisson(300, 10*time.Second, 50*ms), mixed},
		{"no answer for 2 minutes: Poisson, 5 a second", down(2*time.Minute, 4*time.Minute, true), poisson(3000, 200*ms, 50*ms), mixed},
	}
}

func dice() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// poisson is n invocations that come independently, with a mean time between them.
func poisson(n int, mean, handler time.Duration) (calls []call) {
	rnd, at := dice(), time.Duration(0)
	for range n {
		at += time.Duration(rnd.ExpFloat64() * float64(mean))
		calls = append(calls, call{at: at, handler: handler})
	}
	return calls
}

// every is n invocations at a constant distance; 0 is one after the other.
func every(n int, period, handler time.Duration) []call { return bursts(n, 1, period, 0, handler) }

// bursts is n bursts of invocations, with a constant distance within.
func bursts(n, each int, period, within, handler time.Duration) (calls []call) {
	for b := range n {
		for i := range each {
			calls = append(calls, call{at: time.Duration(b)*period + time.Duration(i)*within, handler: handler})
		}
	}
	return calls
}

// emitting makes the SDK send while the handler runs.
func emitting(calls []call, each time.Duration) []call {
	for i := range calls {
		for at := each; at <= calls[i].handler; at += each {
			calls[i].emits = append(calls[i].emits, at)
		}
	}
	return calls
}

// diurnal is n invocations of a day whose rate goes from none to 4 a second and back. It is made short: its 24
// hours take two.
func diurnal(n int, handler time.Duration) (calls []call) {
	const day = 2 * time.Hour
	rnd, at := dice(), time.Duration(0)
	for len(calls) < n && at < day {
		at += time.Duration(rnd.ExpFloat64() * float64(250*ms)) // thinned: 4 a second at the top
		if x := math.Sin(math.Pi * float64(at) / float64(day)); rnd.Float64() < x*x*x*x {
			calls = append(calls, call{at: at, handler: handler})
		}
	}
	return calls
}

// recorded is a function of testdata/invocations.csv, its invocations spread over each minute at random.
func recorded(t *testing.T, name string, handler time.Duration) (calls []call) {
	t.Helper()
	data, err := os.ReadFile("testdata/invocations.csv")
	if err != nil {
		t.Fatal(err)
	}
	rnd := dice()
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if fields[0] != name {
			continue
		}
		for minute, field := range fields[1:] {
			n, err := strconv.Atoi(field)
			if err != nil {
				t.Fatalf("%s, minute %d: %v", name, minute, err)
			}
			for range n {
				at := time.Duration((float64(minute) + rnd.Float64()) * float64(time.Minute))
				calls = append(calls, call{at: at, handler: handler})
			}
		}
	}
	slices.SortFunc(calls, func(a, b call) int { return int(a.at - b.at) })
	if len(calls) == 0 {
		t.Fatalf("no function %q is recorded", name)
	}
	return calls
}

package buffer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

func payload(sig otlp.Signal, enc otlp.Encoding, size int) otlp.Payload {
	return otlp.Payload{Signal: sig, Encoding: enc, Size: size, Records: 1, Received: time.Unix(int64(size), 0)}
}

func send(t *testing.T, q *Queue, ps ...otlp.Payload) {
	t.Helper()
	for _, p := range ps {
		if err := q.Send(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

func sizes(items []Item) []int {
	var out []int
	for _, it := range items {
		out = append(out, it.Size)
	}
	return out
}

func TestTakeCutsARequest(t *testing.T) {
	tests := []struct {
		name string
		in   []otlp.Payload
		max  int
		upto Mark
		want []int
	}{
		{"nothing", nil, 100, Everything, nil},
		{"all", []otlp.Payload{payload(otlp.Traces, 0, 10), payload(otlp.Traces, 0, 20)}, 100, Everything, []int{10, 20}},
		{"another signal stays", []otlp.Payload{payload(otlp.Traces, 0, 10), payload(otlp.Logs, 0, 20)}, 100, Everything, []int{10}},
		{"cut by bytes", []otlp.Payload{payload(otlp.Traces, 0, 60), payload(otlp.Traces, 0, 40), payload(otlp.Traces, 0, 1)}, 100, Everything, []int{60, 40}},
		{"one over the limit goes alone", []otlp.Payload{payload(otlp.Traces, 0, 600), payload(otlp.Traces, 0, 1)}, 100, Everything, []int{600}},
		{"cut where the encoding changes", []otlp.Payload{payload(otlp.Traces, otlp.JSON, 10), payload(otlp.Traces, otlp.Protobuf, 20)}, 100, Everything, []int{10}},
		{"no younger than the mark", []otlp.Payload{payload(otlp.Traces, 0, 10), payload(otlp.Traces, 0, 20), payload(otlp.Traces, 0, 30)}, 100, inherited + 2, []int{10, 20}},
		{"profiles singly", []otlp.Payload{payload(otlp.Profiles, 0, 10), payload(otlp.Profiles, 0, 20)}, 100, Everything, []int{10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := New(Limits{Bytes: 1 << 20, Records: 100}, nil, func(Item) { t.Error("dropped below the limits") })
			send(t, q, tt.in...)
			sig := otlp.Traces
			if len(tt.in) > 0 {
				sig = tt.in[0].Signal
			}
			if got := sizes(q.Take(sig, tt.max, tt.upto)); !slices.Equal(got, tt.want) {
				t.Errorf("Take = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestFullQueueDropsTheOldestOfAllSignals(t *testing.T) {
	for name, limits := range map[string]Limits{"bytes": {Bytes: 45, Records: 100}, "records": {Bytes: 1 << 20, Records: 4}} {
		t.Run(name, func(t *testing.T) {
			var dropped []Item
			q := New(limits, nil, func(it Item) { dropped = append(dropped, it) })
			send(t, q, payload(otlp.Logs, 0, 10), payload(otlp.Traces, 0, 11), payload(otlp.Traces, 0, 9),
				payload(otlp.Logs, 0, 12), payload(otlp.Metrics, 0, 8))
			if got := sizes(dropped); !slices.Equal(got, []int{10}) {
				t.Errorf("dropped %v, want the oldest, 10", got)
			}
			if got := q.Bytes(); got != 40 {
				t.Errorf("Bytes = %d, want 40", got)
			}
		})
	}
}

func TestPayloadOverTheLimitIsHeldAlone(t *testing.T) {
	dropped := 0
	q := New(Limits{Bytes: 100, Records: 10}, nil, func(Item) { dropped++ })
	send(t, q, payload(otlp.Traces, 0, 50), payload(otlp.Traces, 0, 200))
	if got := sizes(q.Take(otlp.Traces, 1000, Everything)); dropped != 1 || !slices.Equal(got, []int{200}) {
		t.Errorf("held %v after %d drops, want the large one alone", got, dropped)
	}
}

func TestRestoreKeepsTheOrder(t *testing.T) {
	q := New(Limits{Bytes: 1 << 20, Records: 100}, nil, func(Item) {})
	send(t, q, payload(otlp.Traces, 0, 1), payload(otlp.Traces, 0, 2), payload(otlp.Traces, 0, 3))
	batch := q.Take(otlp.Traces, 3, Everything)
	send(t, q, payload(otlp.Traces, 0, 4))
	q.Restore(batch)
	if got := sizes(q.Take(otlp.Traces, 100, Everything)); !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Errorf("after Restore: %v", got)
	}
}

func TestRestoreIntoAFullQueueDropsWhatCameBack(t *testing.T) {
	var dropped []Item
	q := New(Limits{Bytes: 30, Records: 100}, nil, func(it Item) { dropped = append(dropped, it) })
	send(t, q, payload(otlp.Traces, 0, 10), payload(otlp.Traces, 0, 11))
	batch := q.Take(otlp.Traces, 100, Everything)
	send(t, q, payload(otlp.Logs, 0, 15))
	q.Restore(batch)
	if got := sizes(dropped); !slices.Equal(got, []int{10}) {
		t.Errorf("dropped %v, want the oldest that came back", got)
	}
	if n, oldest, ok := q.Waiting(otlp.Traces); n != 11 || !oldest.Equal(time.Unix(11, 0)) || !ok {
		t.Errorf("Waiting = %d, %v, %v", n, oldest, ok)
	}
	if _, _, ok := q.Waiting(otlp.Metrics); ok {
		t.Error("something waits that never came")
	}
}

// TestAccounts drives a queue at random beside a plain model: order, sums and drops must agree, and nothing
// may vanish.
func TestAccounts(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		droppedBytes := 0
		q := New(Limits{Bytes: 2000, Records: 60}, nil, func(it Item) { droppedBytes += it.Accounted })
		sent, taken := 0, 0
		var flight [][]Item
		for range 500 {
			sig := otlp.Signal(rnd.IntN(otlp.SignalCount))
			switch rnd.IntN(4) {
			case 0, 1:
				p := payload(sig, otlp.Encoding(rnd.IntN(2)), 1+rnd.IntN(120))
				sent += p.Size
				send(t, q, p)
			case 2:
				if b := q.Take(sig, 1+rnd.IntN(400), Everything); b != nil {
					flight = append(flight, b)
				}
			case 3:
				if n := len(flight); n > 0 {
					b := flight[n-1]
					flight = flight[:n-1]
					done := rnd.IntN(len(b) + 1)
					for _, it := range b[:done] {
						taken += it.Accounted
					}
					q.Restore(b[done:])
				}
			}
			held, inFlight := 0, 0
			for _, s := range otlp.Signals() {
				_, n := q.Queued(s)
				held += n
				if waiting, _, _ := q.Waiting(s); waiting != n {
					t.Fatalf("seed %d: %s: %d bytes queued, %d waiting", seed, s, n, waiting)
				}
			}
			for _, b := range flight {
				for _, it := range b {
					inFlight += it.Accounted
				}
			}
			if sent != taken+held+inFlight+droppedBytes {
				t.Fatalf("seed %d: sent %d, taken %d, held %d, in flight %d, dropped %d", seed, sent, taken, held, inFlight, droppedBytes)
			}
			if held != q.Bytes() || held > 2000 {
				t.Fatalf("seed %d: held %d, Bytes %d", seed, held, q.Bytes())
			}
		}
		for _, s := range otlp.Signals() {
			var last Mark
			for b := q.Take(s, 100, Everything); b != nil; b = q.Take(s, 100, Everything) {
				for _, it := range b {
					if it.seq <= last && len(flight) == 0 {
						t.Fatalf("seed %d: %s out of order", seed, s)
					}
					last = it.seq
				}
			}
		}
	}
}

func BenchmarkQueue(b *testing.B) {
	q := New(Limits{Bytes: 64 << 20, Records: 1 << 20}, nil, func(Item) {})
	p := payload(otlp.Traces, 0, 5500)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		_ = q.Send(b.Context(), p)
		if n++; n%1000 == 0 {
			q.Take(otlp.Traces, 64<<20, Everything)
		}
	}
}

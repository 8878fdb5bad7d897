package receiver

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// held is what all requests hold, and what those hold that are not the oldest.
func (g *gate) held() (all, younger int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, s := range g.shares {
		all += s.held
		if i > 0 {
			younger += s.held
		}
	}
	return all, younger
}

// grows starts a grow and says later whether it has come back.
func grows(ctx context.Context, g *gate, id uint64, n int) (done func() (bool, error)) {
	result := make(chan error, 1)
	go func() { result <- g.grow(ctx, id, n) }()
	return func() (bool, error) {
		synctest.Wait()
		select {
		case err := <-result:
			return true, err
		default:
			return false, nil
		}
	}
}

func TestGateWaitsForMemoryOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{limit: 10}
		ctx := t.Context()
		a, b, c := g.enter(), g.enter(), g.enter()
		if err := errors.Join(g.grow(ctx, a, 4), g.grow(ctx, b, 4)); err != nil {
			t.Fatal(err)
		}
		waiting := grows(ctx, g, b, 5)
		if done, _ := waiting(); done {
			t.Error("a younger request went over the limit")
		}
		if done, err := grows(ctx, g, c, 2)(); !done || err != nil {
			t.Errorf("a request that fits had to wait for one that does not: %v, %v", done, err)
		}
		if done, err := grows(ctx, g, a, 10)(); !done || err != nil {
			t.Errorf("the oldest request had to wait: %v, %v", done, err)
		}
		g.leave(a)
		if done, err := waiting(); !done || err != nil {
			t.Errorf("the new oldest request still waits: %v, %v", done, err)
		}
		g.leave(b)
		g.leave(c)
		if all, _ := g.held(); all != 0 || g.used != 0 {
			t.Errorf("after all have left %d bytes are held, %d counted", all, g.used)
		}
	})
}

func TestGateWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{limit: 10}
		a, b, c := g.enter(), g.enter(), g.enter()
		if err := g.grow(t.Context(), a, 10); err != nil {
			t.Fatal(err)
		}
		cause := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		canceled, closed := grows(ctx, g, b, 3), grows(t.Context(), g, c, 3)
		cancel(cause)
		if done, err := canceled(); !done || !errors.Is(err, cause) {
			t.Errorf("grow = %v, %v; want the context's cause", done, err)
		}
		g.leave(b)
		g.close()
		if done, err := closed(); !done || !errors.Is(err, errClosed) {
			t.Errorf("grow = %v, %v; want errClosed", done, err)
		}
		if err := g.grow(t.Context(), a, 1); !errors.Is(err, errClosed) {
			t.Errorf("grow after close: %v, want errClosed", err)
		}
	})
}

// Every request grows in steps to its limit and all go through, whatever the order; the documented bound holds.
func TestGateBoundAndLiveness(t *testing.T) {
	const limit, requests = 1000, 200
	g := &gate{limit: limit}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("canceled before"))
	var all sync.WaitGroup
	for seed := range uint64(requests) {
		random := rand.New(rand.NewPCG(seed, 1))
		all.Go(func() {
			id := g.enter()
			defer g.leave(id)
			for left := limit; left > 0; {
				n := min(1+random.IntN(limit/3), left)
				left -= n
				if random.IntN(40) == 0 && g.grow(ctx, id, n) != nil {
					return // a client that goes away while it waits
				}
				if err := g.grow(t.Context(), id, n); err != nil {
					t.Error(err)
				}
				if all, younger := g.held(); younger > limit || all > 3*limit {
					t.Errorf("%d bytes are held, %d of them not by the oldest; limit %d", all, younger, limit)
				}
			}
		})
	}
	all.Wait()
	if g.used != 0 || len(g.shares) != 0 {
		t.Errorf("at the end %d bytes are counted, %d requests in flight", g.used, len(g.shares))
	}
}

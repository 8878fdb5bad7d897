package buffer

// fifo is a slice with a moving head: items[head:] are queued, items[:head] are zero, so that nothing taken
// is kept alive.
type fifo struct {
	items []Item
	head  int
	bytes int // of what is queued, uncompressed
	loose int // bytes of bodies that are not squeezed

	// The items at the back that are to be squeezed together, and the bytes of their bodies.
	run, runBytes int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) pushBack(it Item) {
	f.bytes += it.Size
	f.loose += len(it.Body)
	if squeezable(&it) {
		f.run++
		f.runBytes += it.Size
	} else {
		f.run, f.runBytes = 0, 0
	}
	// Reuse the room of what was taken once it is at least half, so that each item moves O(1) times.
	if len(f.items) == cap(f.items) && f.head > 0 && f.head >= len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, it)
}

// popFront removes the first n items; the caller owns the slice it gets.
func (f *fifo) popFront(n int) []Item {
	out := make([]Item, n)
	copy(out, f.items[f.head:])
	f.bytes -= size(out)
	f.loose -= loose(out)
	clear(f.items[f.head : f.head+n])
	f.head += n
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	if f.run >= f.len() {
		f.run, f.runBytes = f.len(), f.loose // the run is all that is left
	}
	return out
}

// pushFront puts items before the first, in their order.
func (f *fifo) pushFront(items []Item) {
	f.bytes += size(items)
	f.loose += loose(items)
	if n := len(items); f.head >= n {
		f.head -= n
		copy(f.items[f.head:], items)
		return
	}
	joined := make([]Item, 0, len(items)+f.len())
	joined = append(joined, items...)
	f.items, f.head = append(joined, f.items[f.head:]...), 0
}

// size is the bytes of items, uncompressed.
func size(items []Item) (n int) {
	for _, it := range items {
		n += it.Size
	}
	return n
}

// loose is the bytes of the items' bodies.
func loose(items []Item) (n int) {
	for _, it := range items {
		n += len(it.Body)
	}
	return n
}

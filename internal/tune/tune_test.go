package tune

import (
	"runtime"
	"testing"
)

func TestFor(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		memoryMB, buffer int
		procs            int // at most
		bufferBytes      int
	}{
		{0, 0, 1, 8 * mib}, // not known: as the smallest
		{128, 0, 1, 8 * mib},
		{512, 0, 1, 32 * mib},
		{1769, 0, 1, 64 * mib},
		{1770, 0, 2, 64 * mib},
		{10240, 0, 6, 64 * mib},
		{512, 1000, 1, 1000},
	}
	for _, tt := range tests {
		s := For(tt.memoryMB, tt.buffer)
		if s.Procs < 1 || s.Procs > tt.procs || s.Procs != min(tt.procs, runtime.NumCPU()) {
			t.Errorf("%d MB: %d procs, want %d or as many cores as there are", tt.memoryMB, s.Procs, tt.procs)
		}
		if s.BufferBytes != tt.bufferBytes {
			t.Errorf("%d MB: buffer of %d bytes, want %d", tt.memoryMB, s.BufferBytes, tt.bufferBytes)
		}
		if s.MemoryLimit < int64(s.BufferBytes) {
			t.Errorf("%d MB: the memory limit %d has no room for the queue", tt.memoryMB, s.MemoryLimit)
		}
		if tt.memoryMB > 0 && s.VCPUs != float64(tt.memoryMB)/1769 {
			t.Errorf("%d MB: %v vCPUs", tt.memoryMB, s.VCPUs)
		}
	}
}

func TestCollectOnlyAfterEnoughGarbage(t *testing.T) {
	var c Collector
	cycles := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	before := cycles()
	c.Collect()
	if got := cycles(); got != before {
		t.Errorf("%d collections without garbage", got-before)
	}
	c.Add(collectAfter)
	c.Collect()
	c.Collect() // counts from the start again
	if got := cycles(); got != before+1 {
		t.Errorf("%d collections after %d bytes of garbage, want 1", got-before, collectAfter)
	}
}

// Package tune turns a function's memory size into settings: AWS gives a share of a vCPU in proportion to it.
package tune

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
)

const (
	// memoryPerVCPU is the memory size, in MB, at which a function has one vCPU (Lambda Developer Guide,
	// "Configure Lambda function memory").
	memoryPerVCPU = 1769

	mib = 1 << 20

	// smallest is the least memory a function can have, in MB; it stands in where the size is not known.
	smallest = 128
)

// Settings is what a memory size asks for.
type Settings struct {
	VCPUs       float64 // the share the function gets
	Procs       int     // GOMAXPROCS
	BufferBytes int     // the queue's default bound, uncompressed
	LooseBytes  int     // of it, how much the queue keeps as it came; the rest is squeezed
	MemoryLimit int64   // the Go runtime's soft limit, bytes
}

// For computes the settings of a function with memoryMB of memory; 0 means that it is not known. buffer is
// the user's own bound of the queue in bytes, 0 for the default: the memory limit leaves room for it.
func For(memoryMB, buffer int) Settings {
	if memoryMB <= 0 {
		memoryMB = smallest
	}
	s := Settings{VCPUs: float64(memoryMB) / memoryPerVCPU, Procs: 1}
	// Two cores are visible at any size below 3,009 MB; a second P would only burn the quota sooner.
	if memoryMB > memoryPerVCPU {
		s.Procs = min(runtime.NumCPU(), (memoryMB+memoryPerVCPU-1)/memoryPerVCPU)
	}
	s.BufferBytes = buffer
	if buffer <= 0 {
		s.BufferBytes = min(max(memoryMB/16, 4), 64) * mib
	}
	s.LooseBytes = s.BufferBytes / 8
	// The queue, bodies being read, one body being inflated, and requests in flight may each hold as much
	// as the queue; beside them the program itself needs about 8 MiB.
	s.MemoryLimit = 4*int64(s.BufferBytes) + 8*mib
	return s
}

// Apply sets the Go runtime up: no collection by growth or by time, because a thaw after two minutes would
// start with a forced one (2 ms of CPU); the memory limit and Collect take over.
func (s Settings) Apply() {
	runtime.GOMAXPROCS(s.Procs)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(s.MemoryLimit)
}

// Collector runs the garbage collection that Apply turned off, at a moment of its caller's choosing. It goes by
// what it is told: asking the runtime (runtime/metrics) costs 2 % of a cold start. What nobody tells it of, the
// memory limit sees to. It is safe for concurrent use.
type Collector struct{ garbage atomic.Int64 }

// collectAfter is how many bytes of garbage are worth a collection, which costs 1.2 ms of CPU on a small heap.
const collectAfter = 2 * mib

// returnAfter is how many bytes of garbage at once are worth returning the memory to the system.
const returnAfter = 6 * collectAfter

// Add notes that n bytes have become garbage, or soon will.
func (c *Collector) Add(n int) { c.garbage.Add(int64(n)) }

// Collect runs a collection if enough garbage was noted since the last one.
func (c *Collector) Collect() {
	switch n := c.garbage.Load(); {
	case n >= returnAfter:
		// With growth-driven collections off, nothing else gives memory back to the function.
		c.garbage.Store(0)
		debug.FreeOSMemory()
	case n >= collectAfter:
		c.garbage.Store(0)
		runtime.GC()
	}
}

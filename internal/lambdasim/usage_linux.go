package lambdasim

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// cpuTime is the CPU time of the process so far, all threads, in nanoseconds: the process's own clock
// (clock_getcpuclockid(3)), which needs neither root nor a cgroup. After its exit it is what wait4 told, in
// microseconds. The caller holds Env.mu.
func (p *process) cpuTime() time.Duration {
	if p.gone {
		return p.finalCPU
	}
	const processSched = 2
	var ts syscall.Timespec
	clock := uintptr(^p.pid)<<3 | processSched
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0 // it has just exited
	}
	return time.Duration(ts.Nano())
}

// readMemory refreshes rss and peak. The caller holds Env.mu.
func (p *process) readMemory() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil || p.gone {
		return
	}
	if rss := statusBytes(status, "\nVmRSS:"); rss > 0 {
		p.rss, p.peak = rss, max(p.peak, statusBytes(status, "\nVmHWM:"))
	}
}

// statusBytes is a field of /proc/<pid>/status, which is in units of 1024 bytes.
func statusBytes(status []byte, field string) int64 {
	_, rest, ok := bytes.Cut(status, []byte(field))
	if !ok {
		return 0
	}
	value, _, _ := bytes.Cut(rest, []byte(" kB"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// Processes tells what the processes of the current incarnation used so far, the function's first; after the
// end, those of the last one.
func (e *Env) Processes() []ProcessStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.box == nil && e.last == nil {
		return nil
	}
	box := e.box
	if box == nil {
		box = e.last
	}
	var stats []ProcessStats
	for _, p := range box.processes() {
		p.readMemory()
		stats = append(stats, ProcessStats{
			Name: p.name, PID: p.pid, Started: p.started,
			Registered: p.registered, FirstNext: p.firstNext,
			CPUToRegister: p.cpuRegistered, CPUToFirstNext: p.cpuFirstNext, CPU: p.cpuTime(),
			RSS: p.rss, PeakRSS: p.peak, Running: !p.gone,
		})
	}
	return stats
}

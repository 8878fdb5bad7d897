package lambdasim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// How long a freeze may take to complete before it is an error.
const freezeLimit = 5 * time.Second

// How long a process may take to be scheduled after a thaw before it is signalled all the same.
const settleLimit = 100 * time.Millisecond

// freeze stops the clock of the platform's own work, then the processes, and reads what they used. The
// caller holds turn.
func (e *Env) freeze() error {
	if e.cfg.ManagedInstances || e.cfg.Freeze == FreezeOff {
		e.readUsage()
		return nil
	}
	start := time.Now()
	e.clock.stop()
	e.frozen = true
	err := e.setFrozen(true)
	e.rec.add(Event{Kind: KindFreeze, Duration: time.Since(start)})
	e.readUsage()
	if err != nil {
		return fmt.Errorf("lambdasim: freeze: %w", err)
	}
	return nil
}

// thaw lets the processes, then the platform's own work go on. The caller holds turn.
func (e *Env) thaw() error {
	if !e.frozen {
		e.clock.start()
		return nil
	}
	start := time.Now()
	err := e.setFrozen(false)
	e.frozen = false
	now := time.Now()
	e.rec.add(Event{At: now, Kind: KindThaw, Duration: now.Sub(start)})
	e.clock.start()
	if err != nil {
		return fmt.Errorf("lambdasim: thaw: %w", err)
	}
	return nil
}

// thawForSignals is thaw, and returns when the main thread of each process has run: until then the kernel gives a
// signal to another thread, for a freezer wakes threads as a signal does. Lambda freezes the whole machine, and a
// runtime that waits in its main thread (Python's) would not hear of a signal that its code can handle only there.
func (e *Env) thawForSignals() error {
	if !e.frozen {
		return e.thaw()
	}
	before := map[*process]string{}
	for _, p := range e.livingProcesses() {
		before[p] = p.switches()
	}
	if err := e.thaw(); err != nil {
		return err
	}
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(20 * time.Microsecond) {
		for p, n := range before {
			if p.switches() != n {
				delete(before, p)
			}
		}
		if len(before) == 0 {
			return nil
		}
	}
	return nil // a thread that computes is not switched
}

// switches is how often the main thread has been given the CPU so far, as the kernel writes it.
func (p *process) switches() string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	_, n, _ := strings.Cut(string(status), "voluntary_ctxt_switches:")
	return n
}

func (e *Env) setFrozen(on bool) error {
	if e.group.freezes() {
		return e.group.setFrozen(on)
	}
	var errs []error
	for _, p := range e.livingProcesses() {
		if !on {
			p.signal(syscall.SIGCONT)
			continue
		}
		p.signal(syscall.SIGSTOP)
		errs = append(errs, p.awaitStop())
	}
	return errors.Join(errs...)
}

func (e *Env) livingProcesses() []*process {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ps []*process
	if e.box != nil {
		for _, p := range e.box.processes() {
			if !p.gone {
				ps = append(ps, p)
			}
		}
	}
	return ps
}

// awaitStop returns when all threads of the process have stopped, or it is gone.
func (p *process) awaitStop() error {
	const pPID = 1
	for deadline := time.Now().Add(freezeLimit); time.Now().Before(deadline); time.Sleep(20 * time.Microsecond) {
		var info [128]byte // siginfo_t; its first field is zero where nothing is to report
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(p.pid), uintptr(unsafe.Pointer(&info)),
			syscall.WSTOPPED|syscall.WNOHANG, 0, 0)
		if errno == syscall.ECHILD || errno == 0 && info[0] != 0 {
			return nil
		}
		select {
		case <-p.exited:
			return nil
		default:
		}
	}
	return fmt.Errorf("process %d of %s did not stop within %v", p.pid, p.name, freezeLimit)
}

// setFrozen writes the freezer's state and waits until the kernel reports it.
func (g *cgroup) setFrozen(on bool) error {
	file, value, report, want := "freezer.state", "THAWED", "freezer.state", "THAWED"
	switch {
	case g.v2 && on:
		file, value, report, want = "cgroup.freeze", "1", "cgroup.events", "frozen 1"
	case g.v2:
		file, value, report, want = "cgroup.freeze", "0", "cgroup.events", "frozen 0"
	case on:
		value, want = "FROZEN", "FROZEN"
	}
	if err := writeFile(filepath.Join(g.freezer, file), value); err != nil {
		return err
	}
	for deadline := time.Now().Add(freezeLimit); time.Now().Before(deadline); time.Sleep(20 * time.Microsecond) {
		state, err := os.ReadFile(filepath.Join(g.freezer, report))
		if err != nil {
			return err
		}
		if strings.Contains(string(state), want) {
			return nil
		}
	}
	return fmt.Errorf("cgroup %s did not report %q within %v", g.freezer, want, freezeLimit)
}

// readUsage notes each process's CPU time and memory.
func (e *Env) readUsage() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.box == nil {
		return
	}
	for _, p := range e.box.processes() {
		p.readMemory()
		p.frozenCPU = p.cpuTime()
	}
}

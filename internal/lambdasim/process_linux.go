package lambdasim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The longest line of a log; longer ones are cut in pieces.
const maxLogLine = 256 << 10

// How long output is still read after a process and its group are gone: only a process that left the group
// can hold the pipe open.
const logGrace = 100 * time.Millisecond

// process is one program with its process group. Fields below the blank line are guarded by Env.mu.
type process struct {
	name     string
	launched chan struct{} // closed when it has a pid, or could not be started
	exited   chan struct{} // closed when it is reaped and its output read
	logs     chan struct{} // closed when its output is read

	cmd           *exec.Cmd
	pid           int // zero until it is launched; never changes after that
	started       time.Time
	gone          bool
	exitAt        time.Time
	finalCPU      time.Duration
	registered    time.Time
	cpuRegistered time.Duration
	firstNext     time.Time
	cpuFirstNext  time.Duration
	frozenCPU     time.Duration // at the last freeze
	rss, peak     int64         // as last read
	asked         time.Time     // SIGTERM or SHUTDOWN
	forced        bool          // killed by the emulator
}

// extensionCommand runs the file as the platform does: its full path is argument 0, the working directory is
// the emulator's.
func (e *Env) extensionCommand(path string) *exec.Cmd {
	return &exec.Cmd{Path: path, Args: []string{path}, Env: e.environ(false)}
}

// functionCommand is the runtime's process, through the wrapper script if there is one.
func (e *Env) functionCommand() (*exec.Cmd, error) {
	argv := e.cfg.Function
	if e.cfg.Wrapper != "" {
		argv = append([]string{e.cfg.Wrapper}, argv...)
	}
	path := argv[0]
	if strings.ContainsRune(path, '/') {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("resolve %s: %w", path, err)
		}
		path = abs
	}
	cmd := exec.Command(path, argv[1:]...)
	cmd.Dir, cmd.Env = e.cfg.TaskRoot, e.environ(true)
	return cmd, nil
}

func newProcess(name string) *process {
	return &process{name: name, launched: make(chan struct{}), exited: make(chan struct{}), logs: make(chan struct{})}
}

// spawn starts the command in a process group of its own, inside the environment's cgroups, and watches it.
// The process is known before it starts, as it may be heard before this returns.
func (e *Env) spawn(box *sandbox, p *process, cmd *exec.Cmd) error {
	defer close(p.launched)
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := time.Now()
	err = e.group.enter(cmd)
	in.Close()
	if err != nil {
		out.Close()
		return err
	}
	e.rec.add(Event{At: started, Kind: KindExec, Process: p.name})
	e.mu.Lock()
	p.cmd, p.pid, p.started = cmd, cmd.Process.Pid, started
	e.mu.Unlock()
	go e.readLogs(p, out)
	go e.watch(box, p, out)
	return nil
}

// readLogs records the process's output line by line.
func (e *Env) readLogs(p *process, out io.ReadCloser) {
	defer close(p.logs)
	category := typeExtension
	if p.name == FunctionProcess {
		category = typeFunction
	}
	in := bufio.NewReaderSize(out, maxLogLine)
	for {
		b, _, err := in.ReadLine()
		if err != nil {
			return
		}
		now, line := time.Now(), string(b)
		e.rec.add(Event{At: now, Kind: KindLog, Process: p.name, Text: line})
		e.hub.emit(telemetryEvent{at: now, category: category, typ: category, record: line})
		if e.cfg.Log != nil {
			e.logMu.Lock()
			fmt.Fprintf(e.cfg.Log, "[%s] %s\n", p.name, line)
			e.logMu.Unlock()
		}
	}
}

// watch reaps the process. An exit that nobody asked for, even with code 0, is a fault of the environment.
func (e *Env) watch(box *sandbox, p *process, out *os.File) {
	p.cmd.Wait() // the exit status is read below
	now := time.Now()
	p.signal(syscall.SIGKILL) // children it left behind
	out.SetReadDeadline(now.Add(logGrace))
	<-p.logs
	out.Close()
	state := p.cmd.ProcessState
	e.rec.add(Event{At: now, Kind: KindExit, Process: p.name, Text: state.String()})
	e.mu.Lock()
	p.gone, p.exitAt = true, now
	p.finalCPU = state.UserTime() + state.SystemTime()
	if p.name == FunctionProcess {
		e.failLocked(box, p.name, "Runtime.ExitError", "Runtime exited with error: "+state.String())
	} else {
		e.failLocked(box, p.name, "Extension.Crash", p.name+" exited: "+state.String())
	}
	e.notifyLocked()
	e.mu.Unlock()
	close(p.exited)
}

// signal goes to the whole process group of a process that was launched.
func (p *process) signal(sig syscall.Signal) {
	if p.pid <= 0 {
		panic("BUG: lambdasim: signal to a process that was not launched")
	}
	syscall.Kill(-p.pid, sig)
}

// exit describes the end of a process that is gone. The caller holds Env.mu.
func (p *process) exit() Exit {
	x := Exit{Process: p.name, Code: p.cmd.ProcessState.ExitCode(), Asked: p.asked, At: p.exitAt, Forced: p.forced}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		x.Signal = ws.Signal().String()
	}
	if !p.asked.IsZero() {
		x.Took = p.exitAt.Sub(p.asked)
	}
	return x
}

// launchError is the platform's word for an exec that failed.
func launchError(err error) string {
	if errors.Is(err, os.ErrPermission) {
		return "PermissionDenied"
	}
	return "UnknownError"
}

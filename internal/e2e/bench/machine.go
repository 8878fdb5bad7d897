package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine is what the figures were measured on.
type machine struct {
	date          time.Time
	cpu, kernel   string
	goVersion     string
	cores         int
	shares        bool // the CPU share of a memory size can be set
	before, after string
}

// inspect looks at the machine. shares says whether CPU shares can be set.
func inspect(shares bool) machine {
	m := machine{date: time.Now(), cpu: "unknown CPU", cores: runtime.NumCPU(), shares: shares, before: load()}
	for line := range strings.Lines(text("/proc/cpuinfo")) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			m.cpu = strings.TrimSpace(v)
			break
		}
	}
	m.kernel = strings.TrimSpace(text("/proc/sys/kernel/osrelease"))
	// The toolchain that builds what is measured; this program may have been built by another.
	if out, err := exec.Command("go", "env", "GOVERSION").Output(); err == nil {
		m.goVersion = strings.TrimSpace(string(out))
	}
	return m
}

// load is the machine's load average over one minute.
func load() string {
	one, _, _ := strings.Cut(text("/proc/loadavg"), " ")
	return one
}

// text is a file's content; empty where it cannot be read: it is only shown.
func text(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func (m machine) describe(b *strings.Builder) {
	fmt.Fprintf(b, "Measured on %s: %d × %s, %s/%s, Linux %s, %s; load average %s before, %s after.\n",
		m.date.UTC().Format("2006-01-02 15:04 MST"), m.cores, m.cpu, runtime.GOOS, runtime.GOARCH, m.kernel, m.goVersion, m.before, m.after)
	if m.shares {
		b.WriteString("Run as root: processes are frozen by the cgroup freezer, and the CPU is limited by cgroup where a memory size is given.\n")
	} else {
		b.WriteString("Not run as root with a writable cgroup tree: processes are frozen by SIGSTOP, and the figures at the CPU share of a " +
			"memory size are **left out**; run `sudo make bench` for them.\n")
	}
}

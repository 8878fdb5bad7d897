package lambdasim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	cpuPeriod     = 20_000 // µs: Lambda's bandwidth period, by measurement
	vcpuMemoryMB  = 1769   // "At 1,769 MB, a function has the equivalent of one vCPU"
	cgroupPrefix  = "lambdasim-"
	removeTimeout = 5 * time.Second
)

// cgroup is the environment's cgroup: one directory in v2's tree, or one for each controller of v1. A nil
// *cgroup is one that does nothing.
type cgroup struct {
	v2      bool
	freezer string            // directory whose freezer is used; empty without
	dirs    map[string]string // every directory, with the one this process lives in (v1) or nothing (v2)
	fd      *os.File          // v2: the directory, for clone3
}

var cgroupSerial atomic.Int64

// newCgroup makes what cfg needs. FreezeAuto without the means for it is no error.
func newCgroup(cfg Config) (*cgroup, error) {
	freeze := !cfg.ManagedInstances && (cfg.Freeze == FreezeAuto || cfg.Freeze == FreezeCgroup)
	if !freeze && !cfg.CPUShare {
		return nil, nil
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	g := &cgroup{dirs: map[string]string{}}
	name := cgroupName()
	if freeze {
		if err := g.addFreezer(mounts, name); err != nil && cfg.Freeze == FreezeCgroup {
			return nil, errors.Join(fmt.Errorf("lambdasim: FreezeCgroup: %w (it needs root and a writable cgroup tree; FreezeSignal does not)", err), g.remove())
		}
	}
	if cfg.CPUShare {
		if err := g.addCPU(mounts, name, cfg.MemoryMB); err != nil {
			return nil, errors.Join(fmt.Errorf("lambdasim: CPUShare: %w (it needs root and a writable cgroup cpu controller)", err), g.remove())
		}
	}
	return g, nil
}

// cgroupName is unique, and tells whose it is: a later environment removes what a killed one left.
func cgroupName() string {
	return fmt.Sprintf("%s%s-%d-%d", cgroupPrefix, pidNamespace(), os.Getpid(), cgroupSerial.Add(1))
}

// pidNamespace is the number of the namespace in which process ids mean what they mean here.
func pidNamespace() string {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "0"
	}
	return strings.Trim(link, "pid:[]")
}

// cgroupMounts finds where the controllers are mounted: "freezer" and "cpu" of v1, "" for v2.
func cgroupMounts() (map[string]string, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("lambdasim: find cgroups: %w", err)
	}
	mounts := map[string]string{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line) // device, directory, type, options
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "cgroup2":
			mounts[""] = f[1]
		case "cgroup":
			for opt := range strings.SplitSeq(f[3], ",") {
				if opt == "freezer" || opt == "cpu" {
					mounts[opt] = f[1]
				}
			}
		}
	}
	return mounts, nil
}

func (g *cgroup) addFreezer(mounts map[string]string, name string) error {
	if root, ok := mounts["freezer"]; ok {
		dir, err := g.makeV1(root, "freezer", name)
		g.freezer = dir
		return err
	}
	if err := g.makeV2(mounts, name); err != nil {
		return err
	}
	g.freezer = filepath.Join(mounts[""], name)
	return nil
}

func (g *cgroup) addCPU(mounts map[string]string, name string, memoryMB int) error {
	quota := strconv.Itoa(memoryMB * cpuPeriod / vcpuMemoryMB)
	if root, ok := mounts["cpu"]; ok {
		dir, err := g.makeV1(root, "cpu", name)
		if err != nil {
			return err
		}
		return errors.Join(
			writeFile(filepath.Join(dir, "cpu.cfs_period_us"), strconv.Itoa(cpuPeriod)),
			writeFile(filepath.Join(dir, "cpu.cfs_quota_us"), quota))
	}
	if g.fd == nil {
		if err := g.makeV2(mounts, name); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(mounts[""], "cgroup.subtree_control"), "+cpu"); err != nil {
		return err
	}
	return writeFile(filepath.Join(mounts[""], name, "cpu.max"), quota+" "+strconv.Itoa(cpuPeriod))
}

// makeV1 makes the group in one controller's tree and notes where this process is in it.
func (g *cgroup) makeV1(root, controller, name string) (string, error) {
	sweep(root)
	home, err := v1Home(controller)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	g.dirs[dir] = filepath.Join(root, home)
	return dir, nil
}

func (g *cgroup) makeV2(mounts map[string]string, name string) error {
	root, ok := mounts[""]
	if !ok {
		return errors.New("no cgroup file system is mounted")
	}
	sweep(root)
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	g.v2, g.dirs[dir] = true, ""
	fd, err := os.Open(dir)
	g.fd = fd
	return err
}

// v1Home is the group of this process in a controller's tree.
func v1Home(controller string) (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // number, controllers, path
		if len(f) == 3 && strings.Contains(","+f[1]+",", ","+controller+",") {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup does not name controller %s", controller)
}

func (g *cgroup) freezes() bool { return g != nil && g.freezer != "" }

// enter starts the command inside the group. On v1 the forking thread itself goes in and comes back: the
// child is born there, so that not even its first microseconds are free.
func (g *cgroup) enter(cmd *exec.Cmd) error {
	if g == nil {
		return cmd.Start()
	}
	if g.fd != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(g.fd.Fd())
	}
	runtime.LockOSThread()
	err := g.moveThread(func(dir, home string) string { return dir })
	if err == nil {
		err = cmd.Start()
	}
	if back := g.moveThread(func(dir, home string) string { return home }); back != nil {
		return errors.Join(err, back) // still locked: no other goroutine may run on this thread
	}
	runtime.UnlockOSThread()
	return err
}

// moveThread moves the calling thread in every v1 hierarchy to the directory that to chooses.
func (g *cgroup) moveThread(to func(dir, home string) string) error {
	var errs []error
	for dir, home := range g.dirs {
		if home != "" {
			errs = append(errs, writeFile(filepath.Join(to(dir, home), "tasks"), "0"))
		}
	}
	return errors.Join(errs...)
}

// remove kills what is still inside and removes the group.
func (g *cgroup) remove() error {
	if g == nil {
		return nil
	}
	if g.fd != nil {
		g.fd.Close()
	}
	var errs []error
	for dir := range g.dirs {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

func removeGroup(dir string) error {
	var err error
	for deadline := time.Now().Add(removeTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		writeFile(filepath.Join(dir, "freezer.state"), "THAWED") // v1: a frozen process does not die
		data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for line := range strings.Lines(string(data)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	return fmt.Errorf("lambdasim: remove cgroup: %w", err)
}

// sweep removes the groups of emulators that were killed before they could.
func sweep(root string) {
	dirs, _ := filepath.Glob(filepath.Join(root, cgroupPrefix+pidNamespace()+"-*-*"))
	for _, dir := range dirs {
		parts := strings.Split(filepath.Base(dir), "-")
		pid, err := strconv.Atoi(parts[len(parts)-2])
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			removeGroup(dir)
		}
	}
}

// writeFile writes to a file that exists: the kernel makes a control group's files.
func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

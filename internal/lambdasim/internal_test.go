package lambdasim

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStopClock()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		slept, due := make(chan time.Time, 1), make(chan time.Time, 1)
		begin := time.Now()
		go func() {
			c.sleep(ctx, 10*time.Second)
			slept <- time.Now()
		}()
		go func() {
			due <- c.awaitDue(ctx, begin.Add(10*time.Second), nil)
		}()
		c.start()
		time.Sleep(4 * time.Second)
		c.stop()
		time.Sleep(time.Hour)
		c.start()
		if got := (<-due).Sub(begin); got != time.Hour+4*time.Second {
			t.Errorf("what fell due while the clock stood came after %v", got)
		}
		if got := (<-slept).Sub(begin); got != time.Hour+10*time.Second {
			t.Errorf("the sleep took %v", got)
		}
		if got := c.now(); got != 10*time.Second {
			t.Errorf("the clock reads %v", got)
		}
		c.stop()
		cancel()
		if c.sleep(ctx, time.Second) || !c.awaitDue(ctx, time.Now(), nil).IsZero() {
			t.Error("a cancelled wait says that the time was reached")
		}
	})
}

func TestBatchesRespectLimits(t *testing.T) {
	s := &subscription{maxItems: 3, maxBytes: 10, timeout: time.Second}
	for _, body := range []string{"aaaa", "bbbb", "cccc", "a body over the limit", "d", "e", "f", "g"} {
		s.waiting = append(s.waiting, queued{body: []byte(body)})
		s.bytes += len(body)
	}
	var got []string
	for len(s.waiting) > 0 {
		var parts []string
		for _, q := range s.take() {
			parts = append(parts, string(q.body))
		}
		got = append(got, strings.Join(parts, "+"))
	}
	if want := "aaaa+bbbb|cccc|a body over the limit|d+e+f|g"; strings.Join(got, "|") != want || s.bytes != 0 {
		t.Errorf("batches %q, want %s; %d bytes left", got, want, s.bytes)
	}
}

func TestBatchIsDue(t *testing.T) {
	at := time.Unix(100, 0)
	event := []queued{{body: []byte("x"), at: at}}
	tests := map[string]struct {
		s    *subscription
		want time.Time
		ok   bool
	}{
		"nothing":   {&subscription{maxItems: 2, maxBytes: 10}, time.Time{}, false},
		"by time":   {&subscription{maxItems: 2, maxBytes: 10, bytes: 1, timeout: time.Second, waiting: event}, at.Add(time.Second), true},
		"by items":  {&subscription{maxItems: 1, maxBytes: 10, bytes: 1, timeout: time.Second, waiting: event}, time.Time{}, true},
		"by bytes":  {&subscription{maxItems: 2, maxBytes: 1, bytes: 1, timeout: time.Second, waiting: event}, time.Time{}, true},
		"by urging": {&subscription{maxItems: 2, maxBytes: 10, bytes: 1, timeout: time.Second, waiting: event, urgent: true}, time.Time{}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, ok := tt.s.due(); !got.Equal(tt.want) || ok != tt.ok {
				t.Errorf("%v %v, want %v %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// The freezer of cgroup v2, where the tree is there and ours to write; v1 machines often have both.
func TestCgroupV2Freezer(t *testing.T) {
	mounts, err := cgroupMounts()
	if err != nil {
		t.Fatal(err)
	}
	g := &cgroup{dirs: map[string]string{}}
	if err := g.makeV2(mounts, cgroupName()); err != nil {
		t.Logf("no cgroup v2 to test with: %v", err)
		return
	}
	dir := g.fd.Name()
	g.freezer = dir
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.enter(cmd); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{true, false, true} {
		if err := g.setFrozen(on); err != nil {
			t.Errorf("freeze %v: %v", on, err)
		}
	}
	if err := errors.Join(g.setFrozen(false), cmd.Process.Kill()); err != nil {
		t.Error(err)
	}
	cmd.Wait() // killed
	if err := g.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", dir)
	}
}

// What an emulator that was killed left behind goes when the next one starts.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	name := func(pid int) string {
		return filepath.Join(root, cgroupPrefix+pidNamespace()+"-"+strconv.Itoa(pid)+"-1")
	}
	stale, mine, foreign := name(ended.Process.Pid), name(os.Getpid()), filepath.Join(root, cgroupPrefix+"0-"+strconv.Itoa(ended.Process.Pid)+"-1")
	for _, dir := range []string{stale, mine, foreign} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sweep(root)
	for dir, want := range map[string]bool{stale: false, mine: true, foreign: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", filepath.Base(dir), err == nil, want)
		}
	}
}

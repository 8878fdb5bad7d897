// Package exclusive lets one test program at a time run the real extension: its Telemetry API listener has a
// fixed port, and `go test ./...` runs packages side by side.
package exclusive

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Lock waits until no other process holds the lock. The process's end gives it back, if unlock does not.
func Lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "otlp-relay-test.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

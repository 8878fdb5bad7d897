package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// How long to wait for a process that still holds the directory: one that was killed may take a moment to die.
const (
	lockWait = 200 * time.Millisecond
	lockPoll = 5 * time.Millisecond
)

// openDir makes the directory, unless it is there, and locks it: the lock lasts until the file is closed, at the latest by
// the end of the process, however that comes. The directory must be this user's alone, and no symbolic link: the
// function's code shares the place that it lies in.
func openDir(path string) (*os.File, error) {
	for begin := time.Now(); ; time.Sleep(lockPoll) {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if err == nil {
			if err = claim(d); err == nil {
				return d, nil
			}
			d.Close()
		}
		if !again(err) || time.Since(begin) > lockWait {
			return nil, err
		}
	}
}

var errDeleted = errors.New("the directory was deleted")

// claim checks and locks an open directory.
func claim(d *os.File) error {
	info, err := d.Stat()
	if err != nil {
		return err
	}
	if !ownedByUs(info) || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not private to this process's user: delete it", d.Name())
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another process holds %s: %w", d.Name(), err)
	}
	// Whoever held it may have deleted it at its end.
	if there, err := os.Lstat(d.Name()); err != nil || !os.SameFile(info, there) {
		return errDeleted
	}
	return nil
}

// again says whether openDir may succeed a moment later.
func again(err error) bool {
	return errors.Is(err, errDeleted) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EWOULDBLOCK)
}

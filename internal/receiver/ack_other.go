//go:build !linux

package receiver

import "syscall"

// acknowledge does nothing: TCP_QUICKACK is Linux's.
func acknowledge(syscall.RawConn) {}

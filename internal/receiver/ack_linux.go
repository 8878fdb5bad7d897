package receiver

import (
	"syscall"

	"github.com/otlp-relay/otlp-relay/internal/tcp"
)

// acknowledge acknowledges what was read, at once. The kernel forgets the option by itself (tcp(7)): it is set
// after each read.
//
// Java's OkHttp writes a body in pieces of 8 KiB and, as Nagle's algorithm has it, holds back each until the one
// before is acknowledged; the kernel's delayed acknowledgement would add 40 ms to each of the function's flushes.
func acknowledge(c syscall.RawConn) { c.Control(setQuickAck) }

func setQuickAck(fd uintptr) {
	_ = tcp.SetInt(fd, syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
}

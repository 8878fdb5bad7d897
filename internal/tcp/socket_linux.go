package tcp

import (
	"syscall"
	"unsafe"
)

// SetInt sets an option of the socket fd, as syscall.SetsockoptInt does. It is for use in a RawConn's Control.
func SetInt(fd uintptr, level, option, value int) error {
	v := int32(value)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, fd, uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Peek says how many bytes, 1 at most, the socket fd holds for reading; 0 without an error means that the peer has closed
// it, EAGAIN that nothing is there. It takes nothing and does not wait.
func Peek(fd uintptr) (int, error) {
	var b [1]byte
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

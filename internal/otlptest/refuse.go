package otlptest

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// refuseLocked stops listening and cuts every connection. The port stays bound to a socket that nobody
// listens on, so that no other process can get it meanwhile and connections are refused.
func (b *Backend) refuseLocked() {
	b.listener.Close()
	b.listener = nil
	b.cutLocked()
	fd, err := bind(b.addr)
	if err != nil {
		panic(fmt.Sprintf("BUG: keep the port %d of a refusing backend: %v", b.addr.Port, err))
	}
	b.reserved = fd
}

// acceptLocked listens again on the port that refuseLocked kept.
func (b *Backend) acceptLocked() {
	if err := syscall.Listen(b.reserved, syscall.SOMAXCONN); err != nil {
		panic(fmt.Sprintf("BUG: listen again on port %d: %v", b.addr.Port, err))
	}
	f := os.NewFile(uintptr(b.reserved), "backend")
	b.reserved = 0
	defer f.Close() // FileListener has its own copy
	l, err := net.FileListener(f)
	if err != nil {
		panic(fmt.Sprintf("BUG: listen again on port %d: %v", b.addr.Port, err))
	}
	b.serveLocked(l)
}

// releasePortLocked gives up the port of a backend that is being closed.
func (b *Backend) releasePortLocked() {
	if b.reserved != 0 {
		syscall.Close(b.reserved)
		b.reserved = 0
	}
}

// bind binds an IPv4 address without listening on it.
func bind(addr *net.TCPAddr) (fd int, err error) {
	syscall.ForkLock.RLock()
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	sa := &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, sa)
	}
	if err != nil {
		syscall.Close(fd)
	}
	return fd, err
}

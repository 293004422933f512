package nstest

import (
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen listens on TCP in another network namespace, one of ip netns, until the
// test ends.
func Listen(t testing.TB, namespace, address string) net.Listener {
	t.Helper()
	Require(t)
	type result struct {
		listener net.Listener
		err      error
	}
	results := make(chan result)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends, being in the wrong namespace
		fd, err := unix.Open("/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp", address)
		}
		results <- result{l, err}
	}()
	r := <-results
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.listener.Close() })
	return r.listener
}

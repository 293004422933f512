package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/nictune/nictune/internal/kernel"
)

// calls counts what is asked of a host, and keeps the netlink requests.
type calls struct {
	kernel.Reader

	mu                     sync.Mutex
	requests               []kernel.Request
	files, ioctls, lookUps int
	paths                  []string    // of the files read
	asked                  []ethtoolOf // of the ioctls
}

// ethtoolOf is a SIOCETHTOOL.
type ethtoolOf struct {
	device string
	arg    []byte
}

func (c *calls) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

func (c *calls) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	c.mu.Lock()
	c.requests = append(c.requests, req)
	c.mu.Unlock()
	return c.Reader.Netlink(ctx, req)
}

func (c *calls) ReadFile(ctx context.Context, path string) ([]byte, error) {
	c.count(&c.files)
	c.mu.Lock()
	c.paths = append(c.paths, path)
	c.mu.Unlock()
	return c.Reader.ReadFile(ctx, path)
}

func (c *calls) ReadDir(ctx context.Context, path string) ([]string, error) {
	c.count(&c.files)
	return c.Reader.ReadDir(ctx, path)
}

func (c *calls) ReadLink(ctx context.Context, path string) (string, error) {
	c.count(&c.files)
	return c.Reader.ReadLink(ctx, path)
}

func (c *calls) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	c.count(&c.ioctls)
	c.mu.Lock()
	c.asked = append(c.asked, ethtoolOf{device, bytes.Clone(arg)})
	c.mu.Unlock()
	return c.Reader.Ethtool(ctx, device, arg)
}

func (c *calls) DriverInfo(ctx context.Context, device string) (kernel.DriverInfo, error) {
	c.count(&c.ioctls)
	return c.Reader.DriverInfo(ctx, device)
}

func (c *calls) Counters(ctx context.Context, device string) ([]kernel.Counter, error) {
	c.count(&c.ioctls)
	return c.Reader.Counters(ctx, device)
}

func (c *calls) PCINames(ctx context.Context, modalias string) (kernel.PCINames, error) {
	c.count(&c.lookUps)
	return c.Reader.PCINames(ctx, modalias)
}

// floor puts netlink requests to the kernel, reads files and calls ioctls, and drops
// the answers: what they cost when nobody looks at them. No program that asks for the same can cost
// less.
type floor struct {
	sockets map[int]int // by protocol
	buffer  []byte
	frames  []rawFrame
	paths   []string
	asked   []ethtoolOf
	page    []byte // as long as the one that a scrape is answered with
	peer    *os.File
}

type rawFrame struct {
	protocol int
	bytes    []byte
}

const messageHeader = 16 // struct nlmsghdr

func newFloor(b *testing.B, live *kernel.Live, requests []kernel.Request) *floor {
	b.Helper()
	families, err := kernel.Families(b.Context(), live)
	if err != nil {
		b.Fatal(err)
	}
	f := &floor{sockets: map[int]int{}, buffer: make([]byte, 64<<10)}
	for _, req := range requests {
		protocol, typ, body := syscall.NETLINK_ROUTE, req.Command, req.Body
		if req.Family != kernel.FamilyRoute {
			family := families[req.Family]
			protocol, typ = syscall.NETLINK_GENERIC, family.ID
			body = append([]byte{byte(req.Command), family.Version, 0, 0}, body...)
			if operation := family.Operations[req.Command]; req.Dump && !operation.Dump || !req.Dump && !operation.Do {
				continue // never gets to the kernel
			}
		}
		flags := uint16(syscall.NLM_F_REQUEST | syscall.NLM_F_ACK)
		if req.Dump {
			flags = syscall.NLM_F_REQUEST | syscall.NLM_F_DUMP
		}
		frame := binary.NativeEndian.AppendUint32(nil, uint32(messageHeader+len(body)))
		frame = binary.NativeEndian.AppendUint16(frame, typ)
		frame = binary.NativeEndian.AppendUint16(frame, flags)
		frame = append(frame, make([]byte, 8)...) // sequence and port
		f.frames = append(f.frames, rawFrame{protocol, append(frame, body...)})
		if _, ok := f.sockets[protocol]; ok {
			continue
		}
		fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, protocol)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = syscall.Close(fd) })
		f.sockets[protocol] = fd
	}
	return f
}

// run puts all requests once and returns how many bytes the kernel answered.
func (f *floor) run(b *testing.B) (bytes int) {
	for _, frame := range f.frames {
		fd := f.sockets[frame.protocol]
		if err := syscall.Sendto(fd, frame.bytes, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
			b.Fatal(err)
		}
		for done := false; !done; {
			n, _, err := syscall.Recvfrom(fd, f.buffer, 0)
			if err != nil {
				b.Fatal(err)
			}
			bytes += n
			done = ends(f.buffer[:n])
		}
	}
	return bytes
}

// runOthers reads the files once and calls the ioctls.
func (f *floor) runOthers(b *testing.B) {
	for _, path := range f.paths {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			continue // which is an answer, too
		}
		for n := 1; n > 0; {
			n, _ = syscall.Read(fd, f.buffer)
		}
		_ = syscall.Close(fd)
	}
	if len(f.asked) == 0 {
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer syscall.Close(fd)
	const siocethtool = 0x8946
	for i := range f.asked {
		one := &f.asked[i]
		var request struct { // struct ifreq
			name [syscall.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}
		copy(request.name[:], one.device)
		request.data = unsafe.Pointer(&one.arg[0])
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), siocethtool, uintptr(unsafe.Pointer(&request)))
		if errno != 0 && errno != syscall.EOPNOTSUPP {
			b.Fatal(one.device, errno)
		}
	}
}

// serve has a page of that length sent to another process, as to one that scrapes.
func (f *floor) serve(b *testing.B, length int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	reader, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer reader.Close()
	writer, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer writer.Close()
	from, err := reader.(*net.TCPConn).File()
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	if f.peer, err = writer.(*net.TCPConn).File(); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("cat")
	cmd.Stdin = from
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	f.page = make([]byte, length)
	b.Cleanup(func() {
		_ = f.peer.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// send writes the page once.
func (f *floor) send(b *testing.B) {
	if _, err := f.peer.Write(f.page); err != nil {
		b.Fatal(err)
	}
}

// ends reports whether an answer's last message is in a datagram.
func ends(b []byte) bool {
	for len(b) >= messageHeader {
		length, typ := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
		if typ == syscall.NLMSG_DONE || typ == syscall.NLMSG_ERROR || length < messageHeader {
			return true
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return false
}

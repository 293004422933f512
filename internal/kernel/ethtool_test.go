package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/lab/nstest"
)

// ioctlArg is a struct of size bytes that begins with these numbers.
func ioctlArg(size int, numbers ...uint32) []byte {
	b := make([]byte, 0, size)
	for _, n := range numbers {
		b = binary.NativeEndian.AppendUint32(b, n)
	}
	return b[:size]
}

func TestEthtoolRefusesWrites(t *testing.T) {
	l := open(t)
	for _, test := range []struct {
		arg  []byte
		want error
	}{
		{ioctlArg(24, uapi.ETHTOOL_SRINGPARAM), ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_SCHANNELS), ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_SRXCLSRLINS), ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_PHYS_ID), ErrReadOnly},
		{ioctlArg(24, unix.ETHTOOL_NWAY_RST), ErrReadOnly},
		{ioctlArg(24, unix.ETHTOOL_RESET), ErrReadOnly},
		{ioctlArg(24, unix.ETHTOOL_TEST), ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_GREGS), ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_GEEPROM), ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_PERQUEUE, uapi.ETHTOOL_SCOALESCE), ErrReadOnly},
		{ioctlArg(4, uapi.ETHTOOL_PERQUEUE), ErrReadOnly},
		{ioctlArg(24, 0xffff), ErrReadOnly},
		{ioctlArg(24, 0), ErrReadOnly},
		{nil, ErrReadOnly},
		{[]byte{1, 0}, ErrReadOnly},
		{ioctlArg(24, uapi.ETHTOOL_PERQUEUE, uapi.ETHTOOL_GCOALESCE), nil},
		{ioctlArg(24, uapi.ETHTOOL_GCHANNELS), nil},
		{ioctlArg(ioctlArena, uapi.ETHTOOL_GSTRINGS), syscall.EINVAL},
	} {
		_, err := l.Ethtool(t.Context(), "lo", test.arg)
		if test.want != nil && !errors.Is(err, test.want) || test.want == nil && errors.Is(err, ErrReadOnly) {
			t.Errorf("command %#x: %v, want %v", ioctlCommand(test.arg), err, test.want)
		}
	}
	for command, name := range ioctlReads {
		if !strings.Contains(name, "G") && name != "PERQUEUE" {
			t.Errorf("%s (%#x) does not look like a read", name, command)
		}
	}
}

func TestEthtoolErrors(t *testing.T) {
	l := open(t)
	for _, test := range []struct {
		device string
		reason Reason
		text   string
	}{
		{"lo", Unsupported, "SIOCETHTOOL GRINGPARAM lo: operation not supported"},
		{"none", Gone, "SIOCETHTOOL GRINGPARAM none: no such device"},
		{"", Gone, "SIOCETHTOOL GRINGPARAM: no such device: no network device can have this name"},
		{"a-name-that-is-too-long", Gone, "no network device can have this name"},
	} {
		_, err := l.Ethtool(t.Context(), test.device, ioctlArg(36, uapi.ETHTOOL_GRINGPARAM))
		if ReasonOf(err) != test.reason || err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%q: %v (%s)", test.device, err, ReasonOf(err))
		}
	}
	if _, err := l.DriverInfo(t.Context(), "none"); ReasonOf(err) != Gone || err.Error() != "SIOCETHTOOL GDRVINFO none: no such device" {
		t.Errorf("driver: %v", err)
	}
	if _, err := l.DriverInfo(t.Context(), "a-name-that-is-too-long"); ReasonOf(err) != Gone {
		t.Errorf("driver: %v", err)
	}
	if _, err := l.Counters(t.Context(), "none"); ReasonOf(err) != Gone || !strings.HasSuffix(err.Error(), " none: no such device") {
		t.Errorf("counters: %v", err)
	}
	if _, err := l.Counters(t.Context(), "lo"); ReasonOf(err) != Unsupported {
		t.Errorf("counters of lo: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Either may come first: an answer, or the end.
	if _, err := l.DriverInfo(ctx, "lo"); err == nil {
		t.Error("an answer after the context ended")
	}
	closed := open(t)
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	if _, err := closed.Ethtool(t.Context(), "lo", ioctlArg(36, uapi.ETHTOOL_GRINGPARAM)); err == nil {
		t.Error("an answer after Close")
	}
}

// TestEthtoolIoctl asks a real driver and holds the answers against the ethtool program.
func TestEthtoolIoctl(t *testing.T) {
	nstest.Link(t, "seam0", "numrxqueues 3 numtxqueues 2 type veth peer name seam1")
	l := open(t)
	ctx := t.Context()

	info, err := l.DriverInfo(ctx, "seam0")
	if err != nil || info.Driver != "veth" || info.Version == "" {
		t.Errorf("driver: %+v, %v", info, err)
	}
	printed := string(nstest.Run(t, "ethtool", "-i", "seam0"))
	if want := fmt.Sprintf("driver: %s\nversion: %s\n", info.Driver, info.Version); !strings.HasPrefix(printed, want) {
		t.Errorf("driver: %+v, ethtool says\n%s", info, printed)
	}

	arg := ioctlArg(36, uapi.ETHTOOL_GCHANNELS)
	answer, err := l.Ethtool(ctx, "seam0", arg)
	if err != nil || len(answer) != 36 || binary.NativeEndian.Uint32(answer[4:]) != 3 || binary.NativeEndian.Uint32(answer[8:]) != 2 {
		t.Errorf("channels: %x, %v", answer, err)
	}
	if !bytes.Equal(arg, ioctlArg(36, uapi.ETHTOOL_GCHANNELS)) {
		t.Errorf("the caller's struct was written: %x", arg)
	}
	// A struct that is too short costs its end, nothing else.
	answer, err = l.Ethtool(ctx, "seam0", ioctlArg(8, uapi.ETHTOOL_GCHANNELS))
	if err != nil || len(answer) != 8 || binary.NativeEndian.Uint32(answer[4:]) != 3 {
		t.Errorf("channels, too short: %x, %v", answer, err)
	}

	counters, err := l.Counters(ctx, "seam0")
	if err != nil || len(counters) < 5 {
		t.Fatalf("counters: %+v, %v", counters, err)
	}
	var want []Counter
	for _, m := range regexp.MustCompile(`(?m)^     (.*): (\d+)$`).FindAllSubmatch(nstest.Run(t, "ethtool", "-S", "seam0"), -1) {
		var v uint64
		_, _ = fmt.Sscan(string(m[2]), &v)
		want = append(want, Counter{string(m[1]), v})
	}
	if !slices.Equal(counters, want) {
		t.Errorf("counters: %v\nethtool says\n%v", counters, want)
	}

	// EthtoolSet writes: one receive queue less, seen by a read.
	if _, err = l.EthtoolSet(ctx, "seam0", ioctlArg(36, uapi.ETHTOOL_SCHANNELS, 0, 0, 0, 0, 2, 2)); err != nil {
		t.Error(err)
	}
	answer, err = l.Ethtool(ctx, "seam0", ioctlArg(36, uapi.ETHTOOL_GCHANNELS))
	if err != nil || binary.NativeEndian.Uint32(answer[20:]) != 2 {
		t.Errorf("channels: %x, %v", answer, err)
	}
}

// TestEthtoolDenied sets something without the privilege.
func TestEthtoolDenied(t *testing.T) {
	nstest.Link(t, "seam0", "type veth peer name seam1")
	s, err := openIoctl()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	asNobody(t, func() {
		if err = dropCapabilities(); err == nil {
			_, err = s.issue("seam0", ioctlArg(36, uapi.ETHTOOL_SCHANNELS, 0, 0, 0, 0, 1, 1))
		}
	})
	if ReasonOf(err) != Denied || err.Error() != "SIOCETHTOOL 0x3d seam0: operation not permitted" {
		t.Errorf("%v (%s)", err, ReasonOf(err))
	}
}

// dropCapabilities takes all from the calling thread.
func dropCapabilities() error {
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &make([]unix.CapUserData, 2)[0])
}

// TestArena shows where an answer ends that is larger than its room.
func TestArena(t *testing.T) {
	a, err := newArena()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.free() }()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) }()
	if _, err := unix.Write(p[1], []byte("too much")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(p[0], a[ioctlArena:ioctlArena+8]); !errors.Is(err, syscall.EFAULT) {
		t.Errorf("the kernel may write behind the arena: %v", err)
	}
	if s := unsafe.Sizeof(ifreq{}); s != 40 || s > ioctlHeader {
		t.Errorf("struct ifreq has %d bytes", s)
	}
}

// statistics is a driver whose number of statistics is a new one at each look.
type statistics struct {
	counts []uint32
	strict bool // the kernel refuses a number that is not the driver's
}

func (s *statistics) ioctl(arg []byte) ([]byte, error) {
	n := s.counts[0]
	if len(s.counts) > 1 {
		s.counts = s.counts[1:]
	}
	b := bytes.Clone(arg)
	switch ioctlCommand(arg) {
	case uapi.ETHTOOL_GSSET_INFO:
		if n == 0 {
			binary.NativeEndian.PutUint64(b[8:], 0)
		}
		binary.NativeEndian.PutUint32(b[16:], n)
	case uapi.ETHTOOL_GSTRINGS:
		binary.NativeEndian.PutUint32(b[8:], n)
		for i := range len(b[12:]) / 32 {
			copy(b[12+32*i:], "dup")
		}
	case uapi.ETHTOOL_GSTATS:
		if s.strict && binary.NativeEndian.Uint32(b[4:]) != n {
			return nil, &Error{Op: "SIOCETHTOOL GSTATS", Object: "x", Err: syscall.EINVAL}
		}
		binary.NativeEndian.PutUint32(b[4:], n)
		for i := range len(b[8:]) / 8 {
			binary.NativeEndian.PutUint64(b[8+8*i:], uint64(i))
		}
	}
	return b, nil
}

func TestCounters(t *testing.T) {
	two := []Counter{{"dup", 0}, {"dup", 1}}
	for _, test := range []struct {
		name   string
		driver statistics
		want   []Counter
		err    string
	}{
		{"names twice", statistics{counts: []uint32{2}}, two, ""},
		{"none", statistics{counts: []uint32{0}}, nil, "SIOCETHTOOL GSTATS x: operation not supported: the driver keeps no statistics of its own"},
		{"more meanwhile", statistics{counts: []uint32{1, 2}}, two, ""},
		{"fewer meanwhile", statistics{counts: []uint32{4, 4, 3, 2}}, two, ""},
		{"a strict kernel", statistics{counts: []uint32{4, 4, 2}, strict: true}, two, ""},
		{"never the same", statistics{counts: []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}, nil, "the number of statistics changed in each of 3 attempts"},
		{"too many", statistics{counts: []uint32{1 << 30}}, nil, "SIOCETHTOOL GSTATS x: malformed answer: 1073741824 statistics"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := counters("x", test.driver.ioctl)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("%v, want %s", err, test.err)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// plainCalls is set in the environment of the process that calls the library as it is.
const plainCalls = "NICTUNE_TEST_PLAIN_CALLS"

// TestStackHazard calls safchain/ethtool at many depths of the stack while the collector runs: as it is, and by
// driverInfo. The first shows the hazard where this Go version has it; the second must never meet it.
//
// The first runs in a process of its own: what comes back empty was written into memory that is something else now.
func TestStackHazard(t *testing.T) {
	const calls = 6000
	library, err := ethtool.NewEthtool()
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close()
	if os.Getenv(plainCalls) != "" {
		fmt.Println("wrong:", wrongAnswers(t, calls, func() string {
			info, err := library.DriverInfo("seam0")
			if err != nil {
				return err.Error()
			}
			return info.Driver
		}))
		return
	}
	nstest.Link(t, "seam0", "type veth peer name seam1")

	plain := exec.Command("/proc/self/exe", "-test.run=^TestStackHazard$")
	// In this namespace, which nstest need not make again.
	plain.Env = append(os.Environ(), plainCalls+"=1", "NICTUNE_TEST_NAMESPACE=", "NICTUNE_LAB=here")
	out, err := plain.CombinedOutput()
	wrong, _, ok := strings.Cut(string(out), "\n")
	switch {
	case err != nil || !ok || !strings.HasPrefix(wrong, "wrong: "):
		t.Logf("%s: plain calls broke their process: %v: %.300s", runtime.Version(), err, out)
	default:
		t.Logf("%s: plain calls that came back empty without an error: %s of %d", runtime.Version(), strings.TrimPrefix(wrong, "wrong: "), calls)
	}

	if wrong := wrongAnswers(t, calls, func() string {
		info, err := driverInfo(library, "seam0")
		if err != nil {
			return err.Error()
		}
		return info.Driver
	}); wrong != 0 {
		t.Errorf("%d of %d guarded calls came back wrong", wrong, calls)
	}
}

// wrongAnswers counts the calls, each on a goroutine of its own and at another depth, whose answer isn't "veth".
func wrongAnswers(t *testing.T, calls int, call func() string) int {
	t.Helper()
	var wrong atomic.Int32
	stop := make(chan struct{})
	var collector, workers sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	slots := make(chan struct{}, 4)
	for i := range calls {
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			if atDepth(i%512, call) != "veth" {
				wrong.Add(1)
			}
		})
	}
	workers.Wait()
	close(stop)
	collector.Wait()
	return int(wrong.Load())
}

// atDepth calls f with n more small frames on the stack.
//
//go:noinline
func atDepth(n int, f func() string) string {
	if n == 0 {
		return f()
	}
	return atDepth(n-1, f)
}

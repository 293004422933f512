package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/lab/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func open(t testing.TB) *Live {
	t.Helper()
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// manyLinks creates n devices, the ends of veth pairs.
func manyLinks(t testing.TB, n int) {
	t.Helper()
	nstest.Require(t)
	batch := func(format string) string {
		var b []byte
		for i := range n / 2 {
			b = fmt.Appendf(b, format+"\n", i)
		}
		name := t.TempDir() + "/batch"
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	del := batch("link del many%d")
	nstest.Run(t, "ip", "-batch", batch("link add many%[1]d type veth peer name many%[1]dp"))
	t.Cleanup(func() { _ = exec.Command("ip", "-batch", del).Run() })
}

// netdev DEV_GET is one of the dumps that the kernel sends without NLM_F_MULTI.
func TestDumpsListEveryDevice(t *testing.T) {
	l := open(t)
	manyLinks(t, 400)
	ctx := t.Context()
	for _, req := range []Request{
		{Family: FamilyNetdev, Command: uapi.NETDEV_CMD_DEV_GET, Dump: true},
		{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_TSINFO_GET, Dump: true},
		{Family: FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: make([]byte, 16)},
	} {
		messages, err := l.Netlink(ctx, req)
		if err != nil || len(messages) < 400 {
			t.Errorf("%s: %d devices and %v, want all 400", req, len(messages), err)
		}
	}
}

func TestLiveRefusesToChangeAnythingAsAReader(t *testing.T) {
	l := open(t)
	for _, req := range []Request{
		{Family: FamilyRoute, Command: uapi.RTM_NEWLINK},
		{Family: FamilyRoute, Command: uapi.RTM_SETLINK},
		{Family: FamilyRoute, Command: uapi.RTM_DELLINK},
		{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_RINGS_SET},
		{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_CABLE_TEST_ACT},
		{Family: FamilyEthtool, Command: 250},
		{Family: FamilyDevlink, Command: uapi.DEVLINK_CMD_RELOAD},
		{Family: FamilyNetdev, Command: uapi.NETDEV_CMD_NAPI_SET},
		{Family: "nl80211", Command: 1},
	} {
		if _, err := l.Netlink(t.Context(), req); !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: got %v, want ErrReadOnly", req, err)
		}
	}
}

func TestTheKernelsWordsAndReasons(t *testing.T) {
	l := open(t)
	nstest.Link(t, "words0", "type ifb")
	header := func(name string) []byte {
		return Body{}.Nested(uapi.ETHTOOL_A_RINGS_HEADER, Body{}.String(uapi.ETHTOOL_A_HEADER_DEV_NAME, name))
	}
	_, err := l.Netlink(t.Context(), Request{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_RINGS_GET, Body: header("words0")})
	if ReasonOf(err) != Unsupported {
		t.Errorf("rings of an ifb: %v (%s), want unsupported", err, ReasonOf(err))
	}
	_, err = l.Netlink(t.Context(), Request{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_RINGS_GET, Body: header("nosuch0")})
	var e *Error
	if ReasonOf(err) != Gone || !errors.As(err, &e) || e.Message != "no device matches name" || e.Op != "ethtool RINGS_GET" {
		t.Errorf("rings of a device that is not there: %#v (%s), want gone, in the kernel's words", err, ReasonOf(err))
	}
	_, err = l.Netlink(t.Context(), Request{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_RINGS_GET, Body: Body{}.Nested(uapi.ETHTOOL_A_RINGS_HEADER, nil)})
	if !errors.As(err, &e) || !errors.Is(err, syscall.EINVAL) || e.Message != "neither ifindex nor name specified" {
		t.Errorf("rings of nothing: %#v, want EINVAL with an extended ack", err)
	}
}

func TestFamilies(t *testing.T) {
	l := open(t)
	found, err := families(t.Context(), l.Netlink)
	if err != nil {
		t.Fatal(err)
	}
	ethtool := found[FamilyEthtool]
	if !ethtool.Operations[uapi.ETHTOOL_MSG_RINGS_GET].Dump || !ethtool.Operations[uapi.ETHTOOL_MSG_RINGS_SET].Admin || ethtool.Groups["monitor"] == 0 {
		t.Errorf("ethtool family: %+v", ethtool)
	}
	_, err = l.family(t.Context(), "nosuchfamily")
	if ReasonOf(err) != Unsupported {
		t.Errorf("a family that is not there: %v (%s), want unsupported", err, ReasonOf(err))
	}
}

func TestNotifications(t *testing.T) {
	l := open(t)
	s, err := l.Subscribe(t.Context(), Group{Family: FamilyRoute, Route: uapi.RTNLGRP_LINK})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nstest.Link(t, "notify0", "type ifb")
	n, err := s.Next(t.Context())
	if err != nil || n.Family != FamilyRoute || n.Command != uapi.RTM_NEWLINK {
		t.Errorf("got %v %d, %v; want RTM_NEWLINK", n.Family, n.Command, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for err == nil {
		_, err = s.Next(ctx)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with nothing to tell: %v, want the context's error", err)
	}
}

func TestNotificationOverrunIsToldAndOver(t *testing.T) {
	l := open(t)
	s, err := l.Subscribe(t.Context(), Group{Family: FamilyRoute, Route: uapi.RTNLGRP_LINK})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	}); err != nil {
		t.Fatal(err)
	}
	manyLinks(t, 50)
	overrun := false
	for range 500 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err = s.Next(ctx)
		cancel()
		if errors.Is(err, ErrOverrun) {
			overrun, err = true, nil
		}
		if err != nil {
			break
		}
	}
	if !overrun || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("overrun told: %t, then %v; want it told and the rest read", overrun, err)
	}
	// It goes on after that: this is what a resync relies on.
	nstest.Link(t, "after0", "type ifb")
	if _, err := s.Next(t.Context()); err != nil {
		t.Errorf("after the overrun: %v", err)
	}
}

func TestACallThatHangsIsGivenUp(t *testing.T) {
	l := open(t)
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := guard(ctx, l.slots, "read", "/sys/stuck", func() (int, error) { <-release; return 0, nil })
	if !errors.Is(err, context.DeadlineExceeded) || ReasonOf(err) != Failed {
		t.Errorf("got %v (%s)", err, ReasonOf(err))
	}
	if v, err := guard(t.Context(), l.slots, "read", "", func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("the next call: %d, %v", v, err)
	}
	// Calls that hang never pile up without bound.
	for range 10 * callsAtOnce { // one that finds its time over may not begin
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, _ = guard(ctx, l.slots, "read", "", func() (int, error) { <-release; return 0, nil })
		cancel()
		if len(l.slots) == callsAtOnce {
			break
		}
	}
	if len(l.slots) != callsAtOnce {
		t.Errorf("%d calls under way, want %d", len(l.slots), callsAtOnce)
	}
	// Nor do the sockets of those that were not even begun.
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := l.Netlink(ctx, Request{Family: FamilyControl, Command: uapi.CTRL_CMD_GETFAMILY, Dump: true}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a question without a slot: %v", err)
		}
		cancel()
	}
	if n := len(l.idle[unix.NETLINK_GENERIC]); n != 1 {
		t.Errorf("%d idle sockets, want the one of Open", n)
	}
}

// Files are read while every call to a driver hangs, and whoever asks many devices
// leaves others a place.
func TestCallsThatHangLeaveOthersAPlace(t *testing.T) {
	l := open(t)
	release := make(chan struct{})
	var done sync.WaitGroup
	defer done.Wait()
	defer close(release)
	crowd := AmongMany(t.Context())
	for range callsAtOnce {
		done.Go(func() {
			_, _ = guard(crowd, l.place(crowd), "read", "", func() (int, error) { <-release; return 0, nil })
		})
	}
	for range 3000 {
		if len(l.many) == manyAtOnce {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(l.many) != manyAtOnce {
		t.Fatalf("%d calls of many under way, want %d", len(l.many), manyAtOnce)
	}
	ask := func() error {
		_, err := l.Netlink(t.Context(), Request{Family: FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: make([]byte, 16)})
		return err
	}
	if err := ask(); err != nil {
		t.Errorf("a dump while many devices hang: %v", err)
	}
	for range callsAtOnce {
		l.slots <- struct{}{}
	}
	if _, err := l.ReadFile(t.Context(), "/proc/net/softnet_stat"); err != nil {
		t.Errorf("a file while every driver hangs: %v", err)
	}
}

func TestLargeAnswersAreReadWhole(t *testing.T) {
	l := open(t)
	// A receive buffer that the first datagram overflows.
	s, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	l.giveBack(unix.NETLINK_ROUTE, &conversation{transport: s, buffer: make([]byte, 512)})
	messages, err := l.Netlink(t.Context(), Request{Family: FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: make([]byte, 16)})
	if err != nil || len(messages) == 0 {
		t.Errorf("%d messages, %v", len(messages), err)
	}
}

// A call may take as long as its caller says, in place of the usual time.
func TestPatiently(t *testing.T) {
	for limit, want := range map[time.Duration]time.Duration{50 * time.Millisecond: 50 * time.Millisecond, time.Hour: time.Hour, 0: callTimeout} {
		ctx, cancel := context.WithCancel(t.Context())
		if limit > 0 {
			ctx = Patiently(ctx, limit)
		}
		began := time.Now()
		if limit != 50*time.Millisecond {
			time.AfterFunc(100*time.Millisecond, cancel) // long before its time
		}
		_, err := guard(ctx, make(chan struct{}, 1), "wait", "", func() (bool, error) {
			time.Sleep(time.Second)
			return true, nil
		})
		if gaveUp := errors.Is(err, context.DeadlineExceeded); gaveUp != (want < time.Second) || time.Since(began) > 900*time.Millisecond {
			t.Errorf("%v: %v after %v", limit, err, time.Since(began))
		}
		cancel()
	}
}

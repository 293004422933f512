// Package labtest is what tests use inside a VM of the lab: which machine this is, its NICs by
// driver, the commands that SREs trust to compare with, and the VM's own monitor to pull cables
// and cards. Only tests import it. Outside a VM it does nothing but skip.
package labtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds each wait for a device and each command. The machine is emulated, and slow
// when several run side by side.
const patience = 60 * time.Second

// Profile names the machine that the test runs on; "" outside the lab.
func Profile() string { return os.Getenv("NICTUNE_LAB") }

// NewKernel says whether the VM has the kernel of LAB_KERNEL (`make lab-test-sid`), which has what the
// lab's usual one is too old for.
func NewKernel() bool { return os.Getenv("LAB_KERNEL") != "" }

// Require skips the test unless it runs on one of the profiles; with none given any VM will do.
// Outside the lab the test skips, and fails with CI=true. A test that no profile runs is found by
// `make lab-test`.
func Require(t testing.TB, profiles ...string) {
	t.Helper()
	switch on := Profile(); {
	case on == "" && os.Getenv("CI") == "true":
		t.Fatal("this test needs a VM of the lab and CI=true forbids to skip it: it belongs in a *_lab_test.go file with //go:build lab, run by make lab-test")
	case on == "":
		t.Skip("needs a VM of the lab: runs in make lab-test")
	case len(profiles) > 0 && !slices.Contains(profiles, on):
		t.Skipf("runs on profile %s in make lab-test, this is %s", strings.Join(profiles, " and "), on)
	}
}

// NIC is the name of the first interface of a driver ("igb", "virtio_net", ...), in the order of
// their places in sysfs. It waits for one to appear.
func NIC(t testing.TB, driver string) string {
	t.Helper()
	return NICs(t, driver, 1)[0]
}

// NICs are the names of a driver's interfaces, by place. It waits until there are at least n.
func NICs(t testing.TB, driver string, n int) []string {
	t.Helper()
	var names []string
	Eventually(t, driver+" has its interfaces", func() bool {
		names = byDriver(driver)
		return len(names) >= n
	})
	return names
}

func byDriver(driver string) []string {
	all, _ := filepath.Glob("/sys/class/net/*")
	place := map[string]string{}
	var names []string
	for _, dir := range all {
		link, err := os.Readlink(filepath.Join(dir, "device/driver"))
		if err != nil || filepath.Base(link) != driver {
			continue
		}
		name := filepath.Base(dir)
		if place[name], err = filepath.EvalSymlinks(filepath.Join(dir, "device")); err == nil {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return strings.Compare(place[a]+" "+a, place[b]+" "+b)
	})
	return names
}

// Run runs a command and returns its standard output; the test ends when it fails.
func Run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	out, err := Try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try runs a command that may fail. The error has the command and what it said.
func Try(t testing.TB, name string, args ...string) ([]byte, error) {
	t.Helper()
	// Not the test's own context, which has ended when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	err := c.Run()
	if err == nil {
		return out.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out.Bytes(), &commandError{strings.Join(append([]string{name}, args...), " "), strings.TrimSpace(complaint.String()), err}
}

type commandError struct {
	command, said string
	err           error
}

func (e *commandError) Error() string { return e.command + ": " + e.err.Error() + ": " + e.said }
func (e *commandError) Unwrap() error { return e.err }

// Ethtool runs ethtool and returns what it prints.
func Ethtool(t testing.TB, args ...string) []byte {
	t.Helper()
	return Run(t, "ethtool", args...)
}

// Eventually waits until done says so; the test ends when that takes too long.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// LinksSettle waits until no link has changed for five seconds.
func LinksSettle(t testing.TB) {
	t.Helper()
	var links string
	Eventually(t, "links that stay as they are", func() bool {
		before := links
		time.Sleep(5 * time.Second)
		links = string(Run(t, "ip", "-br", "link"))
		return links == before
	})
}

// Netdevsim makes a simulated device with so many ports and returns its interfaces' names in the
// order of the ports. It takes ids from 10 on, and is removed at the end of the test. Each port has one
// queue, or as many as are asked for.
func Netdevsim(t testing.TB, id, ports int, queues ...int) []string {
	t.Helper()
	Run(t, "modprobe", "-a", "ptp_mock", "netdevsim")
	write := func(path, value string) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(value)
		return errors.Join(err, f.Close())
	}
	if err := write("/sys/bus/netdevsim/new_device", strings.Trim(fmt.Sprint(append([]int{id, ports}, queues...)), "[]")); err != nil {
		t.Fatalf("netdevsim%d: %v", id, err)
	}
	t.Cleanup(func() {
		if err := write("/sys/bus/netdevsim/del_device", itoa(id)); err != nil {
			t.Errorf("netdevsim%d: %v", id, err)
		}
	})
	var names []string
	Eventually(t, "the ports of netdevsim"+itoa(id), func() bool {
		dirs, _ := filepath.Glob("/sys/bus/netdevsim/devices/netdevsim" + itoa(id) + "/net/*")
		names = names[:0]
		for _, d := range dirs {
			names = append(names, filepath.Base(d))
		}
		return len(names) == ports
	})
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(portName(a)+a, portName(b)+b) })
	return names
}

// CountVFs has the first VFs of a simulated device count this: packets received and sent, bytes
// received and sent, broadcast, multicast, and packets dropped that were received and were to be sent.
func CountVFs(t testing.TB, ifname string, counters ...[8]uint64) {
	t.Helper()
	var image []byte
	for _, vf := range counters { // struct ifla_vf_stats (linux/if_link.h)
		for _, n := range vf {
			image = binary.NativeEndian.AppendUint64(image, n)
		}
	}
	if err := os.WriteFile(debugFile(t, ifname, "ethtool/vf_stats"), image, 0); err != nil {
		t.Fatal(err)
	}
}

// debugFile is a file that netdevsim has for one of its ports in debugfs.
func debugFile(t testing.TB, ifname, name string) string {
	t.Helper()
	device, err := filepath.EvalSymlinks("/sys/class/net/" + ifname + "/device")
	if err != nil {
		t.Fatal(err)
	}
	port, ok := strings.CutPrefix(portName(ifname), "p")
	number, err := strconv.Atoi(port)
	if !ok || err != nil {
		t.Fatalf("%s is no port of netdevsim: %v", ifname, err)
	}
	return filepath.Join("/sys/kernel/debug/netdevsim", filepath.Base(device), "ports", strconv.Itoa(number-1), name)
}

func portName(ifname string) string {
	b, _ := os.ReadFile(filepath.Join("/sys/class/net", ifname, "phys_port_name"))
	return strings.TrimSpace(string(b))
}

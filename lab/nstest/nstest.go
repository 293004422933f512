// Package nstest runs a package's tests inside a network namespace of their
// own, so that they can create and delete real devices (veth, bridge, macvlan,
// ifb, tun) without touching the machine's. Only tests import it.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside is set in the environment of the test process within the namespace: to
// bare when it starts, and to mounted once its sysfs is there.
const (
	inside  = "NICTUNE_TEST_NAMESPACE"
	bare    = "new"
	mounted = "mounted"
)

// Main is a package's TestMain:
//
//	func TestMain(m *testing.M) { nstest.Main(m) }
//
// It starts the test binary again in a new network and mount namespace, with a
// sysfs that shows the namespace's devices. The whole process is in there, so
// that it doesn't matter on which thread a test runs. Without root, and inside
// the lab's VM, which is made for it, tests run where they are.
func Main(m *testing.M) {
	switch {
	case os.Getenv(inside) == bare:
		if err := mountSysfs(); err != nil {
			fmt.Fprintln(os.Stderr, "nstest:", err)
			os.Exit(1)
		}
		// A fuzzing test starts itself again as its workers, which find the mount.
		if err := os.Setenv(inside, mounted); err != nil {
			fmt.Fprintln(os.Stderr, "nstest:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case os.Getenv(inside) == mounted:
		os.Exit(m.Run())
	case os.Getuid() != 0 || os.Getenv("NICTUNE_LAB") != "":
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"="+bare)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "nstest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func mountSysfs() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	return nil
}

// Require skips a test that needs a namespace where there is none, which is so
// without root. Under CI=true it fails instead.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) != "" || os.Getenv("NICTUNE_LAB") != "" {
		return
	}
	const why = "needs root, for a network namespace of its own (and TestMain calling nstest.Main)"
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// IP runs ip(8) with blank-separated arguments and returns what it printed.
func IP(t testing.TB, arguments string) []byte {
	t.Helper()
	return Run(t, "ip", strings.Fields(arguments)...)
}

// Run runs a program, fails the test if it fails, and returns what it printed.
func Run(t testing.TB, name string, arguments ...string) []byte {
	t.Helper()
	Require(t)
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), name, arguments...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(arguments, " "), err, stderr.String())
	}
	return out
}

// Link creates a device by `ip link add name NAME ARGUMENTS` and deletes it when
// the test ends.
func Link(t testing.TB, name, arguments string) {
	t.Helper()
	IP(t, "link add name "+name+" "+arguments)
	t.Cleanup(func() {
		// Not with t.Context, which has ended. A device may be gone with its peer.
		_ = exec.Command("ip", "link", "del", name).Run()
	})
}

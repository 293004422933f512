package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A mount shows a folder of the host in the guest.
type mount struct {
	host, guest string
	cache       string // 9p cache mode: "loose" is fast, "mmap" reads what the host wrote meanwhile
}

// A vm is one boot of a profile with one command.
type vm struct {
	image   string // folder made by build.sh
	profile string
	mounts  []mount
	disk    string // file that is the guest's /persist; empty: none
	modules []string
	env     []string // NAME=VALUE for the command
	files   map[string]file
	append  string   // more kernel command line
	qemu    []string // more QEMU arguments

	bootTimeout time.Duration // until the command starts, per attempt
	timeout     time.Duration // for the command
	console     io.Writer     // the kernel's console, when the VM has stopped; nil: only on failure

	// A power cut: QEMU is killed this long after the command started, or when this text is in
	// its output.
	cutAfter time.Duration
	cutOn    string

	used time.Duration // CPU time that it took, when it has stopped
}

// Exit codes of the runner itself, as in docker and chroot: the command's own otherwise.
const (
	exitCut    = 99  // the guest pulled its own plug (QMP quit)
	exitFailed = 125 // the VM did not do what it was asked to do
)

// errCut says that the power was cut as asked.
var errCut = errors.New("power cut")

// bootError is a VM that died or hung before the command had begun: it is safe to try again.
type bootError struct {
	cause   string
	console []byte
}

func (e *bootError) Error() string {
	return fmt.Sprintf("%s; end of its console:\n%s", e.cause, tail(e.console, 30))
}

// run boots the VM, with two more attempts when it does not come up, and runs command in it with
// sh. What the command writes goes to out as it comes. The result is the command's exit code.
func (v *vm) run(ctx context.Context, command string, out io.Writer) (int, error) {
	const attempts = 3
	for i := 1; ; i++ {
		code, err := v.boot(ctx, command, out)
		var dead *bootError
		if !errors.As(err, &dead) || ctx.Err() != nil {
			return code, err
		}
		if i == attempts {
			return exitFailed, fmt.Errorf("%s: the VM did not boot in %d attempts: %w", v.profile, attempts, err)
		}
		fmt.Fprintf(os.Stderr, "lab: %s: %s, booting again\n", v.profile, dead.cause)
	}
}

func (v *vm) boot(ctx context.Context, command string, out io.Writer) (code int, err error) {
	code = exitFailed
	p, err := profileByName(v.profile)
	if err != nil {
		return code, err
	}
	// Short, as a socket's path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "lab-")
	if err != nil {
		return code, err
	}
	defer os.RemoveAll(dir)

	token := rand.Text()
	if err := v.writeInitrd(filepath.Join(dir, "initrd"), command, token); err != nil {
		return code, err
	}

	output, err := listen(filepath.Join(dir, "out"))
	if err != nil {
		return code, err
	}
	defer output.Close()
	var complaints bytes.Buffer
	qemu, err := v.command(dir, p)
	if err != nil {
		return code, err
	}
	qemu.Stdout, qemu.Stderr = &complaints, &complaints
	// QEMU dies with the thread that started it, however this process ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	isolate(qemu.SysProcAttr, p)
	if err := qemu.Start(); err != nil {
		return code, fmt.Errorf("QEMU: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- qemu.Wait() }()

	started, cut, drained := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drained)
		v.copyOutput(output, out, token, started, cut)
	}()

	limit := time.NewTimer(v.bootTimeout)
	defer limit.Stop()
	var cutTimer <-chan time.Time
	running, why := false, error(nil)
	for stopped := false; !stopped; {
		select {
		case <-started:
			started, running = nil, true
			limit.Reset(v.timeout)
			if v.cutAfter > 0 {
				cutTimer = time.After(v.cutAfter)
			}
		case <-cut:
			cut, why = nil, errCut
			qemu.Process.Kill()
		case <-cutTimer:
			why = errCut
			qemu.Process.Kill()
		case <-limit.C:
			why = fmt.Errorf("%s: no end after %v", v.profile, v.timeout)
			if !running {
				why = &bootError{cause: fmt.Sprintf("not up after %v", v.bootTimeout)}
			}
			qemu.Process.Kill()
		case <-ctx.Done():
			why = context.Cause(ctx)
			qemu.Process.Kill()
			ctx = context.WithoutCancel(ctx)
		case <-exited:
			stopped = true
		}
	}
	v.used += cpuTime(qemu)
	// QEMU is gone: what it sent is read to the end. If it never connected, this ends the wait.
	output.Close()
	<-drained
	if !running {
		select {
		case <-started:
			running = true
		default:
		}
	}

	console, _ := os.ReadFile(filepath.Join(dir, "console"))
	if v.console != nil {
		v.console.Write(console)
	}
	var dead *bootError
	if errors.As(why, &dead) {
		dead.console = console
	}
	if why != nil {
		return code, why
	}
	status := qemu.ProcessState.ExitCode()
	if rc, err := os.ReadFile(filepath.Join(dir, "rc")); err == nil && running {
		if n, err := strconv.Atoi(strings.TrimSpace(string(rc))); err == nil {
			return n, nil
		}
	}
	switch said := strings.TrimSpace(complaints.String()); {
	case running && status == 0:
		return exitCut, nil
	case running:
		return code, fmt.Errorf("%s: QEMU ended (%s) before the command did. %s\nEnd of the console:\n%s", v.profile, qemu.ProcessState, said, tail(console, 30))
	case status == 1 && said != "": // its own words about its arguments: no use to try again
		return code, fmt.Errorf("%s: QEMU: %s", v.profile, said)
	default:
		return code, &bootError{cause: fmt.Sprintf("QEMU ended (%s) while booting. %s", qemu.ProcessState, said), console: console}
	}
}

// copyOutput hands on what the guest writes, less the mark that says that the command begins.
func (v *vm) copyOutput(l *net.UnixListener, out io.Writer, token string, started, cut chan<- struct{}) {
	c, err := l.AcceptUnix()
	if err != nil {
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || strings.TrimSpace(line) != token {
		return
	}
	close(started)
	if v.cutOn == "" {
		io.Copy(out, r)
		return
	}
	var window []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		window = append(window, buf[:n]...)
		if cut != nil && bytes.Contains(window, []byte(v.cutOn)) {
			close(cut)
			cut = nil
		}
		window = window[max(0, len(window)-len(v.cutOn)):]
		if err != nil {
			return
		}
	}
}

// writeInitrd writes the guest's root file system: the base image and the command behind it.
func (v *vm) writeInitrd(path, command, token string) error {
	var env strings.Builder
	assign := func(name string, words []string) {
		fmt.Fprintf(&env, "%s=%s\n", name, quote(strings.Join(words, " ")))
	}
	var mounts []string
	for i, m := range v.mounts {
		if strings.ContainsAny(m.guest, " =\t\n") {
			return fmt.Errorf("cannot mount %q: no blank and no = may be in its name", m.guest)
		}
		mounts = append(mounts, fmt.Sprintf("lab%d=%s=%s", i, m.guest, m.cache))
	}
	assign("LAB_MOUNTS", mounts)
	assign("LAB_MODULES", v.modules)
	if v.disk != "" {
		assign("LAB_DISK", []string{v.disk})
	}
	for _, e := range append([]string{"NICTUNE_LAB=" + v.profile}, v.env...) {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(&env, "export %s=%s\n", name, quote(value))
	}
	files := map[string]file{
		"lab/env":     {0o644, []byte(env.String())},
		"lab/cmd":     {0o644, []byte(command + "\n")},
		"lab/started": {0o644, []byte(token + "\n")},
	}
	for name, f := range v.files {
		files["lab/"+name] = f
	}

	base, err := os.Open(filepath.Join(v.image, "base.cpio"))
	if err != nil {
		return fmt.Errorf("%w: the lab is not built, run: make lab", err)
	}
	defer base.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, base); err != nil {
		return err
	}
	if err := writeCPIO(f, files); err != nil {
		return err
	}
	return f.Close()
}

// command is QEMU's command line. QEMU runs by the dynamic loader of the folder it was unpacked
// in, so that it works on any distribution.
func (v *vm) command(dir string, p profile) (*exec.Cmd, error) {
	root, err := filepath.EvalSymlinks(filepath.Join(v.image, "qemu"))
	if err != nil {
		return nil, fmt.Errorf("%w: the lab is not built, run: make lab", err)
	}
	libs := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	args := []string{
		"--library-path", libs, filepath.Join(root, "usr/bin/qemu-system-x86_64"),
		"-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"),
		"-M", "q35,kernel-irqchip=split,graphics=off,vmport=off",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		// One thread and an old CPU boot most reliably and fastest under emulation.
		"-accel", "tcg,thread=single,tb-size=512", "-cpu", "Nehalem",
		"-smp", p.smp, "-m", fmt.Sprintf("%dM", p.memory),
		"-serial", "file:" + filepath.Join(dir, "console"),
		"-kernel", filepath.Join(v.image, "vmlinux"), "-initrd", filepath.Join(dir, "initrd"),
		// What is dear under emulation: a clock that is a device (hpet), pages that are cleared by one instruction, accounts of
		// pressure, and what the kernel tries of its ciphers.
		"-append", strings.TrimSpace("console=ttyS0 panic=-1 quiet loglevel=4 intel_iommu=on iommu=pt mitigations=off nokaslr init_on_alloc=0 " +
			"tsc=reliable no_timer_check rcupdate.rcu_expedited=1 audit=0 apparmor=0 psi=0 clearcpuid=rep_good cryptomgr.notests " +
			"initcall_blacklist=jent_mod_init,crypto_kdf108_init " + v.append),
		"-device", "intel-iommu,intremap=on",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=1",
		"-device", "virtio-serial-pci,id=serial,bus=pcie.0",
		"-chardev", "socket,id=out,path=" + filepath.Join(dir, "out"), "-device", "virtserialport,chardev=out,name=lab.out",
		"-chardev", "file,id=rc,path=" + filepath.Join(dir, "rc"), "-device", "virtserialport,chardev=rc,name=lab.rc",
		// The VM's own monitor, inside the VM: the guest's port connects to it.
		"-chardev", "socket,id=mon,server=on,wait=off,path=" + filepath.Join(dir, "qmp"), "-mon", "chardev=mon,mode=control",
		"-chardev", "socket,id=qmp,reconnect-ms=200,path=" + filepath.Join(dir, "qmp"), "-device", "virtserialport,chardev=qmp,name=lab.qmp",
	}
	args = append(args, p.args...)
	for i, m := range v.mounts {
		args = append(args,
			"-fsdev", fmt.Sprintf("local,id=fs%d,path=%s,security_model=none,multidevs=remap", i, strings.ReplaceAll(m.host, ",", ",,")),
			"-device", fmt.Sprintf("virtio-9p-pci,fsdev=fs%d,mount_tag=lab%d,bus=pcie.0", i, i))
	}
	if v.disk != "" {
		args = append(args,
			"-drive", "if=none,id=disk,format=raw,cache=writeback,file="+strings.ReplaceAll(v.disk, ",", ",,"),
			"-device", "virtio-blk-pci,drive=disk,bus=pcie.0")
	}
	c := exec.Command(filepath.Join(root, "usr/lib64/ld-linux-x86-64.so.2"), slices.Concat(args, v.qemu)...)
	c.Env = append(os.Environ(), "QEMU_MODULE_DIR="+filepath.Join(libs, "qemu"))
	return c, nil
}

// isolate gives QEMU a network namespace of its own, where there is nothing: a tap that it makes
// leads nowhere, and no packet of a guest can ever reach the host. Without root this takes a user
// namespace, so it is done only for a profile that has a tap.
func isolate(a *syscall.SysProcAttr, p profile) {
	switch {
	case os.Geteuid() == 0:
		a.Cloneflags = syscall.CLONE_NEWNET
	case p.tap:
		a.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		a.AmbientCaps = []uintptr{12} // CAP_NET_ADMIN, in that namespace
	}
}

// cpuTime is what a command that has ended used, with the children that it waited for.
func cpuTime(c *exec.Cmd) time.Duration {
	if c.ProcessState == nil {
		return 0
	}
	return c.ProcessState.UserTime() + c.ProcessState.SystemTime()
}

func listen(path string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// quote makes s one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tail is the last n lines of b.
func tail(b []byte, n int) string {
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(b), "\r", ""), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

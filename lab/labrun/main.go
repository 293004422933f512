// Labrun boots the lab's virtual machines: a Debian kernel under QEMU with real NIC drivers on
// emulated hardware. It runs one command, one test binary (for go test -exec) or every lab test
// of the module in them, and hands back output, exit code and coverage. It is called through
// lab/vm, which builds what is missing first. It never touches the host's own network: no VM is
// connected to anything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `usage:
  lab/vm run  [flags] COMMAND...          boot, run COMMAND with sh, exit with its code
  lab/vm exec [flags] BINARY ARGUMENTS... for: go test -tags lab -exec "$PWD/lab/vm exec -p hub" PACKAGE
  lab/vm test [flags] [PACKAGE...]        every lab test, one boot per profile
  lab/vm profiles                         list the machines

lab/vm COMMAND -h lists the flags.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	defer stop()
	code, err := dispatch(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	os.Exit(code)
}

func dispatch(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2, nil
	}
	switch args[0] {
	case "run":
		return runCommand(ctx, args[1:])
	case "exec":
		return runBinary(ctx, args[1:])
	case "test":
		return runTests(ctx, args[1:])
	case "profiles":
		for _, name := range profileNames() {
			fmt.Printf("%-5s %s\n", name, profiles()[name].about)
		}
		return 0, nil
	}
	fmt.Fprint(os.Stderr, usage)
	return 2, fmt.Errorf("no command %q", args[0])
}

// words is a flag that may be given several times.
type words []string

func (w *words) String() string     { return strings.Join(*w, " ") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// options are the flags that every command has; finish turns them into a vm.
type options struct {
	image, profile, disk, share string
	mounts, env, modules, files words
	append, qemu                string
	bootTimeout, timeout        time.Duration
	console                     bool
}

func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.image, "image", os.Getenv("LAB_IMAGE"), "`folder` that build.sh made")
	fs.StringVar(&o.share, "share", "", "host `folder` that is /share in the guest, read and write")
	fs.Var(&o.mounts, "mount", "host `folder` that the guest sees at the same path (may be repeated)")
	fs.StringVar(&o.disk, "disk", "", "`file` that is the disk below /persist in the guest; made (64 MiB, ext4) if it is not there; it survives a power cut as a disk does")
	fs.Var(&o.files, "file", "host `file` that the guest finds in /lab (may be repeated)")
	fs.Var(&o.env, "env", "`NAME` or NAME=VALUE for the command (may be repeated)")
	fs.Var(&o.modules, "module", "kernel module to `load` before the command (may be repeated)")
	fs.StringVar(&o.append, "append", "", "more `words` for the kernel's command line")
	fs.StringVar(&o.qemu, "qemu", "", "more `arguments` for QEMU, split at blanks")
	fs.DurationVar(&o.bootTimeout, "boot-timeout", 3*time.Minute, "longest time for one boot")
	fs.DurationVar(&o.timeout, "timeout", 35*time.Minute, "longest time for the command")
	fs.BoolVar(&o.console, "console", false, "print the kernel's console at the end, on standard error")
}

func (o *options) vm(profile string) (*vm, error) {
	v := &vm{
		image: o.image, profile: profile, modules: o.modules, append: o.append, qemu: strings.Fields(o.qemu),
		bootTimeout: o.bootTimeout, timeout: o.timeout, files: map[string]file{},
	}
	if v.image == "" {
		return nil, errors.New("no image: call lab/vm, which builds it and sets LAB_IMAGE")
	}
	if _, err := profileByName(profile); err != nil {
		return nil, err
	}
	if o.console {
		v.console = os.Stderr
	}
	if o.share != "" {
		if err := os.MkdirAll(o.share, 0o755); err != nil {
			return nil, err
		}
		dir, err := filepath.Abs(o.share)
		if err != nil {
			return nil, err
		}
		v.mounts = append(v.mounts, mount{dir, "/share", "mmap"})
	}
	for _, m := range o.mounts {
		if err := v.show(m); err != nil {
			return nil, err
		}
	}
	if o.disk != "" {
		path, err := filepath.Abs(o.disk)
		if err != nil {
			return nil, err
		}
		if err := makeDisk(path); err != nil {
			return nil, err
		}
		v.disk = path
	}
	for _, name := range o.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		v.files[filepath.Base(name)] = file{info.Mode(), data}
	}
	// What a test asks about its surroundings is the same inside.
	for _, name := range []string{"CI", "LAB_KERNEL"} {
		if value, ok := os.LookupEnv(name); ok {
			v.env = append(v.env, name+"="+value)
		}
	}
	for _, e := range o.env {
		if !strings.Contains(e, "=") {
			value, ok := os.LookupEnv(e)
			if !ok {
				continue
			}
			e += "=" + value
		}
		v.env = append(v.env, e)
	}
	return v, nil
}

// forTests has Go collect its garbage less often in the tests and in what they start: under emulation
// that was a fifth of what they cost. What -env says counts more.
func (v *vm) forTests() { v.env = append([]string{"GOGC=800"}, v.env...) }

// show makes a host folder visible at the same path; one inside another is not mounted twice.
func (v *vm) show(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is no folder", dir)
	}
	for _, m := range v.mounts {
		if m.guest != "/share" && (m.host == dir || strings.HasPrefix(dir, m.host+"/")) {
			return nil
		}
	}
	v.mounts = append(v.mounts, mount{dir, dir, "loose"})
	slices.SortStableFunc(v.mounts, func(a, b mount) int { return len(a.guest) - len(b.guest) })
	return nil
}

// makeDisk makes an empty disk unless there is one; the guest puts a file system on it.
func makeDisk(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	const size = 64 << 20
	return f.Truncate(size)
}

func runCommand(ctx context.Context, args []string) (int, error) {
	var o options
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	o.register(fs)
	fs.StringVar(&o.profile, "p", "nics", "`profile`: the machine to boot")
	cutAfter := fs.Duration("cut-after", 0, "cut the power this long after the command began: exit 0 when cut, an error if the command ended first")
	cutOn := fs.String("cut-on", "", "cut the power when this `text` is in the command's output")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	if fs.NArg() == 0 {
		return 2, errors.New("no command to run")
	}
	v, err := o.vm(o.profile)
	if err != nil {
		return exitFailed, err
	}
	v.cutAfter, v.cutOn = *cutAfter, *cutOn
	began := time.Now()
	code, err := v.run(ctx, "cd /lab\n"+strings.Join(fs.Args(), " "), os.Stdout)
	fmt.Fprintf(os.Stderr, "lab: %s: %.1f s, %.1f s of CPU\n", o.profile, time.Since(began).Seconds(), v.used.Seconds())
	if *cutAfter > 0 || *cutOn != "" {
		if errors.Is(err, errCut) {
			return 0, nil
		}
		if err == nil {
			err = fmt.Errorf("the command ended (exit code %d) before the power was cut", code)
		}
		return exitFailed, err
	}
	return code, err
}

// runBinary runs a test binary for go test -exec: the module, the folder of the binary and every
// folder that a -test flag writes to are in the guest at the same paths.
func runBinary(ctx context.Context, args []string) (int, error) {
	var o options
	fs := flag.NewFlagSet("exec", flag.ContinueOnError)
	o.register(fs)
	fs.StringVar(&o.profile, "p", "nics", "`profile`: the machine to boot")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	if fs.NArg() == 0 {
		return 2, errors.New("no binary to run")
	}
	v, err := o.vm(o.profile)
	if err != nil {
		return exitFailed, err
	}
	v.forTests()
	dir, err := os.Getwd()
	if err != nil {
		return exitFailed, err
	}
	binary, err := filepath.Abs(fs.Arg(0))
	if err != nil {
		return exitFailed, err
	}
	folders := []string{moduleRoot(dir), filepath.Dir(binary)}
	for _, a := range fs.Args()[1:] {
		name, value, _ := strings.Cut(a, "=")
		switch strings.TrimPrefix(name, "-test.") {
		case "gocoverdir", "outputdir":
			folders = append(folders, value)
		case "testlogfile", "coverprofile", "cpuprofile", "memprofile", "blockprofile", "mutexprofile", "trace":
			folders = append(folders, filepath.Dir(value))
		}
	}
	if d := os.Getenv("GOCOVERDIR"); d != "" {
		folders = append(folders, d)
		v.env = append(v.env, "GOCOVERDIR="+d)
	}
	for _, f := range folders {
		if err := v.show(f); err != nil {
			return exitFailed, err
		}
	}
	command := "cd " + quote(dir) + " && exec " + quote(binary)
	for _, a := range fs.Args()[1:] {
		command += " " + quote(a)
	}
	return v.run(ctx, command, os.Stdout)
}

// moduleRoot is the folder above dir that has a go.mod, or dir itself.
func moduleRoot(dir string) string {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}

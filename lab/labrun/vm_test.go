package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuoteIsOneWordOfAShell(t *testing.T) {
	for _, s := range []string{"", "a b", `it's`, "$HOME `id` \\ \"x\"", "two\nlines"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q came back as %q, %v", s, out, err)
		}
	}
}

func TestMountsHoldEachOther(t *testing.T) {
	root := t.TempDir()
	inner := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	sibling := root + "x" // begins with root's name and is not in it
	if err := os.Mkdir(sibling, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sibling) })
	var v vm
	for _, d := range []string{root, inner, sibling, root} {
		if err := v.show(d); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.mounts) != 2 || v.mounts[0].guest != root || v.mounts[1].guest != sibling {
		t.Errorf("mounts %+v", v.mounts)
	}
	if err := v.show(filepath.Join(root, "none")); err == nil {
		t.Error("a folder that is not there is no error")
	}
}

func TestEnvOfTests(t *testing.T) {
	o := options{image: t.TempDir(), env: words{"GOGC=50"}}
	v, err := o.vm("hub")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(v.env, "GOGC=800") {
		t.Errorf("a command has the environment of tests: %q", v.env)
	}
	v.forTests()
	if given, own := slices.Index(v.env, "GOGC=800"), slices.Index(v.env, "GOGC=50"); given < 0 || own < given {
		t.Errorf("%q: what -env says is to come last, and count", v.env)
	}
}

// TestProfiles finds what QEMU would refuse minutes later: an id used twice, a bus that is not there.
func TestProfiles(t *testing.T) {
	for _, name := range profileNames() {
		p, err := profileByName(name)
		if err != nil {
			t.Fatal(err)
		}
		ids, macs := map[string]bool{"pcie.0": true}, map[string]bool{}
		for _, a := range p.args {
			for _, f := range strings.Split(a, ",") {
				k, value, _ := strings.Cut(f, "=")
				switch {
				case k == "id" && ids[value], k == "mac" && macs[value]:
					t.Errorf("%s: %s twice", name, f)
				case k == "id":
					ids[value] = true
				case k == "mac":
					macs[value] = true
				case (k == "bus" || k == "netdev") && !ids[value]:
					t.Errorf("%s: %s, and there is none before it", name, f)
				}
			}
		}
		if len(macs) == 0 {
			t.Errorf("%s has no NIC", name)
		}
	}
	if _, err := profileByName("nope"); err == nil || !strings.Contains(err.Error(), "hub") {
		t.Errorf("error %v, want one that lists the profiles", err)
	}
}

func TestCPIO(t *testing.T) {
	var b bytes.Buffer
	if err := writeCPIO(&b, map[string]file{"lab/b": {0o755, []byte("hello")}, "lab/a": {0o644, nil}}); err != nil {
		t.Fatal(err)
	}
	// Headers are 110 bytes; names (with their NUL) and data end at multiples of four.
	got := b.String()
	for _, want := range []string{
		"070701" + "00000001" + "000081a4",
		"lab/a\x00070701" + "00000002" + "000081ed",
		"lab/b\x00hello\x00\x00\x00070701",
		"TRAILER!!!\x00",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if len(got)%4 != 0 {
		t.Errorf("%d bytes are no multiple of 4", len(got))
	}
}

// TestBoot puts shell scripts in QEMU's place.
func TestBoot(t *testing.T) {
	// A QEMU that behaves: $out and $rc are the sockets and files it was given, $token the mark.
	const arguments = `
for a; do case $a in
socket,id=out,path=*) out=${a#*path=} ;;
file,id=rc,path=*) rc=${a#*path=} ;;
*/initrd) token=$(tr '\000' '\n' <"$a" | grep -a -A9 lab/started | grep -a -o -E '^[A-Z2-7]{26}$') ;;
esac; done
say() { perl -MIO::Socket::UNIX -e 'my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; print $s $ARGV[1]; close $s' "$out" "$1"; }
`
	for _, test := range []struct {
		name, qemu string
		cutOn      string
		code       int
		output     string
		err        string // part of the error
		boots      int
		limit      time.Duration // a minute if 0; short where it is to run out
	}{
		{name: "the command's exit code", qemu: `say "$token
hello"; echo 3 >$rc; exit 85`, code: 3, output: "hello", boots: 1},
		{name: "QEMU refuses its arguments", qemu: `echo no such device >&2; exit 1`, code: exitFailed, err: "no such device", boots: 1},
		{name: "it never boots", qemu: `exit 6`, code: exitFailed, err: "did not boot in 3 attempts", boots: 3},
		{name: "it hangs while booting", qemu: `exec sleep 60`, code: exitFailed, err: "did not boot in 3 attempts", boots: 3, limit: time.Second},
		{name: "it dies in the middle", qemu: `say "$token
half"; exit 6`, code: exitFailed, output: "half", err: "before the command did", boots: 1},
		{name: "the guest cuts the power", qemu: `say "$token
"; exit 0`, code: exitCut, boots: 1},
		{name: "the text to cut on", cutOn: "now", qemu: `say "$token
now"; exec sleep 60`, code: exitFailed, output: "now", err: errCut.Error(), boots: 1},
		{name: "the command hangs", qemu: `say "$token
"; exec sleep 60`, code: exitFailed, err: "no end after", boots: 1, limit: 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			image := t.TempDir()
			write := func(name, text string) {
				path := filepath.Join(image, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
					t.Fatal(err)
				}
			}
			write("base.cpio", "")
			write("qemu/usr/lib64/ld-linux-x86-64.so.2", "#!/bin/bash\necho >>"+image+"/boots\n"+arguments+test.qemu)
			v := vm{image: image, profile: "hub", bootTimeout: cmp.Or(test.limit, time.Minute), timeout: cmp.Or(test.limit, time.Minute), cutOn: test.cutOn}
			var out bytes.Buffer
			code, err := v.run(context.Background(), "true", &out)
			if code != test.code || out.String() != test.output {
				t.Errorf("exit code %d, want %d; output %q, want %q", code, test.code, out.String(), test.output)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if boots, _ := os.ReadFile(filepath.Join(image, "boots")); len(boots) != test.boots {
				t.Errorf("%d boots, want %d", len(boots), test.boots)
			}
		})
	}
}

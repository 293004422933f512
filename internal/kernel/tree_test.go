package kernel

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

var _ = []Reader{(*Tree)(nil), (*Replay)(nil), (*Recorder)(nil)}

// unpack unpacks one of ghw's snapshots.
func unpack(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/ghw", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Clean(h.Name)
		if err := root.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(at, 0o755)
		case tar.TypeSymlink:
			err = root.Symlink(h.Linkname, at)
		default:
			var b []byte
			if b, err = io.ReadAll(archive); err == nil {
				err = root.WriteFile(at, b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func openTree(t testing.TB, dir string) *Tree {
	t.Helper()
	tree, err := OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

func TestTreeOfSnapshot(t *testing.T) {
	ctx := t.Context()
	tree := openTree(t, unpack(t, "amd64.tar.gz"))
	names, err := tree.ReadDir(ctx, "/sys/class/net")
	if want := []string{"enp3s0", "enp6s0f0", "enp6s0f1", "enp8s0"}; !slices.Equal(names, want) || err != nil {
		t.Fatalf("class/net: %q, %v", names, err)
	}
	target, err := tree.ReadLink(ctx, "/sys/class/net/enp3s0")
	if want := "../../devices/pci0000:00/0000:00:01.3/0000:01:00.2/0000:02:00.0/0000:03:00.0/net/enp3s0"; target != want || err != nil {
		t.Errorf("enp3s0: %q, %v", target, err)
	}
	// Through a link, and beside it by dots of another link.
	if b, err := tree.ReadFile(ctx, "/sys/class/net/enp3s0/addr_assign_type"); string(b) != "0\n" || err != nil {
		t.Errorf("addr_assign_type: %q, %v", b, err)
	}
	modalias, err := tree.ReadFile(ctx, "/sys/bus/pci/devices/0000:03:00.0/modalias")
	if string(modalias) != "pci:v000010ECd00008168sv00001043sd00008677bc02sc00i00\n" || err != nil {
		t.Errorf("modalias: %q, %v", modalias, err)
	}
	_, err = tree.ReadFile(ctx, "/sys/class/net/enp3s0/mtu")
	if ReasonOf(err) != Unsupported || err.Error() != "read /sys/class/net/enp3s0/mtu: no such file or directory" {
		t.Errorf("mtu: %v", err)
	}

	// A card that is pulled while the tree is read.
	if err := os.Remove(filepath.Join(tree.root.Name(), "sys/class/net/enp3s0")); err != nil {
		t.Fatal(err)
	}
	_, err = tree.ReadFile(ctx, "/sys/class/net/enp3s0/addr_assign_type")
	if ReasonOf(err) != Gone || err.Error() != "read /sys/class/net/enp3s0/addr_assign_type: no such file or directory: /sys/class/net/enp3s0 is gone" {
		t.Errorf("pulled: %v", err)
	}
	if _, err := tree.ReadDir(ctx, "/sys/bus/pci/devices/0000:ff:00.0/net"); ReasonOf(err) != Gone {
		t.Errorf("pulled: %v", err)
	}

	tree = openTree(t, unpack(t, "arm64.tar.gz"))
	if vendor, err := tree.ReadFile(ctx, "/sys/bus/pci/devices/0000:00:05.0/vendor"); string(vendor) != "0x1d0f\n" || err != nil {
		t.Errorf("vendor: %q, %v", vendor, err)
	}
	if names, err := tree.ReadDir(ctx, "/sys/bus/pci/devices"); len(names) != 4 || err != nil {
		t.Errorf("devices: %q, %v", names, err)
	}
}

// TestTreeHasOnlyFiles shows what a tree answers to all else.
func TestTreeHasOnlyFiles(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sys"), 0o755); err != nil {
		t.Fatal(err)
	}
	tree := openTree(t, dir)
	_, netlink := tree.Netlink(ctx, Request{Family: FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true})
	_, ioctl := tree.Ethtool(ctx, "eth0", ioctlArg(36, uapi.ETHTOOL_GCHANNELS))
	_, driver := tree.DriverInfo(ctx, "eth0")
	_, counters := tree.Counters(ctx, "eth0")
	for want, err := range map[string]error{
		"route LINK_GET dump: ":        netlink,
		"SIOCETHTOOL GCHANNELS eth0: ": ioctl,
		"SIOCETHTOOL GDRVINFO eth0: ":  driver,
		"SIOCETHTOOL GSTATS eth0: ":    counters,
	} {
		if ReasonOf(err) != Unsupported || err.Error() != want+"operation not supported: a plain tree has only files" {
			t.Errorf("%v", err)
		}
	}
	writePCIIDs(t, dir, "usr/share/misc/pci.ids", somePCIIDs)
	tree.names.root = dir
	if names, err := tree.PCINames(ctx, igbModalias); names.Device != "Card" || err != nil {
		t.Errorf("%+v, %v", names, err)
	}
	for _, wrong := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "usr"), filepath.Join(dir, "usr/share/misc/pci.ids")} {
		if _, err := OpenTree(wrong); err == nil || !strings.HasPrefix(err.Error(), "open the tree "+wrong+": ") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// TestTreeStaysInside lets every kind of link try to leave the tree, and what could hang or harm be read.
func TestTreeStaysInside(t *testing.T) {
	ctx := t.Context()
	outside := t.TempDir()
	dir := filepath.Join(outside, "root")
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(outside, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, "sys", name)); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", "secret")
	write("root/sys/devices/eth0/mtu", "1500\n")
	write("root/secret", "the tree's own")
	link("/sys/devices/eth0", "absolute")
	link("devices/eth0", "relative")
	link("absolute", "twice")
	link("../../../../../../secret", "dots")
	link(filepath.Join(outside, "secret"), "out")
	link("/etc/passwd", "passwd")
	link("loop", "loop")
	link("nowhere", "dangling")
	link("/", "slash")
	if err := unix.Mkfifo(filepath.Join(dir, "sys/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := openTree(t, dir)
	for _, test := range []struct {
		path, want string
		err        error
	}{
		{"/sys/absolute/mtu", "1500\n", nil},
		{"/sys/relative/mtu", "1500\n", nil},
		{"/sys/twice/mtu", "1500\n", nil},
		{"/sys/slash/sys/slash/sys/relative/mtu", "1500\n", nil},
		{"/sys/dots", "the tree's own", nil},
		{"/sys/out", "", syscall.ENOENT},
		{"/sys/passwd", "", syscall.ENOENT},
		{"/sys/loop", "", syscall.ELOOP},
		{"/sys/dangling", "", syscall.ENOENT},
		{"/sys/absolute", "", syscall.EISDIR},
		{"/sys/relative/mtu/more", "", syscall.ENOTDIR},
		{"/sys/pipe", "", syscall.EINVAL},
		{"/../secret", "", syscall.EINVAL},
		{"sys/relative/mtu", "", syscall.EINVAL},
	} {
		b, err := tree.ReadFile(ctx, test.path)
		if string(b) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %q, %v, want %q, %v", test.path, b, err, test.want, test.err)
		}
	}
	if names, err := tree.ReadDir(ctx, "/sys/twice"); !slices.Equal(names, []string{"mtu"}) || err != nil {
		t.Errorf("twice: %q, %v", names, err)
	}
	if names, err := tree.ReadDir(ctx, "/"); !slices.Equal(names, []string{"secret", "sys"}) || err != nil {
		t.Errorf("/: %q, %v", names, err)
	}
	if target, err := tree.ReadLink(ctx, "/sys/twice"); target != "absolute" || err != nil {
		t.Errorf("twice: %q, %v", target, err)
	}
	if _, err := tree.ReadLink(ctx, "/sys/relative/mtu"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("mtu is no link: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := tree.ReadFile(ended, "/sys/pipe"); err == nil {
		t.Error("an answer after the context ended")
	}
}

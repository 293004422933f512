package kernel

import (
	"reflect"
	"strings"
	"syscall"
	"testing"
)

func TestMountedNamespaces(t *testing.T) {
	const mountinfo = `25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
1213 26 0:4 net:[4026532567] /run/netns/blue rw shared:5 - nsfs nsfs rw
1214 1213 0:4 net:[4026532567] /run/netns/blue rw shared:5 - nsfs nsfs rw
1215 26 0:4 net:[4026532568] /run/netns/with\040blank rw - nsfs nsfs rw
1216 26 0:4 mnt:[4026532569] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
1217 26 0:4 net:[40265325 /broken rw
1218
`
	want := map[uint64][]string{4026532567: {"/run/netns/blue"}, 4026532568: {"/run/netns/with blank"}}
	if got := mountedNamespaces([]byte(mountinfo)); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestDrivesDevice(t *testing.T) {
	for path, want := range map[string]bool{
		"/dev/vfio/12": true, "/dev/vfio/noiommu-1": true, "/dev/vfio/devices/vfio0": true, "/dev/uio3": true,
		"/dev/infiniband/uverbs0": true, "/dev/vhost-vdpa-0": true,
		"/dev/vfio/vfio": false, "/dev/vhost-net": false, "/dev/null": false, "socket:[12]": false, "/dev/infiniband/rdma_cm": false,
	} {
		if got := drivesDevice(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// What vfio_device_show_fdinfo (drivers/vfio/vfio_main.c) writes behind the usual lines.
func TestVFIODevice(t *testing.T) {
	const info = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t2058\nvfio-device-syspath: /sys/devices/pci0000:e0/0000:e0:01.1/0000:e1:00.0\n"
	if got, want := vfioDevice([]byte(info)), "/sys/devices/pci0000:e0/0000:e0:01.1/0000:e1:00.0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := vfioDevice([]byte("pos:\t0\n")); got != "" {
		t.Errorf("of an older kernel %q", got)
	}
}

func TestUsersRefused(t *testing.T) {
	for _, line := range []string{
		"", "file 1", "file x /dev/vfio/1", "file 1 /dev/vfio/1 more", "hidden", "hidden -1", "namespace", "namespace x",
		"namespace 1 id", "namespace 1 id x", "namespace 1 pid 1 color blue", "namespace 1 upper x macvlan mv0", "namespace 1 upper 2 macvlan", "socket 1 2", `file 1 "open`,
	} {
		var u Users
		if err := u.add(line); err == nil {
			t.Errorf("%q was taken as %+v", line, u)
		}
	}
}

// TestSeesAll: a /proc of another PID namespace than the first one does not show all
// processes of the host.
func TestSeesAll(t *testing.T) {
	const first, other = "pid:[4026531836]", "pid:[4026532201]"
	for _, c := range []struct {
		one, self string
		want      Reason
	}{
		{first, first, ""},
		{first, other, ""}, // the host's /proc in a container
		{other, other, Denied},
		{"", first, ""}, // process 1 keeps it from us
		{"", other, Denied},
		{"", "", Denied},
	} {
		err := seesAll(func(path string) (string, error) {
			answer := c.self
			if path == "/proc/1/ns/pid" {
				answer = c.one
			}
			if answer == "" {
				return "", &Error{Op: opReadLink, Object: path, Err: syscall.EACCES}
			}
			return answer, nil
		})
		if ReasonOf(err) != c.want {
			t.Errorf("process 1 in %q, we in %q: %v", c.one, c.self, err)
		}
	}
}

func FuzzMountedNamespaces(f *testing.F) {
	f.Add([]byte("1213 26 0:4 net:[4026532567] /run/netns/bl\\040ue rw shared:5 - nsfs nsfs rw\n"))
	f.Add([]byte("1 2 3 net:[1] \\777\\8\\1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for inode, paths := range mountedNamespaces(data) {
			u := Users{Namespaces: []Namespace{{Inode: inode, Paths: paths, Closed: inode&1 != 0, Upper: []Upper{{Lower: len(paths), Kind: "macvlan", Name: paths[0]}}}}}
			var again Users
			for _, line := range usersLines(u) {
				if err := again.add(line); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
			}
			if !reflect.DeepEqual(again, u) {
				t.Errorf("%+v came back as %+v", u, again)
			}
			if strings.Contains(strings.Join(usersLines(u), ""), "\n") {
				t.Errorf("%q has a line feed", usersLines(u))
			}
		}
	})
}

//go:build lab

package sriov

import (
	"context"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
)

// pullingReader pulls a card just before one question is asked.
type pullingReader struct {
	kernel.Reader
	at   func(question string) bool
	pull func()
	done bool
}

func (r *pullingReader) before(question string) {
	if !r.done && r.at(question) {
		r.done = true
		r.pull()
	}
}

func (r *pullingReader) ReadFile(ctx context.Context, p string) ([]byte, error) {
	r.before(p)
	return r.Reader.ReadFile(ctx, p)
}

func (r *pullingReader) ReadLink(ctx context.Context, p string) (string, error) {
	r.before(p)
	return r.Reader.ReadLink(ctx, p)
}

func (r *pullingReader) ReadDir(ctx context.Context, p string) ([]string, error) {
	r.before(p)
	return r.Reader.ReadDir(ctx, p)
}

func (r *pullingReader) Netlink(ctx context.Context, req kernel.Request) ([]kernel.Message, error) {
	if !req.Dump && req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_GETLINK {
		r.before("VFs")
	}
	return r.Reader.Netlink(ctx, req)
}

// TestUnplugWhileReading pulls a PF with VFs out of its slot between two questions
// of one reading: that PF says that it is gone, and the other one is whole.
func TestUnplugWhileReading(t *testing.T) {
	labtest.Require(t, "nics")
	names := labtest.NICs(t, "igb", 2)
	enable(t, names[0], 7)
	live := open(t)
	stays, goes := pfNamed(t, pfs(t, live), names[0]).Address, pfNamed(t, pfs(t, live), names[1]).Address
	for _, test := range []struct {
		when string
		at   func(question string) bool
	}{
		{"before the count of VFs", func(q string) bool { return strings.HasSuffix(q, goes+"/sriov_numvfs") }},
		{"between two VFs", func(q string) bool {
			target, err := filepath.EvalSymlinks("/sys/bus/pci/devices/" + goes + "/virtfn2")
			return err == nil && strings.HasSuffix(q, path.Base(target)+"/driver")
		}},
		{"before the settings", func(q string) bool { return q == "VFs" }},
	} {
		t.Run(test.when, func(t *testing.T) {
			write(t, "/sys/bus/pci/devices/"+goes+"/sriov_numvfs", "3")
			labtest.NICs(t, "igbvf", 10)
			inv, err := inventory.Read(t.Context(), live)
			if err != nil {
				t.Fatal(err)
			}
			r := &pullingReader{Reader: live, at: test.at, pull: func() { labtest.Unplug(t, "igb1") }}
			all := Read(t.Context(), r, inv).PFs
			if !r.done {
				t.Fatal("nothing was pulled")
			}
			for i := range all {
				pf := &all[i]
				if pf.Address == goes {
					unread := slices.Clone(pf.Unread)
					for _, vf := range pf.VFs {
						unread = append(unread, vf.Unread...)
					}
					t.Logf("%d VFs, not read: %+v", len(pf.VFs), unread)
					if len(unread) == 0 || slices.ContainsFunc(unread, func(u inventory.Unread) bool { return u.Reason != inventory.Gone }) {
						t.Errorf("of the PF that was pulled: %+v", unread)
					}
					continue
				}
				if pf.Address != stays || len(pf.VFs) != 7 || len(pf.Unread) > 0 {
					t.Errorf("the PF that stays: %+v", pf)
				}
				for _, vf := range pf.VFs {
					if vf.Settings == nil || vf.Statistics == nil || vf.Netdev == nil || len(vf.Unread) > 0 {
						t.Errorf("VF %d of the PF that stays: %+v", vf.Index, vf)
					}
				}
			}
			for _, pf := range pfs(t, live) {
				if pf.Address == goes {
					t.Errorf("%s is out and is still listed", goes)
				}
			}
			labtest.QMP(t, `{"execute": "device_add", "arguments": {"driver": "igb", "id": "igb1", "bus": "rp1", "netdev": "net-igb1", "romfile": "", "mac": "52:54:00:00:02:00"}}`)
			labtest.NICs(t, "igb", 2)
		})
	}
}

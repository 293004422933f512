package inventory

import (
	"encoding/binary"
	"slices"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// What fails for all NICs while some are read is missing of these with its reason.
func TestKeeperSaysWhatSomeLost(t *testing.T) {
	host := newCards(t, nil)
	header := make([]byte, linkHeader)
	binary.NativeEndian.PutUint32(header[4:], 2)
	sick := false
	host.netlink = func(req kernel.Request) ([]kernel.Message, error) {
		switch {
		case req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_GETLINK:
			body := kernel.Body(slices.Clone(header)).String(uapi.IFLA_IFNAME, "eth0").
				String(uapi.IFLA_PARENT_DEV_NAME, "0000:3b:00.0").String(uapi.IFLA_PARENT_DEV_BUS_NAME, "pci")
			return []kernel.Message{{Command: uapi.RTM_NEWLINK, Body: body}}, nil
		case req.Family == kernel.FamilyDevlink && req.Command == uapi.DEVLINK_CMD_GET && sick:
			return nil, &kernel.Error{Op: req.String(), Err: syscall.EIO}
		}
		return nil, &kernel.Error{Op: req.String(), Err: syscall.EOPNOTSUPP}
	}
	k := NewKeeper(host)
	if _, err := k.Whole(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := func() bool {
		inv, err := k.Some(t.Context(), []int{2})
		if err != nil || len(inv.NICs) != 1 {
			t.Fatalf("%+v, %v", inv, err)
		}
		return slices.ContainsFunc(inv.NICs[0].Unread, func(u Unread) bool { return u.Fact == "devlink" && u.Reason == kernel.Failed })
	}
	if lost() {
		t.Error("devlink failed before it did")
	}
	if sick = true; !lost() {
		t.Error("devlink failed, and nothing says so")
	}
}

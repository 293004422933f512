package inventory

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// testdata/stacked.txtar is a VM of the lab (Linux 6.12, igb, e1000e, virtio-net,
// vmxnet3) with every kind of software device that the namespace tests make.
// The stacked-*.json beside it are what ip and bridge said at the same time.

func stacked(t testing.TB) *kernel.Replay {
	t.Helper()
	host, err := kernel.ParseRecording(testFile(t, "stacked.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func testFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fromFile[T any](t testing.TB, name string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(testFile(t, name), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// messagesOf are recorded answers, the seeds of the fuzz targets.
func messagesOf(t testing.TB, req kernel.Request) []kernel.Message {
	t.Helper()
	messages, err := stacked(t).Netlink(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) == 0 {
		t.Fatalf("nothing recorded for %s", req)
	}
	return messages
}

func TestRecordedAgreesWithTools(t *testing.T) {
	s := surveyed(t, stacked(t), readMulticast, readNetdev)
	for _, different := range []string{
		compareLinks(s, fromFile[[]ipLink](t, "stacked-ip-link.json")),
		compareMemberships(s, fromFile[[]ipMaddr](t, "stacked-ip-maddr.json")),
		compareMDB(s, fromFile[[]bridgeMDB](t, "stacked-bridge-mdb.json")),
	} {
		if different != "" {
			t.Error(different)
		}
	}
	kinds := map[string]bool{}
	for _, n := range s.nics {
		kinds[n.Type] = true
	}
	for _, kind := range strings.Fields("ether veth bridge bond vlan vrf vxlan macvlan macvtap tun ifb dummy team") {
		if !kinds[kind] {
			t.Errorf("no %s was compared", kind)
		}
	}
	if len(s.unread) > 0 {
		t.Errorf("unread: %+v", s.unread)
	}
}

func TestRecordedStatistics(t *testing.T) {
	all, err := ReadStatistics(t.Context(), stacked(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if len(one.Values) != len(StatisticNames()) {
			t.Errorf("%s has %d counters", one.Name, len(one.Values))
		}
	}
	if len(all) != len(surveyed(t, stacked(t)).nics) {
		t.Errorf("counters of %d devices", len(all))
	}
}

// mdbDump is the request of readMDB.
func mdbDump() kernel.Request {
	return kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETMDB, Dump: true,
		Body: append([]byte{afBridge}, make([]byte, bridgePortMessage-1)...),
	}
}

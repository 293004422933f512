package inventory

import (
	"bytes"
	"encoding/json"
	"maps"
	"os/exec"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

// TestRecordedHostIsTheSame surveys a live host while it is recorded, then the recording.
func TestRecordedHostIsTheSame(t *testing.T) {
	nstest.Link(t, "rec0", "numrxqueues 2 numtxqueues 2 type veth peer name rec1")
	nstest.Link(t, "recbr", "type bridge mcast_snooping 1")
	nstest.IP(t, "link set rec1 master recbr up")
	nstest.Link(t, "recmv", "link rec0 type macvlan mode bridge")
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Close() })
	recorder := kernel.NewRecorder(live, kernel.RecordingHeader{Nictune: "test"})
	want, err := Read(t.Context(), recorder)
	if err != nil {
		t.Fatal(err)
	}
	var recording bytes.Buffer
	if _, err := recorder.WriteTo(&recording); err != nil {
		t.Fatal(err)
	}
	replay, err := kernel.ParseRecording(recording.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if release := want.Host.Kernel; release == "" || replay.Header().Kernel != release {
		t.Errorf("recorded of kernel %q, the host's is %q", replay.Header().Kernel, release)
	}
	got, err := Read(t.Context(), replay)
	if err != nil {
		t.Fatal(err)
	}
	got.CollectedAt = want.CollectedAt
	a, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if len(want.NICs) < 4 || !bytes.Equal(a, b) {
		t.Errorf("live:\n%s\nrecorded:\n%s", a, b)
	}
}

// TestSnapshotOfGHW surveys a plain tree, one of ghw's published snapshots: four NICs of which only the PCI side is
// known, and what isn't known is said to be unsupported.
func TestSnapshotOfGHW(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xzf", "../internal/kernel/testdata/ghw/amd64.tar.gz", "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tree, err := kernel.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	inv, err := Read(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, n := range inv.NICs {
		if n.PCI == nil || len(n.PCI.Path) == 0 || n.Link.SpeedMbps != nil || n.Queues.Channels != nil {
			t.Errorf("%s: %+v", n.Name, n)
			continue
		}
		ids[n.Name] = n.PCI.Address + " " + n.PCI.VendorID + ":" + n.PCI.DeviceID
	}
	if want := map[string]string{
		"enp3s0":   "0000:03:00.0 10ec:8168",
		"enp6s0f0": "0000:06:00.0 8086:1521",
		"enp6s0f1": "0000:06:00.1 8086:1521",
		"enp8s0":   "0000:08:00.0 10ec:8168",
	}; !maps.Equal(ids, want) {
		t.Errorf("%v, want %v", ids, want)
	}
	unread := inv.Unread
	for _, n := range inv.NICs {
		unread = append(unread, n.Unread...)
	}
	for _, u := range unread {
		if u.Reason != kernel.Unsupported {
			t.Errorf("%+v", u)
		}
	}
}

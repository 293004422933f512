package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// old is a recorded host as Linux 4.18 would have answered: without ethtool netlink,
// netdev, page pools, and AER counters in sysfs (4.19).
type old struct{ *kernel.Replay }

func (o old) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	if r.Family == kernel.FamilyRoute || r.Family == kernel.FamilySockDiag {
		return o.Replay.Netlink(ctx, r)
	}
	return nil, &kernel.Error{Op: r.String(), Err: fmt.Errorf("no such family: %w", errors.ErrUnsupported)}
}

func (o old) ReadFile(ctx context.Context, path string) ([]byte, error) {
	if strings.Contains(path, "/aer_dev_") {
		return nil, &kernel.Error{Op: "read", Object: path, Err: os.ErrNotExist}
	}
	return o.Replay.ReadFile(ctx, path)
}

// What an old kernel doesn't tell is unknown: rules that need it neither pass nor fail.
func TestOldKernelsAreUnknown(t *testing.T) {
	files, err := filepath.Glob("../cmd/nictune/testdata/hosts/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	groups, err := Named("link", "pcie")
	if err != nil {
		t.Fatal(err)
	}
	// These go by what has been told since before 4.18; pause frames by the drivers' own
	// counters.
	told := map[string]bool{
		"link/pause-storm": true,
		"link/down":        true, "link/gone": true, "link/flaps": true, "link/fcs-errors": true, "link/mac-faults": true,
		"pcie/link-degraded": true, "pcie/below-slot": true, "pcie/irq-node": true, "pcie/too-narrow": true,
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		replay, err := kernel.ParseRecording(data)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Gather(t.Context(), old{replay}, groups, 0, inventory.NewModules())
		if err != nil {
			t.Fatal(err)
		}
		unknown := 0
		for _, f := range Judge(e, groups) {
			switch {
			case f.Status == findings.Unknown:
				unknown++
			case f.Status == findings.NotApplicable || told[f.Rule] && f.Status != findings.Error:
			default:
				t.Errorf("%s: %s of %s is %s: %s", file, f.Rule, f.Subject, f.Status, f.Seen)
			}
		}
		if unknown == 0 {
			t.Errorf("%s: nothing is unknown", file)
		}
	}
}

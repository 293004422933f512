//go:build lab

package settings

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// TestHeaderSplit sets what netdevsim has of it since Linux 6.14. The lab's usual
// kernel, 6.12, has none: make lab-test-sid.
func TestHeaderSplit(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.Netdevsim(t, 32, 1)[0]
	w := live(t)
	all := nics(t, w)
	before := string(labtest.Ethtool(t, "-g", name))
	document := policyFor(name, "rings: {tcp-data-split: on, hds-thresh: 700}")
	if !strings.Contains(before, "HDS thresh") || strings.Contains(before, "HDS thresh:\t\tn/a") {
		if labtest.NewKernel() {
			t.Errorf("no header split:\n%s", before)
		}
		_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, document), nil)
		if kernel.ReasonOf(err) != kernel.Unsupported {
			t.Errorf("an older kernel: %v", err)
		}
		return
	}
	e := engine(t, w, t.TempDir())
	for _, settings := range []string{"rings: {tcp-data-split: off}", "rings: {hds-thresh: max}", "rings: {tcp-data-split: on, hds-thresh: 700}"} {
		done, err := e.Apply(t.Context(), plan(t, w, all, policyFor(name, settings)), all, allow)
		if err != nil {
			t.Errorf("%s: %v", settings, err)
			continue
		}
		_, current, _ := strings.Cut(string(labtest.Ethtool(t, "-g", name)), "Current hardware settings:")
		t.Logf("%s: %s", settings, strings.Join(strings.Fields(current), " "))
		if again := plan(t, w, all, policyFor(name, settings)); len(again.Changes) != 0 {
			t.Errorf("%s: a second plan: %+v", settings, again.Changes)
		}
		if done == nil {
			continue
		}
		if _, err := e.Rollback(t.Context(), done.ID, all, allow, false); err != nil {
			t.Errorf("%s: %v", settings, err)
		}
		if after := string(labtest.Ethtool(t, "-g", name)); after != before {
			t.Errorf("%s: after the rollback\n%s\nbefore\n%s", settings, after, before)
		}
	}
}

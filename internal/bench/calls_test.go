package bench

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// Speed comes from asking the kernel once for all devices. What does grow with
// them is one ioctl for the driver's name, which no dump tells.
func TestAnInventoryAsksOnceForAllDevices(t *testing.T) {
	live := open(t)
	ask := func(count int) *calls {
		names := devices(t, count, veths)
		counted := &calls{Reader: live}
		inv, err := inventory.Read(t.Context(), counted)
		if err != nil {
			t.Fatal(err)
		}
		allListed(t, inv, names)
		return counted
	}
	few, many := ask(10), ask(60)
	if a, b := len(few.requests), len(many.requests); a != b {
		t.Errorf("netlink requests: %d for 10 devices, %d for 60", a, b)
	}
	if a, b := few.lookUps, many.lookUps; a != b {
		t.Errorf("questions about PCI names: %d for 10 devices, %d for 60", a, b)
	}
	// Other programs come and go, and who manages NICs is asked of /proc.
	if a, b := few.files, many.files; b >= a+50 {
		t.Errorf("files: %d for 10 devices, %d for 60", a, b)
	}
	if a, b := few.ioctls, many.ioctls; b > a+50 {
		t.Errorf("ioctls: %d for 10 devices, %d for 60", a, b)
	}
}

// So does a plan. What grows with the devices is again one ioctl for each. (There are
// those of the test above, perhaps.)
func TestAPlanAsksOnceForAllDevices(t *testing.T) {
	asNew := strings.Replace(convergedHosts[0].policy(), "gro: on, ", "", 1) // which a veth has not at first
	wanted, err := policies.Parse("converged.yaml", []byte(asNew))
	if err == nil {
		wanted, err = policies.Bind(wanted, tuning.Catalogue(settings.All()))
	}
	if err != nil {
		t.Fatal(err)
	}
	live := open(t)
	ask := func(count int) *calls {
		devices(t, count, veths)
		counted := &calls{Reader: live}
		inv, err := inventory.ReadIdentity(t.Context(), counted)
		if err != nil {
			t.Fatal(err)
		}
		wants, _, err := policies.Resolve(wanted, policies.HostOf(inv, nil), inv.NICs)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := tuning.MakePlan(t.Context(), counted, settings.All(), wants, nil)
		if err != nil || plan.Kept == 0 || len(plan.Changes) > 0 {
			t.Fatal(plan, err)
		}
		return counted
	}
	few, many := ask(60), ask(110)
	if a, b := len(few.requests), len(many.requests); a != b {
		t.Errorf("netlink requests: %d for 60 devices, %d for 110", a, b)
	}
	if a, b := few.files, many.files; a != b {
		t.Errorf("files: %d for 60 devices, %d for 110", a, b)
	}
	if a, b := few.ioctls, many.ioctls; b > a+50 {
		t.Errorf("ioctls: %d for 60 devices, %d for 110", a, b)
	}
}

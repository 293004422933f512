package bench

import (
	"testing"

	"github.com/nictune/nictune/inventory"
)

// Speed comes from asking the kernel once for all devices. What does grow with
// them is one ioctl for the driver's name, which no dump tells.
func TestAnInventoryAsksOnceForAllDevices(t *testing.T) {
	live := open(t)
	ask := func(count int) *calls {
		names := devices(t, count)
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

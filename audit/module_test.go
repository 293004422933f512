package audit

import (
	"slices"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory/module"
)

// A 10GBASE-T SFP+ is copper, and the hottest that there is.
func TestHotCopperModule(t *testing.T) {
	var image module.Image
	a0, a2 := make([]byte, 128), make([]byte, 128)
	copy(a0, []byte{3, 4, 0x22})
	a0[92], a0[93], a0[94] = 0x68, 0xf0, 8        // DDM, internal; flags
	copy(a2, []byte{85, 0, 0xfb, 0, 80, 0, 0, 0}) // thresholds of the temperature
	a2[96], a2[97], a2[112] = 95, 0, 0x80         // 95 degrees, and its flag
	for _, sum := range []struct {
		page     []byte
		from, to int
	}{{a0, 0, 63}, {a0, 64, 95}, {a2, 0, 95}} {
		for _, b := range sum.page[sum.from:sum.to] {
			sum.page[sum.to] += b
		}
	}
	for p, bytes := range map[module.Page][]byte{module.Lower(): a0, {Address: module.AddressA2, Lower: true}: a2} {
		if err := image.Set(p, 0, bytes); err != nil {
			t.Fatal(err)
		}
	}
	m, err := module.Decode(&image)
	if err != nil {
		t.Fatal(err)
	}
	all := Module(m, "eth0")
	for rule, want := range map[string]findings.Status{
		"link/module-alarm": findings.Fail, "link/module-warning": findings.Pass,
		"link/module-dark": findings.Inapplicable("").Status, "link/module-checksum": findings.Pass,
	} {
		i := slices.IndexFunc(all, func(f findings.Finding) bool { return f.Rule == rule })
		if all[i].Status != want {
			t.Errorf("%s is %s: %s", rule, all[i].Status, all[i].Seen)
		}
		t.Logf("%s: %s", rule, all[i].Seen)
	}
}

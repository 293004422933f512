package sriov

import (
	"maps"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
)

func wishes(t *testing.T, driver string, vfs int, current VFState, wish ...VFWish) (VFState, error) {
	t.Helper()
	nic := &inventory.NIC{PermanentMAC: "52:54:00:00:01:00"}
	d := &device{physical: &physical{PF: PF{Bus: "netdevsim", Driver: driver}, nic: nic}}
	next, said := maps.Clone(current), map[string]bool{}
	if next == nil {
		next = VFState{}
	}
	for _, w := range wish {
		if err := w.into(t.Context(), d, current, next, said, vfs); err != nil {
			return nil, err
		}
	}
	return next, nil
}

func TestWishes(t *testing.T) {
	on, vlan, qos, rate := true, uint32(100), uint32(3), uint32(500)
	if _, err := wishes(t, "igb", 3, VFState{"0.vlan": "none", "0.trust": "off"}, VFWish{VF: new("0"), MAC: new("derived")}); err == nil {
		t.Error("a VF that has no address got one")
	}
	got, err := wishes(t, "igb", 3, VFState{"0.vlan": "none", "0.trust": "off", "0.mac": "00:00:00:00:00:00"},
		VFWish{VF: new("0-2"), Trust: &on, MAC: new("derived")},
		VFWish{VF: new("1"), VLAN: &vlan, QoS: &qos, MaxTxRate: &rate})
	if err != nil {
		t.Fatal(err)
	}
	if got["0.mac"] == got["1.mac"] || got["0.mac"][1] != 'e' && !strings.ContainsRune("26a", rune(got["0.mac"][1])) {
		t.Errorf("derived: %v", got)
	}
	for key, want := range map[string]string{"0.trust": "on", "2.trust": "on", "0.vlan": "none", "1.vlan": "100 qos 3", "1.max-tx-rate": "500", "2.vlan": ""} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestWishesRefused(t *testing.T) {
	number := func(n uint32) *uint32 { return &n }
	for name, test := range map[string]struct {
		wish VFWish
		want string
	}{
		"no VF":               {VFWish{Trust: new(true)}, "vf is missing"},
		"words":               {VFWish{VF: new("all")}, `"all" is no list of numbers`},
		"beyond":              {VFWish{VF: new("1-2"), Trust: new(true)}, "there is no VF 2"},
		"one address for two": {VFWish{VF: new("0-1"), MAC: new("02:00:00:00:00:01")}, "can be of one VF only"},
		"a group":             {VFWish{VF: new("0"), MAC: new("03:00:00:00:00:01")}, "no address of a station"},
		"a large VLAN":        {VFWish{VF: new("0"), VLAN: number(4095)}, "VLANs are 0 to 4094"},
		"QoS alone":           {VFWish{VF: new("0"), QoS: number(3)}, "vlan is missing"},
		"rates":               {VFWish{VF: new("0"), MinTxRate: number(9), MaxTxRate: number(8)}, "above max-tx-rate"},
		"a driver":            {VFWish{VF: new("0"), Driver: new("none")}, "have no drivers"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := wishes(t, "netdevsim", 2, nil, test.wish); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	if _, err := wishes(t, "netdevsim", 2, nil, VFWish{VF: new("0-1"), Trust: new(true)}, VFWish{VF: new("1"), Trust: new(false)}); err == nil {
		t.Error("two items say what trust is")
	}
}

func FuzzVLAN(f *testing.F) {
	for _, seed := range []string{"none", "100", "100 qos 3", "5 qos 1 proto 802.1ad", "7 proto", "x", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, words string) {
		tag, err := parseVLAN(words)
		if err != nil || tag.ID == 0 && tag.QoS == 0 {
			return
		}
		again, err := parseVLAN(vlanWords([]VLANTag{tag}))
		if err != nil || again != tag {
			t.Errorf("%q is %+v, then %+v, %v", words, tag, again, err)
		}
	})
}

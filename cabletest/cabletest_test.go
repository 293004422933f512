package cabletest

import (
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// notification is one of a test of the NIC with index 7.
func notification(status uint8, nest kernel.Body) kernel.Body {
	return kernel.Body{}.
		Nested(uapi.ETHTOOL_A_CABLE_TEST_NTF_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, 7)).
		Uint8(uapi.ETHTOOL_A_CABLE_TEST_NTF_STATUS, status).
		Nested(uapi.ETHTOOL_A_CABLE_TEST_NTF_NEST, nest)
}

func result(pair, code uint8) kernel.Body {
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_CABLE_NEST_RESULT, kernel.Body{}.
		Uint8(uapi.ETHTOOL_A_CABLE_RESULT_PAIR, pair).Uint8(uapi.ETHTOOL_A_CABLE_RESULT_CODE, code))
}

func length(pair uint8, cm uint32) kernel.Body {
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_CABLE_NEST_FAULT_LENGTH, kernel.Body{}.
		Uint8(uapi.ETHTOOL_A_CABLE_FAULT_LENGTH_PAIR, pair).Uint32(uapi.ETHTOOL_A_CABLE_FAULT_LENGTH_CM, cm))
}

func joined(bodies ...kernel.Body) (all kernel.Body) {
	for _, b := range bodies {
		all = append(all, b...)
	}
	return all
}

// As drivers/net/phy/marvell.c reports a cable whose pair B is cut at 12.8 m.
func TestDecode(t *testing.T) {
	body := notification(2, joined(result(0, 1), result(1, 2), result(2, 4), result(3, 9), length(1, 1280)))
	index, got, err := decode(body, false)
	want := &Result{Pairs: []Pair{
		{Name: "A", Status: "ok"}, {Name: "B", Status: "open", FaultMeters: new(12.8)},
		{Name: "C", Status: "short to another pair"}, {Name: "D", Status: "code 9"},
	}}
	if err != nil || index != 7 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d, %+v, %v", index, got, err)
	}
	if got.OK() || !(&Result{Pairs: []Pair{{Name: "A", Status: "ok"}}}).OK() {
		t.Error("OK")
	}
	if index, got, err = decode(notification(1, nil), false); index != 7 || got != nil || err != nil {
		t.Errorf("begun: %d, %+v, %v", index, got, err)
	}
}

func TestDecodeEchoes(t *testing.T) {
	echo := func(pair uint8, mV int16) kernel.Body {
		return kernel.Body{}.Nested(2, kernel.Body{}.Uint8(1, pair).Uint16(2, uint16(mV)))
	}
	step := kernel.Body{}.Nested(1, kernel.Body{}.Uint32(1, 100).Uint32(2, 300).Uint32(3, 100))
	pulse := kernel.Body{}.Nested(3, kernel.Body{}.Uint16(1, 1000))
	_, got, err := decode(notification(2, joined(pulse, step, echo(0, 3), echo(1, -2), echo(0, -40), echo(1, 1), echo(0, 7))), true)
	want := &Result{PulseMillivolts: new(1000), Echoes: []Echo{{"A", 1, 3}, {"B", 1, -2}, {"A", 2, -40}, {"B", 2, 1}, {"A", 3, 7}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if strongest := got.Strongest(); !reflect.DeepEqual(strongest, []Echo{{"A", 2, -40}, {"B", 1, -2}}) {
		t.Errorf("strongest: %+v", strongest)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(notification(2, joined(result(0, 1), length(1, 1280)))), false)
	f.Add([]byte(notification(2, kernel.Body{}.Nested(2, kernel.Body{}.Uint8(1, 0).Uint16(2, 1)))), true)
	f.Fuzz(func(_ *testing.T, body []byte, echoes bool) {
		if _, r, err := decode(body, echoes); err == nil && r != nil {
			r.OK()
			r.Strongest()
		}
	})
}

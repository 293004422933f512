package settings

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// script answers RINGS_GET with one reply, and notes what is set.
type script struct {
	kernel.Writer
	reply kernel.Body
	set   []kernel.Request
}

func (s *script) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return []kernel.Message{{Command: uapi.ETHTOOL_MSG_RINGS_GET_REPLY, Body: s.reply}}, nil
}

func (s *script) NetlinkSet(_ context.Context, req kernel.Request) error {
	s.set = append(s.set, req)
	return nil
}

// sent lists the attributes of a request behind its header as "type=value".
func sent(t *testing.T, req kernel.Request) string {
	t.Helper()
	var out []string
	a := kernel.AttributesOf(req.Body)
	for a.Next() {
		switch {
		case a.Type == header:
			h := a.Nested()
			for h.Next() {
				if h.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX && h.Uint32() != 7 {
					t.Errorf("it is about device %d, not 7", h.Uint32())
				}
			}
			a.Join(h)
		case len(a.Data) == 1:
			out = append(out, fmt.Sprintf("%d=%d", a.Type, a.Data[0]))
		default:
			out = append(out, fmt.Sprintf("%d=%d", a.Type, binary.NativeEndian.Uint32(a.Data)))
		}
	}
	if err := a.Err(); err != nil {
		t.Error(err)
	}
	return strings.Join(out, " ")
}

// No driver in the lab has all of these, so the answer is one as the kernel's
// net/ethtool/rings.c would build it.
func TestEveryRingField(t *testing.T) {
	s := &script{reply: kernel.Body{}.
		Nested(uapi.ETHTOOL_A_RINGS_HEADER, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, 7)).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_MAX, 8192).Uint32(uapi.ETHTOOL_A_RINGS_RX, 1).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_MINI_MAX, 8193).Uint32(uapi.ETHTOOL_A_RINGS_RX_MINI, 2).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_JUMBO_MAX, 8194).Uint32(uapi.ETHTOOL_A_RINGS_RX_JUMBO, 3).
		Uint32(uapi.ETHTOOL_A_RINGS_TX_MAX, 8195).Uint32(uapi.ETHTOOL_A_RINGS_TX, 4).
		Uint32(uapi.ETHTOOL_A_RINGS_RX_BUF_LEN, 2048).Uint8(uapi.ETHTOOL_A_RINGS_TCP_DATA_SPLIT, uapi.ETHTOOL_TCP_DATA_SPLIT_ENABLED).
		Uint32(uapi.ETHTOOL_A_RINGS_CQE_SIZE, 64).Uint8(uapi.ETHTOOL_A_RINGS_TX_PUSH, 0).Uint8(uapi.ETHTOOL_A_RINGS_RX_PUSH, 1).
		Uint32(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN_MAX, 224).Uint32(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN, 96).
		Uint32(uapi.ETHTOOL_A_RINGS_HDS_THRESH_MAX, 1023).Uint32(uapi.ETHTOOL_A_RINGS_HDS_THRESH, 256)}
	nic := inventory.NIC{Name: "eth7", Index: 7}
	current, limit, err := Rings().Read(t.Context(), s, nic)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[any]string{
		&current: `{"rx":1,"rx-mini":2,"rx-jumbo":3,"tx":4,"rx-buf-len":2048,"cqe-size":64,"tx-push":false,"rx-push":true,"tx-push-buf-len":96,"tcp-data-split":true,"hds-thresh":256}`,
		&limit:   `{"rx":8192,"rx-mini":8193,"rx-jumbo":8194,"tx":8195,"tx-push-buf-len":224,"hds-thresh":1023}`,
	} {
		if b, err := json.Marshal(got); err != nil || string(b) != want {
			t.Errorf("%s, %v, want %s", b, err, want)
		}
	}
	for change, want := range map[string]string{
		`{}`:                                      "",
		`{"rx":1,"tx-push":false}`:                "",
		`{"rx":5}`:                                "6=5",
		`{"rx-mini":5,"rx-jumbo":6,"tx":7}`:       "7=5 8=6 9=7",
		`{"rx-buf-len":4096,"cqe-size":128}`:      "10=4096 12=128",
		`{"tx-push":true,"rx-push":false}`:        "13=1 14=0",
		`{"tx-push-buf-len":224}`:                 "15=224",
		`{"tcp-data-split":false,"hds-thresh":0}`: "11=1 17=0",
	} {
		next := RingSizes{}
		b, err := json.Marshal(current)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{string(b), change} {
			if err := json.Unmarshal([]byte(text), &next); err != nil {
				t.Fatal(err)
			}
		}
		s.set = nil
		if err := Rings().Write(t.Context(), s, nic, current, next); err != nil || len(s.set) != 1 || s.set[0].Command != uapi.ETHTOOL_MSG_RINGS_SET {
			t.Fatalf("%s: %+v, %v", change, s.set, err)
		}
		if got := sent(t, s.set[0]); got != want {
			t.Errorf("%s sends %q, want %q", change, got, want)
		}
	}
}

package settings

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory"
)

func TestCPUs(t *testing.T) {
	facts := inventory.CPUs{Online: "0-7", Isolated: "2-3", NoHZFull: "3-4"}
	for text, want := range map[string]string{
		"all": "0-7", "0-3": "0-3", "5": "5", "1,3": "1,3", "0-7:1/4": "0,4",
		"local-cpus": "0-3", "housekeeping-cpus": "0-1,5-7", "local-cpus & housekeeping-cpus": "0-1",
		"housekeeping-cpus & 4-6": "5-6",
		"9":                       "9 are not online, only 0-7 are",
		"2 & 3":                   "there is no such CPU",
		"local":                   "neither a list of CPUs",
		"all &":                   "a name or a list is missing",
		"3-1":                     "runs backwards",
	} {
		got, err := resolveCPUs(facts, &inventory.NUMA{LocalCPUs: "0-3"}, text)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", text, err, want)
			}
		} else if got.String() != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	if _, err := resolveCPUs(facts, nil, "local-cpus"); err == nil {
		t.Error("local CPUs of a NIC that names none")
	}
}

func TestSpread(t *testing.T) {
	cpus, one := inventory.NewCPUSet(1, 2, 5), spreadOneToOne
	if got := fmt.Sprint(spread(cpus, 4, &one)); got != "[1 2 5 1]" {
		t.Error(got)
	}
	if got := fmt.Sprint(spread(cpus, 2, nil)); got != "[1-2,5 1-2,5]" {
		t.Error(got)
	}
}

func TestMask(t *testing.T) {
	for mask, want := range map[string]string{
		"0": "", "00000000,00000000": "", "f": "0-3", "00000001,0000000f": "0-3,32", "80000000,00000000,00000000": "95",
	} {
		set, err := inventory.ParseCPUMask(mask + "\n")
		if err != nil || set.String() != want {
			t.Errorf("%s is %s, %v, want %s", mask, set, err, want)
		}
	}
	for _, bad := range []string{"", "g", "1,,2", "100000000", "-1"} {
		if _, err := inventory.ParseCPUMask(bad); err == nil {
			t.Errorf("%q is a mask", bad)
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("00000001,0000000f")
	f.Add("0")
	f.Add("3,00000000,80000001")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := inventory.ParseCPUMask(text)
		if err != nil {
			return
		}
		again, err := inventory.ParseCPUMask(formatMask(set))
		if err != nil || again.String() != set.String() {
			t.Errorf("%q is %s, but written as %q it is %s, %v", text, set, formatMask(set), again, err)
		}
	})
}

func TestVectorsByQueue(t *testing.T) {
	for names, want := range map[string]string{
		"eth1 eth1-TxRx-0 eth1-TxRx-10 eth1-TxRx-2":                                            "[[eth1-TxRx-0] [eth1-TxRx-2] [eth1-TxRx-10]]",
		"virtio2-config virtio2-input.0 virtio2-input.1 virtio2-output.0":                      "[[virtio2-input.0 virtio2-output.0] [virtio2-input.1]]",
		"mlx5_async0@pci:0000:03:00.0 mlx5_comp0@pci:0000:03:00.0 mlx5_comp1@pci:0000:03:00.0": "[[mlx5_comp0@pci:0000:03:00.0] [mlx5_comp1@pci:0000:03:00.0]]",
		"eth2-event-4 eth2-rxtx-0 eth2-rxtx-1":                                                 "[[eth2-rxtx-0] [eth2-rxtx-1]]",
		"ens5-Tx-Rx-0 ens5-Tx-Rx-1 ena-mgmnt@pci:0.0":                                          "[[ens5-Tx-Rx-0] [ens5-Tx-Rx-1]]",
		"eth4-q0 eth4-q1": "[[eth4-q0] [eth4-q1]]",
		"eth4-q0-rx eth4-q0-tx eth4-q1-rx eth4-q1-tx":                                 "[[eth4-q0-rx eth4-q0-tx] [eth4-q1-rx eth4-q1-tx]]",
		"eth4 eth4-fp-0 eth4-fp-1":                                                    "[[eth4-fp-0] [eth4-fp-1]]",
		"eth4-0 eth4-1 eth4-10 eth4-2":                                                "[[eth4-0] [eth4-1] [eth4-2] [eth4-10]]",
		"mlx4-async@pci:0000:03:00.0 mlx4-1@pci:0000:03:00.0 mlx4-2@pci:0000:03:00.0": "[[mlx4-1@pci:0000:03:00.0] [mlx4-2@pci:0000:03:00.0]]",
		"eth3":                     "[[eth3]]",
		"eth3-rx-0 eth3-tx-0 eth3": "[[eth3-rx-0 eth3-tx-0]]",
	} {
		got, err := byQueue(strings.Fields(names))
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", names, got, err, want)
		}
	}
	if _, err := byQueue([]string{"a", "b"}); err == nil {
		t.Error("guessed which interrupts serve queues")
	}
}

// The kernel's word counts where it tells of each queue; names are then of no account.
func TestVectorsByNAPI(t *testing.T) {
	vectors := map[string]inventory.IRQ{"a": {Number: 30}, "b": {Number: 31}, "c": {Number: 32}, "event": {Number: 33}}
	napis := []inventory.NAPI{{ID: 8, IRQ: new(32)}, {ID: 7, IRQ: new(31)}, {ID: 6, IRQ: new(30)}, {ID: 5}}
	queue := func(direction string, id, napi uint32) inventory.Queue {
		return inventory.Queue{Direction: direction, ID: id, NAPI: &napi}
	}
	for want, queues := range map[string][]inventory.Queue{
		"[[c] [a]]":   {queue("rx", 1, 6), queue("rx", 0, 8), queue("tx", 0, 8), queue("tx", 1, 6)},
		"[[c b] [a]]": {queue("tx", 0, 7), queue("rx", 0, 8), queue("rx", 1, 6), queue("tx", 1, 7)},
		"[]":          {queue("rx", 0, 8), queue("rx", 1, 5)}, // without an interrupt
	} {
		if got := fmt.Sprint(byNAPI(vectors, napis, queues)); got != want {
			t.Errorf("%v: %s, want %s", queues, got, want)
		}
	}
	if got := byNAPI(vectors, napis, []inventory.Queue{{Direction: "rx"}}); got != nil {
		t.Errorf("of a queue without NAPI it is told %v", got)
	}
}

// TestRSSAsEthtool, in the lab, holds the same against ethtool -X.
func TestRSSTable(t *testing.T) {
	number := func(n uint32) *uint32 { return &n }
	for _, c := range []struct {
		wish RSSWish
		want string // "queue:entries", or an error
	}{
		{RSSWish{Equal: number(2)}, "0:64 1:64"},
		{RSSWish{Equal: number(3)}, "0:43 1:43 2:42"},
		{RSSWish{Weight: new("0,0,0,1")}, "3:128"},
		{RSSWish{Weight: new("3, 1")}, "0:96 1:32"},
		{RSSWish{Weight: new("1,1,1")}, "0:42 1:43 2:43"},
		{RSSWish{ExcludeQueues: new("1")}, "0:43 2:43 3:42"},
		{RSSWish{ExcludeQueues: new("0,2"), Equal: number(1)}, "1:128"},
		{RSSWish{Equal: number(5)}, "the device has 4 queues for it now"},
		{RSSWish{Equal: number(0)}, "the device has 4 queues"},
		{RSSWish{ExcludeQueues: new("4")}, "there is no queue 4, the device has 4 now"},
		{RSSWish{ExcludeQueues: new("0,1,2,3")}, "leaves no queue"},
		{RSSWish{Weight: new("1,1,1,1,1")}, "weight names 5 queues"},
		{RSSWish{Weight: new("0,0")}, "no queue would be left"},
		{RSSWish{Weight: new("1,x")}, "weight takes a list of numbers"},
		{RSSWish{Weight: new("1"), Equal: number(1)}, "leave equal and exclude-queues out"},
	} {
		table, err := c.wish.table(128, 4)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %s", c.wish, err, c.want)
			}
			continue
		}
		counts := map[uint32]int{}
		for _, q := range table {
			counts[q]++
		}
		var got []string
		for q := range uint32(4) {
			if counts[q] > 0 {
				got = append(got, fmt.Sprintf("%d:%d", q, counts[q]))
			}
		}
		if strings.Join(got, " ") != c.want || len(table) != 128 {
			t.Errorf("%+v: %v, want %s", c.wish, got, c.want)
		}
	}
	if equal, _ := (RSSWish{Equal: number(4)}).table(128, 4); !isDefault(equal, 4) || isDefault(equal, 5) || isDefault(slices.Repeat([]uint32{0}, 8), 2) {
		t.Error("the kernel's default table is not known")
	}
}

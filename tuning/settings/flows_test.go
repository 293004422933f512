package settings

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// ruleTable is a device with a table of rules, as its driver's ioctl has it: no
// rule at a location but one of 8.
type ruleTable struct {
	kernel.Writer
	driverChooses bool
	rules         map[uint32][]byte // struct ethtool_rxnfc by location
}

const (
	tableSize    = 8
	testLocation = 16 + 160 // of struct ethtool_rx_flow_spec, not on 386
	testCount    = 184
)

func (d *ruleTable) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return nil, &kernel.Error{Op: "ethtool", Err: syscall.EOPNOTSUPP}
}

func (d *ruleTable) Ethtool(_ context.Context, _ string, arg []byte) ([]byte, error) {
	answer := slices.Clone(arg)
	special := uint64(0)
	if d.driverChooses {
		special = uapi.RX_CLS_LOC_SPECIAL
	}
	switch binary.NativeEndian.Uint32(arg) {
	case uapi.ETHTOOL_GRXRINGS:
		binary.NativeEndian.PutUint64(answer[8:], 4)
	case uapi.ETHTOOL_GRXCLSRLCNT:
		binary.NativeEndian.PutUint64(answer[8:], tableSize|special)
		binary.NativeEndian.PutUint32(answer[testCount:], uint32(len(d.rules)))
	case uapi.ETHTOOL_GRXCLSRLALL:
		binary.NativeEndian.PutUint64(answer[8:], tableSize)
		for i, location := range slices.Sorted(maps.Keys(d.rules)) {
			binary.NativeEndian.PutUint32(answer[testCount+4+4*i:], location)
		}
	case uapi.ETHTOOL_GRXCLSRULE:
		rule, ok := d.rules[binary.NativeEndian.Uint32(arg[testLocation:])]
		if !ok {
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.ENOENT}
		}
		copy(answer[16:], rule[16:])
	default:
		return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EOPNOTSUPP}
	}
	return answer, nil
}

func (d *ruleTable) EthtoolSet(_ context.Context, _ string, arg []byte) ([]byte, error) {
	location := binary.NativeEndian.Uint32(arg[testLocation:])
	switch binary.NativeEndian.Uint32(arg) {
	case uapi.ETHTOOL_SRXCLSRLDEL:
		if d.rules[location] == nil {
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.ENOENT}
		}
		delete(d.rules, location)
	case uapi.ETHTOOL_SRXCLSRLINS:
		if d.driverChooses != (location == inventory.AnyLocation) {
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EINVAL}
		}
		if d.driverChooses {
			for location = 0; d.rules[location] != nil; location++ {
			}
			arg = slices.Clone(arg)
			binary.NativeEndian.PutUint32(arg[testLocation:], location)
		}
		if d.rules[location] != nil {
			return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EBUSY}
		}
		d.rules[location] = arg
	}
	return arg, nil
}

// TestFlowRules puts rules into a table that takes no second rule at a location,
// with rules of others in it.
func TestFlowRules(t *testing.T) {
	for _, chooses := range []bool{false, true} {
		d := &ruleTable{driverChooses: chooses, rules: map[uint32][]byte{}}
		foreign, err := inventory.ParseFlowRule(strings.Fields("flow-type tcp4 dst-port 22 action -1 loc 7"))
		if err != nil {
			t.Fatal(err)
		}
		if d.rules[7], err = foreign.Insertion(); err != nil {
			t.Fatal(err)
		}
		owned := tuning.Values{}
		nic := inventory.NIC{Name: "eth0", Index: 2}
		for _, step := range []struct{ wish, want string }{
			{`[{"flow-type": "udp4", "dst-port": "53", "queue": 1}, {"flow-type": "udp4", "dst-port": "54", "queue": 2}]`,
				"7 flow-type tcp4 dst-port 22 action -1, 6 flow-type udp4 dst-port 53 queue 1, 5 flow-type udp4 dst-port 54 queue 2"},
			{`[{"flow-type": "udp4", "dst-port": "54", "queue": 3}, {"flow-type": "udp4", "dst-port": "55", "queue": 0}]`,
				"7 flow-type tcp4 dst-port 22 action -1, 6 flow-type udp4 dst-port 55 queue 0, 5 flow-type udp4 dst-port 54 queue 3"},
			{`[{"flow-type": "tcp4", "dst-port": "22", "action": "drop"}]`, "7 flow-type tcp4 dst-port 22 action -1"},
			{`[]`, "7 flow-type tcp4 dst-port 22 action -1"},
		} {
			current, _, err := Flows().Read(t.Context(), d, nic)
			if err != nil {
				t.Fatal(err)
			}
			var wish []FlowWish
			if err := json.Unmarshal([]byte(step.wish), &wish); err != nil {
				t.Fatal(err)
			}
			next, err := resolveFlows(t.Context(), tuning.Ask{Reader: d, NIC: nic, Owned: owned}, wish, current)
			if err != nil {
				t.Fatalf("%s: %v", step.wish, err)
			}
			if err := writeFlows(t.Context(), d, nic, current, next); err != nil {
				t.Fatalf("%s: %v", step.wish, err)
			}
			after, _, err := Flows().Read(t.Context(), d, nic)
			if err != nil || !maps.Equal(after, next) {
				t.Errorf("%s: it is %v, %v, want %v", step.wish, after, err, next)
			}
			maps.DeleteFunc(owned, func(key string, _ json.RawMessage) bool { return after[key] == "" })
			for key := range after {
				if _, had := current[key]; !had {
					owned[key] = json.RawMessage(`"ours"`)
				}
			}
			var got []string
			for _, location := range slices.Backward(slices.Sorted(maps.Keys(d.rules))) {
				table, err := inventory.ReadNtuple(t.Context(), d, nic)
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(table.Rules, func(r inventory.FlowRule) bool { return r.Location == location })
				got = append(got, fmt.Sprint(location, " ", table.Rules[i]))
			}
			slices.Sort(got)
			want := strings.Split(step.want, ", ")
			slices.Sort(want)
			if chooses { // the places are the driver's
				for _, list := range [][]string{got, want} {
					for i := range list {
						_, list[i], _ = strings.Cut(list[i], " ")
					}
					slices.Sort(list)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("driver chooses %v: %s:\n%q, want\n%q", chooses, step.wish, got, want)
			}
		}
	}
}

func TestContextNumbers(t *testing.T) {
	set := func(numbers ...uint32) RSSContextSet {
		c := RSSContextSet{}
		for _, n := range numbers {
			c[contextField(n, contextTable)] = "0 1"
		}
		return c
	}
	n := func(n uint32) *uint32 {
		if n == 0 {
			return nil
		}
		return &n
	}
	for _, c := range []struct {
		wish, ours, others []uint32 // 0: no number
		want               string
	}{
		{[]uint32{0, 0}, nil, nil, "[1 2]"},
		{[]uint32{0}, nil, []uint32{1}, "[2]"},
		{[]uint32{0, 0}, []uint32{3}, []uint32{1}, "[3 2]"},
		{[]uint32{2, 0}, []uint32{1, 2}, nil, "[2 1]"},
		{[]uint32{2, 1}, nil, nil, "[2 1]"},
		{[]uint32{3}, nil, []uint32{1}, "the kernel gives the next one the number 2"},
		{[]uint32{2}, []uint32{1}, nil, "the kernel gives the next one the number 1"}, // 1 goes first
		{[]uint32{1}, nil, []uint32{1}, "nictune did not make it"},
		{[]uint32{1, 1}, nil, nil, "twice"},
		{[]uint32{0}, nil, nil, "[1]"},
	} {
		var wish []RSSContextWish
		for _, number := range c.wish {
			wish = append(wish, RSSContextWish{Context: n(number)})
		}
		got, err := contextNumbers(wish, set(append(slices.Clone(c.ours), c.others...)...), c.ours, set(c.others...))
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v", c, err)
			}
		} else if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestWithoutQueues(t *testing.T) {
	for _, c := range []struct {
		table  string
		queues uint64
		want   string
	}{
		{"0 1 2 3", 4, "0 1 2 3"}, {"0 1 2 3", 2, "0 1 0 1"}, {"2 3 2 3", 2, "0 1 0 1"}, {"0 0 3 3", 2, "0 0 0 0"}, {"1 2 1 3", 2, "1 1 1 1"},
	} {
		table, err := readTable(c.table)
		if got := showTable(withoutQueues(table, c.queues)); err != nil || got != c.want {
			t.Errorf("%s with %d queues is %s, %v, want %s", c.table, c.queues, got, err, c.want)
		}
	}
}

// TestRSSRequests holds what we send against what ethtool 6.1 sends for
// -X DEV context new hfunc xor equal 2 on a table of 8, but for the transformation
// that it does not know yet (0xff is "unchanged"), and for -N DEV rx-flow-hash udp4 sdfn.
func TestRSSRequests(t *testing.T) {
	arg, err := contextRequest(uapi.ETH_RXFH_CONTEXT_ALLOC, nil, map[string]string{contextTable: "0 1 0 1 0 1 0 1", contextHash: "xor"})
	want := "47000000ffffffff080000000000000002ff00000000000000000000010000000000000001000000000000000100000000000000" + "01000000"
	if got := fmt.Sprintf("%x", arg); err != nil || got != want {
		t.Errorf("%s, %v, want\n%s", got, err, want)
	}
	// The same with context 3: FLOW_RSS in the flow type, and the number where rules have it.
	for context, want := range map[uint32]string{0: "2a00000002000000f000000000000000", 3: "2a00000002000020f000000000000000"} {
		arg, err = inventory.HashFieldsRequest("udp4", "fnsd", context)
		if got := fmt.Sprintf("%x", arg[:16]); err != nil || len(arg) != 192 || got != want || binary.NativeEndian.Uint32(arg[testCount:]) != context {
			t.Errorf("context %d: %s in %d bytes, %v", context, got, len(arg), err)
		}
	}
	for _, bad := range [][2]string{{"udp5", "sd"}, {"udp4", "x"}} {
		if arg, err := inventory.HashFieldsRequest(bad[0], bad[1], 0); err == nil {
			t.Errorf("%v: %x", bad, arg)
		}
	}
}

// hashingDriver keeps hash fields by context, unless it is one of those that pay no heed to
// the number of a context or refuse it.
type hashingDriver struct {
	kernel.Writer
	answer   error // to a context that there is not
	contexts map[uint32]map[uint32]uint64
}

func (d *hashingDriver) Ethtool(_ context.Context, _ string, arg []byte) ([]byte, error) {
	if binary.NativeEndian.Uint32(arg) != uapi.ETHTOOL_GRXFH {
		return nil, &kernel.Error{Op: "SIOCETHTOOL", Err: syscall.EOPNOTSUPP}
	}
	flow, number := binary.NativeEndian.Uint32(arg[4:]), binary.NativeEndian.Uint32(arg[testCount:])
	if flow&uapi.FLOW_RSS == 0 {
		number = 0
	}
	fields, ok := d.contexts[number]
	if !ok && d.answer != nil {
		return nil, &kernel.Error{Op: "SIOCETHTOOL GRXFH", Err: d.answer}
	}
	answer := slices.Clone(arg)
	binary.NativeEndian.PutUint64(answer[8:], fields[flow&^uapi.FLOW_RSS])
	return answer, nil
}

func (d *hashingDriver) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return nil, &kernel.Error{Op: "RSS_GET", Err: syscall.EOPNOTSUPP}
}

// A context that is to be made can have hash fields only with drivers that have them by
// context: what those answer that do not is told before anything is written.
func TestContextHashFieldsRefused(t *testing.T) {
	for _, c := range []struct {
		answer error
		want   string
	}{
		{syscall.ENOENT, ""},
		{syscall.EINVAL, "the driver has no hash fields by RSS context (SIOCETHTOOL GRXFH"},
		{syscall.EOPNOTSUPP, "the driver has no hash fields by RSS context (SIOCETHTOOL GRXFH"},
		{nil, "the driver does not tell the hash fields of RSS contexts apart"},
	} {
		d := &hashingDriver{answer: c.answer, contexts: map[uint32]map[uint32]uint64{0: {uapi.UDP_V4_FLOW: uapi.RXH_IP_SRC}}}
		got, err := contextLetters(t.Context(), tuning.Ask{Reader: d, NIC: inventory.NIC{Name: "eth0"}}, 1, HashFieldsWish{UDP4: new("ds")}, RSSContextSet{})
		switch {
		case c.want == "" && (err != nil || got["udp4"] != "sd"):
			t.Errorf("%v: %v, %v", c.answer, got, err)
		case c.want != "" && (kernel.ReasonOf(err) != kernel.Unsupported || !strings.HasPrefix(fmt.Sprint(err), c.want)):
			t.Errorf("%v: %v, %v, want %q", c.answer, got, err, c.want)
		}
	}
}

// What is asked of single queues: their values behind one another, in the order of
// the queues.
func TestPerQueue(t *testing.T) {
	arg := perQueue(uapi.ETHTOOL_GCOALESCE, []int{0, 33})
	if len(arg) != 520+2*92 || binary.NativeEndian.Uint32(arg) != uapi.ETHTOOL_PERQUEUE || binary.NativeEndian.Uint32(arg[4:]) != uapi.ETHTOOL_GCOALESCE ||
		binary.NativeEndian.Uint32(arg[8:]) != 1 || binary.NativeEndian.Uint32(arg[12:]) != 2 {
		t.Errorf("%d bytes %x", len(arg), arg[:20])
	}
	if len(queueModerationFields())*4+4 != coalesceSize {
		t.Error("struct ethtool_coalesce has other members")
	}
}

func TestFlowsBreakSockets(t *testing.T) {
	socket := inventory.Use{Kind: inventory.XDPSocket, Queue: 4}
	rules := FlowRules{"7": "flow-type udp4 dst-port 53 queue 4", "6": "flow-type udp4 dst-port 54 queue 3", "5": "flow-type udp4 dst-port 55 context 1 queue 4"}
	for change, want := range map[string]bool{"7": true, "6": false, "5": false} {
		next := maps.Clone(rules)
		delete(next, change)
		for _, ends := range [][2]FlowRules{{rules, next}, {next, rules}} {
			if got := flowsBreak(socket, ends[0], ends[1]) != ""; got != want {
				t.Errorf("without rule %s: %v", change, got)
			}
		}
	}
	if flowsBreak(inventory.Use{Kind: inventory.DefaultRoute}, rules, nil) != "" {
		t.Error("a route needs no rule")
	}
}

// What the driver chooses by itself would never hold: it is not silently left out.
func TestModerationOfQueuesThatAdapt(t *testing.T) {
	current := QueueModeration{}
	for q := range 2 {
		current[fmt.Sprintf("%d/adaptive-rx", q)] = q == 1
		current[fmt.Sprintf("%d/rx-usecs", q)], current[fmt.Sprintf("%d/tx-usecs", q)] = uint32(3), uint32(3)
	}
	for wish, want := range map[string]string{
		`[{"queues": "0", "rx-usecs": 8}]`:                                                               "",
		`[{"queues": "1", "tx-usecs": 8}]`:                                                               "",
		`[{"queues": "1", "rx-usecs": 8}]`:                                                               "0: 1/rx-usecs: the device chooses it by itself with adaptive-rx on: switch that off, or leave this out",
		`[{"queues": "all", "adaptive-rx": false}, {"queues": "1", "rx-usecs": 8}]`:                      "",
		`[{"queues": "all", "rx-usecs": 8, "adaptive-rx": false}, {"queues": "1", "adaptive-rx": true}]`: "",
		`[{"queues": "0", "tx-usecs": 8}, {"queues": "0", "rx-usecs": 8, "adaptive-rx": true}]`:          "1: 0/rx-usecs: ",
		`[{"queues": "0", "adaptive-rx": true}, {"queues": "0", "rx-usecs": 8}]`:                         "1: 0/rx-usecs: ",
	} {
		var items []QueueModerationWish
		if err := json.Unmarshal([]byte(wish), &items); err != nil {
			t.Fatal(err)
		}
		_, err := resolveQueueModeration(t.Context(), tuning.Ask{}, items, current)
		got := ""
		if item := (*tuning.ItemError)(nil); errors.As(err, &item) {
			got = fmt.Sprintf("%d: %v", item.Item, err)
		}
		if (got == "") != (want == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", wish, got, want)
		}
	}
}

// unrecorded has the rings of a ruleTable, and of all else what the NIC's facts say.
type unrecorded struct{ *ruleTable }

func (unrecorded) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return nil, kernel.ErrNotRecorded
}

func (u unrecorded) Ethtool(ctx context.Context, device string, request []byte) ([]byte, error) {
	if binary.NativeEndian.Uint32(request) == uapi.ETHTOOL_GRSSH {
		return nil, kernel.ErrNotRecorded
	}
	return u.ruleTable.Ethtool(ctx, device, request)
}

// No transformation is read as none of them, so that is what it has to become.
func TestContextWithoutTransformation(t *testing.T) {
	nic := inventory.NIC{Name: "eth0", Index: 2, Queues: inventory.Queues{RSS: &inventory.RSS{Table: []uint32{0, 1, 2, 3}, Hash: "toeplitz", Key: "01:02"}}}
	d := unrecorded{&ruleTable{}}
	for _, current := range []RSSContextSet{{}, {"1/table": "0 1 2 3", "1/input-xfrm": "symmetric-xor"}} {
		owned := tuning.Values{}
		for field := range current {
			owned[field] = json.RawMessage(`"ours"`)
		}
		next, err := resolveContexts(t.Context(), tuning.Ask{Reader: d, NIC: nic, Owned: owned}, []RSSContextWish{{Equal: new(uint32(2)), Transform: new("none")}}, current)
		if _, there := next["1/input-xfrm"]; err != nil || there || next["1/table"] != "0 1 0 1" {
			t.Errorf("%v, %v", next, err)
		}
	}
}

func TestRSSDefaultOff(t *testing.T) {
	if _, err := (RSSWish{Default: new(false)}).apply(RSSState{Table: []uint32{0, 1}}, 2); err == nil {
		t.Error("a wish that says nothing is taken")
	}
}

func TestHashImpact(t *testing.T) {
	for driver, want := range map[string]tuning.Impact{"igb": tuning.Seamless, "": tuning.Seamless, "bnxt_en": tuning.NICReset, "mlx4_en": tuning.NICReset} {
		nic := inventory.NIC{Driver: &inventory.Driver{Name: driver}}
		if got, fields := RSS().Impact(nic, RSSState{}, RSSState{}), HashFields().Impact(nic, nil, nil); got != want || fields != want {
			t.Errorf("%s: %s, %s, want %s", driver, got, fields, want)
		}
	}
}

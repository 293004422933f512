package settings

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// dice roll hosts and policies.
type dice struct{ *rand.Rand }

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

func (d dice) some(all ...string) []string {
	return slices.DeleteFunc(all, func(string) bool { return d.one(2) })
}

func (d dice) among(all ...string) string { return all[d.IntN(len(all))] }

// host rolls a host with one or two NICs, no two of which are alike.
func (d dice) host() *modelHost {
	h := &modelHost{old: d.one(6), sysctls: map[string]uint32{
		"core/netdev_budget": 300, "core/busy_poll": 0, "core/rps_sock_flow_entries": []uint32{0, 4096}[d.IntN(2)],
	}}
	for i := range 1 + d.IntN(2) {
		h.nics = append(h.nics, d.nic(i, h.old))
	}
	return h
}

func (d dice) nic(i int, old bool) *model {
	address := fmt.Sprintf("0000:0%d:00.0", i+1)
	driver := d.among("igb", "igbvf", "ice", "mlx5_core", "ena", "bnxt_en", "virtio_net", "vmxnet3", "netdevsim", "undocumented")
	n := &model{
		NIC: inventory.NIC{
			Name: "eth" + strconv.Itoa(i), Index: i + 2, PermanentMAC: "52:54:00:00:00:0" + strconv.Itoa(i), Type: "ethernet",
			Parent: &inventory.Parent{Bus: "pci", Address: address}, PCI: &inventory.PCI{Address: address},
			Driver: &inventory.Driver{Name: driver}, NUMA: &inventory.NUMA{LocalCPUs: "0-3"},
		},
		rings: map[uint16]*inventory.RingSize{}, coalesce: map[uint16]uint32{}, features: map[string]*modelFeature{},
		contexts: map[uint32]*modelContext{}, flows: map[uint32]uint64{}, rules: map[uint32][]byte{},
		link:  map[uint16]uint32{uapi.IFLA_MTU: 1500, uapi.IFLA_TXQLEN: 1000, uapi.IFLA_GSO_MAX_SEGS: 65535},
		wipes: d.some("coalesce", "rss", "flows", "xps", "rps", "irq"), resizes: d.some("coalesce", "xps", "rps", "irq"),
		runs: d.one(2), tied: d.one(3), fickle: d.one(2), careless: d.one(3), fixed: driver == "vmxnet3",
	}
	channels := func() *inventory.ChannelCount {
		most := 1 + d.Uint32N(8)
		return &inventory.ChannelCount{Maximum: most, Current: 1 + d.Uint32N(most)}
	}
	switch kind := d.IntN(6); {
	case driver == "igbvf":
	case kind == 0:
		n.rx, n.tx = channels(), channels()
	case kind == 1: // and no more than that for one direction alone
		n.combined, n.rx, n.tx = channels(), channels(), channels()
		n.rx.Current, n.tx.Current = 0, 0
	default:
		n.combined = channels()
	}
	if n.receiving() == 0 {
		n.rps, n.flowCnt, n.xps = []string{"0"}, []string{"0"}, []string{"0"}
	}
	if !d.one(3) {
		n.irqs = []string{allModelCPUs}
	}
	if n.receiving() > 0 {
		n.queuesChanged()
	}
	for _, attribute := range []uint16{uapi.ETHTOOL_A_RINGS_RX, uapi.ETHTOOL_A_RINGS_TX} {
		if !d.one(5) {
			n.rings[attribute] = &inventory.RingSize{Current: 512, Maximum: 4096}
		}
	}
	for _, attribute := range []uint16{
		uapi.ETHTOOL_A_COALESCE_RX_USECS, uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES, uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX,
		uapi.ETHTOOL_A_COALESCE_TX_USECS, uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX,
	} {
		// igb has values for sending while they are not shared with those for receiving:
		// the lab has that.
		few := driver == "igb" || driver == "igbvf"
		switch adaptive := attribute == uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX || attribute == uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX; {
		case d.one(3) || few && attribute != uapi.ETHTOOL_A_COALESCE_RX_USECS:
		case adaptive:
			n.coalesce[attribute] = d.Uint32N(2)
		default:
			n.coalesce[attribute] = 3 + d.Uint32N(90)
		}
	}
	for _, name := range modelFeatures() {
		on := d.one(2)
		// What hangs on others and can't be switched would not come back with them: the
		// kernel forgets it (netdev_get_wanted_features).
		follows := slices.Contains([]string{"tx-tcp-segmentation", "tx-generic-segmentation", "rx-gro-hw", "rx-lro", "tx-vlan-hw-insert"}, name)
		n.features[name] = &modelFeature{hardware: follows || !d.one(6), wanted: on, active: on}
	}
	n.fixFeatures()
	if n.receiving() > 0 && !d.one(4) {
		n.table, n.key, n.hash = make([]uint32, modelTable), []byte{0x6d, 0x5a, 0x56, 0xda}, 1
		n.ownTable()
		if d.one(2) {
			for i := range n.table {
				n.table[i] = d.Uint32N(n.receiving())
			}
			n.configured = true
		}
		n.takesContexts = !old && d.one(2)
		for _, flow := range []string{"tcp4", "udp4", "udp6"} {
			request, err := inventory.HashFieldsRequest(flow, "sd", 0)
			must(err)
			n.flows[binary.NativeEndian.Uint32(request[4:])] = binary.NativeEndian.Uint64(request[8:])
		}
	}
	n.takesRules = n.receiving() > 0 && d.one(2)
	n.driverChooses = d.one(3)
	n.oneFilter = d.one(4)
	n.foreign(d)
	return n
}

// foreign rolls contexts and rules that somebody else made.
func (n *model) foreign(d dice) {
	if n.takesContexts && d.one(2) {
		table := slices.Clone(n.table)
		for i := range table {
			table[i] = d.Uint32N(n.receiving())
		}
		n.contexts[1+d.Uint32N(2)] = &modelContext{table: table, key: n.key, hash: n.hash, foreign: true}
	}
	if !n.takesRules || !n.features["rx-ntuple-filter"].active {
		return
	}
	for i := range d.Uint32N(3) {
		target := fmt.Sprintf("queue %d", d.Uint32N(n.receiving()))
		switch number := slices.Sorted(maps.Keys(n.contexts)); {
		case len(number) > 0 && d.one(2):
			target = fmt.Sprintf("context %d", number[0])
		case d.one(4):
			target = "action -1"
		}
		rule, err := inventory.ParseFlowRule(strings.Fields(fmt.Sprintf("flow-type tcp4 dst-port %d %s loc %d", 9000+i, target, i*4)))
		must(err)
		n.rules[i*4], err = rule.Insertion()
		must(err)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// wish is a random policy for one NIC, and what there is to expect of it.
type wish struct {
	lines    []string
	optional []string
	// impossible is why there can be no plan, mayFail what can turn out impossible only
	// when it is tried: the settings.
	impossible []string
	mayFail    []string
	wanted     []string
}

func (w *wish) want(setting, value string, optional bool) {
	w.lines, w.wanted = append(w.lines, setting+": "+value), append(w.wanted, setting)
	if optional {
		w.optional = append(w.optional, setting)
	}
}

// document is the policy.
func (w *wish) document(name string) string {
	text := policyFor(name, strings.Join(w.lines, "\n  "))
	if len(w.optional) > 0 {
		text += "optional: [" + strings.Join(w.optional, ", ") + "]\n"
	}
	return text
}

// lacking wants what the NIC does not have.
func (w *wish) lacking(d dice, setting, value string) {
	optional := d.one(2)
	w.want(setting, value, optional)
	if !optional {
		w.impossible = append(w.impossible, setting+" is not to be had")
	}
}

// wish rolls a policy for a NIC of a host.
func (d dice) wish(h *modelHost, n *model) *wish {
	w := &wish{}
	queues := d.channels(w, n)
	d.simple(w, n, queues)
	on := d.features(w, n)
	d.rss(w, n, queues)
	d.steering(w, h, n, queues, on)
	d.cpus(w, h, n)
	for location, rule := range n.rules {
		if port := binary.BigEndian.Uint16(rule[testKind+4+10:]); port < 9000 {
			continue // ours
		}
		kind, cookie := binary.NativeEndian.Uint32(rule[testKind:]), binary.NativeEndian.Uint64(rule[testCookie:])
		switch {
		case !on:
			w.impossible = append(w.impossible, fmt.Sprintf("somebody's rule %d needs ntuple", location))
		case kind&uapi.FLOW_RSS == 0 && cookie < 1<<32 && cookie >= uint64(queues):
			w.impossible = append(w.impossible, fmt.Sprintf("somebody's rule %d needs queue %d", location, cookie))
		}
	}
	for number, c := range n.contexts {
		if n.contexts[number].foreign && queues < n.receiving() && slices.Max(c.table) >= queues {
			w.impossible = append(w.impossible, fmt.Sprintf("somebody's context %d needs queues", number))
		}
	}
	return w
}

// channels wants other numbers of queues, and returns how many will receive.
func (d dice) channels(w *wish, n *model) uint32 {
	queues := n.receiving()
	if !d.one(2) {
		return queues
	}
	count := n.combined
	word := "combined"
	if count == nil {
		count, word = n.rx, "rx"
	}
	if count == nil || n.fixed {
		if d.one(4) {
			w.lacking(d, "channels", "{combined: 2}")
		}
		return queues
	}
	next := 1 + d.Uint32N(count.Maximum)
	value := strconv.Itoa(int(next))
	switch {
	case d.one(4):
		next, value = count.Maximum, "max"
	case d.one(20):
		next, value = count.Maximum+1, strconv.Itoa(int(count.Maximum+1))
		w.impossible = append(w.impossible, "channels are more than there can be")
	}
	fields := word + ": " + value
	if word == "rx" && d.one(2) {
		fields += ", tx: " + strconv.Itoa(int(1+d.Uint32N(n.tx.Maximum)))
	}
	w.want("channels", "{"+fields+"}", d.one(8))
	return queues - count.Current + next
}

// simple wants numbers that depend on no queue.
func (d dice) simple(w *wish, n *model, queues uint32) {
	if d.one(3) {
		var fields []string
		for attribute, name := range map[uint16]string{uapi.ETHTOOL_A_RINGS_RX: "rx", uapi.ETHTOOL_A_RINGS_TX: "tx"} {
			if n.rings[attribute] == nil || d.one(3) {
				continue
			}
			size := 64 + d.Uint32N(4000)
			fields = append(fields, fmt.Sprintf("%s: %d", name, size))
			if n.Driver.Name == "undocumented" && n.rounded(size) != size {
				w.mayFail = append(w.mayFail, "rings")
			}
		}
		slices.Sort(fields)
		switch {
		case len(fields) > 0:
			w.want("rings", "{"+strings.Join(fields, ", ")+"}", d.one(8))
		case len(n.rings) == 0:
			w.lacking(d, "rings", "{rx: 512}")
		}
	}
	d.moderation(w, n)
	if d.one(3) {
		fields := d.some("mtu: "+strconv.Itoa(1280+d.IntN(7000)), "txqueuelen: "+strconv.Itoa(1+d.IntN(2000)), "alias: p"+strconv.Itoa(d.IntN(3)))
		if d.one(20) {
			fields = []string{"mtu: 9001"}
			w.impossible = append(w.impossible, "the MTU is too large")
		}
		if len(fields) > 0 {
			w.want("netdev", "{"+strings.Join(fields, ", ")+"}", false)
		}
	}
}

func (d dice) moderation(w *wish, n *model) {
	if !d.one(3) {
		return
	}
	var fields []string
	for _, f := range []struct {
		adaptive, value   uint16
		switchName, usecs string
	}{
		{uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, uapi.ETHTOOL_A_COALESCE_RX_USECS, "adaptive-rx", "rx-usecs"},
		{uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX, uapi.ETHTOOL_A_COALESCE_TX_USECS, "adaptive-tx", "tx-usecs"},
	} {
		adaptive, has := n.coalesce[f.adaptive]
		if has && d.one(2) {
			adaptive = d.Uint32N(2)
			fields = append(fields, f.switchName+": "+[]string{"off", "on"}[adaptive])
		}
		if _, has := n.coalesce[f.value]; has && adaptive == 0 && d.one(2) {
			fields = append(fields, fmt.Sprintf("%s: %d", f.usecs, d.IntN(100)))
		}
	}
	switch {
	case len(fields) > 0:
		w.want("coalesce", "{"+strings.Join(fields, ", ")+"}", d.one(8))
	case len(n.coalesce) == 0:
		w.lacking(d, "coalesce", "{rx-usecs: 5}")
	}
}

// features wants some of them, and says whether ntuple will be on.
func (d dice) features(w *wish, n *model) (ntuple bool) {
	asked := map[string]bool{}
	if d.one(2) {
		for _, name := range modelFeatures() {
			if f := n.features[name]; d.one(4) && (f.hardware || d.one(20)) {
				asked[name] = d.one(2)
				if name == "rx-ntuple-filter" {
					asked[name] = !d.one(4)
				}
			}
		}
	}
	after := &model{features: map[string]*modelFeature{}, tied: n.tied, rules: map[uint32][]byte{}}
	for name, f := range n.features {
		after.features[name] = new(*f)
		if on, wanted := asked[name]; wanted && f.hardware {
			after.features[name].wanted = on
		} else if wanted && on != f.active {
			w.impossible = append(w.impossible, name+" is fixed")
		}
	}
	after.fixFeatures()
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if after.features[name].active != asked[name] {
			w.mayFail = append(w.mayFail, "features")
		}
		fields = append(fields, name+": "+map[bool]string{true: "on", false: "off"}[asked[name]])
	}
	if len(fields) > 0 {
		w.want("features", "{"+strings.Join(fields, ", ")+"}", false)
	}
	return after.features["rx-ntuple-filter"].active
}

func (d dice) spreading(queues uint32) string {
	switch n := 1 + d.Uint32N(queues); d.IntN(4) {
	case 0:
		return fmt.Sprintf("equal: %d", n)
	case 1:
		weights := []string{"1"}
		for range n - 1 {
			weights = append(weights, strconv.Itoa(d.IntN(4)))
		}
		return "weight: [" + strings.Join(weights, ", ") + "]"
	case 2:
		if n < queues {
			return fmt.Sprintf("exclude-queues: [%d]", n)
		}
		fallthrough
	default:
		return fmt.Sprintf("start: %d, equal: %d", queues-n, n)
	}
}

func (d dice) rss(w *wish, n *model, queues uint32) {
	if len(n.flows) > 0 && d.one(4) {
		w.want("rx-flow-hash", "{"+d.among("tcp4", "udp4", "udp6")+": "+d.among("sd", "sdfn", "s")+"}", false)
	}
	if !d.one(3) {
		return
	}
	if len(n.table) == 0 {
		w.lacking(d, "rss", "{default: on}")
		return
	}
	fields := d.some(d.spreading(queues), `key: "`+d.among("6d:5a:56:da", "00:01:02:03")+`"`, "hfunc: "+d.among("toeplitz", "xor"), "input-xfrm: "+d.among("none", "symmetric-xor"))
	switch {
	case d.one(6):
		fields = []string{"default: on"}
	case d.one(20):
		fields = []string{fmt.Sprintf("equal: %d", queues+1)}
		w.impossible = append(w.impossible, "rss over more queues than there will be")
	}
	if len(fields) > 0 {
		w.want("rss", "{"+strings.Join(fields, ", ")+"}", d.one(8))
	}
}

// steering wants contexts and rules.
func (d dice) steering(w *wish, h *modelHost, n *model, queues uint32, ntuple bool) {
	var numbers, others []uint32
	for number := range n.contexts {
		if n.contexts[number].foreign {
			others = append(others, number)
		}
	}
	listed := false
	if n.takesContexts && d.one(2) {
		var items []string
		listed = true
		for number := uint32(1); len(numbers) < d.IntN(3); number++ {
			if slices.Contains(others, number) {
				continue
			}
			numbers = append(numbers, number)
			items = append(items, fmt.Sprintf("{context: %d, %s, key: \"aa:bb:cc:0%d\"}", number, d.spreading(queues), d.IntN(9)))
		}
		w.want("rss-contexts", "["+strings.Join(items, ", ")+"]", false)
	}
	if !d.one(2) {
		return
	}
	if !n.takesRules {
		if d.one(4) {
			w.lacking(d, "flows", "[{flow-type: udp4, dst-port: 53, queue: 0}]")
		}
		return
	}
	var items, impossible []string
	for port := range 1 + d.IntN(3) {
		target := fmt.Sprintf("queue: %d", d.Uint32N(queues))
		switch {
		case len(numbers) > 0 && d.one(2):
			target = fmt.Sprintf("context: %d", numbers[d.IntN(len(numbers))])
		case len(others) > 0 && d.one(3):
			target = fmt.Sprintf("context: %d", others[0])
		case d.one(5):
			target = "action: drop"
		case d.one(30):
			target = fmt.Sprintf("queue: %d", queues)
			impossible = append(impossible, "a rule for a queue that will not be there")
		case listed && d.one(30):
			target = "context: 9"
			impossible = append(impossible, "a rule for a context that will not be there")
		}
		items = append(items, fmt.Sprintf("{flow-type: udp4, dst-port: %d, %s}", 50+port+d.IntN(2)*10, target))
	}
	if d.one(5) {
		items, impossible = nil, nil
	}
	if !ntuple && len(items) > 0 {
		if !d.one(4) {
			return
		}
		if n.Driver.Name == "igb" && !n.features["rx-ntuple-filter"].hardware { // which is known
			w.impossible = append(w.impossible, "igb takes no rules without ntuple")
		}
		w.mayFail = append(w.mayFail, "flows")
	}
	w.impossible = append(w.impossible, impossible...)
	w.want("flows", "["+strings.Join(items, ", ")+"]", false)
}

// cpus wants what is said of single queues.
func (d dice) cpus(w *wish, h *modelHost, n *model) {
	cpus := func() string {
		s := "cpus: " + d.among("all", "local-cpus", "housekeeping-cpus", `"2"`, "0-5")
		if d.one(2) {
			s += ", spread: one-to-one"
		}
		return s
	}
	if d.one(3) {
		fields := cpus()
		if h.sysctls["core/rps_sock_flow_entries"] > 0 && d.one(2) {
			fields += fmt.Sprintf(", flow-cnt: %d", d.IntN(300))
		}
		w.want("rps", "{"+fields+"}", false)
	}
	if d.one(3) {
		if n.most(sending) > 1 {
			w.want("xps", "{"+cpus()+"}", false)
		} else {
			w.lacking(d, "xps", "{"+cpus()+"}")
		}
	}
	if d.one(3) {
		if n.irqs != nil {
			w.want("irq", "{"+cpus()+"}", false)
		} else {
			w.lacking(d, "irq", "{"+cpus()+"}")
		}
	}
}

// TestAnyPolicyOfAllSettings rolls hosts whose NICs behave as the kernel and its drivers
// do, and policies for them one after the other, over the settings as they are shipped.
// Whatever the dice say: what can't be had is said before a write, what was applied is
// planned no more, what was rolled back, failed or crashed is as before, and no write
// breaks the rules of their order.
func TestAnyPolicyOfAllSettings(t *testing.T) {
	rounds := anyPolicies
	if testing.Short() {
		rounds = min(rounds, 400)
	}
	dir, err := os.MkdirTemp("/dev/shm", "nictune")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const workers = 2
	var wait sync.WaitGroup
	var mu sync.Mutex
	counts := map[string]int{}
	first := uint64(0)
	if s := os.Getenv(seedVariable); s != "" {
		first, err = strconv.ParseUint(s, 10, 64)
		must(err)
		rounds = 1
	}
	catalogue := tuning.Catalogue(All())
	for worker := range uint64(workers) {
		wait.Go(func() {
			some := map[string]int{}
			for seed := first + worker; some["policies"] < rounds/workers+rounds%workers && !t.Failed(); seed += workers {
				c := anyCase{T: t, dice: dice{rand.New(rand.NewPCG(seed, 1))}, seed: seed, counts: some, catalogue: catalogue, dir: filepath.Join(dir, strconv.FormatUint(seed, 10))}
				c.run()
				os.RemoveAll(c.dir)
			}
			mu.Lock()
			defer mu.Unlock()
			for what, n := range some {
				counts[what] += n
			}
		})
	}
	wait.Wait()
	var told []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		told = append(told, fmt.Sprintf("%d %s", counts[what], what))
	}
	t.Log(strings.Join(told, ", "))
	if os.Getenv(seedVariable) != "" {
		return
	}
	for _, what := range []string{"applied", "rolled back", "returned", "undone", "impossible", "late", "kept", "make-way", "crashed"} {
		if counts[what] < rounds/100 {
			t.Errorf("only %d %s", counts[what], what)
		}
	}
}

// seedVariable has the seed of one case, to see it alone.
const seedVariable = "NICTUNE_SEED"

// anyCase is one host and the policies for it.
type anyCase struct {
	*testing.T
	dice
	seed      uint64
	counts    map[string]int
	catalogue policies.Catalogue
	dir       string

	host     *modelHost
	nics     []inventory.NIC
	settings []tuning.Setting
	engine   *tuning.Engine
	told     []string       // what has happened
	points   map[int]string // states by the transaction after which they were
}

func (c *anyCase) faulty(format string, args ...any) {
	c.Errorf("%s=%d: %s\n%s", seedVariable, c.seed, fmt.Sprintf(format, args...), strings.Join(c.told, "\n"))
}

func (c *anyCase) open() {
	store, err := tuning.OpenStore(c.dir)
	must(err)
	c.engine = &tuning.Engine{Settings: c.settings, Writer: c.host, Store: store, Settle: time.Millisecond}
}

// forget ends what was said of the last writes.
func (c *anyCase) forget() {
	c.host.writes, c.host.log, c.host.broken, c.host.fail, c.host.crash = 0, nil, nil, nil, 0
}

func (c *anyCase) wants(document string) []policies.Want {
	parsed, err := policies.Parse("any.yaml", []byte(document))
	if err == nil {
		parsed, err = policies.Bind(parsed, c.catalogue)
	}
	var wants []policies.Want
	if err == nil {
		wants, _, err = policies.Resolve(parsed, policies.Host{}, c.nics)
	}
	if err != nil {
		c.faulty("%v\n%s", err, document)
	}
	return wants
}

func (c *anyCase) plan(wants []policies.Want) (*tuning.Plan, error) {
	return tuning.MakePlan(c.Context(), c.host, c.settings, wants, func() ([]tuning.Transaction, error) { return tuning.Remembered(c.dir) })
}

var allowAll = tuning.Request{User: "root", Reason: "test", Allow: tuning.NICReset}

func (c *anyCase) run() {
	c.host, c.settings = c.dice.host(), All()
	for _, n := range c.host.nics {
		c.nics = append(c.nics, n.NIC)
		c.told = append(c.told, fmt.Sprintf("%s: %s, other channels wipe %v, other rings %v, runs %v, careless %v, driver chooses %v, one filter %v, tied %v",
			n.Name, n.Driver.Name, n.wipes, n.resizes, n.runs, n.careless, n.driverChooses, n.oneFilter, n.tied))
	}
	c.told = append(c.told, c.host.state())
	c.open()
	defer func() { c.engine.Store.Close() }()
	c.points = map[int]string{0: c.host.state()}
	for range 1 + c.IntN(5) {
		c.policy()
		if c.Failed() {
			return
		}
	}
	ids := slices.Sorted(maps.Keys(c.points))
	id := ids[c.IntN(len(ids))]
	c.forget()
	_, err := c.engine.RollbackTo(c.Context(), id, c.nics, allowAll, false)
	c.told = append(c.told, fmt.Sprintf("back to %d: %v\n%v", id, err, c.host.log))
	if err != nil || c.host.state() != c.points[id] {
		c.faulty("back to %d: %v\n%s", id, err, diff(c.points[id], c.host.state()))
	}
	c.inOrder("the return")
	c.counts["returned"]++
}

// diff are the lines of two states that differ.
func diff(want, got string) string {
	var b strings.Builder
	for line := range strings.Lines(want) {
		if !strings.Contains("\n"+got, "\n"+line) {
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(got) {
		if !strings.Contains("\n"+want, "\n"+line) {
			b.WriteString("+ " + line)
		}
	}
	return b.String()
}

// policy rolls one and has it applied.
func (c *anyCase) policy() {
	c.counts["policies"]++
	var documents []string
	wishes := map[string]*wish{}
	var impossible, mayFail []string
	for _, n := range c.host.nics {
		w := c.wish(c.host, n)
		if len(w.lines) == 0 {
			continue
		}
		wishes[n.Name] = w
		documents = append(documents, strings.Replace(w.document(n.Name), "name: p\n", "name: p-"+n.Name+"\n", 1))
		impossible, mayFail = append(impossible, w.impossible...), append(mayFail, w.mayFail...)
	}
	document := strings.Join(documents, "---\n")
	c.told = append(c.told, "policy:\n"+document)
	before := c.host.state()
	foreign := c.foreign()
	c.forget()
	wants := c.wants(document)
	plan, err := c.plan(wants)
	if c.host.writes > 0 || c.host.state() != before {
		c.faulty("planning wrote %v", c.host.log)
	}
	if (err != nil) != (len(impossible) > 0) {
		c.faulty("plan: %v; impossible is %q", err, impossible)
	}
	if err != nil {
		c.counts["impossible"]++
		return
	}
	var text strings.Builder
	must(plan.WriteText(&text))
	c.told = append(c.told, text.String())
	for _, change := range plan.Changes {
		c.counts[cmp.Or(string(change.Turn), "direct")]++
	}
	fault, crash := 0, 0
	switch c.IntN(5) {
	case 0:
		fault = 1 + c.IntN(12)
	case 1:
		crash = 1 + c.IntN(24)
	}
	errno := []error{syscall.EIO, syscall.EBUSY, syscall.EINVAL, syscall.ENODEV}[c.IntN(4)]
	c.host.fail = func(n int) error {
		if n == fault {
			return errno
		}
		return nil
	}
	c.host.crash = crash
	var done *tuning.Transaction
	crashed := dies(func() { done, err = c.engine.Apply(c.Context(), plan, c.nics, allowAll) })
	c.told = append(c.told, fmt.Sprintf("write %d fails, crash %d (%v): %v\n%v", fault, crash, crashed, err, c.host.log))
	happened := c.host.writes
	c.orders("apply")
	switch {
	case crashed:
		c.counts["crashed"]++
		c.engine.Store.Close()
		c.open()
		c.forget()
		ended, err := c.engine.Recover(c.Context(), c.nics)
		c.told = append(c.told, fmt.Sprintf("recovered: %v\n%v", err, c.host.log))
		again, planErr := c.plan(wants)
		switch {
		case err != nil || len(ended) != 1 || planErr != nil && ended[0].Outcome != tuning.Undone:
			c.faulty("recovered %d: %v, %v", len(ended), err, planErr)
		case ended[0].Outcome == tuning.Undone && c.host.state() != before:
			c.faulty("recovered, and not as before:\n%s", diff(before, c.host.state()))
		case ended[0].Outcome == tuning.Applied && len(again.Changes) > 0:
			c.faulty("recovered as applied, and not all is")
		}
	case err != nil:
		c.counts["undone"]++
		var failure *tuning.ApplyError
		expected := fault > 0 && happened >= fault || slices.ContainsFunc(mayFail, func(s string) bool { return strings.Contains(err.Error(), s) })
		if !errors.As(err, &failure) || len(failure.Left) > 0 || !expected || c.host.state() != before {
			c.faulty("undone: %v\n%s", err, diff(before, c.host.state()))
		}
	case done == nil:
		c.counts["nothing to do"]++
	default:
		c.counts["applied"]++
		c.inOrder("apply")
		c.applied(done, wants, wishes, before, foreign)
	}
}

// applied holds what was applied against what it shall be.
func (c *anyCase) applied(done *tuning.Transaction, wants []policies.Want, wishes map[string]*wish, before string, foreign string) {
	after := c.host.state()
	c.points[done.ID] = after
	again, err := c.plan(wants)
	if err != nil || len(again.Changes) > 0 {
		var text strings.Builder
		if again != nil {
			_ = again.WriteText(&text)
		}
		c.faulty("a second plan: %v\n%s", err, text.String())
	}
	if now := c.foreign(); now != foreign {
		c.faulty("somebody else's rules and contexts:\n%s", diff(foreign, now))
	}
	c.kept(wishes, before, after)
	if !c.one(3) {
		return
	}
	c.forget()
	back, err := c.engine.Rollback(c.Context(), done.ID, c.nics, allowAll, false)
	if back != nil {
		c.points[back.ID] = c.host.state()
	}
	c.told = append(c.told, fmt.Sprintf("rolled back: %v\n%v", err, c.host.log))
	if err != nil || c.host.state() != before {
		c.faulty("rolled back: %v\n%s", err, diff(before, c.host.state()))
	}
	c.inOrder("rollback")
	c.counts["rolled back"]++
}

// kept holds what no policy named against what it was.
func (c *anyCase) kept(wishes map[string]*wish, before, after string) {
	for line := range strings.Lines(before) {
		words := strings.Fields(line)
		if words[0] == "sysctl" || strings.Contains("\n"+after, "\n"+line) {
			continue
		}
		setting := strings.TrimSuffix(words[1], ":")
		if setting == "rps-flow-cnt" {
			setting = "rps"
		}
		w := wishes[words[0]]
		wanted := w != nil && slices.Contains(w.wanted, setting)
		follows := false
		switch setting {
		case "rss", "rss-contexts", "flows": // queues may have gone, or come
			follows = w != nil && (slices.Contains(w.wanted, "channels") || slices.Contains(w.wanted, "features") || slices.Contains(w.wanted, "rss-contexts"))
		case "rps", "xps", "irq": // one that has gone with its queue
			follows = !strings.Contains("\n"+after, "\n"+strings.Join(words[:3], " "))
		case "coalesce": // what adaptive moderation chooses
			follows = wanted
		}
		if !wanted && !follows {
			c.faulty("nobody wants anything of %s, which was not kept:\n%s", setting, diff(before, after))
		}
	}
}

// foreign is what somebody else put there.
func (c *anyCase) foreign() string {
	var b strings.Builder
	for _, n := range c.host.nics {
		for location, rule := range n.rules {
			if port := binary.BigEndian.Uint16(rule[testKind+4+10:]); port >= 9000 {
				if n.driverChooses {
					location = 0
				}
				fmt.Fprintf(&b, "%s rule %d for port %d\n", n.Name, location, port)
			}
		}
		for number := range n.contexts {
			if n.contexts[number].foreign {
				fmt.Fprintf(&b, "%s context %d %v\n", n.Name, number, n.contexts[number].table)
			}
		}
	}
	lines := slices.Sorted(strings.Lines(b.String()))
	return strings.Join(lines, "")
}

// orders holds the writes against the rules of their order.
func (c *anyCase) orders(when string) {
	for _, why := range c.host.broken {
		c.faulty("%s: %s", when, why)
	}
}

// inOrder also holds the order of the settings against each other, where nothing was
// undone between: each of these is written once and before those that hang on it, for
// which another write would begin anew what a reset takes from the traffic.
func (c *anyCase) inOrder(when string) {
	c.orders(when)
	resets := map[string]int{}
	for i, w := range c.host.log {
		first := map[string][]string{
			"netdev": {"channels", "rings"}, "channels": {"rings", "coalesce", "irq", "rps", "xps"}, "rings": {"coalesce", "irq", "rps", "xps"},
		}[w.setting]
		for _, earlier := range c.host.log[:i] {
			if earlier.nic == w.nic && slices.Contains(first, earlier.setting) {
				c.faulty("%s: %v comes after %v", when, w, earlier)
			}
		}
		if w.setting == "channels" || w.setting == "rings" {
			if resets[w.nic+w.setting]++; resets[w.nic+w.setting] > 1 {
				c.faulty("%s: %v is written twice", when, w)
			}
		}
	}
}

// dies says whether the process died in f.
func dies(f func()) (dead bool) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case died:
			dead = true
		default:
			panic(r)
		}
	}()
	f()
	return false
}

package settings

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
)

// modelHost is a kernel with NICs whose state hangs together as in real ones. What it
// refuses, follows and forgets is what net/ethtool, net/core and drivers do; where these
// differ, the NIC says.
type modelHost struct {
	kernel.Writer // nothing else is ever asked
	nics          []*model
	sysctls       map[string]uint32 // by file below /proc/sys/net
	// old is a kernel without ETHTOOL_MSG_RSS_GET, and so without lists of contexts.
	old bool

	writes int
	log    []written
	// broken is what a write did that none may do, in the order of writes.
	broken []string
	fail   func(n int) error
	crash  int // the write before (odd) or after (even) which the process dies
}

// written is one write that reached the kernel.
type written struct{ nic, setting, what string }

// model is one NIC.
type model struct {
	inventory.NIC

	// Counts are absent where the driver has none of the kind.
	rx, tx, combined *inventory.ChannelCount
	fixed            bool // it shows channels, and can't change them
	rings            map[uint16]*inventory.RingSize
	coalesce         map[uint16]uint32
	features         map[string]*modelFeature
	table            []uint32
	configured       bool // netif_is_rxfh_configured: somebody set the table
	key              []byte
	hash, transform  byte
	contexts         map[uint32]*modelContext
	flows            map[uint32]uint64 // hash fields
	rules            map[uint32][]byte // struct ethtool_rxnfc by location
	link             map[uint16]uint32 // by IFLA
	alias            string
	rps, flowCnt     []string
	xps, irqs        []string

	// The driver.
	wipes, resizes []string // what other channels, and other rings, make anew
	runs           bool     // its own table has runs of a queue
	takesContexts  bool
	takesRules     bool
	driverChooses  bool // where a rule goes
	oneFilter      bool // another table drops the rules (bnxt_en)
	tied           bool // tx-vlan-hw-insert follows rx-vlan-hw-parse (e1000, igb)
	fickle         bool // adaptive moderation shows what it chose
	chose          uint32
	// careless leaves it to the administrator to see that tables and rules name queues
	// which are there, as kernels before 6.12 do of contexts and rules.
	careless bool
}

type modelFeature struct{ hardware, wanted, active bool }

type modelContext struct {
	table     []uint32
	key       []byte
	hash      byte
	transform byte
	foreign   bool // somebody else made it
}

const (
	modelRules    = 12 // locations for rules
	modelTable    = 16
	modelKey      = 4
	modelCPUs     = 8
	allModelCPUs  = "0-7"
	testCookie    = testLocation - 8
	testKind      = 16
	modelFirstIRQ = 30
)

func (n *model) receiving() uint32 { return count32(n.rx) + count32(n.combined) }
func (n *model) sending() uint32   { return count32(n.tx) + count32(n.combined) }

func count32(c *inventory.ChannelCount) uint32 {
	if c == nil {
		return 0
	}
	return c.Current
}

func (n *model) most(way direction) uint32 {
	alone, most := n.rx, uint32(0)
	if way == sending {
		alone = n.tx
	}
	for _, c := range []*inventory.ChannelCount{alone, n.combined} {
		if c != nil {
			most += c.Maximum
		}
	}
	return most
}

// state is all that a user can see, but for what moves by itself.
func (n *model) state() string {
	var b strings.Builder
	for name, c := range map[string]*inventory.ChannelCount{"rx": n.rx, "tx": n.tx, "combined": n.combined} {
		if c != nil {
			fmt.Fprintf(&b, "channels %s %d of %d\n", name, c.Current, c.Maximum)
		}
	}
	for attribute, r := range n.rings {
		fmt.Fprintf(&b, "rings %d: %d of %d\n", attribute, r.Current, r.Maximum)
	}
	for attribute, value := range n.coalesce {
		if !n.moves(attribute) {
			fmt.Fprintf(&b, "coalesce %d: %d\n", attribute, value)
		}
	}
	for name, f := range n.features {
		fmt.Fprintf(&b, "features %s: %v wanted %v\n", name, f.active, f.wanted)
	}
	fmt.Fprintf(&b, "rss %v key %x hash %d transform %d\n", n.table, n.key, n.hash, n.transform)
	for number, c := range n.contexts {
		fmt.Fprintf(&b, "rss-contexts %d: %v\n", number, *c)
	}
	for flow, fields := range n.flows {
		fmt.Fprintf(&b, "rx-flow-hash %d: %x\n", flow, fields)
	}
	for location, rule := range n.rules {
		rule = slices.Clone(rule)
		if n.driverChooses { // and may choose another next time
			location = 0
			clear(rule[testLocation : testLocation+4])
		}
		fmt.Fprintf(&b, "flows %d: %s\n", location, ruleText(rule))
	}
	for attribute, value := range n.link {
		fmt.Fprintf(&b, "netdev %d: %d\n", attribute, value)
	}
	fmt.Fprintf(&b, "netdev alias %q\n", n.alias)
	for what, files := range map[string][]string{"rps": n.rps, "rps-flow-cnt": n.flowCnt, "xps": n.xps, "irq": n.irqs} {
		for i, value := range files {
			fmt.Fprintf(&b, "%s %d: %s\n", what, i, value)
		}
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// ruleText is what a struct ethtool_rxnfc says of a rule.
func ruleText(rule []byte) string {
	return hex.EncodeToString(bytes.TrimRight(rule[testKind:testLocation], "\x00")) + fmt.Sprintf(" context %d", binary.NativeEndian.Uint32(rule[testCount:]))
}

// moves says whether adaptive moderation chooses a value.
func (n *model) moves(attribute uint16) bool {
	switch attribute {
	case uapi.ETHTOOL_A_COALESCE_RX_USECS, uapi.ETHTOOL_A_COALESCE_RX_MAX_FRAMES:
		return n.coalesce[uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX] != 0
	case uapi.ETHTOOL_A_COALESCE_TX_USECS, uapi.ETHTOOL_A_COALESCE_TX_MAX_FRAMES:
		return n.coalesce[uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX] != 0
	}
	return false
}

func (h *modelHost) state() string {
	var b strings.Builder
	for _, n := range h.nics {
		for line := range strings.Lines(n.state()) {
			b.WriteString(n.Name + " " + line)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(h.sysctls)) {
		fmt.Fprintf(&b, "sysctl %s %d\n", file, h.sysctls[file])
	}
	return b.String()
}

func refused(op string, err error, why string) error {
	return &kernel.Error{Op: op, Err: err, Message: why}
}

func (h *modelHost) byIndex(index uint32) *model {
	for _, n := range h.nics {
		if n.Index == int(index) {
			return n
		}
	}
	return nil
}

func (h *modelHost) byName(name string) *model {
	for _, n := range h.nics {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// about is the NIC that an ethtool netlink request names.
func (h *modelHost) about(body []byte) *model {
	a := kernel.AttributesOf(body)
	for a.Next() {
		if a.Type == header {
			for in := a.Nested(); in.Next(); {
				if in.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
					return h.byIndex(in.Uint32())
				}
			}
		}
	}
	return nil
}

// Netlink implements [kernel.Reader].
func (h *modelHost) Netlink(_ context.Context, req kernel.Request) ([]kernel.Message, error) {
	unsupported := refused(req.String(), syscall.EOPNOTSUPP, "")
	one := func(body kernel.Body, err error) ([]kernel.Message, error) {
		if err != nil {
			return nil, err
		}
		return []kernel.Message{{Command: req.Command, Body: body}}, nil
	}
	switch {
	case req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_GETLINK && !req.Dump:
		n := h.byIndex(binary.NativeEndian.Uint32(req.Body[4:]))
		if n == nil {
			return nil, refused(req.String(), syscall.ENODEV, "")
		}
		return one(n.linkReply(), nil)
	case req.Family != kernel.FamilyEthtool:
		return nil, unsupported
	case req.Command == uapi.ETHTOOL_MSG_STRSET_GET:
		return one(featureWords(), nil)
	case req.Dump:
		var all []kernel.Message
		about := h.about(req.Body)
		for _, n := range h.nics {
			if about != nil && about != n {
				continue
			}
			if body, err := n.ethtool(req, h.old); err == nil {
				all = append(all, kernel.Message{Command: req.Command, Body: body})
				if req.Command == uapi.ETHTOOL_MSG_RSS_GET {
					for _, number := range slices.Sorted(maps.Keys(n.contexts)) {
						all = append(all, kernel.Message{Command: req.Command, Body: n.contextReply(number)})
					}
				}
			} else if h.old && req.Command == uapi.ETHTOOL_MSG_RSS_GET {
				return nil, err
			}
		}
		return all, nil
	}
	n := h.about(req.Body)
	if n == nil {
		return nil, refused(req.String(), syscall.ENODEV, "")
	}
	return one(n.ethtool(req, h.old))
}

func (n *model) header() kernel.Body {
	return kernel.Body{}.Nested(header, kernel.Body{}.Uint32(uapi.ETHTOOL_A_HEADER_DEV_INDEX, uint32(n.Index)).String(uapi.ETHTOOL_A_HEADER_DEV_NAME, n.Name))
}

// ethtool answers what ethtool -l, -g, -c, -k and -x ask.
func (n *model) ethtool(req kernel.Request, old bool) (kernel.Body, error) {
	b := n.header()
	switch req.Command {
	case uapi.ETHTOOL_MSG_CHANNELS_GET:
		for _, c := range []struct {
			count         *inventory.ChannelCount
			most, present uint16
		}{
			{n.rx, uapi.ETHTOOL_A_CHANNELS_RX_MAX, uapi.ETHTOOL_A_CHANNELS_RX_COUNT},
			{n.tx, uapi.ETHTOOL_A_CHANNELS_TX_MAX, uapi.ETHTOOL_A_CHANNELS_TX_COUNT},
			{n.combined, uapi.ETHTOOL_A_CHANNELS_COMBINED_MAX, uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT},
		} {
			if c.count != nil {
				b = b.Uint32(c.most, c.count.Maximum).Uint32(c.present, c.count.Current)
			}
		}
		if n.rx != nil || n.tx != nil || n.combined != nil {
			return b, nil
		}
	case uapi.ETHTOOL_MSG_RINGS_GET:
		for attribute, r := range n.rings {
			most := uint16(uapi.ETHTOOL_A_RINGS_RX_MAX)
			if attribute == uapi.ETHTOOL_A_RINGS_TX {
				most = uapi.ETHTOOL_A_RINGS_TX_MAX
			}
			b = b.Uint32(most, r.Maximum).Uint32(attribute, r.Current)
		}
		if len(n.rings) > 0 {
			return b, nil
		}
	case uapi.ETHTOOL_MSG_COALESCE_GET:
		for attribute, value := range n.coalesce {
			switch {
			case attribute == uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX || attribute == uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX:
				b = b.Uint8(attribute, uint8(value))
			case n.fickle && n.moves(attribute):
				n.chose++
				b = b.Uint32(attribute, 1000+n.chose%50)
			default:
				b = b.Uint32(attribute, value)
			}
		}
		if len(n.coalesce) > 0 {
			return b, nil
		}
	case uapi.ETHTOOL_MSG_FEATURES_GET:
		return b.Nested(uapi.ETHTOOL_A_FEATURES_HW, n.featureBits(true, func(f *modelFeature) bool { return f.hardware })).
			Nested(uapi.ETHTOOL_A_FEATURES_WANTED, n.featureBits(false, func(f *modelFeature) bool { return f.wanted })).
			Nested(uapi.ETHTOOL_A_FEATURES_ACTIVE, n.featureBits(false, func(f *modelFeature) bool { return f.active })).
			Nested(uapi.ETHTOOL_A_FEATURES_NOCHANGE, n.featureBits(false, func(f *modelFeature) bool { return false })), nil
	case uapi.ETHTOOL_MSG_RSS_GET:
		if len(n.table) > 0 && !old {
			return b.Uint32(uapi.ETHTOOL_A_RSS_HFUNC, uint32(n.hash)).Uint32(uapi.ETHTOOL_A_RSS_INPUT_XFRM, uint32(n.transform)).
				Bytes(uapi.ETHTOOL_A_RSS_INDIR, tableBytes(n.table)).Bytes(uapi.ETHTOOL_A_RSS_HKEY, n.key), nil
		}
	}
	return nil, refused(req.String(), syscall.EOPNOTSUPP, "")
}

func (n *model) contextReply(number uint32) kernel.Body {
	c := n.contexts[number]
	return n.header().Uint32(uapi.ETHTOOL_A_RSS_CONTEXT, number).Uint32(uapi.ETHTOOL_A_RSS_HFUNC, uint32(c.hash)).
		Uint32(uapi.ETHTOOL_A_RSS_INPUT_XFRM, uint32(c.transform)).Bytes(uapi.ETHTOOL_A_RSS_INDIR, tableBytes(c.table)).
		Bytes(uapi.ETHTOOL_A_RSS_HKEY, c.key)
}

func tableBytes(table []uint32) []byte {
	var b []byte
	for _, queue := range table {
		b = binary.NativeEndian.AppendUint32(b, queue)
	}
	return b
}

func modelFeatures() []string {
	return []string{
		"tx-scatter-gather", "tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-generic-segmentation", "rx-checksum", "rx-lro",
		"rx-gro-hw", "rx-fcs", "rx-gro", "rx-ntuple-filter", "rx-vlan-hw-parse", "tx-vlan-hw-insert",
	}
}

func (n *model) featureBits(mask bool, on func(*modelFeature) bool) kernel.Body {
	var value, all uint32
	for i, name := range modelFeatures() {
		all |= 1 << i
		if f := n.features[name]; f != nil && on(f) {
			value |= 1 << i
		}
	}
	if !mask {
		return kernel.Body{}.Flag(uapi.ETHTOOL_A_BITSET_NOMASK).Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 32).Uint32(uapi.ETHTOOL_A_BITSET_VALUE, value)
	}
	return kernel.Body{}.Uint32(uapi.ETHTOOL_A_BITSET_SIZE, 32).Uint32(uapi.ETHTOOL_A_BITSET_VALUE, value).Uint32(uapi.ETHTOOL_A_BITSET_MASK, all)
}

// featureWords is the STRSET_GET_REPLY with the names of the features.
func featureWords() kernel.Body {
	var words kernel.Body
	for i, name := range modelFeatures() {
		words = words.Nested(uapi.ETHTOOL_A_STRINGS_STRING,
			kernel.Body{}.Uint32(uapi.ETHTOOL_A_STRING_INDEX, uint32(i)).String(uapi.ETHTOOL_A_STRING_VALUE, name))
	}
	set := kernel.Body{}.Uint32(uapi.ETHTOOL_A_STRINGSET_ID, uapi.ETH_SS_FEATURES).Nested(uapi.ETHTOOL_A_STRINGSET_STRINGS, words)
	return kernel.Body{}.Nested(uapi.ETHTOOL_A_STRSET_STRINGSETS, kernel.Body{}.Nested(uapi.ETHTOOL_A_STRINGSETS_STRINGSET, set))
}

func (n *model) linkReply() kernel.Body {
	b := kernel.Body(make([]byte, 16))
	binary.NativeEndian.PutUint16(b[2:], uapi.ARPHRD_ETHER)
	binary.NativeEndian.PutUint32(b[4:], uint32(n.Index))
	binary.NativeEndian.PutUint32(b[8:], uapi.IFF_UP)
	b = b.String(uapi.IFLA_IFNAME, n.Name).String(uapi.IFLA_IFALIAS, n.alias).Uint32(uapi.IFLA_MAX_MTU, 9000)
	for attribute, value := range n.link {
		b = b.Uint32(attribute, value)
	}
	return b
}

// Ethtool implements [kernel.Reader].
func (h *modelHost) Ethtool(_ context.Context, device string, arg []byte) ([]byte, error) {
	n := h.byName(device)
	command := binary.NativeEndian.Uint32(arg)
	op := fmt.Sprintf("SIOCETHTOOL %d", command)
	if n == nil {
		return nil, refused(op, syscall.ENODEV, "")
	}
	answer := slices.Clone(arg)
	special := uint64(0)
	if n.driverChooses {
		special = uapi.RX_CLS_LOC_SPECIAL
	}
	switch {
	case command == uapi.ETHTOOL_GRXRINGS:
		binary.NativeEndian.PutUint64(answer[8:], uint64(n.receiving()))
		return answer, nil
	case command == uapi.ETHTOOL_GRXFH:
		if fields, ok := n.flows[binary.NativeEndian.Uint32(arg[4:])]; ok {
			binary.NativeEndian.PutUint64(answer[8:], fields)
			return answer, nil
		}
	case command == uapi.ETHTOOL_GRSSH && len(n.table) > 0:
		return n.rxfh(op, arg)
	case !n.takesRules:
	case command == uapi.ETHTOOL_GRXCLSRLCNT:
		binary.NativeEndian.PutUint64(answer[8:], modelRules|special)
		binary.NativeEndian.PutUint32(answer[testCount:], uint32(len(n.rules)))
		return answer, nil
	case command == uapi.ETHTOOL_GRXCLSRLALL:
		binary.NativeEndian.PutUint64(answer[8:], modelRules)
		for i, location := range slices.Sorted(maps.Keys(n.rules)) {
			binary.NativeEndian.PutUint32(answer[testCount+4+4*i:], location)
		}
		return answer, nil
	case command == uapi.ETHTOOL_GRXCLSRULE:
		rule, ok := n.rules[binary.NativeEndian.Uint32(arg[testLocation:])]
		if !ok {
			return nil, refused(op, syscall.ENOENT, "")
		}
		copy(answer[testKind:], rule[testKind:])
		return answer, nil
	}
	return nil, refused(op, syscall.EOPNOTSUPP, "")
}

// rxfh is ethtool_get_rxfh.
func (n *model) rxfh(op string, arg []byte) ([]byte, error) {
	if number := binary.NativeEndian.Uint32(arg[rxfhContext:]); number != 0 {
		if !n.takesContexts {
			return nil, refused(op, syscall.EOPNOTSUPP, "")
		}
		if n.contexts[number] == nil {
			return nil, refused(op, syscall.ENOENT, "")
		}
	}
	answer := slices.Clone(arg)
	wanted := binary.NativeEndian.Uint32(arg[rxfhIndirSize:])
	binary.NativeEndian.PutUint32(answer[rxfhIndirSize:], uint32(len(n.table)))
	binary.NativeEndian.PutUint32(answer[rxfhKeySize:], uint32(len(n.key)))
	answer[rxfhFunction], answer[rxfhTransform] = n.hash, n.transform
	if wanted > 0 {
		answer = append(append(answer[:rxfhConfig], tableBytes(n.table)...), n.key...)
	}
	return answer, nil
}

// ReadFile implements [kernel.Reader].
func (h *modelHost) ReadFile(_ context.Context, path string) ([]byte, error) {
	missing := &kernel.Error{Op: "read", Object: path, Err: syscall.ENOENT}
	switch path {
	case "/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/hostname":
		return []byte("model\n"), nil
	case "/sys/devices/system/cpu/online":
		return []byte(allModelCPUs + "\n"), nil
	case "/sys/devices/system/cpu/isolated":
		return []byte("6-7\n"), nil
	case "/proc/interrupts":
		return h.interrupts(), nil
	case "/proc/1/comm", "/proc/1/stat":
		return []byte("1 (init) S 0 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"), nil
	case "/proc/net/protocols": // none of AF_XDP
		return []byte("protocol  size sockets  memory press maxhdr  slab module\nTCP 2368 0 0 no 320 yes kernel\n"), nil
	}
	if file, ok := strings.CutPrefix(path, "/proc/sys/net/"); ok {
		if value, ok := h.sysctls[file]; ok {
			return fmt.Appendf(nil, "%d\n", value), nil
		}
	}
	if strings.Contains(path, "/msi_irqs/") {
		return []byte("msix\n"), nil
	}
	if files, i := h.file(path); files != nil {
		return []byte(files[i] + "\n"), nil
	}
	return nil, missing
}

// file is the value that a file of a queue or an interrupt holds, nil where there is none.
func (h *modelHost) file(path string) (files []string, at int) {
	if number, ok := strings.CutPrefix(path, "/proc/irq/"); ok {
		number, file, _ := strings.Cut(number, "/")
		irq, err := strconv.Atoi(number)
		if err != nil || !strings.HasSuffix(file, "affinity_list") {
			return nil, 0
		}
		for _, n := range h.nics {
			if at := irq - n.irq(0); at >= 0 && at < len(n.irqs) {
				return n.irqs, at
			}
		}
		return nil, 0
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "/sys/class/net/"), "/queues/")
	n := h.byName(name)
	queue, file, _ := strings.Cut(rest, "/")
	if n == nil || len(queue) < 4 {
		return nil, 0
	}
	at, err := strconv.Atoi(queue[3:])
	if err != nil {
		return nil, 0
	}
	switch queue[:3] + file {
	case "rx-" + rpsCPUs:
		files = n.rps
	case "rx-" + rpsFlowCnt:
		files = n.flowCnt
	case "tx-" + xpsCPUs:
		if n.most(sending) > 1 { // netif_is_multiqueue
			files = n.xps
		}
	}
	if at >= len(files) {
		return nil, 0
	}
	return files, at
}

func (n *model) irq(queue int) int { return modelFirstIRQ*n.Index + queue }

func (h *modelHost) interrupts() []byte {
	var b bytes.Buffer
	for _, n := range h.nics {
		for i := range n.irqs {
			fmt.Fprintf(&b, "%4d:   0   0  PCI-MSIX-%s   %d-edge      %s-TxRx-%d\n", n.irq(i), n.PCI.Address, i, n.Name, i)
		}
	}
	return b.Bytes()
}

// ReadDir implements [kernel.Reader].
func (h *modelHost) ReadDir(_ context.Context, path string) ([]string, error) {
	if path == "/proc" { // only init runs
		return []string{"1"}, nil
	}
	for _, n := range h.nics {
		var names []string
		switch path {
		case "/sys/class/net/" + n.Name + "/queues":
			for i := range n.rps {
				names = append(names, "rx-"+strconv.Itoa(i))
			}
			for i := range n.xps {
				names = append(names, "tx-"+strconv.Itoa(i))
			}
			return names, nil
		case "/sys/devices/pci0000:00/" + n.PCI.Address:
			return []string{"msi_irqs"}, nil
		case "/sys/devices/pci0000:00/" + n.PCI.Address + "/msi_irqs":
			for i := range n.irqs {
				names = append(names, strconv.Itoa(n.irq(i)))
			}
			return names, nil
		}
	}
	return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.ENOENT}
}

// ReadLink implements [kernel.Reader].
func (h *modelHost) ReadLink(_ context.Context, path string) (string, error) {
	if address, ok := strings.CutPrefix(path, "/sys/bus/pci/devices/"); ok && !strings.Contains(address, "/") {
		return "../../../devices/pci0000:00/" + address, nil
	}
	return "", &kernel.Error{Op: "read link", Object: path, Err: syscall.ENOENT}
}

// Irqbalance and Users: none runs, and nobody holds a NIC.
func (h *modelHost) Irqbalance(context.Context) ([]byte, error) {
	return nil, refused("ask irqbalance", syscall.ENOENT, "")
}

func (h *modelHost) Users(context.Context) (kernel.Users, error) { return kernel.Users{}, nil }

// Machine implements [kernel.Reader].
func (h *modelHost) Machine(context.Context) (kernel.Machine, error) { return kernel.Machine{}, nil }

// died is what a write panics with where the process dies.
type died struct{}

// write is what each write goes through. What it makes of the host is held against what
// no write may do.
func (h *modelHost) write(n *model, setting, what string, do func() error) error {
	h.writes++
	if h.writes*2-1 == h.crash {
		panic(died{})
	}
	name := "host"
	if n != nil {
		name = n.Name
	}
	if h.fail != nil {
		if err := h.fail(h.writes); err != nil {
			return refused(setting, err, "refused by the test")
		}
	}
	var before string
	rules := 0
	if n != nil {
		before, rules = n.state(), len(n.rules)
	}
	err := do()
	w := written{name, setting, what}
	if err != nil {
		w.what += ": " + err.Error()
	}
	h.log = append(h.log, w)
	if n != nil && err == nil {
		if n.state() == before && setting != "features" { // whose request may be what changes
			h.broken = append(h.broken, fmt.Sprintf("%v changes nothing", w))
		}
		for _, why := range n.dangling() {
			h.broken = append(h.broken, fmt.Sprintf("%v: %s", w, why))
		}
		if setting == "features" && len(n.rules) < rules {
			h.broken = append(h.broken, fmt.Sprintf("%v: took %d rules along", w, rules-len(n.rules)))
		}
	}
	if err == nil && h.writes*2 == h.crash {
		panic(died{})
	}
	return err
}

// dangling is what points at queues, contexts or features that are not there.
func (n *model) dangling() (all []string) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	queues := n.receiving()
	check := func(what string, table []uint32) {
		if q := slices.Max(append(slices.Clone(table), 0)); q >= queues && len(table) > 0 {
			say("%s names queue %d, and there are %d", what, q, queues)
		}
	}
	check("the table", n.table)
	for number, c := range n.contexts {
		check(fmt.Sprint("context ", number), c.table)
	}
	for location, rule := range n.rules {
		kind, cookie := binary.NativeEndian.Uint32(rule[testKind:]), binary.NativeEndian.Uint64(rule[testCookie:])
		if context := binary.NativeEndian.Uint32(rule[testCount:]); kind&uapi.FLOW_RSS != 0 {
			if n.contexts[context] == nil {
				say("rule %d names context %d, which is not there", location, context)
			}
		} else if cookie < 1<<32 && cookie >= uint64(queues) {
			say("rule %d names queue %d, and there are %d", location, cookie, queues)
		}
		if !n.features["rx-ntuple-filter"].active {
			say("rule %d, and ntuple is off", location)
		}
	}
	return all
}

// inUse is one more than the last queue that the kernel lets nobody take away:
// ethtool_check_max_channel.
func (n *model) inUse() uint32 {
	var last uint32
	use := func(table []uint32) {
		for _, q := range table {
			last = max(last, q+1)
		}
	}
	if n.configured {
		use(n.table)
	}
	for _, c := range n.contexts {
		use(c.table)
	}
	for _, rule := range n.rules {
		cookie := binary.NativeEndian.Uint64(rule[testCookie:])
		if binary.NativeEndian.Uint32(rule[testKind:])&uapi.FLOW_RSS == 0 && cookie < 1<<32 {
			last = max(last, uint32(cookie)+1)
		}
	}
	return last
}

// reset is what the driver makes anew.
func (n *model) reset(parts []string) {
	for _, part := range parts {
		switch part {
		case "coalesce":
			for attribute := range n.coalesce {
				n.coalesce[attribute] = 3
				if attribute == uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX || attribute == uapi.ETHTOOL_A_COALESCE_USE_ADAPTIVE_TX {
					n.coalesce[attribute] = 0
				}
			}
		case "rss":
			n.ownTable()
		case "flows":
			clear(n.rules)
		case "xps":
			for i := range n.xps {
				if n.most(sending) < 2 {
					break
				}
				n.xps[i] = formatMask(inventory.NewCPUSet(i % modelCPUs))
			}
		case "rps":
			for i := range n.rps {
				n.rps[i], n.flowCnt[i] = "0", "0"
			}
		case "irq":
			for i := range n.irqs {
				n.irqs[i] = allModelCPUs
			}
		}
	}
}

// ownTable is the driver's.
func (n *model) ownTable() {
	queues := n.receiving()
	for i := range n.table {
		n.table[i] = uint32(i) % queues
		if n.runs {
			n.table[i] = uint32(i) * queues / uint32(len(n.table))
		}
	}
	n.configured = false
}

// resized is a list for so many queues; new ones begin with a value.
func resized(files []string, queues uint32, value string) []string {
	for len(files) < int(queues) {
		files = append(files, value)
	}
	return files[:queues]
}

// queuesChanged is what the stack makes of other numbers of queues.
func (n *model) queuesChanged() {
	n.rps, n.flowCnt = resized(n.rps, n.receiving(), "0"), resized(n.flowCnt, n.receiving(), "0")
	n.xps = resized(n.xps, n.sending(), "0")
	if n.irqs != nil {
		n.irqs = resized(n.irqs, max(n.receiving(), n.sending()), allModelCPUs)
	}
}

// NetlinkSet implements [kernel.Writer].
func (h *modelHost) NetlinkSet(_ context.Context, req kernel.Request) error {
	op := req.String()
	if req.Family == kernel.FamilyRoute {
		if req.Command != uapi.RTM_SETLINK {
			return refused(op, syscall.EOPNOTSUPP, "")
		}
		n := h.byIndex(binary.NativeEndian.Uint32(req.Body[4:]))
		return h.write(n, "netdev", sentNumbers(kernel.AttributesAfter(req.Body, 16)), func() error { return n.setLink(req.Body) })
	}
	n := h.about(req.Body)
	if n == nil {
		return refused(op, syscall.ENODEV, "")
	}
	what := sentNumbers(kernel.AttributesOf(req.Body))
	switch req.Command {
	case uapi.ETHTOOL_MSG_CHANNELS_SET:
		return h.write(n, "channels", what, func() error { return n.setChannels(op, req.Body) })
	case uapi.ETHTOOL_MSG_RINGS_SET:
		return h.write(n, "rings", what, func() error { return n.setRings(op, req.Body) })
	case uapi.ETHTOOL_MSG_COALESCE_SET:
		return h.write(n, "coalesce", what, func() error { return n.setCoalesce(op, req.Body) })
	case uapi.ETHTOOL_MSG_FEATURES_SET:
		return h.write(n, "features", sentFeatures(req.Body), func() error { return n.setFeatures(req.Body) })
	}
	return refused(op, syscall.EOPNOTSUPP, "")
}

// sentNumbers shows the numbers of a request.
func sentNumbers(a *kernel.Attributes) string {
	var words []string
	for a.Next() {
		switch len(a.Data) {
		case 1:
			words = append(words, fmt.Sprintf("%d=%d", a.Type, a.Data[0]))
		case 4:
			words = append(words, fmt.Sprintf("%d=%d", a.Type, a.Uint32()))
		}
	}
	return strings.Join(words, " ")
}

func (n *model) setLink(body []byte) error {
	for a := kernel.AttributesAfter(body, 16); a.Next(); {
		if a.Type == uapi.IFLA_IFALIAS {
			n.alias = a.String()
		} else {
			n.link[a.Type] = a.Uint32()
		}
	}
	return nil
}

// setChannels is ethnl_set_channels.
func (n *model) setChannels(op string, body []byte) error {
	next := map[uint16]uint32{}
	for a := kernel.AttributesOf(body); a.Next(); {
		if a.Type != header {
			next[a.Type] = a.Uint32()
		}
	}
	counts := map[uint16]*inventory.ChannelCount{
		uapi.ETHTOOL_A_CHANNELS_RX_COUNT: n.rx, uapi.ETHTOOL_A_CHANNELS_TX_COUNT: n.tx, uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT: n.combined,
	}
	was := map[uint16]uint32{}
	var receiving uint32
	for attribute, c := range counts {
		value, asked := next[attribute]
		switch {
		case c == nil && asked:
			return refused(op, syscall.EINVAL, "requested channel count exceeds maximum")
		case c == nil:
			continue
		case !asked:
			value = c.Current
		case value > c.Maximum:
			return refused(op, syscall.EINVAL, "requested channel count exceeds maximum")
		}
		was[attribute] = value
		if attribute != uapi.ETHTOOL_A_CHANNELS_TX_COUNT {
			receiving += value
		}
	}
	switch {
	case n.fixed:
		return refused(op, syscall.EOPNOTSUPP, "")
	case receiving == 0 || was[uapi.ETHTOOL_A_CHANNELS_TX_COUNT]+was[uapi.ETHTOOL_A_CHANNELS_COMBINED_COUNT] == 0:
		return refused(op, syscall.EINVAL, "requested channel counts would result in no RX or TX channel being configured")
	case !n.careless && receiving < n.inUse():
		return refused(op, syscall.EINVAL, "requested channel counts are too low for existing indirection table settings")
	}
	for attribute, value := range was {
		counts[attribute].Current = value
	}
	n.queuesChanged()
	if !n.configured {
		n.ownTable()
	}
	n.reset(n.wipes)
	return nil
}

func (n *model) setRings(op string, body []byte) error {
	for a := kernel.AttributesOf(body); a.Next(); {
		if a.Type == header {
			continue
		}
		r := n.rings[a.Type]
		switch value := a.Uint32(); {
		case r == nil:
			return refused(op, syscall.EOPNOTSUPP, "")
		case value > r.Maximum:
			return refused(op, syscall.EINVAL, "requested ring size exceeds maximum")
		default:
			r.Current = min(n.rounded(value), r.Maximum)
		}
	}
	n.reset(n.resizes)
	return nil
}

// rounded is what the driver makes of a ring's size.
func (n *model) rounded(size uint32) uint32 {
	switch n.Driver.Name {
	case "igb", "igbvf":
		return (size + 7) / 8 * 8
	case "ice":
		return (size + 31) / 32 * 32
	case "mlx5_core":
		return 1 << bits.Len32(size-1)
	case "ena":
		return 1 << (bits.Len32(size) - 1)
	case "undocumented": // of which nobody has written down that it rounds
		return (size + 15) / 16 * 16
	}
	return size
}

func (n *model) setCoalesce(op string, body []byte) error {
	next := maps.Clone(n.coalesce)
	for a := kernel.AttributesOf(body); a.Next(); {
		switch _, has := n.coalesce[a.Type]; {
		case a.Type == header:
		case !has:
			return refused(op, syscall.EOPNOTSUPP, "cannot modify an unsupported parameter")
		case len(a.Data) == 1:
			next[a.Type] = uint32(a.Uint8())
		default:
			next[a.Type] = a.Uint32()
		}
		if n.Driver.Name != "igbvf" || a.Type != uapi.ETHTOOL_A_COALESCE_RX_USECS {
			continue
		}
		switch next[a.Type] {
		case 0:
			next[a.Type] = leastOfIgbvf
		case leastOfIgbvf:
			return refused(op, syscall.EINVAL, "")
		}
	}
	n.coalesce = next
	return nil
}

func sentFeatures(body []byte) string {
	var words []string
	for name, on := range wantedFeatures(body) {
		words = append(words, fmt.Sprint(name, "=", on))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func wantedFeatures(body []byte) map[string]bool {
	wanted := map[string]bool{}
	for a := kernel.AttributesOf(body); a.Next(); {
		if a.Type != uapi.ETHTOOL_A_FEATURES_WANTED {
			continue
		}
		for set := a.Nested(); set.Next(); {
			for list := set.Nested(); list.Next(); {
				name, on := "", false
				for bit := list.Nested(); bit.Next(); {
					switch bit.Type {
					case uapi.ETHTOOL_A_BITSET_BIT_NAME:
						name = bit.String()
					case uapi.ETHTOOL_A_BITSET_BIT_VALUE:
						on = true
					}
				}
				wanted[name] = on
			}
		}
	}
	return wanted
}

// setFeatures is __netdev_update_features: what is asked for is remembered, and followed
// as far as netdev_fix_features and the driver let it.
func (n *model) setFeatures(body []byte) error {
	for name, on := range wantedFeatures(body) {
		if f := n.features[name]; f.hardware {
			f.wanted = on
		}
	}
	n.fixFeatures()
	return nil
}

func (n *model) fixFeatures() {
	for _, f := range n.features {
		if f.hardware {
			f.active = f.wanted
		}
	}
	off := func(name string, unless bool) {
		if f := n.features[name]; !unless {
			f.active = false
		}
	}
	on := func(name string) bool { return n.features[name].active }
	off("tx-tcp-segmentation", on("tx-scatter-gather") && on("tx-checksum-ip-generic"))
	off("tx-generic-segmentation", on("tx-scatter-gather"))
	off("rx-gro-hw", on("rx-checksum") && !on("rx-fcs"))
	off("rx-lro", !on("rx-fcs") && !on("rx-gro-hw"))
	if n.tied {
		n.features["tx-vlan-hw-insert"].active = on("rx-vlan-hw-parse")
	}
	if !on("rx-ntuple-filter") {
		clear(n.rules)
	}
}

// EthtoolSet implements [kernel.Writer].
func (h *modelHost) EthtoolSet(_ context.Context, device string, arg []byte) (answer []byte, err error) {
	n := h.byName(device)
	command := binary.NativeEndian.Uint32(arg)
	op := fmt.Sprintf("SIOCETHTOOL %d", command)
	answer = slices.Clone(arg)
	switch command {
	case uapi.ETHTOOL_SRXFH:
		flow, fields := binary.NativeEndian.Uint32(arg[4:]), binary.NativeEndian.Uint64(arg[8:])
		err = h.write(n, "rx-flow-hash", fmt.Sprintf("%d=%x", flow, fields), func() error {
			if _, has := n.flows[flow]; !has {
				return refused(op, syscall.EOPNOTSUPP, "")
			}
			n.flows[flow] = fields
			return nil
		})
	case uapi.ETHTOOL_SRSSH:
		setting := "rss"
		if binary.NativeEndian.Uint32(arg[rxfhContext:]) != 0 {
			setting = "rss-contexts"
		}
		err = h.write(n, setting, fmt.Sprintf("%x", arg[rxfhContext:]), func() error { return n.setRXFH(op, answer) })
	case uapi.ETHTOOL_SRXCLSRLINS, uapi.ETHTOOL_SRXCLSRLDEL:
		verb := "insert"
		if command == uapi.ETHTOOL_SRXCLSRLDEL {
			verb = "delete"
		}
		location := binary.NativeEndian.Uint32(arg[testLocation:])
		err = h.write(n, "flows", fmt.Sprintf("%s %d %s", verb, location, ruleText(arg)), func() error { return n.setRule(op, command, location, arg) })
	default:
		err = refused(op, syscall.EOPNOTSUPP, "")
	}
	return answer, err
}

// setRXFH is ethtool_set_rxfh; a new context's number is left in arg.
func (n *model) setRXFH(op string, arg []byte) error {
	number := binary.NativeEndian.Uint32(arg[rxfhContext:])
	entries, keySize := binary.NativeEndian.Uint32(arg[rxfhIndirSize:]), binary.NativeEndian.Uint32(arg[rxfhKeySize:])
	hash, transform, config := arg[rxfhFunction], arg[rxfhTransform], arg[rxfhConfig:]
	create := number == uapi.ETH_RXFH_CONTEXT_ALLOC
	var table []uint32
	if entries != rxfhKeepsTable {
		for range entries {
			table, config = append(table, binary.NativeEndian.Uint32(config)), config[4:]
		}
	}
	same := transform == uapi.RXH_XFRM_NO_CHANGE || number == 0 && transform == n.transform
	switch {
	case len(n.table) == 0 || number != 0 && !n.takesContexts:
		return refused(op, syscall.EOPNOTSUPP, "")
	case len(table) > 0 && len(table) != len(n.table), keySize > 0 && int(keySize) != len(n.key):
		return refused(op, syscall.EINVAL, "")
	case names(table, uint64(n.receiving())):
		return refused(op, syscall.EINVAL, "a queue that is not there")
	case number != 0 && !create && n.contexts[number] == nil:
		return refused(op, syscall.ENOENT, "")
	case entries == rxfhKeepsTable && keySize == 0 && hash == 0 && same && !create:
		return refused(op, syscall.EINVAL, "nothing is asked for")
	}
	if number != 0 && !create && entries == 0 {
		for _, rule := range n.rules {
			if binary.NativeEndian.Uint32(rule[testKind:])&uapi.FLOW_RSS != 0 && binary.NativeEndian.Uint32(rule[testCount:]) == number && !n.careless {
				return refused(op, syscall.EBUSY, "RSS context is in use by rules")
			}
		}
		delete(n.contexts, number)
		return nil
	}
	state := &modelContext{table: n.table, key: n.key, hash: n.hash, transform: n.transform}
	switch {
	case create:
		for number = 1; n.contexts[number] != nil; number++ {
		}
		state.transform = 0
		own := &model{NIC: n.NIC, rx: n.rx, combined: n.combined, table: slices.Clone(n.table), runs: n.runs}
		own.ownTable()
		state.table = own.table
		n.contexts[number] = state
		binary.NativeEndian.PutUint32(arg[rxfhContext:], number)
	case number != 0:
		state = n.contexts[number]
	}
	if len(table) > 0 {
		state.table = table
	}
	if keySize > 0 {
		state.key = slices.Clone(config[:keySize])
	}
	if hash != 0 {
		state.hash = hash
	}
	if transform != uapi.RXH_XFRM_NO_CHANGE {
		state.transform = transform
	}
	if number != 0 {
		return nil
	}
	n.table, n.key, n.hash, n.transform = state.table, state.key, state.hash, state.transform
	if len(table) > 0 {
		n.configured = true
	}
	if entries == 0 { // ethtool_rxfh_indir_default
		for i := range n.table {
			n.table[i] = uint32(i) % n.receiving()
		}
		n.configured = false
	}
	if n.oneFilter && entries != rxfhKeepsTable {
		clear(n.rules)
	}
	return nil
}

func (n *model) setRule(op string, command, location uint32, arg []byte) error {
	if !n.takesRules {
		return refused(op, syscall.EOPNOTSUPP, "")
	}
	if command == uapi.ETHTOOL_SRXCLSRLDEL {
		if n.rules[location] == nil {
			return refused(op, syscall.ENOENT, "")
		}
		delete(n.rules, location)
		return nil
	}
	if !n.features["rx-ntuple-filter"].active {
		return refused(op, syscall.EOPNOTSUPP, "")
	}
	rule := slices.Clone(arg)
	if n.driverChooses != (location == inventory.AnyLocation) {
		return refused(op, syscall.EINVAL, "")
	}
	if n.driverChooses {
		for location = 0; n.rules[location] != nil; location++ {
		}
		binary.NativeEndian.PutUint32(rule[testLocation:], location)
	}
	if location >= modelRules {
		return refused(op, syscall.ENOSPC, "")
	}
	if n.rules[location] != nil {
		return refused(op, syscall.EBUSY, "")
	}
	kind, cookie := binary.NativeEndian.Uint32(rule[testKind:]), binary.NativeEndian.Uint64(rule[testCookie:])
	if kind&uapi.FLOW_RSS != 0 {
		if n.contexts[binary.NativeEndian.Uint32(rule[testCount:])] == nil {
			return refused(op, syscall.EINVAL, "no such RSS context")
		}
	} else if cookie < 1<<32 && cookie >= uint64(n.receiving()) {
		return refused(op, syscall.EINVAL, "no such queue")
	}
	n.rules[location] = rule
	return nil
}

// WriteFile implements [kernel.Writer].
func (h *modelHost) WriteFile(_ context.Context, path string, data []byte) error {
	value := strings.TrimSpace(string(data))
	if file, ok := strings.CutPrefix(path, "/proc/sys/net/"); ok {
		return h.write(nil, "sysctl", file+"="+value, func() error {
			number, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return refused(path, syscall.EINVAL, "")
			}
			if strings.HasSuffix(file, "rps_sock_flow_entries") && number > 0 {
				number = 1 << bits.Len64(number-1)
			}
			h.sysctls[file] = uint32(number)
			return nil
		})
	}
	files, at := h.file(path)
	if files == nil {
		return &kernel.Error{Op: "write", Object: path, Err: syscall.ENOENT}
	}
	n, setting := h.nics[0], "irq"
	for _, other := range h.nics {
		if strings.Contains(path, "/"+other.Name+"/") || strings.HasPrefix(path, "/proc/irq/") && slices.Contains(irqNumbers(other), path) {
			n = other
		}
	}
	switch {
	case strings.HasSuffix(path, xpsCPUs):
		setting = "xps"
	case strings.Contains(path, "/rps_"):
		setting = "rps"
	}
	return h.write(n, setting, path+"="+value, func() error {
		if strings.HasSuffix(path, rpsFlowCnt) {
			number, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return refused(path, syscall.EINVAL, "")
			}
			if number > 0 {
				number = 1 << bits.Len64(number-1)
			}
			value = strconv.FormatUint(number, 10)
		}
		files[at] = value
		return nil
	})
}

func irqNumbers(n *model) (paths []string) {
	for i := range n.irqs {
		paths = append(paths, "/proc/irq/"+strconv.Itoa(n.irq(i))+"/smp_affinity_list")
	}
	return paths
}

// MulticastAddress implements [kernel.Writer].
func (h *modelHost) MulticastAddress(_ context.Context, device string, _ net.HardwareAddr, _ bool) error {
	return refused("group of "+device, syscall.EOPNOTSUPP, "")
}

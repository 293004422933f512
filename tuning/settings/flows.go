package settings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// FlowRules are the receive flow rules of a NIC, whoever put them there, in the
// words of ethtool -N. The key is the rule's location. Where the driver chooses
// that, it says nothing, and the key is what the rule compares: there are
// "1023": "flow-type udp4 dst-port 53 queue 4" and "flow-type udp4 dst-port 53":
// "queue 4".
type FlowRules map[string]string

// FlowWish is one rule as policies say it: each field is an option of ethtool -N.
type FlowWish struct {
	FlowType  *string `json:"flow-type,omitempty" words:"ether,ip4,tcp4,udp4,sctp4,ah4,esp4,ip6,tcp6,udp6,sctp6,ah6,esp6" doc:"the kind of packets"`
	SrcIP     *string `json:"src-ip,omitempty" form:"an address, 192.0.2.0/24 for a part of one" doc:"IP source"`
	DstIP     *string `json:"dst-ip,omitempty" form:"an address, 192.0.2.0/24 for a part of one" doc:"IP destination"`
	SrcPort   *string `json:"src-port,omitempty" form:"a number, 1024/0xfc00 with a mask" doc:"source port"`
	DstPort   *string `json:"dst-port,omitempty" form:"a number, 1024/0xfc00 with a mask" doc:"destination port"`
	TOS       *string `json:"tos,omitempty" form:"a number, 0xb8/0xfc with a mask" doc:"type of service of IPv4"`
	TClass    *string `json:"tclass,omitempty" form:"a number, 0xb8/0xfc with a mask" doc:"traffic class of IPv6"`
	L4Proto   *string `json:"l4proto,omitempty" form:"a number" doc:"protocol in the IP header, for ip4 and ip6"`
	L4Data    *string `json:"l4data,omitempty" form:"a number, 0x350000/0xffff0000 with a mask" doc:"the first four bytes behind the IP header, for ip4 and ip6"`
	SPI       *string `json:"spi,omitempty" form:"a number, with a mask behind a slash" doc:"security parameter index of IPsec"`
	Src       *string `json:"src,omitempty" form:"a MAC address, 02:00:5e:00:00:00/ff:ff:ff:00:00:00 with a mask" doc:"source, for ether"`
	Dst       *string `json:"dst,omitempty" form:"a MAC address, 02:00:5e:00:00:00/ff:ff:ff:00:00:00 with a mask" doc:"destination, for ether"`
	Proto     *string `json:"proto,omitempty" form:"a number, with a mask behind a slash" doc:"Ethertype, for ether"`
	DstMAC    *string `json:"dst-mac,omitempty" form:"a MAC address, 02:00:5e:00:00:00/ff:ff:ff:00:00:00 with a mask" doc:"destination MAC, for the others"`
	VLANEtype *string `json:"vlan-etype,omitempty" form:"a number, with a mask behind a slash" doc:"Ethertype of the VLAN tag"`
	VLAN      *string `json:"vlan,omitempty" form:"a number, 100/0xfff to leave the priority out" doc:"VLAN tag: id, priority and DEI"`
	UserDef   *string `json:"user-def,omitempty" form:"a number, with a mask behind a slash" doc:"what the driver makes of it"`
	Queue     *uint32 `json:"queue,omitempty" doc:"the queue for these packets"`
	Action    *string `json:"action,omitempty" form:"a queue, or drop or -1 to drop" doc:"ethtool's older word for queue, and the one that drops"`
	Context   *uint32 `json:"context,omitempty" doc:"the RSS context that spreads these packets"`
	VF        *uint32 `json:"vf,omitempty" doc:"the virtual function for these packets, whose queue is then meant"`
	Loc       *uint32 `json:"loc,omitempty" doc:"location in the table, where the lowest wins; without it from the end, as ethtool does"`
}

// words are the wish as ethtool -N takes it.
func (w FlowWish) words() ([]string, error) {
	if w.FlowType == nil {
		return nil, errors.New("flow-type is missing")
	}
	words := []string{"flow-type", *w.FlowType}
	for _, field := range []struct {
		name  string
		value *string
	}{
		{"src-ip", w.SrcIP}, {"dst-ip", w.DstIP}, {"src-port", w.SrcPort}, {"dst-port", w.DstPort}, {"tos", w.TOS}, {"tclass", w.TClass},
		{"l4proto", w.L4Proto}, {"l4data", w.L4Data}, {"spi", w.SPI}, {"src", w.Src}, {"dst", w.Dst}, {"proto", w.Proto},
		{"dst-mac", w.DstMAC}, {"vlan-etype", w.VLANEtype}, {"vlan", w.VLAN}, {"user-def", w.UserDef}, {"action", w.Action},
	} {
		if field.value == nil {
			continue
		}
		// A value, or ethtool's value and mask: "10.0.0.0 m 0.255.255.255".
		parts := strings.Fields(*field.value)
		if len(parts) != 1 && (len(parts) != 3 || parts[1] != "m") {
			return nil, fmt.Errorf("%s: %q is not a value, nor a value with its mask", field.name, *field.value)
		}
		words = append(append(words, field.name), parts...)
	}
	for _, field := range []struct {
		name  string
		value *uint32
	}{{"queue", w.Queue}, {"context", w.Context}, {"vf", w.VF}, {"loc", w.Loc}} {
		if field.value != nil {
			words = append(words, field.name, strconv.FormatUint(uint64(*field.value), 10))
		}
	}
	return words, nil
}

// Flows is ethtool -N with rules.
func Flows() tuning.Knob[FlowRules] {
	return tuning.Knob[FlowRules]{
		Name: "flows",
		Doc: "Which packets go to which queue, RSS context or VF, or are dropped (ethtool -N): all the rules that nictune " +
			"keeps on the NIC. It changes and removes only rules that it put there itself in this boot of the host. " +
			"An empty list removes these; without the list they stay.",
		Impact:  func(inventory.NIC, FlowRules, FlowRules) tuning.Impact { return tuning.Seamless },
		Breaks:  flowsBreak,
		Wish:    tuning.WishOf(resolveFlows),
		Entries: true,
		After:   []string{"channels", "features", "rss", "rss-contexts"}, // bnxt_en drops all rules with another table,
		MakeWay: makeWayForFlows,
		Keep:    keepFlows,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit FlowRules, err error) {
			table, err := inventory.ReadNtuple(ctx, r, nic)
			if err != nil || table == nil {
				return nil, nil, err
			}
			return flowState(table), nil, nil
		},
		Write: writeFlows,
	}
}

// flowsBreak: a rule that sends packets to the queue of an AF_XDP socket is what
// many of them live on, and a new one brings it packets that it did not ask for. One
// that drops packets, or gives them to a VF, can cut the host off.
func flowsBreak(use inventory.Use, current, next FlowRules) string {
	switch use.Kind {
	case inventory.DefaultRoute, inventory.SSHSession:
		return flowsCutOff(current, next)
	case inventory.XDPSocket:
	default:
		return ""
	}
	serves := func(key, value string) bool {
		rule, err := flowRule(key, value)
		return err == nil && rule.Action == "queue" && rule.VF == nil && rule.Context == nil && *rule.Queue == use.Queue
	}
	for key, value := range current {
		if next[key] != value && serves(key, value) {
			return otherFlows(use)
		}
	}
	for key, value := range next {
		if current[key] != value && serves(key, value) {
			return otherFlows(use)
		}
	}
	return ""
}

// flowsCutOff says which change of rules takes packets from the host that it gets now.
// Whether those of a session or of the gateway are among them depends on more than a
// rule says: tunnels, other rules, the addresses of tomorrow. So any counts.
func flowsCutOff(current, next FlowRules) string {
	takes := func(key, value string) string {
		switch rule, err := flowRule(key, value); {
		case err != nil: // none that we could write
			return ""
		case rule.Action == "drop":
			return "drops " + rule.Selector()
		case rule.VF != nil:
			return fmt.Sprintf("gives VF %d %s", *rule.VF, rule.Selector())
		}
		return ""
	}
	left := ""
	for _, key := range slices.Sorted(maps.Keys(next)) {
		taken := takes(key, next[key])
		if taken != "" && next[key] != current[key] {
			return taken
		}
		left = cmp.Or(left, taken)
	}
	for _, key := range slices.Sorted(maps.Keys(current)) {
		// It may have kept packets from a rule that stays.
		if left != "" && next[key] != current[key] && takes(key, current[key]) == "" {
			return left
		}
	}
	return ""
}

// flowState is the state of a table.
func flowState(table *inventory.Ntuple) FlowRules {
	rules := FlowRules{}
	for _, rule := range table.Rules {
		if !table.DriverChooses {
			rules[strconv.FormatUint(uint64(rule.Location), 10)] = rule.String()
			continue
		}
		key := rule.Selector()
		for n := 2; rules[key] != ""; n++ { // the same again, which we never write
			key = fmt.Sprintf("%s #%d", rule.Selector(), n)
		}
		rules[key] = rule.Target()
	}
	return rules
}

// flowRule is what stands under a key.
func flowRule(key, value string) (inventory.FlowRule, error) {
	words := strings.Fields(key + " " + value)
	if isLocation(key) {
		words = append(strings.Fields(value), "loc", key)
	}
	rule, err := inventory.ParseFlowRule(words)
	if err != nil {
		return rule, fmt.Errorf("%s: %w", strings.Join(words, " "), err)
	}
	return rule, nil
}

func isLocation(key string) bool { return !strings.HasPrefix(key, "flow-type ") }

// flowName names a rule for people.
func flowName(key, value string) string {
	if isLocation(key) {
		return fmt.Sprintf("rule %s (%s)", key, value)
	}
	return fmt.Sprintf("the rule %q", key+" "+value)
}

// foreignRule is what we say of a rule that is in the way and not ours.
func foreignRule(key, value, problem string) error {
	how := "ethtool -N DEV delete " + key
	if !isLocation(key) {
		how = "ethtool -N DEV delete, with the number that ethtool -n shows"
	}
	return fmt.Errorf("%s, which nictune did not put there, %s: remove it if nobody needs it (%s)", flowName(key, value), problem, how)
}

// flowPlan is a wish for rules on its way to a state.
type flowPlan struct {
	table   *inventory.Ntuple
	current FlowRules
	owned   tuning.Values
	next    FlowRules
}

// resolveFlows finds each wished rule a place. Whatever nictune put there and
// nobody wishes any more goes.
func resolveFlows(ctx context.Context, ask tuning.Ask, wish []FlowWish, current FlowRules) (FlowRules, error) {
	table, err := inventory.ReadNtuple(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return nil, err
	}
	if table == nil {
		return nil, unsupported("the device has no receive flow rules")
	}
	if err := takesRules(ctx, ask); err != nil && len(wish) > 0 {
		return nil, err
	}
	p := flowPlan{table: table, current: current, owned: ask.Owned, next: FlowRules{}}
	for key, value := range current {
		if p.owned[key] == nil {
			p.next[key] = value
		}
	}
	rules := make([]inventory.FlowRule, len(wish))
	for i, w := range wish {
		if rules[i], err = w.rule(ctx, ask, rules[:i]); err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
	}
	// Who names a place has it before those who take what is left.
	placed := make([]bool, len(rules))
	for _, place := range []func(inventory.FlowRule) (bool, error){p.stay, p.put, p.replace, p.add} {
		for i, rule := range rules {
			if placed[i] {
				continue
			}
			if placed[i], err = place(rule); err != nil {
				return nil, &tuning.ItemError{Item: i, Err: err}
			}
		}
	}
	return p.next, nil
}

// takesRules finds igb without a table of rules: it shows an empty one, and refuses
// every rule where the feature is not to be had (igb_add_ethtool_nfc_entry). Other
// drivers take rules whatever the feature says, or show no table.
func takesRules(ctx context.Context, ask tuning.Ask) error {
	if driverOf(ask.NIC) != "igb" {
		return nil
	}
	features, err := inventory.ReadFeatures(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return err
	}
	if ntuple, known := features["rx-ntuple-filter"]; known && ntuple.Fixed && !ntuple.Active {
		return unsupported("the device takes no rules: its feature ntuple is fixed off")
	}
	return nil
}

// rule is the wish with all that can be known to be wrong with it. before are the
// rules of the list before it.
func (w FlowWish) rule(ctx context.Context, ask tuning.Ask, before []inventory.FlowRule) (inventory.FlowRule, error) {
	words, err := w.words()
	if err != nil {
		return inventory.FlowRule{}, err
	}
	rule, err := inventory.ParseFlowRule(words)
	if err != nil {
		return rule, err
	}
	for i, other := range before {
		if other.Selector() == rule.Selector() {
			return rule, fmt.Errorf("item %d of the list is for the same packets (%s)", i+1, rule.Selector())
		}
	}
	switch {
	case rule.Context != nil && *rule.Context != 0:
		return rule, hasContext(ctx, ask, *rule.Context)
	case rule.Action == "queue" && rule.VF == nil && rule.Context == nil:
		queues, err := queuesToBe(ctx, ask)
		if err == nil && uint64(*rule.Queue) >= queues {
			err = fmt.Errorf("there is no queue %d: the device has %s", *rule.Queue, count(queues, "queue"))
		}
		return rule, err
	}
	return rule, nil
}

// stay leaves a rule that is there as it is.
func (p *flowPlan) stay(rule inventory.FlowRule) (bool, error) {
	for key, value := range p.current {
		there, err := flowRule(key, value)
		if err != nil || there.String() != rule.String() || rule.Location != inventory.AnyLocation && !p.at(key, rule.Location) {
			continue // it is another, or somebody's of which we know a part only
		}
		p.next[key] = value
		return true, nil
	}
	if p.table.DriverChooses {
		if rule.Location != inventory.AnyLocation {
			return false, errors.New("this driver chooses the location itself: leave loc out")
		}
	}
	// Nobody else may have a rule for these packets: which of the two would hold?
	for key, value := range p.next {
		if there, err := flowRule(key, value); err == nil && there.Selector() == rule.Selector() {
			return false, foreignRule(key, value, "is for the same packets")
		}
	}
	return false, nil
}

func (p *flowPlan) at(key string, location uint32) bool {
	return !p.table.DriverChooses && key == strconv.FormatUint(uint64(location), 10)
}

// put puts a rule where the policy says.
func (p *flowPlan) put(rule inventory.FlowRule) (bool, error) {
	if p.table.DriverChooses {
		p.next[rule.Selector()] = rule.Target()
		return true, nil
	}
	if rule.Location != inventory.AnyLocation {
		if p.table.Capacity != nil && uint64(rule.Location) >= uint64(*p.table.Capacity) {
			return false, fmt.Errorf("loc %d: the device takes %d rules: 0 to %d", rule.Location, *p.table.Capacity, *p.table.Capacity-1)
		}
		key := strconv.FormatUint(uint64(rule.Location), 10)
		switch there, taken := p.next[key]; {
		case taken && p.owned[key] == nil && p.current[key] == there:
			return false, foreignRule(key, there, "is at this location")
		case taken:
			return false, fmt.Errorf("loc %s: another item of the list has it (%s)", key, there)
		}
		p.next[key] = rule.String()
		return true, nil
	}
	return false, nil
}

// replace puts a rule in the place of ours for the same packets.
func (p *flowPlan) replace(rule inventory.FlowRule) (bool, error) {
	for key, value := range p.current {
		there, err := flowRule(key, value)
		if err != nil || p.owned[key] == nil || there.Selector() != rule.Selector() {
			continue
		}
		if _, taken := p.next[key]; !taken {
			p.next[key] = rule.String()
			return true, nil
		}
	}
	return false, nil
}

// add puts a rule at the last free location: of two rules that hold for a packet
// the one at the lower location wins, and whoever gave none asked for no
// precedence.
func (p *flowPlan) add(rule inventory.FlowRule) (bool, error) {
	if p.table.Capacity == nil {
		return false, errors.New("the driver does not say how many rules the device takes: say where with loc")
	}
	for location := *p.table.Capacity - 1; location >= 0; location-- {
		key := strconv.Itoa(location)
		if _, taken := p.next[key]; !taken {
			p.next[key] = rule.String()
			return true, nil
		}
	}
	return false, fmt.Errorf("the device takes %d rules, and has as many", *p.table.Capacity)
}

// makeWayForFlows removes our rules for queues and contexts that will go, and all
// of them where the device will have no rules any more. What nictune did not put
// there it does not remove.
func makeWayForFlows(_ context.Context, ask tuning.Ask, current FlowRules) (FlowRules, error) {
	next := maps.Clone(current)
	for _, key := range slices.Sorted(maps.Keys(current)) {
		problem := inTheWay(key, current[key], ask.Planned)
		switch {
		case problem == "":
		case ask.Owned[key] == nil:
			return nil, foreignRule(key, current[key], problem)
		default:
			delete(next, key)
		}
	}
	return next, nil
}

// keepFlows keeps the rules that there can still be.
func keepFlows(ask tuning.Ask, before FlowRules) (FlowRules, error) {
	next := maps.Clone(before)
	maps.DeleteFunc(next, func(key, value string) bool { return inTheWay(key, value, ask.Planned) != "" })
	return next, nil
}

// inTheWay says why a rule can't stay, as the end of a sentence about it; empty
// where it can.
func inTheWay(key, value string, planned tuning.Planned) string {
	features, _ := tuning.Get[FeatureSet](planned, "features")
	if ntuple, known := features["rx-ntuple-filter"]; known && !ntuple.Active {
		if was, _ := tuning.Was[FeatureSet](planned, "features"); was["rx-ntuple-filter"].Active {
			return "would go with the feature ntuple"
		}
	}
	rule, err := flowRule(key, value)
	if err != nil {
		return "" // somebody else's, of which we know a part
	}
	queues, fewer := plannedQueues(planned, receiving)
	if fewer && rule.Action == "queue" && rule.VF == nil && rule.Context == nil && uint64(*rule.Queue) >= queues {
		return fmt.Sprintf("needs queue %d, and there will be %s", *rule.Queue, count(queues, "queue"))
	}
	contexts, changed := tuning.Get[RSSContextSet](planned, "rss-contexts")
	if changed && rule.Context != nil && *rule.Context != 0 && !contexts.has(*rule.Context) {
		return fmt.Sprintf("needs RSS context %d, which will go", *rule.Context)
	}
	return ""
}

// writeFlows removes what shall not be there any more before it adds.
func writeFlows(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next FlowRules) error {
	var gone, added []string
	for key, value := range current {
		if next[key] != value {
			gone = append(gone, key)
		}
	}
	for key, value := range next {
		if current[key] != value {
			added = append(added, key)
		}
	}
	slices.SortFunc(gone, byLocation)
	slices.SortFunc(added, byLocation)
	if len(gone) > 0 {
		table, err := inventory.ReadNtuple(ctx, w, nic)
		if err != nil {
			return err
		}
		for _, key := range gone {
			if err := removeRule(ctx, w, nic, table, key, current[key]); err != nil {
				return err
			}
		}
	}
	for _, key := range added {
		rule, err := flowRule(key, next[key])
		if err != nil {
			return err
		}
		request, err := rule.Insertion()
		if err != nil {
			return fmt.Errorf("%s: %w", flowName(key, next[key]), err)
		}
		if _, err := w.EthtoolSet(ctx, nic.Name, request); err != nil {
			return fmt.Errorf("add %s: %w%s", flowName(key, next[key]), err, ntupleHint(ctx, w, nic))
		}
	}
	return nil
}

// removeRule removes the rule under a key, if it is still there.
func removeRule(ctx context.Context, w kernel.Writer, nic inventory.NIC, table *inventory.Ntuple, key, value string) error {
	for _, rule := range table.Rules {
		if isLocation(key) && strconv.FormatUint(uint64(rule.Location), 10) != key ||
			!isLocation(key) && (rule.Selector() != key || rule.Target() != value) {
			continue
		}
		if isLocation(key) && rule.String() != value {
			return fmt.Errorf("%s is another now: %s", flowName(key, value), rule)
		}
		if _, err := w.EthtoolSet(ctx, nic.Name, inventory.FlowRuleDeletion(rule.Location)); err != nil {
			return fmt.Errorf("delete %s: %w", flowName(key, value), err)
		}
		return nil
	}
	return nil
}

// ntupleHint is the end of the error about a rule that was refused, where the
// feature that many drivers want for it is off.
func ntupleHint(ctx context.Context, r kernel.Reader, nic inventory.NIC) string {
	features, err := inventory.ReadFeatures(ctx, r, nic)
	if f, ok := features["rx-ntuple-filter"]; err == nil && ok && !f.Active && !f.Fixed {
		return "; the feature ntuple is off: switch it on with features: {ntuple: on}"
	}
	return ""
}

// byLocation orders keys from the last location to the first, as ethtool fills
// them.
func byLocation(a, b string) int {
	m, errM := strconv.Atoi(a)
	n, errN := strconv.Atoi(b)
	if errM != nil || errN != nil {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(n, m)
}

// queuesToBe is how many queues will receive: as planned, or as there are.
func queuesToBe(ctx context.Context, ask tuning.Ask) (uint64, error) {
	if queues, ok := plannedQueues(ask.Planned, receiving); ok {
		return queues, nil
	}
	return rxRings(ctx, ask.Reader, ask.NIC)
}

// count is a number of things: "1 queue", "2 queues".
func count(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprint(n, " ", thing)
}

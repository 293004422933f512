package settings

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// RSSContextSet are the RSS contexts of a NIC besides the default one, whoever made
// them: "1/table" is the queue of each bucket of context 1, "1/key", "1/hfunc" and
// "1/input-xfrm" what it has of its own besides, and "1/udp4" the fields of such
// packets that it hashes, as in a [HashFieldSet].
type RSSContextSet map[string]string

// What a context has of its own.
const (
	contextTable = "table"
	contextKey   = "key"
	contextHash  = "hfunc"
	contextXfrm  = "input-xfrm"
)

// contextField is a key of an RSSContextSet.
func contextField(number uint32, part string) string { return fmt.Sprintf("%d/%s", number, part) }

// numbers are the numbers of the contexts, in order.
func (c RSSContextSet) numbers() []uint32 {
	var numbers []uint32
	for field := range c {
		text, _, _ := strings.Cut(field, "/")
		if n, err := strconv.ParseUint(text, 10, 32); err == nil && !slices.Contains(numbers, uint32(n)) {
			numbers = append(numbers, uint32(n))
		}
	}
	slices.Sort(numbers)
	return numbers
}

func (c RSSContextSet) has(number uint32) bool { return slices.Contains(c.numbers(), number) }

// parts is what one context has.
func (c RSSContextSet) parts(number uint32) map[string]string {
	parts := map[string]string{}
	prefix := contextField(number, "")
	for field, v := range c {
		if part, ok := strings.CutPrefix(field, prefix); ok {
			parts[part] = v
		}
	}
	return parts
}

// hashFields are those among the parts of a context.
func hashFields(parts map[string]string) HashFieldSet {
	fields := HashFieldSet(maps.Clone(parts))
	for _, other := range []string{contextTable, contextKey, contextHash, contextXfrm} {
		delete(fields, other)
	}
	return fields
}

// RSSContextWish is one context as policies say it, in the words of ethtool -X.
type RSSContextWish struct {
	Context       *uint32 `json:"context,omitempty" doc:"its number, by which flows name it; of a new one the lowest that is free, as without this"`
	Equal         *uint32 `json:"equal,omitempty" doc:"spread evenly over so many queues"`
	Start         *uint32 `json:"start,omitempty" doc:"the first queue of equal and weight"`
	Weight        *string `json:"weight,omitempty" form:"a list of numbers" doc:"the share of each queue: [3, 1] sends three quarters to the first"`
	ExcludeQueues *string `json:"exclude-queues,omitempty" form:"a list of queues" doc:"queues that get nothing; alone it spreads evenly over all others"`
	Key           *string `json:"key,omitempty" form:"bytes in hex as in 6d:5a:..." doc:"a hash key of its own"`
	HashFunction  *string `json:"hfunc,omitempty" words:"toeplitz,xor,crc32" doc:"a hash function of its own"`
	Transform     *string `json:"input-xfrm,omitempty" words:"none,symmetric-xor,symmetric-or-xor" doc:"what is done to the packet's fields before hashing"`
	// Fields are written as under rx-flow-hash.
	Fields *HashFieldsWish `json:"rx-flow-hash,omitempty" doc:"hash fields of its own"`
}

// rss is the wish as of the default context.
func (w RSSContextWish) rss() RSSWish {
	rss := RSSWish{
		Equal: w.Equal, Start: w.Start, Weight: w.Weight, ExcludeQueues: w.ExcludeQueues,
		Key: w.Key, HashFunction: w.HashFunction, Transform: w.Transform,
	}
	if !rss.wantsTable() {
		rss.Default = new(true)
	}
	return rss
}

// RSSContexts is ethtool -X with contexts.
func RSSContexts() tuning.Knob[RSSContextSet] {
	return tuning.Knob[RSSContextSet]{
		Name: "rss-contexts",
		Doc: "Further RSS tables, for the packets that flows send to them (ethtool -X context): all those that nictune keeps " +
			"on the NIC. It changes and removes only contexts that it made itself in this boot of the host. An empty list " +
			"removes these; without the list they stay.",
		Impact:  func(inventory.NIC, RSSContextSet, RSSContextSet) tuning.Impact { return tuning.Seamless },
		Breaks:  contextsBreak,
		Wish:    tuning.WishOf(resolveContexts),
		Entries: true,
		Entry: func(field string) string {
			number, _, _ := strings.Cut(field, "/")
			return number
		},
		After:   []string{"channels"},
		MakeWay: makeWayForContexts,
		Keep:    keepContexts,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit RSSContextSet, err error) {
			contexts, err := inventory.ReadRSSContexts(ctx, r, nic)
			if err != nil {
				return nil, nil, err
			}
			current = RSSContextSet{}
			for _, c := range contexts {
				current[contextField(c.ID, contextTable)] = showTable(c.Table)
				for flow, letters := range c.Fields {
					current[contextField(c.ID, flow)] = letters
				}
				for part, value := range map[string]string{contextKey: c.Key, contextHash: c.Hash, contextXfrm: c.InputTransform} {
					if value != "" {
						current[contextField(c.ID, part)] = value
					}
				}
			}
			return current, nil, nil
		},
		Write: writeContexts,
	}
}

// contextsBreak: as [rssBreaks], for any of the contexts that names the socket's
// queue, and as with rx-flow-hash what one discards.
func contextsBreak(use inventory.Use, current, next RSSContextSet) string {
	switch use.Kind {
	case inventory.XDPSocket:
	case inventory.DefaultRoute, inventory.SSHSession:
		for _, field := range slices.Sorted(maps.Keys(next)) {
			if number, flow, _ := strings.Cut(field, "/"); next[field] == discards && current[field] != discards {
				return "discards " + flow + " in RSS context " + number
			}
		}
		return ""
	default:
		return ""
	}
	queue := strconv.FormatUint(uint64(use.Queue), 10)
	for _, set := range []RSSContextSet{current, next} {
		for _, n := range set.numbers() {
			serves := slices.Contains(strings.Fields(set[contextField(n, contextTable)]), queue)
			if serves && !maps.Equal(current.parts(n), next.parts(n)) {
				return otherFlows(use)
			}
		}
	}
	return ""
}

// resolveContexts gives each wished context its number. What nictune made and
// nobody wishes any more goes.
func resolveContexts(ctx context.Context, ask tuning.Ask, wish []RSSContextWish, current RSSContextSet) (RSSContextSet, error) {
	rss, err := inventory.ReadRSS(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return nil, err
	}
	if rss == nil || len(rss.Table) == 0 {
		return nil, unsupported("the device has no indirection table")
	}
	if len(wish) > 0 && len(current) == 0 && inventory.LacksRSSContexts(ctx, ask.Reader, ask.NIC) {
		return nil, unsupported("the driver has one RSS context, and no further ones")
	}
	next := RSSContextSet{}
	var ours []uint32
	for _, n := range current.numbers() {
		if ownedContext(ask, n) {
			ours = append(ours, n)
			continue
		}
		for part, value := range current.parts(n) {
			next[contextField(n, part)] = value
		}
	}
	numbers, err := contextNumbers(wish, current, ours, next)
	if err != nil {
		return nil, err
	}
	queues, err := queuesToBe(ctx, ask)
	if err != nil {
		return nil, err
	}
	for i, w := range wish {
		n := numbers[i]
		state := RSSState{Table: rss.Table, Key: rss.Key, Hash: rss.Hash}
		state, err := w.rss().apply(state, queues)
		if err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
		// What is not wished for is what it is, or what the driver gives a new one.
		for part, value := range current.parts(n) {
			next[contextField(n, part)] = value
		}
		next[contextField(n, contextTable)] = showTable(state.Table)
		if w.Key != nil {
			next[contextField(n, contextKey)] = state.Key
		}
		if w.HashFunction != nil {
			next[contextField(n, contextHash)] = state.Hash
		}
		switch {
		case w.Transform == nil:
		case state.InputTransform == noTransform: // as it is read
			delete(next, contextField(n, contextXfrm))
		default:
			next[contextField(n, contextXfrm)] = state.InputTransform
		}
		if w.Fields == nil {
			continue
		}
		fields, err := contextLetters(ctx, ask, n, *w.Fields, current)
		if err != nil {
			return nil, &tuning.ItemError{Item: i, Err: fmt.Errorf("rx-flow-hash: %w", err)}
		}
		for flow, letters := range fields {
			next[contextField(n, flow)] = letters
		}
	}
	return next, nil
}

// contextLetters are the hash fields that are wished for in a context. Of one that
// does not exist yet it is asked whether it would have any: it has the flows of the
// default context then.
func contextLetters(ctx context.Context, ask tuning.Ask, number uint32, wish HashFieldsWish, current RSSContextSet) (HashFieldSet, error) {
	has := hashFields(current.parts(number))
	if len(has) > 0 {
		return wish.letters(has)
	}
	unused := number
	for current.has(unused) {
		unused++
	}
	if err := inventory.LacksContextHashFields(ctx, ask.Reader, ask.NIC, unused); err != nil {
		return nil, err
	}
	has, err := inventory.ReadHashFields(ctx, ask.Reader, ask.NIC)
	if err != nil {
		return nil, err
	}
	return wish.letters(has)
}

// ownedContext says whether nictune made a context.
func ownedContext(ask tuning.Ask, number uint32) bool {
	return ask.Owned[contextField(number, contextTable)] != nil
}

// contextNumbers finds each wish a number: the one it names, one of ours, or the
// one that the kernel will give, which is the lowest that is free. taken are the
// contexts of others.
func contextNumbers(wish []RSSContextWish, current RSSContextSet, ours []uint32, others RSSContextSet) ([]uint32, error) {
	numbers := make([]uint32, len(wish)) // 0 is the default context's
	left := slices.Clone(ours)
	for i, w := range wish {
		if w.Context == nil {
			continue
		}
		n := *w.Context
		var err error
		switch {
		case n == 0:
			err = fmt.Errorf("context 0 is the default one: say what it shall be under rss")
		case slices.Contains(numbers, n):
			err = fmt.Errorf("context %d is in the list twice", n)
		case others.has(n):
			err = fmt.Errorf("context %d is there, and nictune did not make it: leave out context for another number, or remove it "+
				"if nobody needs it (ethtool -X DEV context %d delete)", n, n)
		}
		if err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
		numbers[i] = n
		left = slices.DeleteFunc(left, func(o uint32) bool { return o == n })
	}
	for i := range wish {
		if numbers[i] == 0 && len(left) > 0 {
			numbers[i], left = left[0], left[1:]
		}
	}
	// Those to be made, in the order of their numbers.
	lowest := func() uint32 {
		n := uint32(1)
		for slices.Contains(numbers, n) || others.has(n) {
			n++
		}
		return n
	}
	for i := range wish {
		if numbers[i] == 0 {
			numbers[i] = lowest()
		}
	}
	for i, n := range numbers {
		if current.has(n) {
			continue
		}
		for lower := uint32(1); lower < n; lower++ {
			if !slices.Contains(numbers, lower) && !others.has(lower) {
				return nil, &tuning.ItemError{Item: i, Err: fmt.Errorf("context %d: the kernel gives the next one the number %d: take that", n, lower)}
			}
		}
	}
	return numbers, nil
}

// makeWayForContexts takes queues that will go out of our tables.
func makeWayForContexts(_ context.Context, ask tuning.Ask, current RSSContextSet) (RSSContextSet, error) {
	next, err := keepContexts(ask, current)
	if err != nil {
		return nil, err
	}
	for _, n := range current.numbers() {
		field := contextField(n, contextTable)
		if current[field] != next[field] && !ownedContext(ask, n) {
			return nil, fmt.Errorf("RSS context %d, which nictune did not make, spreads over queues that will go: change it, "+
				"or remove it if nobody needs it (ethtool -X DEV context %d delete)", n, n)
		}
	}
	return next, nil
}

// keepContexts keeps the contexts, over the queues that there can still be.
func keepContexts(ask tuning.Ask, before RSSContextSet) (RSSContextSet, error) {
	queues, fewer := plannedQueues(ask.Planned, receiving)
	next := maps.Clone(before)
	for _, n := range before.numbers() {
		table, err := readTable(before[contextField(n, contextTable)])
		if err != nil {
			return nil, err
		}
		if fewer {
			next[contextField(n, contextTable)] = showTable(withoutQueues(table, queues))
		}
	}
	return next, nil
}

// withoutQueues is the table with nothing for the queues from this one on: what
// they got is spread over the other queues that the table names, or over all.
func withoutQueues(table []uint32, queues uint64) []uint32 {
	stay := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(table))), func(q uint32) bool { return uint64(q) >= queues })
	if len(stay) == 0 {
		for q := range min(queues, uint64(len(table))) {
			stay = append(stay, uint32(q))
		}
	}
	out := slices.Clone(table)
	moved := 0
	for i, q := range table {
		if uint64(q) >= queues && len(stay) > 0 {
			out[i] = stay[moved%len(stay)]
			moved++
		}
	}
	return out
}

// hasContext says what is wrong with a rule for a context that there will not be.
func hasContext(ctx context.Context, ask tuning.Ask, number uint32) error {
	contexts, planned := tuning.Get[RSSContextSet](ask.Planned, "rss-contexts")
	if !planned {
		read, err := inventory.ReadRSSContexts(ctx, ask.Reader, ask.NIC)
		if kernel.ReasonOf(err) == kernel.Unsupported {
			return nil // an older kernel does not list them: the driver will say
		}
		if err != nil {
			return err
		}
		contexts = RSSContextSet{}
		for _, c := range read {
			contexts[contextField(c.ID, contextTable)] = ""
		}
	}
	if contexts.has(number) {
		return nil
	}
	return fmt.Errorf("there is no RSS context %d: make it under rss-contexts", number)
}

// showTable is a table as text: the queue of each bucket.
func showTable(table []uint32) string {
	words := make([]string, len(table))
	for i, q := range table {
		words[i] = strconv.FormatUint(uint64(q), 10)
	}
	return strings.Join(words, " ")
}

func readTable(text string) ([]uint32, error) {
	var table []uint32
	for word := range strings.FieldsSeq(text) {
		q, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("an RSS table with the queue %q", word)
		}
		table = append(table, uint32(q))
	}
	return table, nil
}

// writeContexts removes, changes, and then makes contexts in the order of their
// numbers, which is the order in which the kernel gives them.
func writeContexts(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next RSSContextSet) error {
	for _, n := range current.numbers() {
		if next.has(n) {
			continue
		}
		arg := rxfhRequest(n)
		// No table at all is what deletes a context.
		binary.NativeEndian.PutUint32(arg[rxfhIndirSize:], 0)
		if _, err := w.EthtoolSet(ctx, nic.Name, arg); err != nil {
			return fmt.Errorf("delete context %d: %w", n, err)
		}
	}
	for _, n := range next.numbers() {
		from, to := current.parts(n), next.parts(n)
		if maps.Equal(from, to) {
			continue
		}
		exists := current.has(n)
		if exists && onlyFieldsDiffer(from, to) {
			if err := writeContextFields(ctx, w, nic, n, from, to); err != nil {
				return err
			}
			continue
		}
		number := n
		if !exists {
			number = uapi.ETH_RXFH_CONTEXT_ALLOC
		}
		arg, err := contextRequest(number, from, to)
		if err != nil {
			return fmt.Errorf("context %d: %w", n, err)
		}
		answer, err := w.EthtoolSet(ctx, nic.Name, arg)
		if err != nil {
			return fmt.Errorf("context %d: %w", n, err)
		}
		if !exists && len(answer) >= rxfhConfig {
			if got := binary.NativeEndian.Uint32(answer[rxfhContext:]); got != n {
				arg := rxfhRequest(got)
				binary.NativeEndian.PutUint32(arg[rxfhIndirSize:], 0)
				_, err := w.EthtoolSet(ctx, nic.Name, arg)
				return cmp.Or(err, fmt.Errorf("context %d: the driver gave a new one the number %d, and it was removed again", n, got))
			}
		}
		if !exists && len(hashFields(to)) > 0 {
			// It has some already, and not all that a driver tells can be set.
			if from, err = newContextFields(ctx, w, nic, n); err != nil {
				return fmt.Errorf("context %d: %w", n, err)
			}
		}
		if err := writeContextFields(ctx, w, nic, n, from, to); err != nil {
			return err
		}
	}
	return nil
}

// onlyFieldsDiffer says of the parts of a context that nothing but hash fields is to
// change, which are set apart.
func onlyFieldsDiffer(from, to map[string]string) bool {
	for _, part := range []string{contextTable, contextKey, contextHash, contextXfrm} {
		if from[part] != to[part] {
			return false
		}
	}
	return true
}

// newContextFields are the hash fields that a driver gave a context.
func newContextFields(ctx context.Context, r kernel.Reader, nic inventory.NIC, number uint32) (map[string]string, error) {
	contexts, err := inventory.ReadRSSContexts(ctx, r, nic)
	for _, c := range contexts {
		if c.ID == number {
			return c.Fields, err
		}
	}
	return nil, err
}

// writeContextFields sets the hash fields of a context that are to change.
func writeContextFields(ctx context.Context, w kernel.Writer, nic inventory.NIC, number uint32, from, to map[string]string) error {
	fields := hashFields(to)
	for _, flow := range slices.Sorted(maps.Keys(fields)) {
		if fields[flow] == from[flow] {
			continue
		}
		if err := writeHashFields(ctx, w, nic, number, flow, fields[flow]); err != nil {
			return fmt.Errorf("context %d: %s: %w", number, flow, err)
		}
	}
	return nil
}

// contextRequest asks for the parts of a context that are to change.
func contextRequest(number uint32, from, to map[string]string) ([]byte, error) {
	arg := rxfhRequest(number)
	if to[contextTable] != from[contextTable] {
		table, err := readTable(to[contextTable])
		if err != nil {
			return nil, err
		}
		binary.NativeEndian.PutUint32(arg[rxfhIndirSize:], uint32(len(table)))
		for _, queue := range table {
			arg = binary.NativeEndian.AppendUint32(arg, queue)
		}
	}
	if key := to[contextKey]; key != "" && key != from[contextKey] {
		b, err := parseKey(key)
		if err != nil {
			return nil, err
		}
		binary.NativeEndian.PutUint32(arg[rxfhKeySize:], uint32(len(b)))
		arg = append(arg, b...)
	}
	if hash := to[contextHash]; hash != "" && hash != from[contextHash] {
		bit, err := hashBit(hash)
		if err != nil {
			return nil, err
		}
		arg[rxfhFunction] = bit
	}
	if xfrm := to[contextXfrm]; xfrm != from[contextXfrm] {
		bits, err := transformBits(xfrm)
		if err != nil {
			return nil, err
		}
		arg[rxfhTransform] = bits
	}
	return arg, nil
}

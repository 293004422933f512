package tuning

import (
	"cmp"
	"context"
	"encoding/json"
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

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// The settings of the rig: an imagined NIC of which everything hangs together as
// it does in real ones, and whose driver is as good or bad as the dice will.

type rigFlags struct {
	Legacy *bool `json:"legacy,omitempty"`
}

type rigQueues struct {
	N uint32 `json:"n" words:"max"`
}

type rigSizes struct {
	RX *uint32 `json:"rx,omitempty" words:"max"`
	TX *uint32 `json:"tx,omitempty" words:"max"`
}

type rigTiming struct {
	Adaptive *bool   `json:"adaptive,omitempty"`
	Usecs    *uint32 `json:"usecs,omitempty"`
}

type rigSwitch struct {
	Rules bool `json:"rules"`
}

type rigTable struct {
	Entries []uint32 `json:"entries"`
}

type rigTableWish struct {
	Over *uint32 `json:"over,omitempty"`
}

type rigRuleWish struct {
	Queue *uint32 `json:"queue,omitempty"`
}

type rigPins map[string]string

type rigPinsWish struct {
	CPU *uint32 `json:"cpu,omitempty"`
}

// rigRules are queues by the number of the rule.
type rigRules map[string]uint32

// rig is one NIC with its driver.
type rig struct {
	flags  rigFlags
	queues rigQueues
	sizes  rigSizes
	timing rigTiming
	on     rigSwitch
	table  []uint32
	pins   []string
	rules  rigRules

	// The driver.
	most       uint32   // queues
	step       uint32   // to which sizes are rounded up
	admits     bool     // that it rounds
	wipes      []string // what a change of the queues builds anew
	resizes    []string // what a change of the sizes builds anew
	meddles    bool     // the switch sets the sizes back, which nobody knows
	fickle     bool     // usecs move by themselves while adaptive
	adaptsWith uint32   // the last of these
}

func (r *rig) clone() *rig {
	c := *r
	c.table, c.pins, c.rules = slices.Clone(r.table), slices.Clone(r.pins), maps.Clone(r.rules)
	return &c
}

// state is all that a user can see, but for what may move by itself.
func (r *rig) state() string {
	timing := r.timing
	if timing.Adaptive != nil && *timing.Adaptive {
		timing.Usecs = nil
	}
	b, _ := json.Marshal([]any{r.flags, r.queues, r.sizes, timing, r.on, r.table, r.pins, r.rules})
	return string(b)
}

// reset builds parts of the state anew.
func (r *rig) reset(parts []string) {
	for _, part := range parts {
		switch part {
		case "sizes":
			r.sizes = rigSizes{RX: keepNil(r.sizes.RX, r.step*8), TX: keepNil(r.sizes.TX, r.step*8)}
		case "timing":
			if r.timing.Adaptive != nil {
				r.timing.Adaptive = new(false)
			}
			r.timing.Usecs = new(uint32(3))
		case "table":
			for i := range r.table { // not the one that the kernel makes
				r.table[i] = uint32(i) * r.queues.N / uint32(len(r.table))
			}
		case "rules":
			clear(r.rules)
		case "pins":
			for i := range r.pins {
				r.pins[i] = "all"
			}
		}
	}
}

func keepNil(old *uint32, value uint32) *uint32 {
	if old == nil {
		return nil
	}
	return &value
}

var errRig = syscall.EINVAL

// write is the driver.
func (r *rig) write(setting string, data []byte) error {
	switch setting {
	case "flags":
		must(json.Unmarshal(data, &r.flags))
	case "queues":
		var next rigQueues
		must(json.Unmarshal(data, &next))
		if next.N == 0 || next.N > r.most {
			return errRig
		}
		for _, q := range r.table {
			if q >= next.N { // as the kernel does where somebody set the table
				return errRig
			}
		}
		for _, q := range r.rules {
			if q >= next.N {
				return errRig
			}
		}
		r.queues = next
		for len(r.pins) < int(next.N) {
			r.pins = append(r.pins, "all")
		}
		r.pins = r.pins[:next.N]
		r.reset(r.wipes)
	case "sizes":
		var next rigSizes
		must(json.Unmarshal(data, &next))
		r.sizes = next
		for _, n := range []*uint32{r.sizes.RX, r.sizes.TX} {
			if n != nil {
				*n = (*n + r.step - 1) / r.step * r.step
			}
		}
		r.reset(r.resizes)
	case "timing":
		must(json.Unmarshal(data, &r.timing))
	case "switch":
		var next rigSwitch
		must(json.Unmarshal(data, &next))
		if !next.Rules && len(r.rules) > 0 {
			return syscall.EBUSY
		}
		r.on = next
		if r.meddles {
			r.reset([]string{"sizes"})
		}
	case "table":
		var next rigTable
		must(json.Unmarshal(data, &next))
		for _, q := range next.Entries {
			if q >= r.queues.N {
				return errRig
			}
		}
		r.table = next.Entries
	case "rules":
		var next rigRules
		must(json.Unmarshal(data, &next))
		for _, q := range next {
			if q >= r.queues.N || !r.on.Rules {
				return errRig
			}
		}
		r.rules = next
	case "pins":
		var next rigPins
		must(json.Unmarshal(data, &next))
		for queue, cpu := range next {
			n, err := strconv.Atoi(strings.TrimPrefix(queue, "q"))
			must(err)
			if n >= len(r.pins) {
				return syscall.ENOENT
			}
			r.pins[n] = cpu
		}
	}
	return nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// read is what the driver says.
func (r *rig) read(setting string) any {
	switch setting {
	case "flags":
		return r.flags
	case "queues":
		return r.queues
	case "sizes":
		return r.sizes
	case "timing":
		if r.fickle && r.timing.Adaptive != nil && *r.timing.Adaptive {
			r.adaptsWith++
			return rigTiming{Adaptive: r.timing.Adaptive, Usecs: new(1000 + r.adaptsWith%50)}
		}
		return r.timing
	case "switch":
		return r.on
	case "table":
		return rigTable{r.table}
	case "rules":
		return r.rules
	case "pins":
		pins := rigPins{}
		for i, cpu := range r.pins {
			pins["q"+strconv.Itoa(i)] = cpu
		}
		return pins
	}
	return nil
}

// rigHost is a kernel with rigs in it.
type rigHost struct {
	kernel.Writer // nothing else is ever asked
	rigs          map[string]*rig
	sysctl        uint32
	writes        int
	log           []string // "eth0 queues"
	fail          func(n int) error
	crash         int // the write before (odd) or after (even) which the process dies
}

func (h *rigHost) state() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h.rigs)) {
		fmt.Fprintln(&b, name, h.rigs[name].state())
	}
	fmt.Fprintln(&b, "sysctl", h.sysctl)
	return b.String()
}

func (h *rigHost) clone() *rigHost {
	c := &rigHost{rigs: map[string]*rig{}, sysctl: h.sysctl}
	for name, r := range h.rigs {
		c.rigs[name] = r.clone()
	}
	return c
}

func (h *rigHost) ReadFile(_ context.Context, path string) ([]byte, error) {
	switch path {
	case "/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/hostname":
		return []byte("rig\n"), nil
	case "/sysctl":
		return json.Marshal(map[string]uint32{"value": h.sysctl})
	}
	name, setting, _ := strings.Cut(path, " ")
	if h.rigs[name] == nil {
		return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.ENOENT}
	}
	state := h.rigs[name].read(setting)
	if setting == "table" && len(h.rigs[name].table) == 0 || setting == "flags" && h.rigs[name].flags.Legacy == nil {
		return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.EOPNOTSUPP}
	}
	return json.Marshal(state)
}

// Netlink and ReadLink: a rig has no routes, no processes and no links.
func (h *rigHost) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return nil, &kernel.Error{Op: "netlink", Err: syscall.EOPNOTSUPP}
}

func (h *rigHost) ReadLink(_ context.Context, path string) (string, error) {
	return "", &kernel.Error{Op: "read link", Object: path, Err: syscall.ENOENT}
}

func (h *rigHost) WriteFile(_ context.Context, path string, data []byte) error {
	h.writes++
	if h.writes*2-1 == h.crash {
		panic(crash{})
	}
	defer func() {
		if h.writes*2 == h.crash {
			panic(crash{})
		}
	}()
	if h.fail != nil {
		if err := h.fail(h.writes); err != nil {
			return &kernel.Error{Op: "write", Object: path, Err: err}
		}
	}
	h.log = append(h.log, path)
	if path == "/sysctl" {
		var v map[string]uint32
		must(json.Unmarshal(data, &v))
		h.sysctl = v["value"]
		return nil
	}
	name, setting, _ := strings.Cut(path, " ")
	if err := h.rigs[name].write(setting, data); err != nil {
		return &kernel.Error{Op: "write", Object: path, Err: err}
	}
	return nil
}

// rigKnob is a knob whose state is a file of JSON for each NIC.
func rigKnob[T any](name string, knob Knob[T], limit func(r *rig) T, h *rigHost) Knob[T] {
	path := func(nic inventory.NIC) string {
		if knob.Scope == PerHost {
			return "/sysctl"
		}
		return nic.Name + " " + name
	}
	knob.Name = name
	knob.Impact = func(inventory.NIC, T, T) Impact { return Seamless }
	knob.Read = func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, most T, err error) {
		b, err := r.ReadFile(ctx, path(nic))
		if err == nil {
			err = json.Unmarshal(b, &current)
		}
		if limit != nil && err == nil {
			most = limit(h.rigs[nic.Name])
		}
		return current, most, err
	}
	knob.Write = func(ctx context.Context, w kernel.Writer, nic inventory.NIC, _, next T) error {
		b, err := json.Marshal(next)
		if err != nil {
			return err
		}
		return w.WriteFile(ctx, path(nic), b)
	}
	return knob
}

// rigSettings are the settings in order.
func rigSettings(h *rigHost) []Setting {
	queues := func(p Planned, now func() uint32) uint32 {
		if q, ok := Get[rigQueues](p, "queues"); ok {
			return q.N
		}
		return now()
	}
	there := func(ask Ask) uint32 {
		return queues(ask.Planned, func() uint32 { return h.rigs[ask.NIC.Name].queues.N })
	}
	return []Setting{
		rigKnob("sysctl", Knob[map[string]uint32]{Scope: PerHost}, nil, h),
		rigKnob("flags", Knob[rigFlags]{}, nil, h),
		rigKnob("queues", Knob[rigQueues]{}, func(r *rig) rigQueues { return rigQueues{r.most} }, h),
		rigKnob("sizes", Knob[rigSizes]{
			Round: func(nic inventory.NIC, next rigSizes) rigSizes {
				r := h.rigs[nic.Name]
				if !r.admits {
					return next
				}
				for _, n := range []**uint32{&next.RX, &next.TX} {
					if *n != nil {
						*n = new((**n + r.step - 1) / r.step * r.step)
					}
				}
				return next
			},
		}, func(*rig) rigSizes { return rigSizes{RX: new(uint32(4096)), TX: new(uint32(4096))} }, h),
		rigKnob("timing", Knob[rigTiming]{
			After: []string{"queues", "sizes"},
			Volatile: func(current rigTiming) []string {
				if current.Adaptive != nil && *current.Adaptive {
					return []string{"usecs"}
				}
				return nil
			},
		}, nil, h),
		rigKnob("switch", Knob[rigSwitch]{}, nil, h),
		rigKnob("table", Knob[rigTable]{
			After: []string{"queues"},
			Wish: WishOf(func(_ context.Context, ask Ask, wish rigTableWish, current rigTable) (rigTable, error) {
				if len(current.Entries) == 0 {
					return current, unsupported("there is no table")
				}
				next := rigTable{slices.Clone(current.Entries)}
				if wish.Over == nil || *wish.Over == 0 || *wish.Over > there(ask) {
					return next, errors.New("over as many as there are")
				}
				for i := range next.Entries {
					next.Entries[i] = uint32(i) % *wish.Over
				}
				return next, nil
			}),
			MakeWay: func(_ context.Context, ask Ask, current rigTable) (rigTable, error) {
				next := rigTable{slices.Clone(current.Entries)}
				for i, q := range next.Entries {
					next.Entries[i] = q % there(ask)
				}
				return next, nil
			},
			Keep: func(ask Ask, before rigTable) (rigTable, error) {
				for _, q := range before.Entries {
					if q >= there(ask) {
						next := rigTable{slices.Clone(before.Entries)}
						for i := range next.Entries {
							next.Entries[i] = uint32(i) % there(ask)
						}
						return next, nil
					}
				}
				return before, nil
			},
		}, nil, h),
		rigKnob("rules", Knob[rigRules]{
			Entries: true,
			After:   []string{"queues", "switch"},
			Wish: WishOf(func(_ context.Context, ask Ask, wish []rigRuleWish, current rigRules) (rigRules, error) {
				if on, ok := Get[rigSwitch](ask.Planned, "switch"); len(wish) > 0 && (ok && !on.Rules || !ok && !h.rigs[ask.NIC.Name].on.Rules) {
					return nil, unsupported("rules are switched off")
				}
				next := maps.Clone(current)
				for number := range ask.Owned {
					delete(next, number)
				}
				for i, rule := range wish {
					if rule.Queue == nil || *rule.Queue >= there(ask) {
						return nil, &ItemError{i, errors.New("there is no such queue")}
					}
					// One that is there already, and ours, stays.
					number := ""
					for n := range ask.Owned {
						if _, taken := next[n]; !taken && current[n] == *rule.Queue {
							number = n
						}
					}
					for n := 0; number == ""; n++ {
						if _, taken := current[strconv.Itoa(n)]; taken {
							continue
						}
						if _, taken := next[strconv.Itoa(n)]; !taken {
							number = strconv.Itoa(n)
						}
					}
					next[number] = *rule.Queue
				}
				return next, nil
			}),
			MakeWay: func(_ context.Context, ask Ask, current rigRules) (rigRules, error) {
				on, switched := Get[rigSwitch](ask.Planned, "switch")
				next := rigRules{}
				for number, q := range current {
					gone := q >= there(ask) || switched && !on.Rules
					switch {
					case gone && ask.Owned[number] == nil:
						return nil, fmt.Errorf("rule %s is somebody else's", number)
					case !gone:
						next[number] = q
					}
				}
				return next, nil
			},
			Keep: func(ask Ask, before rigRules) (rigRules, error) {
				on, switched := Get[rigSwitch](ask.Planned, "switch")
				next := rigRules{}
				for number, q := range before {
					if q < there(ask) && (!switched || on.Rules) {
						next[number] = q
					}
				}
				return next, nil
			},
		}, nil, h),
		rigKnob("pins", Knob[rigPins]{
			After: []string{"queues", "sizes"},
			Wish: WishOf(func(_ context.Context, ask Ask, wish rigPinsWish, current rigPins) (rigPins, error) {
				next := rigPins{}
				for i := range there(ask) {
					queue := "q" + strconv.Itoa(int(i))
					next[queue] = current[queue]
					if wish.CPU != nil {
						next[queue] = strconv.Itoa(int(*wish.CPU))
					}
				}
				return next, nil
			}),
		}, nil, h),
	}
}

// dice rolls hosts and policies.
type dice struct{ *rand.Rand }

func (d dice) some(all ...string) []string {
	return slices.DeleteFunc(all, func(string) bool { return d.IntN(2) == 0 })
}

func (d dice) rig() *rig {
	r := &rig{
		most: 1 + d.Uint32N(8), step: []uint32{1, 8, 32}[d.IntN(3)], admits: d.IntN(6) > 0,
		wipes: d.some("timing", "table", "rules", "pins"), resizes: d.some("timing", "pins"),
		fickle: d.IntN(2) == 0, rules: rigRules{},
	}
	if d.IntN(3) > 0 {
		r.flags.Legacy = new(d.IntN(2) == 0)
	}
	r.queues.N = 1 + d.Uint32N(r.most)
	r.sizes.RX = new(r.step * (1 + d.Uint32N(16)))
	if d.IntN(3) > 0 {
		r.sizes.TX = new(r.step * (1 + d.Uint32N(16)))
	}
	if d.IntN(2) == 0 {
		r.timing.Adaptive = new(d.IntN(2) == 0)
	}
	r.timing.Usecs = new(d.Uint32N(100))
	r.on.Rules = d.IntN(2) == 0
	if d.IntN(4) > 0 {
		r.table = make([]uint32, 8)
		for i := range r.table {
			r.table[i] = d.Uint32N(r.queues.N)
		}
	}
	for range r.queues.N {
		r.pins = append(r.pins, []string{"all", "0", "1"}[d.IntN(3)])
	}
	for range d.IntN(3) { // somebody else's
		if r.on.Rules {
			r.rules[strconv.Itoa(d.IntN(6))] = d.Uint32N(r.queues.N)
		}
	}
	return r
}

// wants are a random policy's for the NICs.
func (d dice) wants(h *rigHost, nics []inventory.NIC) []policies.Want {
	var all []policies.Want
	at := policies.Source{Policy: "dice", File: "dice.yaml", Line: 1}
	number := func(n uint32) policies.Value { return policies.NumberValue(uint64(n), at) }
	add := func(nic *inventory.NIC, setting, field string, value policies.Value) {
		a := policies.Assignment{Field: field, Source: at, Value: value, Optional: d.IntN(4) > 0, Clamp: d.IntN(2) == 0}
		if n := len(all); n > 0 && all[n-1].Setting == setting && all[n-1].NIC == nic {
			a.Source.Line = all[n-1].Fields[0].Source.Line + 1
			all[n-1].Fields = append(all[n-1].Fields, a)
			return
		}
		all = append(all, policies.Want{NIC: nic, Setting: setting, Source: at, Fields: []policies.Assignment{a}})
	}
	if d.IntN(3) == 0 {
		add(nil, "sysctl", "value", number(d.Uint32N(3)))
	}
	for i := range nics {
		nic, r := &nics[i], h.rigs[nics[i].Name]
		queues := r.queues.N
		if d.IntN(3) == 0 && r.flags.Legacy != nil {
			add(nic, "flags", "legacy", policies.BoolValue(d.IntN(2) == 0, at))
		}
		if d.IntN(2) == 0 {
			queues = 1 + d.Uint32N(r.most)
			value := number(queues)
			if d.IntN(4) == 0 {
				queues, value = r.most, policies.ExpressionValue(expression("max"), at)
			}
			add(nic, "queues", "n", value)
		}
		if d.IntN(3) == 0 {
			add(nic, "sizes", "rx", number(1+d.Uint32N(4096)))
		}
		if d.IntN(3) == 0 {
			add(nic, "sizes", "tx", number(1+d.Uint32N(6000)))
		}
		if d.IntN(4) == 0 {
			add(nic, "timing", "adaptive", policies.BoolValue(d.IntN(2) == 0, at))
		}
		if d.IntN(3) == 0 {
			add(nic, "timing", "usecs", number(d.Uint32N(100)))
		}
		if d.IntN(3) == 0 {
			add(nic, "switch", "rules", policies.BoolValue(d.IntN(3) > 0, at))
		}
		if d.IntN(3) == 0 {
			add(nic, "table", "over", number(1+d.Uint32N(queues)))
		}
		if d.IntN(3) == 0 {
			w := policies.Want{NIC: nic, Setting: "rules", Source: at, Items: []policies.Item{}, Optional: d.IntN(2) == 0}
			for range d.IntN(4) {
				w.Items = append(w.Items, policies.Item{Source: at, Fields: []policies.Assignment{
					{Field: "queue", Source: at, Value: number(d.Uint32N(queues))},
				}})
			}
			all = append(all, w)
		}
		if d.IntN(3) == 0 {
			add(nic, "pins", "cpu", number(d.Uint32N(2)))
		}
	}
	return all
}

func expression(text string) *policies.Expression {
	e, err := policies.ParseExpression(text)
	must(err)
	return e
}

// TestAnyPolicy rolls hosts with their drivers, and policies for them one after
// the other. Whatever the dice say: what was planned and applied is planned no
// more, what was rolled back, or failed, is as before, and no driver ever sees
// changes in an order that it refuses.
func TestAnyPolicy(t *testing.T) {
	rounds := anyPolicies
	if testing.Short() {
		rounds = min(rounds, 1000)
	}
	dir := inMemory(t)
	const workers = 4
	all := make([]map[string]int, workers)
	var wait sync.WaitGroup
	for worker := range workers {
		all[worker] = map[string]int{}
		wait.Go(func() {
			for seed := worker; seed < rounds && !t.Failed(); seed += workers {
				if anyPolicy(t, dir, uint64(seed), all[worker]); t.Failed() {
					t.Logf("seed %d, or one beside it", seed)
				}
			}
		})
	}
	wait.Wait()
	counts := map[string]int{}
	for _, some := range all {
		for what, n := range some {
			counts[what] += n
		}
	}
	var told []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		told = append(told, fmt.Sprintf("%d %s", counts[what], what))
	}
	t.Logf("%d random policies: %s", rounds, strings.Join(told, ", "))
	for _, what := range []string{"applied", "rolled back", "returned", "returned far", "undone", "impossible", "late", "kept", "make-way", "crashed"} {
		if counts[what] < rounds/100 {
			t.Errorf("only %d %s", counts[what], what)
		}
	}
}

// inMemory is a directory that needs no disk, where there is one: none could sync
// so often.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nictune")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// anyPolicy rolls one host, and some policies for it.
func anyPolicy(t *testing.T, dir string, seed uint64, counts map[string]int) {
	t.Helper()
	d := dice{rand.New(rand.NewPCG(seed, 0))}
	h := &rigHost{rigs: map[string]*rig{}, sysctl: d.Uint32N(3)}
	var nics []inventory.NIC
	for i := range 1 + d.IntN(2) {
		nic := nicAt("eth"+strconv.Itoa(i), fmt.Sprintf("0000:0%d:00.0", i+1), i+2)
		nics = append(nics, nic)
		h.rigs[nic.Name] = d.rig()
	}
	settings := rigSettings(h)
	dir = filepath.Join(dir, strconv.FormatUint(seed, 10))
	defer os.RemoveAll(dir)
	open := func() *Engine {
		store, err := OpenStore(dir)
		must(err)
		store.batch = int(seed % 3) // 0 is as usual
		return &Engine{Settings: settings, Writer: h, Store: store, Settle: time.Millisecond}
	}
	e := open()
	defer func() { e.Store.Close() }()
	mustPlan := func(wants []policies.Want) (*Plan, error) {
		return MakePlan(t.Context(), h, settings, wants, func() ([]Transaction, error) { return Remembered(dir) })
	}
	points := map[int]string{0: h.state()} // after each transaction
	reach := func() {
		if all, err := History(dir); err == nil && len(all) > 0 {
			points[all[len(all)-1].ID] = h.state()
		}
	}
	defer func() {
		back := slices.Sorted(maps.Keys(points))[d.IntN(len(points))]
		h.fail, h.log = nil, nil
		was := h.state()
		if _, err := e.RollbackTo(t.Context(), back, nics, allowAll, false); err != nil || h.state() != points[back] {
			t.Errorf("back to %d: %v\n%v\nbefore: %snow:    %swant:   %s", back, err, h.log, was, h.state(), points[back])
		}
		counts["returned"]++
		if len(points) > 2 && h.state() != was {
			counts["returned far"]++
		}
	}()
	for range 1 + d.IntN(3) {
		reach()
		wants := d.wants(h, nics)
		before := h.clone()
		h.writes, h.log, h.fail = 0, nil, nil
		plan, err := mustPlan(wants)
		if h.writes > 0 {
			t.Errorf("planning wrote %v", h.log)
		}
		if problems := (*PlanError)(nil); errors.As(err, &problems) {
			counts["impossible"]++
			continue
		}
		fault, at := 0, 0
		switch d.IntN(4) {
		case 0:
			fault = 1 + d.IntN(8)
		case 1:
			at = 1 + d.IntN(16)
		}
		for _, c := range plan.Changes {
			counts[cmp.Or(string(c.Turn), "direct")]++
			if r := h.rigs[c.NIC.Name]; r != nil && c.Setting == "switch" {
				// What nobody knows of a driver looks after a crash as if somebody else did it.
				r.meddles = at == 0 && d.IntN(3) == 0 && slices.ContainsFunc(plan.Changes, func(o Change) bool { return o.NIC == c.NIC && o.Setting == "sizes" })
			}
		}
		var text strings.Builder
		if err := plan.WriteText(&text); err != nil {
			t.Error(err)
		}
		h.fail = func(n int) error {
			if n == fault {
				return []error{syscall.EIO, syscall.EBUSY, syscall.ENODEV, syscall.EINVAL}[d.IntN(4)]
			}
			return nil
		}
		h.crash = at
		done, died, err := apply(t, e, plan, nics)
		h.crash = 0
		explain := func() string {
			return fmt.Sprintf("%s%sbefore: %snow:    %s", text.String(), strings.Join(h.log, ", ")+"\n", before.state(), h.state())
		}
		switch {
		case died:
			counts["crashed"]++
			e.Store.Close()
			e = open()
			h.fail = nil
			ended, err := e.Recover(t.Context(), nics)
			again, _ := mustPlan(wants)
			if err != nil || len(ended) != 1 || ended[0].Outcome == Undone && h.state() != before.state() || ended[0].Outcome == Applied && len(again.Changes) > 0 {
				t.Errorf("recovered: %v\n%s", err, explain())
			}
			continue
		case err != nil:
			counts["undone"]++
			var failure *ApplyError
			if !errors.As(err, &failure) || len(failure.Left) > 0 || h.state() != before.state() {
				t.Errorf("undone: %v\n%s", err, explain())
			}
			if fault == 0 && !strings.Contains(err.Error(), "sizes: ") {
				t.Errorf("refused: %v\n%s", err, explain())
			}
			continue
		case done == nil:
			counts["nothing to do"]++
			continue
		}
		counts["applied"]++
		inOrder(t, plan, h.log)
		wanted := func(nic, setting string) bool {
			return slices.ContainsFunc(wants, func(w policies.Want) bool { return w.NIC != nil && w.NIC.Name == nic && w.Setting == setting })
		}
		for name, r := range h.rigs {
			was := before.rigs[name]
			for i := range min(len(was.pins), len(r.pins)) {
				if !wanted(name, "pins") && was.pins[i] != r.pins[i] {
					t.Errorf("pin %d was not kept:\n%s", i, explain())
				}
			}
			if !wanted(name, "timing") && (&rig{timing: was.timing}).state() != (&rig{timing: r.timing}).state() {
				t.Errorf("timing was not kept:\n%s", explain())
			}
		}
		again, err := mustPlan(wants)
		if err != nil || len(again.Changes) > 0 {
			var second strings.Builder
			_ = again.WriteText(&second)
			t.Errorf("a second plan: %v\n%s\nfirst: %s", err, second.String(), explain())
		}
		if d.IntN(2) == 0 {
			h.fail = nil
			h.log = nil
			if _, err := e.Rollback(t.Context(), done.ID, nics, allowAll, false); err != nil || h.state() != before.state() {
				t.Errorf("rolled back: %v\n%s", err, explain())
			}
			counts["rolled back"]++
		}
	}
}

// apply carries out a plan, if nobody dies.
func apply(t *testing.T, e *Engine, plan *Plan, nics []inventory.NIC) (done *Transaction, died bool, err error) {
	t.Helper()
	died = dies(func() { done, err = e.Apply(t.Context(), plan, nics, allowAll) })
	return done, died, err
}

// crash is what a write panics with when the process dies there.
type crash struct{}

// dies says whether the process died in f.
func dies(f func()) (died bool) {
	defer func() {
		switch r := recover(); r.(type) {
		case nil:
		case crash:
			died = true
		default:
			panic(r)
		}
	}()
	f()
	return false
}

// inOrder says whether what was written is in the order of the plan's turns: what
// makes way before what it makes way for, what is late after what it waits for.
func inOrder(t *testing.T, plan *Plan, log []string) {
	t.Helper()
	first, last := map[string]int{}, map[string]int{}
	for i, write := range log {
		if _, ok := first[write]; !ok {
			first[write] = i
		}
		last[write] = i
	}
	depends := map[string][]string{"timing": {"queues", "sizes"}, "table": {"queues"}, "rules": {"queues", "switch"}, "pins": {"queues", "sizes"}}
	for _, c := range plan.Changes {
		this := c.NIC.Name + " " + c.Setting
		for _, other := range depends[c.Setting] {
			on := c.NIC.Name + " " + other
			if _, written := first[on]; !written {
				continue
			}
			at, written := first[this]
			if c.Turn == MakingWay && (!written || at > first[on]) {
				t.Errorf("%s does not make way for %s: %v", this, on, log)
			}
			// What made way can be as wanted by that.
			way := slices.ContainsFunc(plan.Changes, func(o Change) bool { return o.Turn == MakingWay && o.sibling(c) })
			if at, written := last[this]; c.Turn == Late && written && !way && at < first[on] {
				t.Errorf("%s was not late: %v", this, log)
			}
		}
	}
}

// TestCrashAtEachWrite dies before and after each write of plans that make way,
// are late and keep, and in the middle of the undo that a failure begins; and once
// more while recovering.
func TestCrashAtEachWrite(t *testing.T) {
	plans := crashedPlans
	if testing.Short() {
		plans = min(plans, 10)
	}
	cases := 0
	for seed := uint64(100000); plans > 0; seed++ {
		d := dice{rand.New(rand.NewPCG(seed, 0))}
		nic := nicAt("eth0", "0000:01:00.0", 2)
		start := &rigHost{rigs: map[string]*rig{nic.Name: d.rig()}}
		wants := d.wants(start, []inventory.NIC{nic})
		plan, err := MakePlan(t.Context(), start, rigSettings(start), wants, nil)
		if err != nil || !slices.ContainsFunc(plan.Changes, func(c Change) bool { return c.Turn == MakingWay }) ||
			!slices.ContainsFunc(plan.Changes, func(c Change) bool { return c.Turn == Late }) {
			continue
		}
		plans--
		for _, fault := range []int{0, len(plan.Changes) / 2, len(plan.Changes) - 1} {
			const most = 200
			for at := 1; at < most; at++ {
				if !crashAt(t, start.clone(), plan, wants, nic, fault, at, d.IntN(6)) {
					break
				}
				cases++
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d of %d crashes recovered to the state before or the state planned", cases, cases)
}

// crashAt dies at one point of an apply, and perhaps at one of the recovery. It
// says whether there was such a point.
func crashAt(t *testing.T, h *rigHost, plan *Plan, wants []policies.Want, nic inventory.NIC, fault, at, again int) bool {
	t.Helper()
	settings, nics, dir := rigSettings(h), []inventory.NIC{nic}, inMemory(t)
	before := h.state()
	h.fail = func(n int) error {
		if n == fault {
			return syscall.EIO
		}
		return nil
	}
	open := func() *Engine {
		store, err := OpenStore(dir)
		must(err)
		return &Engine{Settings: settings, Writer: h, Store: store, Settle: time.Millisecond}
	}
	e := open()
	h.crash = at
	_, died, _ := apply(t, e, plan, nics)
	e.Store.Close()
	if !died {
		return false
	}
	h.fail, h.writes, h.crash = nil, 0, again
	for range 2 {
		e := open()
		dies(func() {
			if _, err := e.Recover(t.Context(), nics); err != nil {
				t.Errorf("write %d fails, crash %d: %v", fault, at, err)
			}
		})
		h.crash = 0
		e.Store.Close()
	}
	past, err := History(dir)
	if err != nil || len(past) != 1 {
		t.Fatalf("%d transactions, %v", len(past), err)
	}
	left, err := MakePlan(t.Context(), h, settings, wants, func() ([]Transaction, error) { return past, nil })
	if past[0].Outcome == Undone && h.state() != before || past[0].Outcome == Applied && (err != nil || len(left.Changes) > 0) || past[0].Outcome == Pending {
		t.Errorf("write %d fails, crash %d, then %d: %s:\nbefore %snow    %s", fault, at, again, past[0].Outcome, before, h.state())
	}
	return true
}

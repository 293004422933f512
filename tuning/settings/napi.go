package settings

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// NAPIState is how a NIC's queues are polled: numbers and words, by the names of
// the wish for what the device starts its queues with, and by "rx-3/" and the name
// for what a queue has, where the kernel tells. A receive queue stands for the
// transmit queue that is polled along with it.
type NAPIState map[string]string

// NAPIWish is what policies say.
type NAPIWish struct {
	Queues            *string      `json:"queues,omitempty" group:"*" example:"4-7" form:"a list of queues" doc:"these queues only, by the number of the receive queue; without it the device as a whole and each of its queues (Linux 6.13)"`
	DeferHardIRQs     *uint32      `json:"defer-hard-irqs,omitempty" example:"2" doc:"how often a queue may be found empty before its interrupt is enabled again (napi_defer_hard_irqs)"`
	GROFlushTimeout   *uint64      `json:"gro-flush-timeout,omitempty" example:"20000" doc:"nanoseconds until packets that GRO holds are passed on, and until a queue whose interrupt waits is looked at (gro_flush_timeout)"`
	IRQSuspendTimeout *uint64      `json:"irq-suspend-timeout,omitempty" example:"20000000" doc:"nanoseconds that interrupts may stay off while an application keeps polling with epoll; 0 is never (Linux 6.13)"`
	Threaded          *NAPIThreads `json:"threaded,omitempty" words:"busy-poll" doc:"poll in kernel threads, which the scheduler can move, instead of softirqs (of single queues: Linux 6.17); busy-poll has them poll all the time (Linux 6.19)"`
}

// NAPIThreads says where queues are polled: "off", "on" or "busy-poll".
type NAPIThreads string

const busyPoll = "busy-poll"

// UnmarshalJSON takes a bool or the word.
func (n *NAPIThreads) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "true":
		*n = "on"
	case "false":
		*n = "off"
	case strconv.Quote(busyPoll):
		*n = busyPoll
	default:
		return errors.New("it takes on, off or " + busyPoll)
	}
	return nil
}

// MarshalJSON is the way back.
func (n NAPIThreads) MarshalJSON() ([]byte, error) {
	switch n {
	case "on", "off":
		return json.Marshal(n == "on")
	}
	return json.Marshal(string(n))
}

// The fields of NAPIState, of the device or of a queue.
const (
	napiDefer    = "defer-hard-irqs"
	napiGRO      = "gro-flush-timeout"
	napiSuspend  = "irq-suspend-timeout"
	napiThreaded = "threaded"
)

// napiFiles are the files of the device's own fields, below its directory in
// /sys/class/net.
func napiFiles() map[string]string {
	return map[string]string{napiDefer: "napi_defer_hard_irqs", napiGRO: "gro_flush_timeout", napiThreaded: "threaded"}
}

// NAPI is what /sys/class/net has of NAPI, and netlink of single queues.
func NAPI() tuning.Knob[NAPIState] {
	return tuning.Knob[NAPIState]{
		Name: "napi",
		Doc: "How the queues are polled. Without queues it sets the device (/sys/class/net/*/napi_defer_hard_irqs, gro_flush_timeout, threaded), " +
			"and with that each queue; with queues it sets these alone (netdev NAPI_SET, Linux 6.13). What a queue has for itself is seen only while the device is up. " +
			"The weight of a driver's queue is 64 (NAPI_POLL_WEIGHT): the kernel has no setting for it; how much a round of all queues takes is sysctl's netdev-budget.",
		Impact: func(inventory.NIC, NAPIState, NAPIState) tuning.Impact { return tuning.Seamless },
		Wish:   tuning.WishOf(resolveNAPI),
		After:  rebuildQueues,
		Read:   readNAPI,
		Write:  writeNAPI,
	}
}

func readNAPI(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit NAPIState, err error) {
	current, limit = NAPIState{}, NAPIState{}
	for field, file := range napiFiles() {
		path := netFile(nic, file)
		b, err := r.ReadFile(ctx, path)
		switch {
		case kernel.ReasonOf(err) == kernel.Unsupported:
			// An older kernel; or a device without NAPI, which has EOPNOTSUPP or
			// EINVAL here.
			continue
		case err != nil:
			return nil, nil, err
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w: %.40q", path, kernel.ErrMalformed, b)
		}
		current[field] = strconv.FormatUint(n, 10)
		if field == napiThreaded {
			current[field] = threadsOf(n)
		}
	}
	contexts, err := pollingContexts(ctx, r, nic)
	if err != nil {
		return nil, nil, err
	}
	for queue, n := range contexts {
		if n.DeferHardIRQs != nil {
			current[queue+"/"+napiDefer] = strconv.FormatUint(uint64(*n.DeferHardIRQs), 10)
		}
		if n.GROFlushTimeoutNS != nil {
			current[queue+"/"+napiGRO] = strconv.FormatUint(*n.GROFlushTimeoutNS, 10)
		}
		if n.IRQSuspendTimeoutNS != nil {
			current[queue+"/"+napiSuspend] = strconv.FormatUint(*n.IRQSuspendTimeoutNS, 10)
		}
		switch n.Threaded {
		case "enabled":
			current[queue+"/"+napiThreaded] = "on"
		case "disabled":
			current[queue+"/"+napiThreaded] = "off"
		case busyPoll:
			current[queue+"/"+napiThreaded] = busyPoll
		}
	}
	return current, limit, nil
}

// threadsOf names the values of the file threaded, which are netlink's.
func threadsOf(n uint64) string {
	switch n {
	case uapi.NETDEV_NAPI_THREADED_DISABLED:
		return "off"
	case uapi.NETDEV_NAPI_THREADED_ENABLED:
		return "on"
	case uapi.NETDEV_NAPI_THREADED_BUSY_POLL:
		return busyPoll
	}
	return strconv.FormatUint(n, 10)
}

// threadsNumber is the way back.
func threadsNumber(word string) (uint64, error) {
	for n := range uint64(3) {
		if threadsOf(n) == word {
			return n, nil
		}
	}
	return 0, fmt.Errorf("threaded %q: it takes on, off or %s", word, busyPoll)
}

// pollingContexts are the NAPI contexts of a NIC that the kernel ties to queues,
// by the first receive queue, or else transmit queue, of each. Their ids are
// others after each reset.
func pollingContexts(ctx context.Context, r kernel.Reader, nic inventory.NIC) (map[string]inventory.NAPI, error) {
	napis, queues, err := inventory.ReadNAPI(ctx, r, nic)
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
		return nil, err
	}
	byID := map[uint32]inventory.NAPI{}
	for _, n := range napis {
		byID[n.ID] = n
	}
	contexts := map[string]inventory.NAPI{}
	for _, direction := range []string{"rx", "tx"} {
		for id := range uint32(len(queues)) {
			for _, q := range queues {
				if q.Direction != direction || q.ID != id || q.NAPI == nil {
					continue
				}
				if n, ok := byID[*q.NAPI]; ok {
					contexts[direction+"-"+strconv.FormatUint(uint64(id), 10)] = n
					delete(byID, *q.NAPI)
				}
			}
		}
	}
	return contexts, nil
}

// fields are those that were wished for.
func (w NAPIWish) fields() map[string]string {
	wanted := map[string]string{}
	if w.DeferHardIRQs != nil {
		wanted[napiDefer] = strconv.FormatUint(uint64(*w.DeferHardIRQs), 10)
	}
	if w.GROFlushTimeout != nil {
		wanted[napiGRO] = strconv.FormatUint(*w.GROFlushTimeout, 10)
	}
	if w.IRQSuspendTimeout != nil {
		wanted[napiSuspend] = strconv.FormatUint(*w.IRQSuspendTimeout, 10)
	}
	if w.Threaded != nil {
		wanted[napiThreaded] = string(*w.Threaded)
	}
	return wanted
}

func resolveNAPI(_ context.Context, ask tuning.Ask, wish NAPIWish, current NAPIState) (NAPIState, error) {
	wanted := wish.fields()
	if len(wanted) == 0 {
		return nil, errors.New("queues: say what they shall have")
	}
	only, err := wish.only()
	if err != nil {
		return nil, err
	}
	current = current.upcoming(ask.Planned)
	next := maps.Clone(current)
	for _, field := range slices.Sorted(maps.Keys(wanted)) {
		set := 0
		if _, ok := current[field]; ok && only == nil && wanted[field] != busyPoll {
			next[field] = wanted[field]
			set++
		}
		for key := range current {
			queue, of, found := strings.Cut(key, "/")
			if !found || of != field {
				continue
			}
			if only == nil || slices.Contains(only, queue) {
				next[key] = wanted[field]
				set++
			}
		}
		switch {
		case only != nil && set < len(only), only == nil && set == 0:
			return nil, unsupported(field + whyNoQueue(current, field, only))
		}
	}
	return next, nil
}

// upcoming is the state with the queues that there will be when the plan was
// carried out up to here. A driver that keeps the state of its queues (Linux 6.13)
// gives new ones the device's, others give it to all.
func (s NAPIState) upcoming(p tuning.Planned) NAPIState {
	n, planned := plannedQueues(p, receiving)
	if !planned {
		return s
	}
	next := NAPIState{}
	for key, value := range s {
		queue, field, found := strings.Cut(key, "/")
		number, err := strconv.ParseUint(strings.TrimPrefix(queue, string(receiving)), 10, 32)
		if !found || err != nil || number < n {
			next[key] = value
		}
		if !found || err != nil {
			continue
		}
		for i := range n {
			other := string(receiving) + strconv.FormatUint(i, 10) + "/" + field
			if _, ok := s[other]; !ok {
				next[other] = cmp.Or(s[field], "0")
			}
		}
	}
	return next
}

// only are the queues that the wish names, nil where it is about all.
func (w NAPIWish) only() ([]string, error) {
	if w.Queues == nil {
		return nil, nil
	}
	numbers, err := inventory.ParseCPUSet(*w.Queues) // the same notation
	if err != nil || numbers.Len() == 0 {
		return nil, fmt.Errorf("queues takes a list of queues as in [0, 4-7], not %q", *w.Queues)
	}
	only := []string{}
	for n := range numbers.All() {
		only = append(only, "rx-"+strconv.Itoa(n))
	}
	return only, nil
}

// whyNoQueue says why queues can't have a field.
func whyNoQueue(current NAPIState, field string, only []string) string {
	var queues []string
	told := false
	for key := range current {
		queue, of, found := strings.Cut(key, "/")
		told = told || found
		if found && of == field {
			queues = append(queues, queue)
		}
	}
	switch {
	case len(queues) > 0:
		slices.Sort(queues)
		return fmt.Sprintf(" of %s: only %s can have it", strings.Join(only, ", "), strings.Join(queues, ", "))
	case told:
		return ": this kernel can't set it for a queue"
	case only == nil && field != napiSuspend:
		return ": the device has none"
	default:
		return ": the kernel tells of no queue how it is polled; it does since Linux 6.13, while the device is up, of drivers that say which queue is polled where"
	}
}

func writeNAPI(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next NAPIState) error {
	files := napiFiles()
	wrote := false
	for _, field := range slices.Sorted(maps.Keys(files)) {
		was, has := current[field]
		to, wanted := next[field]
		if !has || !wanted || was == to {
			continue
		}
		if field == napiThreaded {
			n, err := threadsNumber(to)
			if err != nil {
				return err
			}
			to = strconv.FormatUint(n, 10)
		}
		if err := w.WriteFile(ctx, netFile(nic, files[field]), []byte(to)); err != nil {
			return err
		}
		wrote = true
	}
	if wrote { // which each queue took over
		var err error
		if current, _, err = readNAPI(ctx, w, nic); err != nil {
			return err
		}
	}
	contexts, err := pollingContexts(ctx, w, nic)
	if err != nil {
		return err
	}
	for _, queue := range slices.Sorted(maps.Keys(contexts)) {
		body := kernel.Body{}.Uint32(uapi.NETDEV_A_NAPI_ID, contexts[queue].ID)
		empty := len(body)
		for _, f := range []struct {
			field     string
			attribute uint16
		}{
			{napiDefer, uapi.NETDEV_A_NAPI_DEFER_HARD_IRQS},
			{napiGRO, uapi.NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT},
			{napiSuspend, uapi.NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT},
			{napiThreaded, uapi.NETDEV_A_NAPI_THREADED},
		} {
			was, has := current[queue+"/"+f.field]
			to, wanted := next[queue+"/"+f.field]
			if !has || !wanted || was == to {
				continue
			}
			var n uint64
			if f.field == napiThreaded {
				n, err = threadsNumber(to)
			} else {
				n, err = strconv.ParseUint(to, 10, 64)
			}
			if err != nil {
				return err
			}
			body = body.Uint(f.attribute, n)
		}
		if len(body) == empty {
			continue
		}
		err := w.NetlinkSet(ctx, kernel.Request{Family: kernel.FamilyNetdev, Command: uapi.NETDEV_CMD_NAPI_SET, Body: body})
		if err != nil {
			return fmt.Errorf("%s: %w", queue, err)
		}
	}
	return nil
}

// netFile is a file of a NIC in /sys/class/net.
func netFile(nic inventory.NIC, file string) string { return "/sys/class/net/" + nic.Name + "/" + file }

package settings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/tuning"
)

// QueueModeration is when single queues interrupt: "3/rx-usecs" is a number,
// "3/adaptive-rx" on or off. What the NIC as a whole does not have is absent.
type QueueModeration map[string]any

// QueueModerationWish is what policies say of some queues; the fields are those
// of coalesce that exist by queue.
type QueueModerationWish struct {
	Queues          *string `json:"queues,omitempty" form:"a list of queues as in 0-3,8, or all" doc:"the queues that this is about; a later item counts more"`
	AdaptiveRX      *bool   `json:"adaptive-rx,omitempty" doc:"let the driver choose the receive values by the traffic"`
	AdaptiveTX      *bool   `json:"adaptive-tx,omitempty" doc:"as adaptive-rx, for transmitting"`
	RXUsecs         *uint32 `json:"rx-usecs,omitempty" doc:"microseconds from a received packet to its interrupt"`
	RXFrames        *uint32 `json:"rx-frames,omitempty" doc:"received packets that end the wait early"`
	RXUsecsIRQ      *uint32 `json:"rx-usecs-irq,omitempty" doc:"as rx-usecs, while an interrupt is being handled"`
	RXFramesIRQ     *uint32 `json:"rx-frames-irq,omitempty" doc:"as rx-frames, while an interrupt is being handled"`
	TXUsecs         *uint32 `json:"tx-usecs,omitempty" doc:"microseconds from a sent packet to its interrupt"`
	TXFrames        *uint32 `json:"tx-frames,omitempty" doc:"sent packets that end the wait early"`
	TXUsecsIRQ      *uint32 `json:"tx-usecs-irq,omitempty" doc:"as tx-usecs, while an interrupt is being handled"`
	TXFramesIRQ     *uint32 `json:"tx-frames-irq,omitempty" doc:"as tx-frames, while an interrupt is being handled"`
	StatsBlockUsecs *uint32 `json:"stats-block-usecs,omitempty" doc:"microseconds between two updates of the counters in memory"`
	SampleInterval  *uint32 `json:"sample-interval,omitempty" doc:"seconds between two looks at the packet rate"`
	PktRateLow      *uint32 `json:"pkt-rate-low,omitempty" doc:"packets a second below which the -low values hold"`
	RXUsecsLow      *uint32 `json:"rx-usecs-low,omitempty" doc:"rx-usecs at a low packet rate"`
	RXFramesLow     *uint32 `json:"rx-frames-low,omitempty" doc:"rx-frames at a low packet rate"`
	TXUsecsLow      *uint32 `json:"tx-usecs-low,omitempty" doc:"tx-usecs at a low packet rate"`
	TXFramesLow     *uint32 `json:"tx-frames-low,omitempty" doc:"tx-frames at a low packet rate"`
	PktRateHigh     *uint32 `json:"pkt-rate-high,omitempty" doc:"packets a second above which the -high values hold"`
	RXUsecsHigh     *uint32 `json:"rx-usecs-high,omitempty" doc:"rx-usecs at a high packet rate; with ice the least time between interrupts"`
	RXFramesHigh    *uint32 `json:"rx-frames-high,omitempty" doc:"rx-frames at a high packet rate"`
	TXUsecsHigh     *uint32 `json:"tx-usecs-high,omitempty" doc:"tx-usecs at a high packet rate"`
	TXFramesHigh    *uint32 `json:"tx-frames-high,omitempty" doc:"tx-frames at a high packet rate"`
}

// values are the fields that are wished for.
func (w QueueModerationWish) values() map[string]any {
	values := map[string]any{}
	for name, on := range map[string]*bool{"adaptive-rx": w.AdaptiveRX, "adaptive-tx": w.AdaptiveTX} {
		if on != nil {
			values[name] = *on
		}
	}
	for name, n := range map[string]*uint32{
		"rx-usecs": w.RXUsecs, "rx-frames": w.RXFrames, "rx-usecs-irq": w.RXUsecsIRQ, "rx-frames-irq": w.RXFramesIRQ,
		"tx-usecs": w.TXUsecs, "tx-frames": w.TXFrames, "tx-usecs-irq": w.TXUsecsIRQ, "tx-frames-irq": w.TXFramesIRQ,
		"stats-block-usecs": w.StatsBlockUsecs, "sample-interval": w.SampleInterval,
		"pkt-rate-low": w.PktRateLow, "rx-usecs-low": w.RXUsecsLow, "rx-frames-low": w.RXFramesLow, "tx-usecs-low": w.TXUsecsLow, "tx-frames-low": w.TXFramesLow,
		"pkt-rate-high": w.PktRateHigh, "rx-usecs-high": w.RXUsecsHigh, "rx-frames-high": w.RXFramesHigh, "tx-usecs-high": w.TXUsecsHigh, "tx-frames-high": w.TXFramesHigh,
	} {
		if n != nil {
			values[name] = *n
		}
	}
	return values
}

// queueModerationFields are the members of struct ethtool_coalesce in their order
// behind the command.
func queueModerationFields() []string {
	return []string{
		"rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq",
		"stats-block-usecs", "adaptive-rx", "adaptive-tx",
		"pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low",
		"pkt-rate-high", "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high", "sample-interval",
	}
}

// CoalesceQueues is ethtool -Q --coalesce.
func CoalesceQueues() tuning.Knob[QueueModeration] {
	return tuning.Knob[QueueModeration]{
		Name: "coalesce-queues",
		Doc: "When single queues interrupt (ethtool --per-queue --coalesce). What coalesce sets for the NIC comes first, and " +
			"sets all queues.",
		Impact:   func(inventory.NIC, QueueModeration, QueueModeration) tuning.Impact { return tuning.Seamless },
		Wish:     tuning.WishOf(resolveQueueModeration),
		After:    []string{"channels", "rings", "coalesce"},
		Volatile: movedInQueues,
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit QueueModeration, err error) {
			current, err = readQueueModeration(ctx, r, nic)
			return current, nil, err
		},
		Write: writeQueueModeration,
	}
}

func resolveQueueModeration(_ context.Context, _ tuning.Ask, wish []QueueModerationWish, current QueueModeration) (QueueModeration, error) {
	next := QueueModeration{}
	queues := 0
	for field, value := range current {
		next[field] = value
		if q, _, err := queueOf(field); err == nil {
			queues = max(queues, q+1)
		}
	}
	said := make([]map[string]bool, len(wish)) // the fields that each item names
	for i, w := range wish {
		fields, err := w.apply(next, queues)
		if err != nil {
			return nil, &tuning.ItemError{Item: i, Err: err}
		}
		said[i] = fields
	}
	// What the device chooses by itself can't be set. Where a later item has it do so,
	// that counts more.
	moved := map[string]bool{}
	for _, field := range movedInQueues(next) {
		moved[field] = true
	}
	for i, fields := range slices.Backward(said) {
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			if moved[field] {
				return nil, &tuning.ItemError{Item: i, Err: fmt.Errorf("%s: the device chooses it by itself with %s on: switch that off, or leave this out", field, adaptiveOf(field))}
			}
		}
		for field := range fields {
			if queue, name, _ := strings.Cut(field, "/"); strings.HasPrefix(name, adaptive) {
				direction := strings.TrimPrefix(name, adaptive)
				delete(moved, queue+"/"+direction+"-usecs")
				delete(moved, queue+"/"+direction+"-frames")
			}
		}
	}
	return next, nil
}

// adaptive begins the names of the switches that have the device choose.
const adaptive = "adaptive-"

// movedInQueues are the values that the driver chooses by the traffic.
func movedInQueues(current QueueModeration) (fields []string) {
	for field, value := range current {
		queue, name, _ := strings.Cut(field, "/")
		if on, ok := value.(bool); ok && on {
			direction := strings.TrimPrefix(name, adaptive)
			fields = append(fields, queue+"/"+direction+"-usecs", queue+"/"+direction+"-frames")
		}
	}
	return fields
}

// adaptiveOf is the switch that has the device choose a field of a queue.
func adaptiveOf(field string) string {
	_, name, _ := strings.Cut(field, "/")
	direction, _, _ := strings.Cut(name, "-")
	return adaptive + direction
}

// apply gives the queues of a wish its values, and returns the fields that it names.
func (w QueueModerationWish) apply(next QueueModeration, queues int) (fields map[string]bool, err error) {
	values := w.values()
	switch {
	case w.Queues == nil:
		return nil, errors.New("queues: say which, or all")
	case len(values) == 0:
		return nil, errors.New("it says nothing of these queues")
	}
	list := *w.Queues
	if list == "all" {
		list = fmt.Sprintf("0-%d", queues-1)
	}
	set, err := inventory.ParseCPUSet(list) // the same notation
	if err != nil {
		return nil, fmt.Errorf("queues: %q is no list of queues as in 0-3,8", *w.Queues)
	}
	fields = map[string]bool{}
	for q := range set.All() {
		if q >= queues {
			return nil, fmt.Errorf("queues: there is no queue %d, the device has %s", q, count(uint64(queues), "queue"))
		}
		for name, value := range values {
			field := fmt.Sprintf("%d/%s", q, name)
			if _, ok := next[field]; !ok {
				return nil, unsupported("the device has no " + name + " by queue")
			}
			next[field], fields[field] = value, true
		}
	}
	return fields, nil
}

func queueOf(field string) (queue int, name string, err error) {
	text, name, _ := strings.Cut(field, "/")
	queue, err = strconv.Atoi(text)
	return queue, name, err
}

// Sizes of struct ethtool_per_queue_op and struct ethtool_coalesce.
const (
	perQueueMask     = 8
	perQueueMaxQueue = 4096
	perQueueData     = perQueueMask + perQueueMaxQueue/8
	coalesceSize     = 92
)

// perQueue is an ETHTOOL_PERQUEUE about some queues, with room for their values.
func perQueue(command uint32, queues []int) []byte {
	arg := binary.NativeEndian.AppendUint32(make([]byte, 0, perQueueData+coalesceSize*len(queues)), uapi.ETHTOOL_PERQUEUE)
	arg = binary.NativeEndian.AppendUint32(arg, command)[:cap(arg)]
	for _, q := range queues {
		word := arg[perQueueMask+q/32*4:]
		binary.NativeEndian.PutUint32(word, binary.NativeEndian.Uint32(word)|1<<(q%32))
	}
	return arg
}

// readQueueModeration reads all queues with one question. Which members of the
// struct mean something is what the kernel says of the NIC as a whole.
func readQueueModeration(ctx context.Context, r kernel.Reader, nic inventory.NIC) (QueueModeration, error) {
	whole, err := inventory.ReadCoalesce(ctx, r, nic)
	if err != nil || whole == nil {
		return nil, err
	}
	n, err := interruptingQueues(ctx, r, nic)
	if err != nil {
		return nil, err
	}
	queues := make([]int, n)
	for q := range queues {
		queues[q] = q
	}
	answer, err := r.Ethtool(ctx, nic.Name, perQueue(uapi.ETHTOOL_GCOALESCE, queues))
	switch {
	case errors.Is(err, kernel.ErrNotRecorded):
		return nil, unsupported("the recording does not have it by queue")
	case err != nil:
		return nil, err
	case len(answer) < perQueueData+coalesceSize*n:
		return nil, &kernel.Error{Op: "SIOCETHTOOL PERQUEUE", Object: nic.Name, Err: kernel.ErrMalformed}
	}
	state := QueueModeration{}
	for q := range queues {
		values := answer[perQueueData+coalesceSize*q:]
		for i, name := range queueModerationFields() {
			v := binary.NativeEndian.Uint32(values[4+4*i:])
			field := fmt.Sprintf("%d/%s", q, name)
			if _, ok := whole.Values[name]; ok {
				state[field] = v
			}
			if _, ok := whole.Flags[name]; ok {
				state[field] = v != 0
			}
		}
	}
	return state, nil
}

// interruptingQueues is how many queues can have values of their own: those that
// receive and transmit, and of the others the more.
func interruptingQueues(ctx context.Context, r kernel.Reader, nic inventory.NIC) (int, error) {
	channels, _, err := readChannels(ctx, r, nic)
	if err != nil {
		return 0, err
	}
	value := func(n *uint32) int {
		if n == nil {
			return 0
		}
		return int(min(*n, perQueueMaxQueue))
	}
	return min(value(channels.Combined)+max(value(channels.RX), value(channels.TX)), perQueueMaxQueue), nil
}

// writeQueueModeration writes all queues that differ with one request: the kernel
// puts those before back if one is refused.
func writeQueueModeration(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next QueueModeration) error {
	var queues []int
	for field, value := range next {
		if was, ok := current[field]; !ok || was == value {
			continue
		}
		q, _, err := queueOf(field)
		if err != nil || q < 0 || q >= perQueueMaxQueue {
			return fmt.Errorf("%s is of no queue", field)
		}
		if !slices.Contains(queues, q) {
			queues = append(queues, q)
		}
	}
	if len(queues) == 0 {
		return nil
	}
	slices.Sort(queues)
	arg := perQueue(uapi.ETHTOOL_SCOALESCE, queues)
	for i, q := range queues {
		values := arg[perQueueData+coalesceSize*i:]
		binary.NativeEndian.PutUint32(values, uapi.ETHTOOL_SCOALESCE)
		for j, name := range queueModerationFields() {
			v, ok := next[fmt.Sprintf("%d/%s", q, name)]
			if !ok {
				v = current[fmt.Sprintf("%d/%s", q, name)]
			}
			n, err := registerValue(v)
			if err != nil {
				return fmt.Errorf("%d/%s: %w", q, name, err)
			}
			binary.NativeEndian.PutUint32(values[4+4*j:], n)
		}
	}
	_, err := w.EthtoolSet(ctx, nic.Name, arg)
	return err
}

// registerValue is a value as the struct has it. One that the device does not have is
// zero there, which asks for nothing.
func registerValue(v any) (uint32, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case uint32:
		return v, nil
	case float64: // as it comes out of JSON
		if v >= 0 && v <= math.MaxUint32 && v == math.Trunc(v) {
			return uint32(v), nil
		}
	}
	return 0, fmt.Errorf("%v is no value of 32 bits", v)
}

package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// What decides which CPU a packet is handled on, read again for one NIC.

// ReadRXRings reads how many queues an RSS table of one NIC can name, by its
// name (ETHTOOL_GRXRINGS).
func ReadRXRings(ctx context.Context, r kernel.Reader, nic NIC) (uint64, error) {
	answer, err := r.Ethtool(ctx, nic.Name, rxnfc(uapi.ETHTOOL_GRXRINGS, 0))
	if err != nil {
		return 0, err
	}
	if len(answer) < rxnfcData+8 {
		return 0, short("GRXRINGS", nic.Name, answer)
	}
	return binary.NativeEndian.Uint64(answer[rxnfcData:]), nil
}

// ReadIRQs reads the interrupt vectors of one NIC with their names and
// affinities. A vector that nobody has asked for, as of a NIC that is down, has
// neither.
func ReadIRQs(ctx context.Context, r kernel.Reader, nic NIC) ([]IRQ, error) {
	if nic.Parent == nil {
		return nil, nil
	}
	p := &places{Reader: r, devices: map[string]*device{}}
	dir, err := p.directory(ctx, &nic)
	if err != nil {
		return nil, err
	}
	source := interruptsOf(&nic, dir)
	if source == "" {
		return nil, nil
	}
	if function, ok := pciFunctionOf(source); ok && function == source {
		// Whether there is an interrupt line is asked of PCI functions only.
		p.device(ctx, source).pci = &PCI{}
	}
	d := p.interrupts(ctx, source)
	p.describeIRQs(ctx)
	return d.irqs, firstUnread(append(d.unread, d.irqsUnread...))
}

// ReadCPUs reads which CPUs the host has, and which of them are kept free of
// work.
func ReadCPUs(ctx context.Context, r kernel.Reader) (CPUs, error) {
	s := &survey{Reader: r}
	s.readCPUs(ctx)
	for _, u := range s.unread {
		if u.Fact != "cpus.model" && u.Fact != "architecture" {
			return CPUs{}, fmt.Errorf("%s: %w", u.Fact, unreadError{u})
		}
	}
	return s.host.CPUs, nil
}

// ReadManagers lists the running programs that also set NICs up.
func ReadManagers(ctx context.Context, r kernel.Reader) ([]Manager, error) {
	s := &survey{Reader: r}
	s.readManagers(ctx)
	return s.host.Managers, firstUnread(s.unread)
}

// firstUnread is the first fact that is missing, as an error.
func firstUnread(unread []Unread) error {
	if len(unread) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", unread[0].Fact, unreadError{unread[0]})
}

// ReadNAPI reads the polling contexts of one NIC and its queues, by its index.
// One that is down has none. An error that counts as unsupported is of a kernel
// before 6.8.
func ReadNAPI(ctx context.Context, r kernel.Reader, nic NIC) ([]NAPI, []Queue, error) {
	var napis []NAPI
	var queues []Queue
	err1 := netdevOf(ctx, r, uapi.NETDEV_CMD_NAPI_GET, uapi.NETDEV_A_NAPI_IFINDEX, nic, func(body []byte) error {
		index, n, err := decodeNAPI(body)
		if index == nic.Index && err == nil {
			napis = append(napis, n)
		}
		return err
	})
	if errors.Is(err1, kernel.ErrNotRecorded) {
		return nic.Queues.NAPI, nic.Queues.Netdev, nil // of the survey
	}
	err2 := netdevOf(ctx, r, uapi.NETDEV_CMD_QUEUE_GET, uapi.NETDEV_A_QUEUE_IFINDEX, nic, func(body []byte) error {
		index, q, err := decodeNetdevQueue(body)
		if index == nic.Index && err == nil {
			queues = append(queues, q)
		}
		return err
	})
	return napis, queues, errors.Join(err1, err2)
}

// netdevOf hands each answer about one NIC of a dump to decode.
func netdevOf(ctx context.Context, r kernel.Reader, command, index uint16, nic NIC, decode func([]byte) error) error {
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyNetdev, Command: command, Dump: true, Body: kernel.Body{}.Uint32(index, uint32(nic.Index)),
	})
	for _, m := range messages {
		err = errors.Join(err, decode(m.Body))
	}
	return err
}

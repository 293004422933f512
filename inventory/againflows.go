package inventory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// What decides which queue a packet goes to, read again for one NIC.

// ReadRSS reads the default RSS table, key and function of one NIC, by its index.
func ReadRSS(ctx context.Context, r kernel.Reader, nic NIC) (*RSS, error) {
	err := readAgain(ctx, &survey{Reader: r}, &nic, uapi.ETHTOOL_MSG_RSS_GET, hashFunctions())
	return nic.Queues.RSS, err
}

// hashFunctions are the kernel's names for ETH_RSS_HASH_*, of which a survey asks
// the kernel.
func hashFunctions() *words {
	return &words{sets: map[uint32][]string{uapi.ETH_SS_RSS_HASH_FUNCS: {"toeplitz", "xor", "crc32"}}}
}

// ReadRSSContexts reads the further RSS contexts of one NIC, by its index. Kernels
// before 6.12 do not list them: that is unsupported.
func ReadRSSContexts(ctx context.Context, r kernel.Reader, nic NIC) ([]RSSContext, error) {
	group := ethtoolGroup{name: "RSS_GET"}
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyEthtool, Command: uapi.ETHTOOL_MSG_RSS_GET, Dump: true, Body: group.body(nic.Index),
	})
	switch {
	case errors.Is(err, kernel.ErrNotRecorded) && nic.Queues.RSS != nil:
		return nic.Queues.RSS.Contexts, nil
	case errors.Is(err, kernel.ErrNotRecorded):
		return nil, nic.whyUnread("queues.rss.table")
	case err != nil:
		return nil, err
	}
	read, names := &NIC{}, hashFunctions()
	for _, m := range messages {
		index, err := ethtoolIndex(m.Body)
		if err == nil && index == nic.Index {
			err = fileRSS(read, names, m.Body)
		}
		if err != nil {
			return nil, &kernel.Error{Op: "ethtool RSS_GET", Object: nic.Name, Err: err}
		}
	}
	if read.Queues.RSS == nil {
		return nil, fmt.Errorf("the driver has no RSS: %w", errors.ErrUnsupported)
	}
	err = contextHashFields(ctx, r, nic.Name, read.Queues.RSS.Contexts)
	return read.Queues.RSS.Contexts, err
}

// LacksContextHashFields says why the contexts of a NIC have no hash fields of their
// own: nil is that one to be made would have them. unused is a number that no context
// has.
func LacksContextHashFields(ctx context.Context, r kernel.Reader, nic NIC, unused uint32) error {
	return heedsContext(ctx, r, nic.Name, unused)
}

// LacksRSSContexts says whether the driver of a NIC can have no RSS context but the
// default one. No fact tells; asked for a context that there is not, the kernel has
// looked first whether the driver knows of any (EOPNOTSUPP), and then for the one
// (ENOENT): ethtool_get_rxfh in net/ethtool/ioctl.c.
func LacksRSSContexts(ctx context.Context, r kernel.Reader, nic NIC) bool {
	request := make([]byte, rxfhConfig)
	binary.NativeEndian.PutUint32(request, uapi.ETHTOOL_GRSSH)
	binary.NativeEndian.PutUint32(request[rxfhContext:], uapi.ETH_RXFH_CONTEXT_ALLOC-1)
	_, err := r.Ethtool(ctx, nic.Name, request)
	return errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, kernel.ErrNotRecorded)
}

// ReadHashFields reads which fields of which packets one NIC hashes, in ethtool's
// letters: "udp4": "sdfn". Newer kernels are asked by index, others by name.
func ReadHashFields(ctx context.Context, r kernel.Reader, nic NIC) (map[string]string, error) {
	rss, err := ReadRSS(ctx, r, nic)
	if err == nil && rss != nil && rss.Fields != nil {
		return rss.Fields, nil
	}
	fields, err := hashFields(ctx, r, nic.Name, 0)
	if errors.Is(err, kernel.ErrNotRecorded) {
		return nil, nic.whyUnread("queues.rss.fields")
	}
	return fields, err
}

// ReadNtuple reads the receive flow rules of one NIC, by its name.
func ReadNtuple(ctx context.Context, r kernel.Reader, nic NIC) (*Ntuple, error) {
	rules, err := ntuple(ctx, r, nic.Name)
	if errors.Is(err, kernel.ErrNotRecorded) {
		return nic.Queues.Ntuple, nic.whyUnread("queues.ntuple")
	}
	return rules, err
}

package inventory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// readNAPIDefaults reads what the polling contexts of a device start from, and
// on kernels before 6.13 go by. Only sysfs tells, file by file; so who has
// neither hardware nor a polling context isn't asked.
func readNAPIDefaults(ctx context.Context, s *survey) {
	for _, n := range s.nics {
		if n.Parent == nil && len(n.Queues.NAPI) == 0 {
			continue
		}
		q := &n.Queues
		q.GROFlushTimeoutNS = s.sysfsNumber(ctx, n, "gro_flush_timeout", "queues.groFlushTimeoutNs", 64)
		if v := s.sysfsNumber(ctx, n, "napi_defer_hard_irqs", "queues.napiDeferHardIrqs", 32); v != nil {
			q.DeferHardIRQs = new(uint32(*v))
		}
		if v := s.sysfsNumber(ctx, n, "threaded", "queues.threaded", 31); v != nil {
			q.Threaded = new(int(*v))
		}
	}
}

// sysfsNumber reads a file of a NIC in /sys/class/net that holds a number of so
// many bits. It is nil, and noted with the NIC, where it can't be read.
func (s *survey) sysfsNumber(ctx context.Context, n *NIC, file, fact string, bits int) *uint64 {
	path := sysClassNet + "/" + n.Name + "/" + file
	b, err := s.ReadFile(ctx, path)
	if errors.Is(err, kernel.ErrNotRecorded) {
		return nil // by a nictune that did not ask
	}
	var v uint64
	if err == nil {
		if v, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, bits); err != nil {
			err = fmt.Errorf("%w: %s holds %.40q", kernel.ErrMalformed, path, b)
		}
	}
	if err != nil {
		n.missed(fact, err)
		return nil
	}
	return &v
}

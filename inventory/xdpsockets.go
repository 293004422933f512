package inventory

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// boundSocket is an AF_XDP socket that is bound to a queue.
type boundSocket struct {
	device int // its index
	queue  uint32
}

// readXDPSockets finds the queues that AF_XDP sockets are bound to. The netdev
// family tells since Linux 6.15; before that only sock_diag does, whose module
// the kernel loads for the question. So it is asked only where the kernel counts
// such sockets.
func readXDPSockets(ctx context.Context, r kernel.Reader) ([]boundSocket, error) {
	var bound []boundSocket
	queues, err := r.Netlink(ctx, kernel.Request{Family: kernel.FamilyNetdev, Command: uapi.NETDEV_CMD_QUEUE_GET, Dump: true})
	if err != nil && kernel.ReasonOf(err) != kernel.Unsupported {
		return nil, err
	}
	for _, m := range queues {
		index, q, err := decodeNetdevQueue(m.Body)
		if err != nil {
			return bound, err
		}
		s := boundSocket{index, q.ID}
		if q.XSK && !slices.Contains(bound, s) { // rx and tx are two queues of one number
			bound = append(bound, s)
		}
	}
	protocols, err := r.ReadFile(ctx, "/proc/net/protocols")
	if err != nil {
		if kernel.ReasonOf(err) == kernel.Gone { // no /proc: a tree
			err = nil
		}
		return bound, err
	}
	if !countsXDPSockets(protocols) {
		return bound, nil
	}
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilySockDiag, Command: uapi.SOCK_DIAG_BY_FAMILY, Dump: true, Body: xdpDiagRequest(),
	})
	for _, m := range messages {
		s, ok, fault := decodeXDPSocket(m.Body)
		if fault != nil {
			return bound, fault
		}
		if ok && !slices.Contains(bound, s) {
			bound = append(bound, s)
		}
	}
	if err != nil && len(bound) == 0 {
		return nil, fmt.Errorf("there are AF_XDP sockets, and on which queues can't be told: %w", err)
	}
	return bound, nil
}

// countsXDPSockets reads /proc/net/protocols: "XDP 1024 2 ...", the third field
// counts sockets.
func countsXDPSockets(protocols []byte) bool {
	for line := range strings.Lines(string(protocols)) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[0] == "XDP" {
			return fields[2] != "0"
		}
	}
	return false
}

// xdpDiagRequest is struct xdp_diag_req of linux/xdp_diag.h.
func xdpDiagRequest() []byte {
	b := make([]byte, 20)
	b[0] = uapi.AF_XDP
	binary.NativeEndian.PutUint32(b[8:], uapi.XDP_SHOW_INFO)
	return b
}

// decodeXDPSocket decodes struct xdp_diag_msg and its attributes. A socket that
// is not bound has none of interest.
func decodeXDPSocket(body []byte) (s boundSocket, ok bool, err error) {
	const header = 16
	a := kernel.AttributesAfter(body, header)
	for a.Next() {
		if a.Type == uapi.XDP_DIAG_INFO && len(a.Data) >= 8 {
			s = boundSocket{int(binary.NativeEndian.Uint32(a.Data)), binary.NativeEndian.Uint32(a.Data[4:])}
		}
	}
	return s, s.device != 0, a.Err()
}

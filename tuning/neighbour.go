package tuning

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// neighbourHeader is the size of struct ndmsg.
const neighbourHeader = 12

// neighbour is an entry of the kernel's neighbour table, what ip neigh shows.
type neighbour struct {
	// state is as ip neigh prints it ("REACHABLE", "STALE", ...), and "NONE" where
	// there is no entry.
	state string
	// static entries are somebody's word and not the network's: they are set by
	// hand, by a routing daemon, or the link needs none. The kernel does not
	// probe them.
	static bool
}

// reachable says that the neighbour answered within the last half minute or so.
func (n neighbour) reachable() bool { return n.state == "REACHABLE" }

// known says that the kernel has the neighbour's link-layer address and has not
// given up on it.
func (n neighbour) known() bool {
	return n.state == "REACHABLE" || n.state == "STALE" || n.state == "DELAY" || n.state == "PROBE"
}

// readNeighbour looks an address up in the table of a device, by its index.
func readNeighbour(ctx context.Context, r kernel.Reader, device int, address netip.Addr) (neighbour, error) {
	none := neighbour{state: "NONE"}
	messages, err := r.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETNEIGH, Body: neighbourBody(device, address, 0, 0),
	})
	switch {
	case kernel.ReasonOf(err) == kernel.Unsupported: // ENOENT
		return none, nil
	case err != nil:
		return none, fmt.Errorf("neighbour %s: %w", address, err)
	}
	if len(messages) == 0 {
		return none, nil
	}
	body := messages[0].Body
	if len(body) < neighbourHeader {
		return none, fmt.Errorf("neighbour %s: %w: %d bytes where an ndmsg is due", address, kernel.ErrMalformed, len(body))
	}
	state, flags := binary.NativeEndian.Uint16(body[8:]), body[10]
	n := neighbour{state: neighbourState(state)}
	n.static = state&(uapi.NUD_PERMANENT|uapi.NUD_NOARP) != 0 || flags&uapi.NTF_EXT_LEARNED != 0
	a := kernel.AttributesAfter(body, neighbourHeader)
	for a.Next() {
		if a.Type == uapi.NDA_FLAGS_EXT && a.Uint32()&(uapi.NTF_EXT_MANAGED|uapi.NTF_EXT_EXT_VALIDATED) != 0 {
			n.static = true
		}
	}
	return n, a.Err()
}

// probeNeighbour makes the kernel ask a neighbour whether it is there, as it does
// before it sends it a packet. What comes of it is in the table a moment later.
// A static entry is never touched.
func probeNeighbour(ctx context.Context, w kernel.Writer, device int, address netip.Addr) error {
	n, err := readNeighbour(ctx, w, device, address)
	if err != nil || n.static {
		return err
	}
	request := kernel.Request{Family: kernel.FamilyRoute, Command: uapi.RTM_NEWNEIGH}
	if n.known() {
		request.Body = neighbourBody(device, address, uapi.NUD_PROBE, 0) // asks at once, where its use would wait for seconds
	} else {
		request.Create, request.Body = true, neighbourBody(device, address, uapi.NUD_NONE, uapi.NTF_USE)
	}
	if err := w.NetlinkSet(ctx, request); err != nil {
		return fmt.Errorf("probe the neighbour %s: %w", address, err)
	}
	return nil
}

func neighbourBody(device int, address netip.Addr, state uint16, flags byte) []byte {
	header := make([]byte, neighbourHeader)
	header[0] = uapi.AF_INET6
	if address.Is4() {
		header[0] = uapi.AF_INET
	}
	binary.NativeEndian.PutUint32(header[4:], uint32(device))
	binary.NativeEndian.PutUint16(header[8:], state)
	header[10] = flags
	return kernel.Body(header).Bytes(uapi.NDA_DST, address.AsSlice())
}

func neighbourState(state uint16) string {
	switch state {
	case uapi.NUD_NONE:
		return "NONE"
	case uapi.NUD_INCOMPLETE:
		return "INCOMPLETE"
	case uapi.NUD_REACHABLE:
		return "REACHABLE"
	case uapi.NUD_STALE:
		return "STALE"
	case uapi.NUD_DELAY:
		return "DELAY"
	case uapi.NUD_PROBE:
		return "PROBE"
	case uapi.NUD_FAILED:
		return "FAILED"
	case uapi.NUD_NOARP:
		return "NOARP"
	case uapi.NUD_PERMANENT:
		return "PERMANENT"
	}
	return fmt.Sprintf("0x%x", state)
}

package inventory

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/nictune/nictune/internal/kernel"
)

// UDPSocket is a socket that can hear groups: one that is bound to a group, or to all
// addresses and to no peer. The kernel doesn't tell which groups a socket is in.
type UDPSocket struct {
	Local netip.AddrPort `json:"local"`
	Inode uint64         `json:"inode"`
	UID   uint32         `json:"uid"`
	// Waiting are the bytes in its receive buffer, by the kernel's reckoning.
	Waiting uint64 `json:"waitingBytes"`
	// Drops are the datagrams that it lost since it was opened, nearly always because
	// its buffer was full. The counter has 32 bits and wraps.
	Drops uint32 `json:"drops"`
	// Processes have it open, as "feed (process 4711)". Looked for of sockets that lost
	// something, and as far as the caller may see.
	Processes []string `json:"processes,omitempty"`
}

// Group reports whether it is bound to a group.
func (s UDPSocket) Group() bool { return s.Local.Addr().IsMulticast() }

// readUDPSockets reads those of the caller's network namespace.
func readUDPSockets(ctx context.Context, r kernel.Reader) ([]UDPSocket, error) {
	sockets := []UDPSocket{} // not nil: none is an answer
	for _, path := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		b, err := r.ReadFile(ctx, path)
		if err != nil {
			if path == "/proc/net/udp6" && kernel.ReasonOf(err) == kernel.Unsupported {
				continue // no IPv6
			}
			return nil, err
		}
		some, err := parseUDPSockets(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		sockets = append(sockets, some...)
	}
	var lossy []uint64
	for _, s := range sockets {
		if s.Drops > 0 {
			lossy = append(lossy, s.Inode)
		}
	}
	if len(lossy) == 0 {
		return sockets, nil
	}
	// Whose they are is more than was asked for: without it there is the port.
	holders, err := r.SocketHolders(ctx, lossy)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	for _, h := range holders {
		i := slices.IndexFunc(sockets, func(s UDPSocket) bool { return s.Inode == h.Inode })
		sockets[i].Processes = append(sockets[i].Processes, fmt.Sprintf("%s (process %d)", h.Command, h.PID))
	}
	return sockets, nil
}

// parseUDPSockets parses /proc/net/udp and udp6 (udp4_format_sock of net/ipv4/udp.c,
// ip6_dgram_sock_seq_show of net/ipv6/datagram.c): a heading, then lines of slot, local
// and remote address and port, state, bytes to send and to receive, timer, retransmits,
// UID, timeout, inode, references, a pointer and drops. Of sockets that can hear no
// groups only the addresses are looked at.
func parseUDPSockets(b []byte) ([]UDPSocket, error) {
	const (
		local, remote, buffers = 1, 2, 4
		uid, inode             = 7, 9
		drops                  = 12
	)
	var sockets []UDPSocket
	heading := true
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if heading || len(f) == 0 {
			heading = false
			continue
		}
		if len(f) <= drops {
			return nil, malformedLine(line)
		}
		to, err1 := hexAddress(f[local])
		from, err2 := hexAddress(f[remote])
		if err := errors.Join(err1, err2); err != nil {
			return nil, malformedLine(line)
		}
		if s := (UDPSocket{Local: to}); !s.Group() && !(to.Addr().IsUnspecified() && from.Addr().IsUnspecified()) {
			continue
		}
		_, waiting, ok := bytes.Cut(f[buffers], []byte(":"))
		w, err1 := strconv.ParseUint(string(waiting), 16, 64)
		u, err2 := strconv.ParseUint(string(f[uid]), 10, 32)
		i, err3 := strconv.ParseUint(string(f[inode]), 10, 64)
		d, err4 := strconv.ParseInt(string(f[drops]), 10, 64) // older kernels print it with a sign
		if !ok || errors.Join(err1, err2, err3, err4) != nil || d < -1<<31 || d >= 1<<32 {
			return nil, malformedLine(line)
		}
		sockets = append(sockets, UDPSocket{Local: to, Inode: i, UID: uint32(u), Waiting: w, Drops: uint32(d)})
	}
	return sockets, nil
}

// hexAddress reads "0100007F:0035": an address as numbers of 32 bits that are big-endian
// in memory and printed as the host's, and a port.
func hexAddress(b []byte) (netip.AddrPort, error) {
	words, digits, _ := bytes.Cut(b, []byte(":"))
	port, err := strconv.ParseUint(string(digits), 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	address, err := hex.AppendDecode(nil, words)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for word := range slices.Chunk(address, 4) {
		if len(word) == 4 {
			binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
		}
	}
	ip, ok := netip.AddrFromSlice(address)
	if !ok {
		return netip.AddrPort{}, kernel.ErrMalformed
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

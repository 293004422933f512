package inventory

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
)

// connection is an established TCP connection, by its addresses.
type connection struct {
	local, peer netip.Addr
}

// mostAncestors bounds the walk up from our process.
const mostAncestors = 64

// readSessions finds the SSH connections that the caller's session runs over:
// those of each sshd among our ancestors. The environment does not tell, because
// sudo drops SSH_CONNECTION. In tmux and screen, whose servers are nobody's
// children, it may be any sshd's connection, so all of them count. From a console
// there is none.
func readSessions(ctx context.Context, r kernel.Reader) ([]connection, error) {
	self, err := r.ReadLink(ctx, "/proc/self")
	if err != nil {
		return nil, nil //nolint:nilerr // a recorded host, or none with processes: nobody calls from there
	}
	pid, err := strconv.Atoi(self)
	if err != nil {
		return nil, fmt.Errorf("find your session: /proc/self is %q", self)
	}
	return sessionsOf(ctx, r, pid)
}

// sessionsOf is readSessions for a process.
func sessionsOf(ctx context.Context, r kernel.Reader, pid int) ([]connection, error) {
	var servers []int
	var err error
	detached := false
	for range mostAncestors {
		if pid < 1 {
			break
		}
		var p process
		if p, err = readProcess(ctx, r, pid); err != nil {
			break
		}
		switch {
		case p.isSSHServer():
			servers = append(servers, pid)
		case strings.HasPrefix(p.name, "tmux") || strings.EqualFold(p.name, "screen"):
			detached = true
		}
		pid = p.parent
	}
	if err != nil && kernel.ReasonOf(err) != kernel.Gone {
		return nil, fmt.Errorf("find your session: %w", err)
	}
	if detached && len(servers) == 0 {
		if servers, err = sshServers(ctx, r); err != nil {
			return nil, fmt.Errorf("find your session: %w", err)
		}
	}
	var all []connection
	var faults []error
	for _, pid := range servers {
		found, err := connections(ctx, r, pid)
		if err != nil && kernel.ReasonOf(err) != kernel.Gone {
			faults = append(faults, fmt.Errorf("find the connection of sshd (process %d): %w", pid, err))
		}
		for _, c := range found {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all, errors.Join(faults...)
}

// process is what /proc/PID/stat says.
type process struct {
	name   string // comm, cut to 15 bytes by the kernel
	parent int
}

// isSSHServer knows OpenSSH, whose sessions are processes of their own by the
// name sshd-session since 9.8, and dropbear.
func (p process) isSSHServer() bool {
	return p.name == "sshd" || strings.HasPrefix(p.name, "sshd-") || p.name == "dropbear"
}

func readProcess(ctx context.Context, r kernel.Reader, pid int) (process, error) {
	b, err := r.ReadFile(ctx, fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseStat(string(b))
}

// parseStat reads "1234 (name) S 1 ...". The name may hold blanks and brackets.
func parseStat(s string) (process, error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("%w: a process's stat without a name", kernel.ErrMalformed)
	}
	fields := strings.Fields(s[end+1:])
	const parent = 1 // after the state
	if len(fields) <= parent {
		return process{}, fmt.Errorf("%w: a process's stat without a parent", kernel.ErrMalformed)
	}
	ppid, err := strconv.Atoi(fields[parent])
	if err != nil {
		return process{}, fmt.Errorf("%w: a process's stat with the parent %q", kernel.ErrMalformed, fields[parent])
	}
	return process{name: s[open+1 : end], parent: ppid}, nil
}

// sshServers are all processes of SSH servers.
func sshServers(ctx context.Context, r kernel.Reader) ([]int, error) {
	entries, err := r.ReadDir(ctx, "/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil {
			continue
		}
		if p, err := readProcess(ctx, r, pid); err == nil && p.isSSHServer() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// connections are the established TCP connections that a process holds.
func connections(ctx context.Context, r kernel.Reader, pid int) ([]connection, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, err := r.ReadDir(ctx, dir+"fd")
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, fd := range fds {
		target, err := r.ReadLink(ctx, dir+"fd/"+fd)
		if inode, ok := strings.CutPrefix(target, "socket:["); ok && err == nil {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var found []connection
	var faults []error
	// Of the process's network namespace, which need not be ours.
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		b, err := r.ReadFile(ctx, dir+table)
		if err != nil {
			if kernel.ReasonOf(err) != kernel.Gone { // no IPv6
				faults = append(faults, err)
			}
			continue
		}
		found = append(found, parseTCP(b, inodes)...)
	}
	return found, errors.Join(faults...)
}

// parseTCP reads /proc/net/tcp or tcp6, and gives the established connections
// whose socket is one of inodes. Lines that are none are passed over.
func parseTCP(b []byte, inodes map[string]bool) []connection {
	const (
		local, peer, state, inode = 1, 2, 3, 9 // fields
		established               = "01"
	)
	var found []connection
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) <= inode || fields[state] != established || !inodes[fields[inode]] {
			continue
		}
		here, ok := parseSocketAddress(fields[local])
		there, okay := parseSocketAddress(fields[peer])
		if ok && okay {
			found = append(found, connection{here, there})
		}
	}
	return found
}

// parseSocketAddress reads "0100007F:0016": the address as words of 32 bits in
// the host's byte order, and the port.
func parseSocketAddress(s string) (netip.Addr, bool) {
	address, _, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(address)
	if !ok || err != nil || len(b)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}

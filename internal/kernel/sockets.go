package kernel

import (
	"context"
	"strconv"
	"strings"
)

const opSockets = "look for who holds sockets"

// SocketHolder is a process that has a socket open.
type SocketHolder struct {
	// Inode is the socket's, as /proc/net/udp and ss have it.
	Inode uint64
	PID   int
	// Command is the process's name, which the kernel cuts to 15 bytes.
	Command string
}

// socketHolders looks through the open files of this host's processes, all of it in one
// call: a host has tens of thousands, and only those asked for are anybody's business.
// Processes that are kept from us hold what nobody else does.
func socketHolders(ctx context.Context, inodes []uint64) ([]SocketHolder, error) {
	wanted := make(map[string]uint64, len(inodes))
	for _, inode := range inodes {
		wanted["socket:["+strconv.FormatUint(inode, 10)+"]"] = inode
	}
	entries, err := readDir("/proc")
	if err != nil {
		return nil, err
	}
	var holders []SocketHolder
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil || pid <= 0 {
			continue
		}
		if ctx.Err() != nil {
			return nil, &Error{Op: opSockets, Object: "/proc", Err: ctx.Err()}
		}
		files, _ := readDir("/proc/" + entry + "/fd")
		held := map[uint64]bool{} // a process may have it twice
		for _, file := range files {
			target, _ := readLink("/proc/" + entry + "/fd/" + file)
			inode, ok := wanted[target]
			if !ok || held[inode] {
				continue
			}
			held[inode] = true
			command, _ := readFile("/proc/" + entry + "/comm")
			holders = append(holders, SocketHolder{inode, pid, strings.ToValidUTF8(strings.TrimSpace(string(command)), "\uFFFD")})
		}
	}
	return holders, nil
}

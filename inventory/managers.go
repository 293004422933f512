package inventory

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Manager is a running program that sets NICs up.
type Manager struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}

// readManagers looks among the running processes for those that set NICs up. A
// process that ends meanwhile is none.
func (s *survey) readManagers(ctx context.Context) {
	entries, err := s.ReadDir(ctx, "/proc")
	if err != nil {
		s.missed("managers", err)
		return
	}
	isProcess := func(name string) bool { return strings.Trim(name, "0123456789") == "" }
	switch {
	case slices.Contains(entries, "1"):
	case slices.ContainsFunc(entries, isProcess):
		// Mounted with hidepid= for others than root.
		s.missed("managers", fmt.Errorf("/proc hides other users' processes: %w", fs.ErrPermission))
	default:
		// A copy of another host's /proc.
		s.missed("managers", fmt.Errorf("/proc lists no processes: %w", fs.ErrNotExist))
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil || pid <= 0 {
			continue
		}
		dir := "/proc/" + entry
		comm, err := s.ReadFile(ctx, dir+"/comm")
		if err != nil {
			continue
		}
		name, certain := managerOf(trimmed(comm))
		if name == "" {
			continue
		}
		if !certain {
			cmdline, err := s.ReadFile(ctx, dir+"/cmdline")
			if err != nil || !runs(cmdline, name) || name == ourselves && !enforces(cmdline) {
				continue
			}
		}
		s.host.Managers = append(s.host.Managers, Manager{Name: name, PID: pid})
	}
	slices.SortFunc(s.host.Managers, func(a, b Manager) int { return a.PID - b.PID })
}

// ourselves is nictune's own name among the managers.
const ourselves = "nictune"

// managerOf tells from a process's comm, which the kernel cuts to 15 bytes, which
// manager it may be. Where that is not certain the command line decides: other
// programs of systemd's share the first 15 letters of systemd-networkd. (TuneD is
// a script, but run as a program, and so has its own comm.) Nobody else's command
// line is read: it may hold secrets, and recordings are handed around.
func managerOf(comm string) (name string, certain bool) {
	switch comm {
	case "NetworkManager", "irqbalance", "tuned", "connmand", "wickedd", "dhcpcd", "netifd", "teamd", "ovs-vswitchd",
		"lldpad", "numad":
		return comm, true
	case "systemd-network":
		return "systemd-networkd", false
	case ourselves: // most of its commands only read
		return ourselves, false
	}
	return "", false
}

// runs reports whether a process's NUL-separated command line runs a program.
func runs(cmdline []byte, program string) bool {
	word, _, _ := bytes.Cut(cmdline, []byte{0})
	return path.Base(string(word)) == program
}

// enforces reports whether the command line of a nictune is that of an agent that
// puts drift right.
func enforces(cmdline []byte) bool {
	words := strings.Split(string(cmdline), "\x00")
	if !slices.Contains(words, "agent") {
		return false
	}
	for i, w := range words {
		if w == "--reconcile=enforce" || w == "enforce" && i > 0 && words[i-1] == "--reconcile" {
			return true
		}
	}
	return false
}

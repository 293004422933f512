package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

const opUsers = "look for users of devices"

// namespacePIDs is how many processes of a namespace are kept: enough to say
// whose it is.
const namespacePIDs = 16

// readUsers looks through this host's processes and mounts. All of it in one
// call: a host has tens of thousands of open files, a handful of which matter.
func readUsers(ctx context.Context) (Users, error) {
	var u Users
	if err := seesAll(readLink); err != nil {
		return u, err
	}
	own, err := readLink("/proc/thread-self/ns/net")
	if err != nil {
		return u, err
	}
	found := map[uint64]*Namespace{}
	at := func(inode uint64) *Namespace {
		if found[inode] == nil {
			found[inode] = &Namespace{Inode: inode, Own: own == "net:["+strconv.FormatUint(inode, 10)+"]"}
		}
		return found[inode]
	}
	if inode, ok := namespaceInode(own); ok {
		at(inode)
	}
	mounts, err := readFile("/proc/thread-self/mountinfo")
	if err != nil {
		return u, err
	}
	for inode, paths := range mountedNamespaces(mounts) {
		at(inode).Paths = paths
	}
	entries, err := readDir("/proc")
	if err != nil {
		return u, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry)
		if err != nil || pid <= 0 {
			continue
		}
		if ctx.Err() != nil {
			return u, &Error{Op: opUsers, Object: "/proc", Err: ctx.Err()}
		}
		// A process whose namespace is hidden only fails to give a name to it.
		link, _ := readLink("/proc/" + entry + "/ns/net")
		if inode, ok := namespaceInode(link); ok {
			if ns := at(inode); !ns.Own {
				ns.PIDs = append(ns.PIDs, pid)
			}
		}
		files, err := openDevices(pid)
		if ReasonOf(err) == Denied {
			u.Hidden++
		}
		u.Files = append(u.Files, files...)
	}
	slices.SortFunc(u.Files, func(a, b OpenFile) int {
		if a.PID != b.PID {
			return a.PID - b.PID
		}
		return strings.Compare(a.Path, b.Path)
	})
	u.Files = slices.Compact(u.Files)
	for _, inode := range slices.Sorted(maps.Keys(found)) {
		ns := found[inode]
		slices.Sort(ns.PIDs)
		ns.PIDs = ns.PIDs[:min(len(ns.PIDs), namespacePIDs)]
		u.Namespaces = append(u.Namespaces, *ns)
	}
	return u, nil
}

// seesAll says if /proc shows not all of the host's processes but those of another
// PID namespace than the kernel's first one: whoever holds a device may be outside.
// Process 1 tells whose /proc it is; where it keeps that from us, so do others, which
// are counted.
func seesAll(readLink func(string) (string, error)) error {
	const first = "pid:[4026531836]" // PROC_PID_INIT_INO, linux/proc_ns.h
	ns, err := readLink("/proc/1/ns/pid")
	if err != nil {
		ns, err = readLink("/proc/self/ns/pid")
	}
	if err == nil && ns != first {
		err = &Error{Op: opUsers, Object: "/proc", Err: fmt.Errorf("it shows the processes of one PID namespace only (a container's?): %w", fs.ErrPermission)}
	}
	return err
}

// openDevices are the device files that a process has open and that drive a
// device past the kernel's network stack.
func openDevices(pid int) ([]OpenFile, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	numbers, err := readDir(dir + "/fd")
	if err != nil {
		return nil, err
	}
	var files []OpenFile
	for _, n := range numbers {
		target, err := readLink(dir + "/fd/" + n)
		switch {
		case err != nil: // closed meanwhile
		case drivesDevice(target):
			files = append(files, OpenFile{PID: pid, Path: target})
		case target == "anon_inode:[vfio-device]":
			info, err := readFile(dir + "/fdinfo/" + n)
			if path := vfioDevice(info); err == nil && path != "" {
				files = append(files, OpenFile{PID: pid, Path: path})
			}
		}
	}
	return files, nil
}

// drivesDevice knows the device files of VFIO (groups and single devices), UIO,
// RDMA verbs and vDPA. /dev/vfio/vfio is the container that every user opens.
func drivesDevice(path string) bool {
	for _, prefix := range []string{"/dev/vfio/", "/dev/uio", "/dev/infiniband/uverbs", "/dev/vhost-vdpa-"} {
		if strings.HasPrefix(path, prefix) {
			return path != "/dev/vfio/vfio"
		}
	}
	return false
}

// vfioDevice finds the device in the fdinfo of a VFIO device's file.
func vfioDevice(info []byte) string {
	for line := range bytes.Lines(info) {
		if path, ok := bytes.CutPrefix(line, []byte("vfio-device-syspath:")); ok {
			return string(bytes.ToValidUTF8(bytes.TrimSpace(path), []byte("\uFFFD")))
		}
	}
	return ""
}

// namespaceInode takes the number from "net:[4026531840]".
func namespaceInode(s string) (uint64, bool) {
	s, found := strings.CutPrefix(s, "net:[")
	s, closed := strings.CutSuffix(s, "]")
	n, err := strconv.ParseUint(s, 10, 64)
	return n, found && closed && err == nil
}

// mountedNamespaces finds the network namespaces in a mountinfo file, with where
// they are mounted:
//
//	1213 26 0:4 net:[4026532567] /run/netns/blue rw shared:5 - nsfs nsfs rw
//
// (Documentation/filesystems/proc.rst, 3.5).
func mountedNamespaces(mountinfo []byte) map[uint64][]string {
	mounted := map[uint64][]string{}
	for line := range bytes.Lines(mountinfo) {
		fields := strings.Fields(string(bytes.ToValidUTF8(line, []byte("\uFFFD"))))
		if len(fields) < 5 {
			continue
		}
		if inode, ok := namespaceInode(fields[3]); ok {
			path := unescapeMount(fields[4])
			if !slices.Contains(mounted[inode], path) { // ip netns leaves a mount on a mount
				mounted[inode] = append(mounted[inode], path)
			}
		}
	}
	return mounted
}

// unescapeMount resolves the octal escapes of mountinfo: "\040" for a blank.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// decodeNamespaceID decodes an RTM_NEWNSID message. Minus one is the kernel's
// word for no number.
func decodeNamespaceID(body []byte) (*int, error) {
	a := AttributesAfter(body, netlinkHeader(FamilyRoute, uapi.RTM_GETNSID))
	var id *int
	for a.Next() {
		if a.Type == uapi.NETNSA_NSID {
			if n := int32(a.Uint32()); n >= 0 {
				id = new(int(n))
			}
		}
	}
	return id, a.Err()
}

// NamespaceIDs lists the namespaces that ours has numbers for.
func NamespaceIDs(ctx context.Context, r Reader) ([]int, error) {
	messages, err := r.Netlink(ctx, Request{
		Family: FamilyRoute, Command: uapi.RTM_GETNSID, Dump: true, Body: make([]byte, netlinkHeader(FamilyRoute, uapi.RTM_GETNSID)),
	})
	var ids []int
	for _, m := range messages {
		id, bad := decodeNamespaceID(m.Body)
		if bad != nil {
			return ids, &Error{Op: "route NSID_GET", Err: bad}
		}
		if id != nil {
			ids = append(ids, *id)
		}
	}
	slices.Sort(ids)
	if errors.Is(err, ErrInterrupted) {
		err = nil // every attempt's answers are there
	}
	return slices.Compact(ids), err
}

// usersLines writes users as a recording has them.
func usersLines(u Users) []string {
	var lines []string
	for _, f := range u.Files {
		lines = append(lines, fmt.Sprintf("file %d %s", f.PID, quoteWord(f.Path)))
	}
	for _, ns := range u.Namespaces {
		var b strings.Builder
		fmt.Fprintf(&b, "namespace %d", ns.Inode)
		if ns.Own {
			b.WriteString(" own")
		}
		if ns.Closed {
			b.WriteString(" closed")
		}
		if ns.ID != nil {
			fmt.Fprintf(&b, " id %d", *ns.ID)
		}
		for _, pid := range ns.PIDs {
			fmt.Fprintf(&b, " pid %d", pid)
		}
		for _, path := range ns.Paths {
			b.WriteString(" path " + quoteWord(path))
		}
		for _, upper := range ns.Upper {
			fmt.Fprintf(&b, " upper %d %s %s", upper.Lower, quoteWord(upper.Kind), quoteWord(upper.Name))
		}
		lines = append(lines, b.String())
	}
	if u.Hidden > 0 {
		lines = append(lines, fmt.Sprintf("hidden %d", u.Hidden))
	}
	return lines
}

// add reads what usersLines wrote.
func (u *Users) add(line string) error {
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	number := func(s string) int {
		n, e := strconv.ParseUint(s, 10, 31)
		if e != nil && err == nil {
			err = fmt.Errorf("%s is not a number", shorten(s))
		}
		return int(n)
	}
	switch {
	case len(words) == 3 && words[0] == "file":
		u.Files = append(u.Files, OpenFile{PID: number(words[1]), Path: words[2]})
	case len(words) == 2 && words[0] == "hidden":
		u.Hidden = number(words[1])
	case len(words) >= 2 && words[0] == "namespace":
		ns := Namespace{}
		if ns.Inode, err = strconv.ParseUint(words[1], 10, 64); err != nil {
			return fmt.Errorf("%s is not the number of a namespace", shorten(words[1]))
		}
		for words = words[2:]; len(words) > 0; {
			switch {
			case words[0] == "own":
				ns.Own, words = true, words[1:]
				continue
			case words[0] == "closed":
				ns.Closed, words = true, words[1:]
				continue
			case words[0] == "upper" && len(words) > 3:
				ns.Upper = append(ns.Upper, Upper{Lower: number(words[1]), Kind: words[2], Name: words[3]})
				words = words[4:]
				continue
			}
			if len(words) < 2 {
				return fmt.Errorf("%s without a value", shorten(words[0]))
			}
			switch value := words[1]; words[0] {
			case "id":
				ns.ID = new(number(value))
			case "pid":
				ns.PIDs = append(ns.PIDs, number(value))
			case "path":
				ns.Paths = append(ns.Paths, value)
			default:
				return fmt.Errorf("%s is none of own, closed, id, pid, path, upper", shorten(words[0]))
			}
			words = words[2:]
		}
		u.Namespaces = append(u.Namespaces, ns)
	default:
		return fmt.Errorf("%s is none of file, namespace, hidden with what belongs to them", shorten(line))
	}
	return err
}

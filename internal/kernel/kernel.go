// Package kernel is the seam between nictune and the host it runs on: the only
// package that opens a socket, issues an ioctl, or touches /sys and /proc.
//
// A [Reader] asks and changes nothing. A [Writer] can change things too. [Live]
// is both, on the running kernel; a recorded host and a plain directory tree
// are Readers only, so nothing that works on one of them can write by accident.
//
// The package carries bytes and never interprets them beyond what framing
// needs: meaning lives in the rooms above (inventory, tuning, ...). It does not
// log, run programs, read the environment, or keep state that outlives a
// Reader.
package kernel

import (
	"context"
	"net"
)

// A Reader answers questions about one host. No method changes the host.
//
// Every method gives up when its context ends, even when a driver holds the
// calling thread inside the kernel. Errors are [*Error] values where the kernel
// (or a recording of it) answered; [ReasonOf] sorts any error into unsupported,
// gone, denied or failed.
type Reader interface {
	// ReadFile returns what a file under /sys, /proc or /etc holds, by its
	// absolute path on the host.
	ReadFile(ctx context.Context, path string) ([]byte, error)
	// ReadDir returns the names in a directory, sorted.
	ReadDir(ctx context.Context, path string) ([]string, error)
	// ReadLink returns the target of a symbolic link as it is written there.
	ReadLink(ctx context.Context, path string) (string, error)
	// Netlink sends one get or dump request and returns all of its answers.
	//
	// With an error come the answers that were there before it: the kernel ends
	// an ethtool dump at the first device whose driver fails, and those after it
	// are neither in the answers nor in the error. A dump that kept changing
	// while it was read comes back with the answers of every attempt in order
	// and an error that wraps [ErrInterrupted]: a caller that files answers by
	// device, the later over the earlier, has lost none that was there
	// throughout.
	Netlink(ctx context.Context, req Request) ([]Message, error)
	// Ethtool issues one SIOCETHTOOL ioctl that reads. arg is the command's
	// struct from linux/ethtool.h in the host's byte order, its first four bytes
	// the command; the answer is that struct as the kernel left it, which may lie
	// in arg.
	// A command that is not one of the kernel's ETHTOOL_G* reads is refused.
	Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error)
	// DriverInfo is ETHTOOL_GDRVINFO, what `ethtool -i` shows.
	DriverInfo(ctx context.Context, device string) (DriverInfo, error)
	// Counters is the driver's own statistics, what `ethtool -S` shows, in the
	// driver's order.
	Counters(ctx context.Context, device string) ([]Counter, error)
	// Machine is what the firmware says of the machine.
	Machine(ctx context.Context) (Machine, error)
	// PCINames looks a PCI function's modalias up in the host's pci.ids.
	PCINames(ctx context.Context, modalias string) (PCINames, error)
	// Irqbalance is what a running irqbalance says of its settings: the answer to
	// "setup" on its socket. Where none listens that is unsupported; everybody but
	// root is denied. No recording holds it: it is asked when interrupts are to be
	// moved.
	Irqbalance(ctx context.Context) ([]byte, error)
	// Users is who holds network devices where a netlink dump does not look:
	// processes that drive one by a device file, and other network namespaces.
	Users(ctx context.Context) (Users, error)
	// SocketHolders are the processes that have sockets of these inodes open, as far
	// as the caller may see. No recording holds it: /proc has processes of all kinds.
	SocketHolders(ctx context.Context, inodes []uint64) ([]SocketHolder, error)
}

// A Writer can change the host, too. Only Live is one.
//
// The engine in package tuning is what decides that a write may happen; code
// elsewhere takes a Reader.
type Writer interface {
	Reader
	// WriteFile writes data to an existing file under /sys or /proc with one
	// write call. It never creates a file.
	WriteFile(ctx context.Context, path string, data []byte) error
	// NetlinkSet sends one request that changes something and waits for the
	// kernel's acknowledgement.
	NetlinkSet(ctx context.Context, req Request) error
	// EthtoolSet issues one SIOCETHTOOL ioctl that writes, shaped as for
	// Ethtool.
	EthtoolSet(ctx context.Context, device string, arg []byte) ([]byte, error)
	// MulticastAddress adds a link-layer group to a device's own, or takes one
	// away that was added, as `ip maddr` does.
	MulticastAddress(ctx context.Context, device string, address net.HardwareAddr, add bool) error
	// IrqbalanceSet sends a running irqbalance a request, such as "settings ban
	// irqs 24 25", and returns when it has dealt with it. What came of it
	// Irqbalance tells.
	IrqbalanceSet(ctx context.Context, request string) error
	// UdevRules puts a file into [UdevRulesDir], in place of one of its name, or with
	// nil takes it away. udev sees that by itself when it next has something to do, but
	// looks no more often than every three seconds.
	UdevRules(ctx context.Context, name string, rules []byte) error
}

// Families that a Request can name. Any generic netlink family works by its
// name; these are the ones that nictune speaks.
const (
	FamilyRoute   = "route"   // NETLINK_ROUTE
	FamilyControl = "nlctrl"  // the generic netlink controller
	FamilyEthtool = "ethtool" // linux/ethtool_netlink.h
	FamilyNetdev  = "netdev"  // linux/netdev.h
	FamilyDevlink = "devlink" // linux/devlink.h
	// FamilySockDiag is NETLINK_SOCK_DIAG, what ss asks. The kernel loads the
	// module that answers for a kind of socket when it is first asked.
	FamilySockDiag = "sock_diag"
)

// Request is one netlink request, without the headers that framing adds.
type Request struct {
	// Family is FamilyRoute, FamilySockDiag or the name of a generic netlink
	// family.
	Family string
	// Command is the message type of a route or sock_diag request (RTM_GETLINK),
	// or the command of a generic netlink one (ETHTOOL_MSG_RINGS_GET).
	Command uint16
	// Dump asks for every object instead of one.
	Dump bool
	// Create lets a route request that writes make the object where there is
	// none (NLM_F_CREATE).
	Create bool
	// Body is what follows the nlmsghdr of a route request (an ifinfomsg and
	// attributes), or the genlmsghdr of a generic one (attributes).
	Body []byte
}

// Message is one answer, without the headers that framing added.
type Message struct {
	// Command is the message type (route) or command (generic netlink).
	Command uint16
	// Body is as in Request. It stays valid for as long as it is held.
	Body []byte
}

// DriverInfo is struct ethtool_drvinfo, without its counts.
type DriverInfo struct {
	Driver       string `json:"driver"`
	Version      string `json:"version,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	ExpansionROM string `json:"expansionROM,omitempty"`
	Bus          string `json:"bus,omitempty"`
}

// Counter is one of a driver's own statistics.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Machine is a machine's identity as its firmware gives it, in SMBIOS or a
// device tree. What the firmware leaves out is empty.
type Machine struct {
	Vendor      string `json:"vendor,omitempty"`
	Product     string `json:"product,omitempty"`
	Version     string `json:"version,omitempty"`
	BIOSVendor  string `json:"biosVendor,omitempty"`
	BIOSVersion string `json:"biosVersion,omitempty"`
	BIOSDate    string `json:"biosDate,omitempty"`
}

// Users are the processes and namespaces that may hold a network device.
type Users struct {
	// Files are the open device files by which a program drives a device past the
	// kernel's network stack, ordered by process and path.
	Files []OpenFile
	// Namespaces are the network namespaces that a process is in or that are
	// mounted, our own included, ordered by inode.
	Namespaces []Namespace
	// Hidden is how many processes did not let us see their open files: not zero for
	// a caller without CAP_SYS_PTRACE.
	Hidden int
}

// OpenFile is a device file that a process has open.
type OpenFile struct {
	PID int
	// Path is that of the device file: "/dev/vfio/12". Of a VFIO device whose
	// group file is closed or was passed on it is the device's own directory
	// below /sys, where the kernel (6.18 and newer) tells it.
	Path string
}

// Namespace is a network namespace.
type Namespace struct {
	// Inode is what identifies it on this host: the number in "net:[4026531840]".
	Inode uint64
	// ID is its number as seen from our namespace (`ip netns list-id`), absent
	// where it has none. The kernel gives it one when a device is moved there.
	ID *int
	// Own is set for the namespace that we are in.
	Own bool
	// Paths are where it is mounted: "/run/netns/blue".
	Paths []string
	// PIDs are the processes in it; of our own none is listed.
	PIDs []int
	// Upper are the devices in it that are built on one of ours. Closed says that
	// these could not be looked for.
	Upper  []Upper
	Closed bool
}

// Upper is a network device in another namespace that is built on one of ours.
type Upper struct {
	// Lower is our device's index.
	Lower int
	// Kind is "macvlan", "ipvlan", "vlan"; Name is what it is called over there.
	Kind, Name string
}

// PCINames are the words of pci.ids for one PCI function. A word that the
// database lacks is empty.
type PCINames struct {
	Vendor    string `json:"vendor,omitempty"`
	Device    string `json:"device,omitempty"`
	Subsystem string `json:"subsystem,omitempty"`
	Class     string `json:"class,omitempty"`
}

package archtest

// module is the module's path, and the prefix of our own imports.
const module = "github.com/nictune/nictune"

// A room is a folder with a purpose of its own and whatever lies below it, up to the next room.
type room struct {
	path    string   // slash-separated, relative to the module's root
	imports []string // rooms whose packages it may import, besides its own; "*" for all
}

// rooms is the house: DESIGN's import table. A new room gets a row here and in docs/ARCHITECTURE.md.
var rooms = []room{
	{"internal/kernel", nil},
	{"inventory/module", nil},
	{"inventory", []string{"internal/kernel", "inventory/module"}},
	{"findings", []string{"inventory"}},
	{"policies", []string{"inventory"}},
	{"tuning", []string{"inventory", "internal/kernel", "policies"}},
	{"tuning/settings", []string{"inventory", "internal/kernel", "tuning", "sriov"}},
	{"sriov", []string{"inventory", "internal/kernel", "tuning", "findings"}},
	{"xdpcheck", []string{"inventory", "internal/kernel", "findings"}},
	{"cabletest", []string{"inventory", "internal/kernel"}},
	{"audit", []string{"inventory", "inventory/module", "internal/kernel", "policies", "tuning", "findings", "sriov", "xdpcheck"}},
	{"exporters", []string{"inventory", "inventory/module", "policies", "tuning", "findings", "audit", "sriov", "xdpcheck", "fleet"}},
	{"agent", []string{"inventory", "inventory/module", "internal/kernel", "policies", "tuning", "findings", "audit", "sriov", "xdpcheck", "exporters"}},
	{"fleet", []string{"inventory", "policies", "tuning", "findings", "audit"}},
	{"cmd", []string{"*"}},

	// Not part of the product: they test, measure or boot it, and no room above may import them.
	{"lab", []string{"*"}},
	{"internal/bench", []string{"*"}},
	{"internal/archtest", nil},
}

// An owned import (the package and everything below it) may only appear in the named rooms.
type owned struct {
	path  string
	rooms []string
	why   string
}

var ownedImports = []owned{
	{"golang.org/x/sys", []string{"internal/kernel", "lab", "internal/bench"}, "only the seam talks to the kernel"},
	{"syscall", []string{"internal/kernel", "tuning", "cmd", "lab", "internal/bench"}, "only the seam talks to the kernel; tuning locks its state directory; cmd knows signals"},
	{"unsafe", []string{"internal/kernel", "lab", "internal/bench"}, "only the seam knows the kernel's memory layouts"},
	{"C", nil, "bin/nictune is static: CGO_ENABLED=0"},
	{"plugin", nil, "a root agent that loads nothing is easy to trust"},
	{"github.com/safchain/ethtool", []string{"internal/kernel"}, "only the seam talks to the kernel"},
	{"github.com/jaypipes/ghw", []string{"internal/kernel"}, "only the seam reads /sys and /proc"},
	{"github.com/jaypipes/pcidb", []string{"internal/kernel"}, "only the seam reads the host's files"},
	{"github.com/k8snetworkplumbingwg/sriovnet", []string{"internal/kernel"}, "only the seam reads and writes /sys"},
	{"github.com/mdlayher/netlink", []string{"internal/kernel"}, "only the seam opens sockets"},
	{"github.com/mdlayher/genetlink", []string{"internal/kernel"}, "only the seam opens sockets"},
	{"github.com/mdlayher/ethtool", []string{"internal/kernel"}, "only the seam opens sockets"},
	{"github.com/vishvananda/netlink", []string{"internal/kernel"}, "only the seam opens sockets"},
	{"github.com/cilium/ebpf", []string{"xdpcheck"}, "only the probe loads programs"},
	{"github.com/cilium/ebpf/rlimit", nil, "its initialiser changes RLIMIT_MEMLOCK and makes a map in every command"},
	{"cel.dev/cel-go", []string{"policies"}, "one language of conditions, with one environment"},
	{"github.com/prometheus/client_golang", []string{"exporters", "cmd"}, "only exporters and cmd know Prometheus"},
	{"github.com/prometheus/exporter-toolkit", []string{"exporters", "cmd"}, "only exporters and cmd serve"},
	{"github.com/spf13/cobra", []string{"cmd"}, "commands and flags live in cmd"},
	{"log", []string{"cmd", "lab", "internal/bench"}, "libraries return errors and findings; only cmd logs"},
	{"os/exec", []string{"lab", "internal/bench"}, "a root agent that runs no programs is easy to trust"},
}

// An ownedCall is a function of the standard library that only the named rooms may call.
type ownedCall struct {
	pkg   string // import path
	funcs []string
	rooms []string
	why   string
}

var ownedCalls = []ownedCall{
	{
		"os", []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv", "Clearenv"},
		[]string{"cmd", "lab", "internal/bench"}, "only cmd reads the environment",
	},
	{
		"os", []string{"Exit"},
		[]string{"cmd", "lab", "internal/bench"}, "libraries return errors; only cmd decides to end",
	},
	{
		"os", []string{"StartProcess"}, []string{"cmd"}, "only cmd starts its own binary once more (decision 10)",
	},
	{
		// Files: the seam reads /sys and /proc. The other rooms here own files that aren't the kernel's:
		// tuning its journal, policies the documents it is given, exporters the textfile, fleet its reports.
		"os", []string{
			"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "CreateTemp", "ReadFile", "WriteFile", "ReadDir",
			"DirFS", "CopyFS", "Readlink", "Stat", "Lstat", "Mkdir", "MkdirAll", "MkdirTemp", "Remove", "RemoveAll",
			"Rename", "Symlink", "Link", "Truncate", "Chmod", "Chown", "Chtimes", "Chdir",
		},
		[]string{"internal/kernel", "cmd", "tuning", "policies", "exporters", "fleet", "lab", "internal/bench"},
		"only the seam reads /sys and /proc; a room with files of its own is named in internal/archtest",
	},
	{
		"path/filepath", []string{"Walk", "WalkDir", "Glob", "EvalSymlinks"},
		[]string{"internal/kernel", "cmd", "policies", "fleet", "lab", "internal/bench"}, "only the seam reads /sys and /proc",
	},
	{
		"net", []string{"Dial", "DialTimeout", "Listen", "ListenPacket", "Interfaces", "InterfaceByName", "InterfaceByIndex", "InterfaceAddrs"},
		[]string{"internal/kernel", "cmd", "lab", "internal/bench"}, "only the seam asks the kernel; only cmd listens",
	},
}

// ownBinary is the one program that os.StartProcess may start, written out.
const ownBinary = "/proc/self/exe"

// kernelFiles are the rooms that may hand a path under /sys or /proc to a function of ownedCalls: the seam. The
// rooms that own other files still may not.
var kernelFiles = []string{"internal/kernel", "lab", "internal/bench"}

// forbiddenNames are package names that say nothing about what lives there.
var forbiddenNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "base"}

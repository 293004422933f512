package kernel

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// ioctlReads are the commands of SIOCETHTOOL that only read, by name. What is
// not here is refused by Ethtool. ETHTOOL_GEEPROM and ETHTOOL_GREGS are left
// out: some devices stall while they are read. ETHTOOL_PERQUEUE reads or writes
// by its sub-command and is looked at more closely.
var ioctlReads = map[uint32]string{
	uapi.ETHTOOL_GSET:          "GSET",
	uapi.ETHTOOL_GDRVINFO:      "GDRVINFO",
	uapi.ETHTOOL_GWOL:          "GWOL",
	uapi.ETHTOOL_GMSGLVL:       "GMSGLVL",
	uapi.ETHTOOL_GLINK:         "GLINK",
	uapi.ETHTOOL_GCOALESCE:     "GCOALESCE",
	uapi.ETHTOOL_GRINGPARAM:    "GRINGPARAM",
	uapi.ETHTOOL_GPAUSEPARAM:   "GPAUSEPARAM",
	uapi.ETHTOOL_GSTRINGS:      "GSTRINGS",
	uapi.ETHTOOL_GSTATS:        "GSTATS",
	uapi.ETHTOOL_GPERMADDR:     "GPERMADDR",
	uapi.ETHTOOL_GFLAGS:        "GFLAGS",
	uapi.ETHTOOL_GPFLAGS:       "GPFLAGS",
	uapi.ETHTOOL_GRXFH:         "GRXFH",
	uapi.ETHTOOL_GRXRINGS:      "GRXRINGS",
	uapi.ETHTOOL_GRXCLSRLCNT:   "GRXCLSRLCNT",
	uapi.ETHTOOL_GRXCLSRULE:    "GRXCLSRULE",
	uapi.ETHTOOL_GRXCLSRLALL:   "GRXCLSRLALL",
	uapi.ETHTOOL_GSSET_INFO:    "GSSET_INFO",
	uapi.ETHTOOL_GRXFHINDIR:    "GRXFHINDIR",
	uapi.ETHTOOL_GFEATURES:     "GFEATURES",
	uapi.ETHTOOL_GCHANNELS:     "GCHANNELS",
	uapi.ETHTOOL_GET_TS_INFO:   "GET_TS_INFO",
	uapi.ETHTOOL_GMODULEINFO:   "GMODULEINFO",
	uapi.ETHTOOL_GMODULEEEPROM: "GMODULEEEPROM",
	uapi.ETHTOOL_GEEE:          "GEEE",
	uapi.ETHTOOL_GRSSH:         "GRSSH",
	uapi.ETHTOOL_GTUNABLE:      "GTUNABLE",
	uapi.ETHTOOL_GPHYSTATS:     "GPHYSTATS",
	uapi.ETHTOOL_PERQUEUE:      "PERQUEUE",
	uapi.ETHTOOL_GLINKSETTINGS: "GLINKSETTINGS",
	uapi.ETHTOOL_PHY_GTUNABLE:  "PHY_GTUNABLE",
	uapi.ETHTOOL_GFECPARAM:     "GFECPARAM",
}

// ioctlCommand is the first field of every struct of SIOCETHTOOL; zero, which
// is no command, where it is missing.
func ioctlCommand(arg []byte) uint32 {
	if len(arg) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(arg)
}

// ioctlOp is the Op of an error about a command.
func ioctlOp(command uint32) string {
	if name, ok := ioctlReads[command]; ok {
		return "SIOCETHTOOL " + name
	}
	return fmt.Sprintf("SIOCETHTOOL %#x", command)
}

// checkIoctl refuses what could not be asked of any device.
func checkIoctl(device string, arg []byte) error {
	command := ioctlCommand(arg)
	var err error
	switch {
	case command == 0:
		err = fmt.Errorf("%w: no command in %d bytes", syscall.EINVAL, len(arg))
	case len(arg) > ioctlArena/2:
		err = fmt.Errorf("%w: a struct of %d bytes", syscall.EINVAL, len(arg))
	case device == "" || len(device) >= ifnamsiz:
		err = fmt.Errorf("%w: not a name that a network device can have", syscall.ENODEV)
	}
	if err != nil {
		return &Error{Op: ioctlOp(command), Object: device, Err: err}
	}
	return nil
}

// checkIoctlReads refuses a command that could change something.
func checkIoctlReads(device string, arg []byte) error {
	command := ioctlCommand(arg)
	_, reads := ioctlReads[command]
	if command == uapi.ETHTOOL_PERQUEUE {
		const subCommand = 4 // struct ethtool_per_queue_op
		reads = len(arg) >= 2*subCommand && binary.NativeEndian.Uint32(arg[subCommand:]) == uapi.ETHTOOL_GCOALESCE
	}
	if !reads {
		return &Error{Op: ioctlOp(command), Object: device, Err: ErrReadOnly}
	}
	return checkIoctl(device, arg)
}

const (
	ifnamsiz   = 16 // IFNAMSIZ
	ioctlArena = 4 << 20
)

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/safchain/ethtool"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// driverInfo is ETHTOOL_GDRVINFO, by the library. See deep.
func driverInfo(library *ethtool.Ethtool, device string) (DriverInfo, error) {
	var info ethtool.DrvInfo
	err := checkDevice(device)
	if err == nil {
		deep(func() { info, err = library.DriverInfo(device) })
	}
	if err != nil {
		return DriverInfo{}, &Error{Op: ioctlOp(uapi.ETHTOOL_GDRVINFO), Object: device, Err: err}
	}
	valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
	return DriverInfo{
		Driver: valid(info.Driver), Version: valid(info.Version), Firmware: valid(info.FwVersion),
		ExpansionROM: valid(info.EromVersion), Bus: valid(info.BusInfo),
	}, nil
}

const (
	countersTries = 3
	stringLength  = uapi.ETH_GSTRING_LEN
)

// counters reads names and values one after the other. A device can change
// their number in between (with its channels, say); then both are read again.
//
// This does without the library because it returns a map, which has lost the
// driver's order and every name that the driver uses twice.
func counters(device string, ioctl func(arg []byte) ([]byte, error)) ([]Counter, error) {
	for range countersTries {
		out, changed, err := countersOnce(ioctl)
		switch {
		case changed:
			continue
		case err == nil:
			return out, nil
		}
		if !errors.As(err, new(*Error)) {
			err = &Error{Op: ioctlOp(uapi.ETHTOOL_GSTATS), Object: device, Err: err}
		}
		return nil, err
	}
	return nil, &Error{Op: ioctlOp(uapi.ETHTOOL_GSTATS), Object: device, Err: fmt.Errorf(
		"%w: the number of statistics changed in each of %d attempts", syscall.EAGAIN, countersTries)}
}

func countersOnce(ioctl func(arg []byte) ([]byte, error)) (out []Counter, changed bool, err error) {
	n, err := countersCount(ioctl)
	if n == 0 || err != nil {
		return nil, false, err
	}
	const namesHeader, valuesHeader, value = 12, 8, 8 // struct ethtool_gstrings, ethtool_stats, u64
	names := binary.NativeEndian.AppendUint32(make([]byte, 0, namesHeader+n*stringLength), uapi.ETHTOOL_GSTRINGS)
	names = binary.NativeEndian.AppendUint32(names, uapi.ETH_SS_STATS)
	names = binary.NativeEndian.AppendUint32(names, uint32(n))
	if names, err = ioctl(names[:cap(names)]); err != nil {
		return nil, false, err
	}
	values := binary.NativeEndian.AppendUint32(make([]byte, 0, valuesHeader+n*value), uapi.ETHTOOL_GSTATS)
	values = binary.NativeEndian.AppendUint32(values, uint32(n))
	if values, err = ioctl(values[:cap(values)]); err != nil {
		// A kernel that checks the number says EINVAL where it changed.
		return nil, errors.Is(err, syscall.EINVAL), err
	}
	if int(binary.NativeEndian.Uint32(names[8:])) != n || int(binary.NativeEndian.Uint32(values[4:])) != n {
		return nil, true, nil
	}
	out = make([]Counter, n)
	for i := range out {
		name, _, _ := bytes.Cut(names[namesHeader+i*stringLength:][:stringLength], []byte{0})
		out[i] = Counter{
			Name:  strings.ToValidUTF8(string(name), "\uFFFD"),
			Value: binary.NativeEndian.Uint64(values[valuesHeader+i*value:]),
		}
	}
	return out, false, nil
}

// countersCount is how many statistics a device has.
func countersCount(ioctl func(arg []byte) ([]byte, error)) (int, error) {
	// struct ethtool_sset_info: cmd, reserved, a u64 of sets, a u32 for each set.
	const mask, size = 8, 20
	ask := binary.NativeEndian.AppendUint32(make([]byte, 0, size), uapi.ETHTOOL_GSSET_INFO)
	ask = binary.NativeEndian.AppendUint64(ask[:mask], 1<<uapi.ETH_SS_STATS)
	info, err := ioctl(ask[:size])
	if err != nil {
		return 0, err
	}
	if binary.NativeEndian.Uint64(info[mask:]) == 0 {
		return 0, fmt.Errorf("%w: the driver keeps no statistics of its own", syscall.EOPNOTSUPP)
	}
	n := binary.NativeEndian.Uint32(info[mask+8:])
	if n > (ioctlArena/2-ioctlHeader)/stringLength {
		return 0, fmt.Errorf("%w: %d statistics", ErrMalformed, n)
	}
	return int(n), nil
}

// The library that reads the driver's name, safchain/ethtool v0.7.0, hands the
// kernel addresses of variables on its stack as uintptr, which the runtime
// doesn't know to be addresses. When the stack moves between that conversion
// and the system call, the kernel fills the old stack and the library returns
// zeros and no error. A stack moves when a call needs more of it than there is,
// and when the collector finds less than a quarter of it in use.
//
// deep calls f where neither can happen. Its own frame is so large that the
// stack has been grown before f runs, to the next power of two; f's calls, a
// few hundred bytes each, find tens of KiB left, and at least a quarter of the
// stack is in use for as long as f runs.
//
//go:noinline
func deep(f func()) {
	var floor [deepFrame]byte
	touch(&floor)
	f()
}

// deepFrame is a power of two: with what lies above and below it, it takes a
// stack of twice its size, and half of that is in use.
const deepFrame = 64 << 10

// touch keeps the compiler from leaving the frame out.
//
//go:noinline
func touch(*[deepFrame]byte) {}

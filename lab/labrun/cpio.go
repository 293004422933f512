package main

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// file is one file for the guest's root file system.
type file struct {
	mode fs.FileMode // permission bits
	data []byte
}

// writeCPIO writes files, named by their path without a leading slash, as an archive in the
// "newc" format of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The
// kernel unpacks archives that stand one behind the other, so this one adds to the base image.
func writeCPIO(w io.Writer, files map[string]file) error {
	pad := func(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }
	entry := func(inode int, name string, mode uint32, data []byte) error {
		const header = 110
		_, err := fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00%s%s%s",
			inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0,
			name, pad(header+len(name)+1), data, pad(len(data)))
		return err
	}
	const regular = 0o100000
	for i, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		if err := entry(i+1, name, regular|uint32(f.mode.Perm()), f.data); err != nil {
			return err
		}
	}
	return entry(0, "TRAILER!!!", 0, nil)
}

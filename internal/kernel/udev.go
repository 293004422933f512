package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"syscall"
)

// UdevRulesDir has the udev rules that are gone with the next boot.
const UdevRulesDir = "/run/udev/rules.d"

const opUdevRules = "write udev rules"

// writeRules puts a file of rules in place as a whole, or takes it away where there
// is nothing to put. Where there is no udev there is no folder for it.
func writeRules(dir, name string, rules []byte) error {
	file := path.Join(dir, name)
	if !regexp.MustCompile(`^[0-9a-z.-]+\.rules$`).MatchString(name) {
		return &Error{Op: opUdevRules, Object: file, Err: fmt.Errorf("%w: no name for rules", syscall.EINVAL)}
	}
	if rules == nil {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &Error{Op: opUdevRules, Object: file, Err: err}
		}
		return nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return &Error{Op: opUdevRules, Object: file, Err: err}
	}
	const unread = ".new" // udev reads what ends in .rules
	err := os.WriteFile(file+unread, rules, 0o644)
	if err == nil {
		err = os.Rename(file+unread, file)
	}
	if err != nil {
		return &Error{Op: opUdevRules, Object: file, Err: errors.Join(err, os.RemoveAll(file+unread))}
	}
	return nil
}

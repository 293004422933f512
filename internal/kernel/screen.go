package kernel

import (
	"os"

	"golang.org/x/sys/unix"
)

// ScreenWidth is how many columns the terminal has that a file is; ok is false for
// what is no terminal. The width is 0 where the terminal doesn't tell.
func ScreenWidth(f *os.File) (columns int, ok bool) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}

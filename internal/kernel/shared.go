package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Shared is a folder in which this host's processes keep for each other what is slow
// to read, one of them at a time. It is no part of a host that is read: a recording
// has none, and what it holds goes with the next boot where it is below /run.
type Shared struct{ dir string }

// OpenShared makes the folder where it is missing, for its owner only. Without the
// right to write there it fails, as reading and writing do later.
func OpenShared(dir string) (*Shared, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Shared{dir}
	lock, err := s.open()
	if err != nil {
		return nil, err
	}
	return s, lock.Close()
}

func (s *Shared) open() (*os.File, error) {
	return os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
}

// Lock waits until no other process has it, or ctx ends. A process that ends lets go.
func (s *Shared) Lock(ctx context.Context) (release func(), err error) {
	const again = 20 * time.Millisecond
	f, err := s.open()
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("another process holds %s: %w", f.Name(), ctx.Err())
		}
	}
}

// Load returns what was saved under a name last.
func (s *Shared) Load(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(s.dir, name))
}

// Save keeps data under a name, whole or not at all. The lock is held meanwhile.
func (s *Shared) Save(name string, data []byte) error {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

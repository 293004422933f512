package main

import (
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// sharedFolder is where this host's processes keep for each other what they read of
// modules, and take turns. It is gone with the next boot.
const sharedFolder = "/run/nictune"

// modules are those of the host that the flags name. Of a running one they are shared
// with other processes; who may not write there reads by itself, and says so where
// that is worth a line.
func (a *app) modules(h host, flags inventory.Flags, say bool) *inventory.Modules {
	modules := inventory.NewModules()
	modules.Flags = flags
	if h.live == nil {
		return modules
	}
	shared, err := kernel.OpenShared(sharedFolder)
	if err != nil && say {
		a.log.Info("what is read of modules is not shared with other processes, nor do they take turns", "err", err)
	}
	modules.Shared = shared
	return modules
}

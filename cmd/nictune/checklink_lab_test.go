//go:build lab

package main

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/labtest"
)

// No driver of the lab can test cables: each says so, and a test that was not allowed
// is refused before anybody is asked.
//
//lab:seconds 40
func TestCableTestInTheLab(t *testing.T) {
	labtest.Require(t, "nics")
	for _, driver := range []string{"igb", "e1000e", "virtio_net"} {
		name := labtest.NIC(t, driver)
		if _, stderr, exit := nictune(t, "check", "link", "--cable-test", name); exit != exitRefused || !strings.Contains(stderr, "--allow link-flap") {
			t.Errorf("%s, not allowed: %d, %s", driver, exit, stderr)
		}
		for _, more := range [][]string{nil, {"--tdr"}} {
			args := append([]string{"check", "link", "--cable-test", "--allow", "link-flap", name}, more...)
			_, stderr, exit := nictune(t, args...)
			t.Log(stderr)
			if exit != exitError || !strings.Contains(stderr, "not supported") {
				t.Errorf("%s: %d, %s", driver, exit, stderr)
			}
		}
	}
}

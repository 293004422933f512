//go:build lab

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/xdpcheck"
)

// What a profile finds wrong and a policy can mend, passes after that policy was
// applied.
func TestProfileMends(t *testing.T) {
	labtest.Require(t, "nics")
	mended := 0
	for _, driver := range []string{"igb", "virtio_net", "vmxnet3"} {
		name := labtest.NIC(t, driver)
		labtest.Run(t, "ip", "link", "set", name, "up")
		// Something to mend: a ring that is short, an MTU that is large.
		labtest.Run(t, "ip", "link", "set", name, "mtu", "3600")
		for _, profile := range []string{"l4lb", "ddos-filter", "queue-share", "af-xdp"} {
			before := readiness(t, profile, name)
			policy, stderr, exit := nictune(t, "check", "xdp", "--profile", profile, "--as-policy", name)
			if exit != exitOK {
				t.Fatalf("%s for %s: exit %d: %s", name, profile, exit, stderr)
			}
			if !strings.Contains(policy, "kind: TuningPolicy") {
				continue
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "policy.yaml")
			if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, stderr, exit := nictune(t, "apply", "-f", file, "--state-dir", filepath.Join(dir, "state"), "--allow", "nic-reset"); exit != exitOK {
				t.Errorf("%s for %s: apply: exit %d: %s\n%s", name, profile, exit, stderr, policy)
				continue
			}
			after := readiness(t, profile, name)
			for i, item := range before.Items {
				if item.Status == findings.Fail && item.Value != nil {
					mended++
					t.Logf("%s for %s: %s was %q, is %q", name, profile, item.Name, item.Seen, after.Items[i].Seen)
					if after.Items[i].Status != findings.Pass {
						t.Errorf("%s for %s: %s was not mended: %+v", name, profile, item.Name, after.Items[i])
					}
				}
			}
		}
		labtest.Run(t, "ip", "link", "set", name, "mtu", "1500")
	}
	if mended < 4 {
		t.Errorf("only %d items were mended", mended)
	}
}

func readiness(t *testing.T, profile, name string) xdpcheck.Readiness {
	t.Helper()
	out, stderr, _ := nictune(t, "check", "xdp", "--profile", profile, "-o", "json", name)
	var all []xdpcheck.Readiness
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Fatalf("%s for %s: %v, %s", name, profile, err, stderr)
	}
	return all[0]
}

// A NIC whose driver resets it is not probed unless that is allowed, one with a
// program never; one that is probed is as it was.
func TestCheckXDPProbe(t *testing.T) {
	labtest.Require(t, "nics")
	name := labtest.NIC(t, "igb")
	labtest.Run(t, "ip", "link", "set", name, "up")
	if _, stderr, exit := nictune(t, "check", "xdp", "--probe", name); exit != exitRefused || !strings.Contains(stderr, "--allow nic-reset") {
		t.Errorf("without --allow: exit %d, %s", exit, stderr)
	}
	out, stderr, exit := nictune(t, "check", "xdp", "--probe", "--allow", "nic-reset", name)
	if exit != exitOK || !strings.Contains(out, "the driver took a program") {
		t.Errorf("exit %d, %s\n%s", exit, stderr, out)
	}
	if shown := string(labtest.Run(t, "ip", "link", "show", name)); strings.Contains(shown, "xdp") {
		t.Errorf("a program is left: %s", shown)
	}
	closer := nstest.XDPSocket(t, indexOf(t, name), 0)
	if _, stderr, exit := nictune(t, "check", "xdp", "--probe", "--allow", "nic-reset", name); exit != exitRefused || !strings.Contains(stderr, "an AF_XDP socket on queue 0") {
		t.Errorf("with an AF_XDP socket: exit %d, %s", exit, stderr)
	}
	closer()
	labtest.Run(t, "ip", "addr", "add", "192.0.2.2/24", "dev", name)
	labtest.Run(t, "ip", "route", "add", "default", "via", "192.0.2.1")
	defer labtest.Run(t, "ip", "addr", "del", "192.0.2.2/24", "dev", name)
	if _, stderr, exit := nictune(t, "check", "xdp", "--probe", "--allow", "nic-reset", name); exit != exitRefused || !strings.Contains(stderr, "--disrupt "+name) {
		t.Errorf("with the default route: exit %d, %s", exit, stderr)
	}
}

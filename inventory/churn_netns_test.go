package inventory

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestChurn lists the devices and reads their counters 500 times while others
// are created and deleted all the time. None that was there throughout may be
// missing, whatever the kernel's dumps passed over.
func TestChurn(t *testing.T) {
	const steady, rounds = 40, 500
	names := map[string]bool{}
	for i := range steady / 2 {
		a, b := fmt.Sprintf("keep%d", i), fmt.Sprintf("kept%d", i)
		run(t, "ip link add "+a+" type veth peer name "+b)
		t.Cleanup(func() { _ = exec.Command("ip", "link", "del", a).Run() })
		names[a], names[b] = true, true
	}
	live := open(t)

	// One long-lived ip, fed in batches, changes far more often than one each.
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var batch strings.Builder
		for range 20 {
			for i := range 10 {
				fmt.Fprintf(&batch, "link add churn%d type veth peer name nruhc%d\n", i, i)
			}
			for i := range 10 {
				fmt.Fprintf(&batch, "link del churn%d\n", i)
			}
		}
		for ctx.Err() == nil {
			cmd := exec.Command("ip", "-batch", "-")
			cmd.Stdin = strings.NewReader(batch.String())
			if out, err := cmd.CombinedOutput(); err != nil {
				done <- fmt.Errorf("ip -batch: %w: %s", err, out)
				return
			}
		}
		done <- nil
	}()

	changed := false
	before := ""
	for round := range rounds {
		s := surveyed(t, live)
		for _, u := range s.unread {
			t.Errorf("round %d: unread: %+v", round, u)
		}
		seen := 0
		for _, n := range s.nics {
			if names[n.Name] {
				seen++
			}
		}
		if seen != steady {
			t.Fatalf("round %d: %d of %d devices listed", round, seen, steady)
		}
		if now := namesOf(s); before != "" && now != before {
			changed = true
		} else {
			before = now
		}
		all, err := ReadStatistics(t.Context(), live)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		seen = 0
		for _, one := range all {
			if names[one.Name] && len(one.Values) > 0 {
				seen++
			}
		}
		if seen != steady {
			t.Fatalf("round %d: counters of %d of %d devices", round, seen, steady)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !changed {
		t.Error("no device came or went meanwhile")
	}
}

package agent

import (
	"os"
	"slices"
	"testing"

	"github.com/nictune/nictune/inventory"
)

// Interrupts are moved by others than those who set NICs up, and the agent is no
// suspect of its own.
func TestSuspects(t *testing.T) {
	managers := []inventory.Manager{
		{Name: "systemd-networkd", PID: 7}, {Name: "irqbalance", PID: 8}, {Name: "tuned", PID: 9},
		{Name: "nictune", PID: os.Getpid()}, {Name: "nictune", PID: 1 << 30},
	}
	for setting, want := range map[string][]string{
		"irq":   {"irqbalance[8]", "tuned[9]", "nictune[1073741824]"},
		"rings": {"systemd-networkd[7]", "tuned[9]", "nictune[1073741824]"},
	} {
		if got := suspects(managers, setting); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", setting, got, want)
		}
	}
}

package terminal

import (
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
)

func TestRates(t *testing.T) {
	rates := &audit.Rates{
		Seconds: 10.02,
		Queues: []audit.QueueRate{
			{Device: "eth0", Direction: "rx", Queue: new(0), PacketsPerSecond: 100000, Share: 0.8, LostPerSecond: new(12.34)},
			{Device: "eth0", Direction: "rx", Queue: new(1), PacketsPerSecond: 25000, Share: 0.2, LostPerSecond: new(0.0)},
			{Device: "eth0", Direction: "rx", Queue: new(2), LostPerSecond: new(0.0)},
			{Device: "eth0", Direction: "tx", PacketsPerSecond: 3.25, Share: 1},
		},
		CPUs: []audit.CPURate{
			{CPU: 0, SoftIRQ: 0.93, IRQ: 0.04, PacketsPerSecond: 125000, SqueezesPerSecond: 7},
			{CPU: 1, Idle: 1}, {CPU: 2, Idle: 1},
		},
	}
	const red, plain = "\x1b[31m", "\x1b[0m"
	for _, c := range []struct {
		name   string
		screen Screen
		want   string
	}{
		{"a pipe", Screen{}, `10.02 seconds:

QUEUE      PACKETS/S  LOST/S  SHARE
eth0 rx-0     100000      12   80 %
eth0 rx-1      25000       0   20 %
eth0 tx          3.2       -  100 %
1 queue had no packets

CPU  PACKETS/S  DROPS/S  SQUEEZES/S  IRQ+SOFTIRQ
0       125000        0         7.0         97 %
2 CPUs had nothing to receive

`},
		// Wide enough for queues' bars of 13, and for none of CPUs'.
		{"a narrow terminal", Screen{Columns: 50}, `10.02 seconds:

QUEUE      PACKETS/S  LOST/S  SHARE
eth0 rx-0     100000      12   80 %  ##########
eth0 rx-1      25000       0   20 %  ###
eth0 tx          3.2       -  100 %  #############
1 queue had no packets

CPU  PACKETS/S  DROPS/S  SQUEEZES/S  IRQ+SOFTIRQ
0       125000        0         7.0         97 %
2 CPUs had nothing to receive

`},
		{"a terminal in colour", Screen{Columns: 200, Color: true}, `10.02 seconds:

QUEUE      PACKETS/S  LOST/S  SHARE
` + red + `eth0 rx-0     100000      12   80 %  ################################` + plain + `
eth0 rx-1      25000       0   20 %  ########
eth0 tx          3.2       -  100 %  ########################################
1 queue had no packets

CPU  PACKETS/S  DROPS/S  SQUEEZES/S  IRQ+SOFTIRQ
` + red + `0       125000        0         7.0         97 %  #######################################` + plain + `
2 CPUs had nothing to receive

`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b strings.Builder
			if err := Rates(&b, rates, c.screen); err != nil {
				t.Fatal(err)
			}
			if b.String() != c.want {
				t.Errorf("got\n%swant\n%s", b.String(), c.want)
			}
			for line := range strings.Lines(b.String()) {
				bare := strings.NewReplacer(red, "", plain, "", "\n", "").Replace(line)
				if c.screen.Columns > 0 && len(bare) > c.screen.Columns {
					t.Errorf("%d columns on a screen of %d: %q", len(bare), c.screen.Columns, bare)
				}
			}
		})
	}
}

package inventory

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStatisticsAgreeWithSysfs sends packets and compares every counter of every
// device with the kernel's own files.
func TestStatisticsAgreeWithSysfs(t *testing.T) {
	beyond := zoo(t)
	run(t, "nsenter -n -t "+beyond+" ip link set v9 up")
	run(t, "ip link set v8 up")
	run(t, "nsenter -n -t "+beyond+" ip addr add 192.0.2.66/24 dev v9")
	run(t, "ip addr add 192.0.2.65/24 dev v8")
	// The port is closed: the other end answers each with an ICMP error.
	c, err := net.Dial("udp4", "192.0.2.66:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		_, _ = c.Write([]byte("nictune")) // later ones get the error of earlier ones
		time.Sleep(10 * time.Millisecond)
	}
	live := open(t)
	compared, moved := 0, false
	for attempt := range 20 { // until no packet came between the two reads
		var different []string
		all, err := ReadStatistics(t.Context(), live)
		if err != nil {
			t.Fatal(err)
		}
		compared = 0
		for _, s := range all {
			for i, name := range StatisticNames() {
				b, err := os.ReadFile(filepath.Join("/sys/class/net", s.Name, "statistics", name))
				if os.IsNotExist(err) && name == "rx_otherhost_dropped" { // the only one that has no file
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				want, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				if i >= len(s.Values) {
					t.Fatalf("%s: %s is missing", s.Name, name)
				}
				compared++
				moved = moved || s.Name == "v8" && name == "rx_packets" && want >= 3
				if s.Values[i] != want {
					different = append(different, s.Name+" "+name)
				}
			}
		}
		if len(different) == 0 {
			break
		}
		if attempt == 19 {
			t.Errorf("still different: %v", different)
		}
	}
	if entries, err := os.ReadDir("/sys/class/net"); err != nil || compared < (len(entries)-2)*24 {
		t.Errorf("%d counters compared of %d devices: %v", compared, len(entries), err)
	}
	if !moved {
		t.Error("no packet was counted on v8")
	}
}

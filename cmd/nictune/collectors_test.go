package main

import (
	"context"
	"io"
	"strings"
	"testing"
)

// What the flags leave out, a scrape has not.
func TestCollectorFlags(t *testing.T) {
	for _, test := range []struct {
		name       string
		args       []string
		query      string
		has, lacks []string
	}{
		{"a collector off", []string{"--no-collector.link"}, "",
			[]string{`,device="eth1",device_id="`, "go_goroutines"}, []string{"nictune_network_mtu_bytes"}},
		{"one collector only", []string{"--collector.disable-defaults", "--collector.link", "--web.disable-exporter-metrics"}, "",
			[]string{`nictune_network_mtu_bytes{device="eth1"`, "nictune_build_info"}, []string{"nictune_nic_info", "go_goroutines", "promhttp_"}},
		{"a driver", []string{"--collector.driver-include=^igb$"}, "",
			[]string{`,device="eth1",device_id="`}, []string{`driver="virtio_net"`}},
		{"a name", []string{"--collector.device-exclude=^eth1$"}, "",
			[]string{"nictune_nic_info{"}, []string{`device="eth1"`}},
		{"a scrape for one", nil, "?collect[]=link", []string{"nictune_network_mtu_bytes"}, []string{"nictune_nic_info"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			loopback(t)
			s := startInProcess(t, append([]string{"--host", labHost, "--reconcile=off"}, test.args...)...)
			base := "http://" + s.address(t)
			ready(t, base)
			_, page := get(t, base+"/metrics"+test.query)
			for _, text := range test.has {
				if !strings.Contains(page, text) {
					t.Errorf("no %s", text)
				}
			}
			for _, text := range test.lacks {
				if strings.Contains(page, text) {
					t.Errorf("there is %s", text)
				}
			}
			s.end(t)
		})
	}
}

func TestCollectorFlagsThatAreWrong(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--collector.link --no-collector.link", "--collector.link and --no-collector.link contradict each other"},
		{"--collector.device-include=(", "--collector.device-include: error parsing regexp"},
		{"--collector.counter-exclude=(", "--collector.counter-exclude: error parsing regexp"},
		{"--collector.cpufreq", "unknown flag"},
		{"--limit.series-per-collector=-1", "--limit.series-per-collector -1 is negative"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var log lockedBuffer
		exit := run(ctx, append([]string{"agent", "--host", labHost, "--web.listen-address=127.0.0.1:0"}, strings.Fields(test.args)...), io.Discard, &log)
		cancel()
		if exit != exitError || !strings.Contains(log.String(), test.want) {
			t.Errorf("%s: exit %d, want %q in\n%s", test.args, exit, test.want, &log)
		}
	}
}

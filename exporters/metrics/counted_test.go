package metrics

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/nictune/nictune/inventory"
)

// allMeanings has one of each, at zero.
func allMeanings() []inventory.MeaningTotal {
	var all []inventory.MeaningTotal
	for _, m := range inventory.Meanings() {
		all = append(all, inventory.MeaningTotal{Meaning: m.Meaning})
	}
	return all
}

// counted has something of every kind.
func counted() *inventory.Sample {
	return &inventory.Sample{
		Devices: []inventory.DeviceSample{
			{
				Name: "eth0",
				Standard: []inventory.StandardCounter{
					{Group: "fec", Name: "uncorrectable", Value: 3}, {Group: "fec", Name: "corrected-bits", Value: 9}, {Group: "pause", Name: "rx", Value: 7},
					{Group: "eth-mac", Name: "FrameCheckSequenceErrors", Value: 4},
				},
				Set: &inventory.CounterSet{Names: []string{"rx_missed_errors", "", "a \"b\"\n"}}, Driver: []uint64{11, 12, 13},
				Meant: []inventory.MeaningTotal{{Meaning: inventory.Missed, Value: 11}, {Meaning: inventory.PauseReceived, Value: 5}, {Meaning: inventory.QueuePackets, Value: 1}},
				VFs:   []inventory.VFCounters{{VF: 0, RxPackets: 1, TxDropped: 2}, {VF: 1}},
			},
			{Name: "eth1", Meant: allMeanings()},
		},
		Queues: []inventory.DeviceQueue{
			{Name: "eth2", QueueStats: inventory.QueueStats{Direction: "rx", ID: 0, Packets: ptr(uint64(1)), Overruns: ptr(uint64(2)), Drops: ptr(uint64(3))}},
			{Name: "eth2", QueueStats: inventory.QueueStats{Direction: "rx", ID: 1, Bytes: ptr(uint64(4)), Overruns: ptr(uint64(5)), AllocFail: ptr(uint64(6))}},
			{Name: "eth2", QueueStats: inventory.QueueStats{Direction: "tx", ID: 0, Packets: ptr(uint64(7)), Bytes: ptr(uint64(8)), Drops: ptr(uint64(9)), Stops: ptr(uint64(10))}},
		},
		PagePools:     []inventory.DevicePagePool{{Name: "eth2", PagePoolStats: inventory.PagePoolStats{ID: 12, Allocated: 1, Reused: 2}}},
		Softnet:       []inventory.Softnet{{CPU: 3, Processed: 1, Dropped: 2, TimeSqueeze: 3, Collisions: 4, ReceivedRPS: 5, FlowLimit: 6, Backlog: ptr(uint64(7))}, {CPU: 5}},
		Interrupts:    []inventory.DeviceInterrupt{{Name: "eth0", IRQ: 44, Queue: "2", Count: 9, CPUs: []uint64{4, 5}}, {Name: "eth0", IRQ: 45, Count: 1}},
		InterruptCPUs: []int{0, 3},
		AER: []inventory.DeviceErrors{{Name: "eth0", Address: "0000:00:01.0", Errors: []inventory.PCIeErrors{
			{Severity: "correctable", Type: "BadTLP", Count: 1}, {Severity: "fatal", Type: "TLP", Count: 0},
		}}},
	}
}

func TestCountedMetrics(t *testing.T) {
	want := `
nictune_aer_errors_total{device="eth0",pci_address="0000:00:01.0",severity="correctable",type="BadTLP"} 1
nictune_aer_errors_total{device="eth0",pci_address="0000:00:01.0",severity="fatal",type="TLP"} 0
nictune_driver_statistic_total{counter="a \"b\"\n",device="eth0"} 13
nictune_driver_statistic_total{counter="rx_missed_errors",device="eth0"} 11
nictune_fec_uncorrectable_blocks_total{device="eth0"} 3
nictune_fec_uncorrectable_blocks_total{device="eth1"} 0
nictune_irq_total{device="eth0",irq="44",queue="2"} 9
nictune_irq_total{device="eth0",irq="45",queue=""} 1
nictune_network_standard_statistic_total{counter="FrameCheckSequenceErrors",device="eth0",group="eth-mac"} 4
nictune_network_standard_statistic_total{counter="corrected-bits",device="eth0",group="fec"} 9
nictune_network_standard_statistic_total{counter="rx",device="eth0",group="pause"} 7
nictune_network_standard_statistic_total{counter="uncorrectable",device="eth0",group="fec"} 3
nictune_page_pool_allocated_pages_total{device="eth2",pool="12"} 1
nictune_page_pool_reused_pages_total{device="eth2",pool="12"} 2
nictune_pause_receive_frames_total{device="eth0"} 7
nictune_pause_receive_frames_total{device="eth1"} 0
nictune_queue_receive_allocation_failures_total{device="eth2",queue="1"} 6
nictune_queue_receive_bytes_total{device="eth2",queue="1"} 4
nictune_queue_receive_dropped_total{device="eth2",queue="0"} 3
nictune_queue_receive_overruns_total{device="eth2",queue="0"} 2
nictune_queue_receive_overruns_total{device="eth2",queue="1"} 5
nictune_queue_receive_packets_total{device="eth2",queue="0"} 1
nictune_queue_transmit_bytes_total{device="eth2",queue="0"} 8
nictune_queue_transmit_dropped_total{device="eth2",queue="0"} 9
nictune_queue_transmit_packets_total{device="eth2",queue="0"} 7
nictune_queue_transmit_stops_total{device="eth2",queue="0"} 10
nictune_receive_missed_packets_total{device="eth0"} 11
nictune_receive_missed_packets_total{device="eth1"} 0
nictune_receive_no_buffer_packets_total{device="eth1"} 0
nictune_receive_no_buffer_packets_total{device="eth2"} 7
nictune_receive_no_memory_events_total{device="eth1"} 0
nictune_receive_no_memory_events_total{device="eth2"} 6
nictune_softnet_backlog_len{cpu="3"} 7
nictune_softnet_dropped_total{cpu="3"} 2
nictune_softnet_dropped_total{cpu="5"} 0
nictune_vf_receive_packets_total{device="eth0",vf="0"} 1
nictune_vf_receive_packets_total{device="eth0",vf="1"} 0
nictune_vf_transmit_dropped_total{device="eth0",vf="0"} 2
nictune_vf_transmit_dropped_total{device="eth0",vf="1"} 0
`
	e := exporter(t, func() Snapshot { return Snapshot{Counted: counted()} })
	// Twice, so that what is kept of the first is there.
	for range 2 {
		if err := testutil.GatherAndCompare(prometheus.Gatherers{e}, strings.NewReader(withHeads(want)), namesIn(want)...); err != nil {
			t.Error(err)
		}
	}
}

// A source that fails once is not stood in for by another, which has another zero.
func TestMeaningsKeepTheirSource(t *testing.T) {
	s := Snapshot{Counted: &inventory.Sample{
		Devices: []inventory.DeviceSample{{Name: "eth0", Meant: []inventory.MeaningTotal{
			{Meaning: inventory.PauseReceived, Value: 5}, {Meaning: inventory.FECCorrected, Value: 6}, {Meaning: inventory.Missed, Value: 7},
		}}},
		Queues: []inventory.DeviceQueue{
			{Name: "eth0", QueueStats: inventory.QueueStats{Direction: "rx", Overruns: ptr(uint64(8))}},
			{Name: "eth1", QueueStats: inventory.QueueStats{Direction: "rx", Overruns: ptr(uint64(9))}},
		},
	}}
	for _, step := range []struct {
		failures []inventory.SampleFailure
		want     string
	}{
		{nil, "[eth0 5] [eth0 6] [eth0 7] [eth0 8 eth1 9]"},
		{[]inventory.SampleFailure{{Device: "eth0", Part: inventory.PartStandard}}, "[] [] [eth0 7] [eth0 8 eth1 9]"},
		{[]inventory.SampleFailure{{Device: "eth1", Part: inventory.PartDriver}}, "[eth0 5] [eth0 6] [eth0 7] [eth0 8]"},
	} {
		counted := *s.Counted
		counted.Failures = step.failures
		e := exporter(t, func() Snapshot { return Snapshot{Counted: &counted} })
		var got []string
		for _, name := range []string{"pause_receive_frames", "fec_corrected_blocks", "receive_missed_packets", "receive_no_buffer_packets"} {
			got = append(got, fmt.Sprint(gathered(t, e, "nictune_"+name+"_total")))
		}
		if strings.Join(got, " ") != step.want {
			t.Errorf("%v: %v, want %s", step.failures, got, step.want)
		}
	}
}

// namesIn are the metrics of samples.
func namesIn(samples string) []string {
	var names []string
	for line := range strings.Lines(samples) {
		if name, _, ok := strings.Cut(line, "{"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// withHeads puts the catalogue's words before the samples of each metric.
func withHeads(samples string) string {
	var b strings.Builder
	last := ""
	for line := range strings.Lines(samples) {
		name, _, ok := strings.Cut(line, "{")
		if ok && name != last {
			for _, m := range Catalogue() {
				if m.Name == name {
					fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, m.Help, name, m.Type)
				}
			}
			last = name
		}
		b.WriteString(line)
	}
	return b.String()
}

package inventory

import (
	"maps"
	"strconv"
	"strings"
	"testing"
)

// What drivers print (ethtool -S), in their order, cut down to what means something here
// and to what looks like it and must not count: the same in other units, by priority, by
// VF, by traffic class, of XDP, of the standard statistics. Values are powers of two, so
// that a sum shows which counters are in it.
const printed = `
mlx5_core
rx_packets: 1
rx_out_of_buffer: 2
rx_steer_missed_packets: 4
rx_discards_phy: 8
tx_discards_phy: 16
rx_pause_ctrl_phy: 32
tx_pause_ctrl_phy: 64
rx_buffer_passed_thres_phy: 128
outbound_pci_buffer_overflow: 256
outbound_pci_stalled_rd: 512
outbound_pci_stalled_wr: 1024
outbound_pci_stalled_rd_events: 2048
outbound_pci_stalled_wr_events: 4096
rx_prio0_packets: 8192
rx_prio0_discards: 16384
rx_prio0_buf_discard: 32768
rx_prio0_pause: 65536
rx0_packets: 131072
rx0_xdp_drop: 262144
rx0_buff_alloc_err: 524288
rx1_buff_alloc_err: 1048576
tx0_packets: 2097152
tx0_dropped: 4194304
tx1_dropped: 8388608
= no-buffer 2, missed 8, no-memory 1572864, transmit-dropped 12582928, pci-stall 256, pci-stall-seconds 6144, pause-received 32, pause-sent 64; rx0 131072, tx0 2097152

ice
rx_dropped: 1
rx_alloc_fail: 2
rx_pg_alloc_fail: 4
tx_errors: 8
rx_queue_0_packets: 16
rx_queue_0_bytes: 32
tx_queue_0_packets: 64
rx_dropped.nic: 128
tx_dropped_link_down.nic: 256
link_xon_rx.nic: 512
link_xoff_rx.nic: 1024
link_xoff_tx.nic: 2048
rx_priority_0_xoff.nic: 4096
= no-buffer 1, missed 128, no-memory 6, transmit-dropped 256, pause-received 1024, pause-sent 2048; rx0 16, tx0 64

i40e
rx_dropped: 1
tx_linearize: 2
rx_alloc_fail: 4
rx_pg_alloc_fail: 8
tx-0.packets: 16
rx-0.packets: 32
veb.rx_discards: 64
port.rx_discards: 128
port.tx_dropped_link_down: 256
port.link_xoff_rx: 512
port.link_xoff_tx: 1024
port.rx_priority_0_xoff: 2048
= no-buffer 1, missed 128, no-memory 12, transmit-dropped 256, pause-received 512, pause-sent 1024; rx0 32, tx0 16

ixgbe
rx_pkts_nic: 1
rx_no_buffer_count: 2
rx_missed_errors: 4
tx_flow_control_xon: 8
rx_flow_control_xon: 16
tx_flow_control_xoff: 32
rx_flow_control_xoff: 64
alloc_rx_page_failed: 128
alloc_rx_buff_failed: 256
rx_no_dma_resources: 512
fdir_overflow: 1024
tx_queue_0_packets: 2048
rx_queue_0_packets: 4096
= no-buffer 512, late 2, missed 4, no-memory 384, pause-received 64, pause-sent 32; rx0 4096, tx0 2048

igb
rx_no_buffer_count: 1
rx_missed_errors: 2
rx_flow_control_xoff: 4
tx_flow_control_xoff: 8
tx_dropped: 16
rx_fifo_errors: 32
tx_queue_0_packets: 64
rx_queue_0_packets: 128
rx_queue_0_drops: 256
rx_queue_1_drops: 512
rx_queue_0_csum_err: 1024
rx_queue_0_alloc_failed: 2048
= no-buffer 768, late 1, missed 2, no-memory 2048, transmit-dropped 16, pause-received 4, pause-sent 8; rx0 128, tx0 64

igc
rx_no_buffer_count: 1
rx_missed_errors: 2
tx_flow_control_xoff: 4
rx_queue_3_drops: 8
rx_queue_3_packets: 16
= no-buffer 8, late 1, missed 2, pause-sent 4; rx3 16

bnxt_en
[0]: rx_ucast_packets: 1
[0]: rx_mcast_packets: 2
[0]: rx_bcast_packets: 4
[0]: rx_discards: 8
[0]: rx_errors: 16
[0]: rx_ucast_bytes: 32
[0]: tx_ucast_packets: 64
[0]: tx_discards: 128
[1]: rx_discards: 256
rx_total_oom_discards: 512
rx_total_ring_discards: 1024
rx_pause_frames: 2048
rx_pfc_frames: 4096
rx_stat_discard: 8192
tx_pause_frames: 16384
rx_fec_corrected_blocks: 32768
rx_fec_uncorrectable_blocks: 65536
rx_discard_packets_cos0: 131072
= no-buffer 264, missed 8192, no-memory 512, transmit-dropped 128, pause-received 2048, pause-sent 16384, fec-corrected 32768, fec-uncorrectable 65536; rx0 7, tx0 64

ena
tx_timeout: 1
bw_in_allowance_exceeded: 2
bw_out_allowance_exceeded: 4
pps_allowance_exceeded: 8
conntrack_allowance_exceeded: 16
linklocal_allowance_exceeded: 32
conntrack_allowance_available: 64
queue_0_tx_cnt: 128
queue_0_tx_missed_tx: 256
queue_0_rx_cnt: 512
queue_0_rx_page_alloc_fail: 1024
queue_0_rx_skb_alloc_fail: 2048
queue_0_rx_empty_rx_ring: 4096
queue_0_rx_xdp_drop: 8192
= late 4096, no-memory 3072, allowance 62; rx0 512, tx0 128

gve
rx_packets: 1
rx_dropped: 2
tx_dropped: 4
rx_skb_alloc_fail: 8
rx_buf_alloc_fail: 16
rx_posted_desc[0]: 32
rx_completed_desc[0]: 64
rx_dropped_pkt[0]: 128
rx_queue_drop_cnt[0]: 256
rx_no_buffers_posted[0]: 512
rx_drops_packet_over_mru[0]: 1024
rx_queue_drop_cnt[1]: 2048
= no-buffer 2304, late 512, no-memory 24, transmit-dropped 4;

mana
stop_queue: 1
hc_rx_discards_no_wqe: 2
hc_rx_err_vport_disabled: 4
rx_0_packets: 8
rx_0_bytes: 16
rx_0_xdp_drop: 32
tx_0_packets: 64
tx_0_mana_map_err: 128
hc_tc0_rx_pkt_phy: 256
= no-buffer 2, transmit-dropped 128; rx0 8, tx0 64

sfc
port_rx_pause: 1
port_tx_pause: 2
port_rx_overflow: 4
port_rx_nodesc_drops: 8
port_rx_pm_discard_bb_overflow: 16
port_rx_pm_discard_vfifo_full: 32
rx_overflow: 64
rx_noskb_drops: 128
fec_corrected_errors: 256
fec_uncorrected_errors: 512
fec_corrected_symbols_lane0: 1024
tx-0.tx_packets: 2048
rx-0.rx_packets: 4096
= no-buffer 8, missed 52, no-memory 128, pause-received 1, pause-sent 2, fec-corrected 256, fec-uncorrectable 512; rx0 4096, tx0 2048

qede
0: rcv_pkts: 1
0: rx_hw_errors: 2
0: rx_alloc_errors: 4
0_0: xmit_pkts: 8
0: xdp_no_pass: 16
rx_pause_frames: 32
tx_pause_frames: 64
brb_truncates: 128
brb_discards: 256
no_buff_discards: 512
tx_err_drop_pkts: 1024
mac_filter_discards: 2048
= no-buffer 512, missed 384, no-memory 4, transmit-dropped 1024, pause-received 32, pause-sent 64; rx0 1, tx0 8

virtio_net
rx_queue_0_packets: 1
rx_queue_0_bytes: 2
rx_queue_0_drops: 4
rx_queue_0_xdp_drops: 8
rx_queue_1_drops: 16
tx_queue_0_packets: 32
tx_queue_0_xdp_tx_drops: 64
= receive-dropped 20; rx0 1, tx0 32

vmxnet3
Tx Queue#: 0
  ucast pkts tx: 1
  pkts tx err: 2
  pkts tx discard: 4
  drv dropped tx total: 8
     too many frags: 16
Rx Queue#: 0
  ucast pkts rx: 32
  mcast pkts rx: 64
  pkts rx OOB: 128
  pkts rx err: 256
  drv dropped rx total: 512
     err: 1024
  rx buf alloc fail: 2048
tx timeout count: 4096
= no-buffer 128, receive-dropped 512, no-memory 2048, transmit-dropped 12; rx0 96, tx0 1

hv_netvsc
tx_no_memory: 1
tx_no_space: 2
tx_too_big: 4
rx_no_memory: 8
vf_rx_packets: 16
tx_queue_0_packets: 32
rx_queue_0_packets: 64
rx_queue_0_xdp_drop: 128
cpu0_rx_packets: 256
= no-memory 8, transmit-dropped 3; rx0 64, tx0 32
`

// Each driver's counters count once, for what they mean, in the table's units.
func TestTotalsOfEachDriver(t *testing.T) {
	seen := map[string]bool{"e1000e": true, "veth": true} // in the lab, and on every kernel
	for block := range strings.SplitSeq(strings.TrimSpace(printed), "\n\n") {
		driver, lines, _ := strings.Cut(block, "\n")
		lines, want, ok := strings.Cut(lines, "\n= ")
		if !ok {
			t.Fatalf("%s: nothing is wanted", driver)
		}
		seen[driver] = true
		var names []string
		var values []uint64
		for line := range strings.SplitSeq(lines, "\n") {
			at := strings.LastIndex(line, ": ")
			value, err := strconv.ParseUint(line[at+2:], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			names, values = append(names, line[:at]), append(values, value)
		}
		set := newCounterSet(driver, names, values, nil)
		got := map[string]uint64{}
		for _, m := range set.meant(values) {
			got[string(m.Meaning)] = m.Value
		}
		for _, q := range set.queues {
			got[q.direction+strconv.Itoa(int(q.number))] = total(values, q.at)
		}
		wanted := map[string]uint64{}
		for one := range strings.FieldsFuncSeq(want, func(r rune) bool { return r == ',' || r == ';' }) {
			name, number, _ := strings.Cut(strings.TrimSpace(one), " ")
			value, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			wanted[name] = value
		}
		if !maps.Equal(got, wanted) {
			t.Errorf("%s:\ngot  %v\nwant %v", driver, got, wanted)
		}
	}
	for _, d := range KnownCounters() {
		if !seen[d.Driver] {
			t.Errorf("nothing that %s prints is tried", d.Driver)
		}
	}
}

package inventory

// KnownCounters are the names that drivers give their own statistics, read from
// the drivers' sources in Linux 6.1, 6.12 and 7.2. What is not known for sure is
// not here. Names that the standard statistics repeat (rx_crc_errors) are left to
// those.
func KnownCounters() []DriverCounters { return knownCounters }

var knownCounters = []DriverCounters{
	{"mlx5_core", []CounterName{
		{"rx%_packets", "rx", QueuePackets},
		{"tx%_packets", "tx", QueuePackets},
		{"rx_out_of_buffer", "rx", NoBuffer},
		{"rx_discards_phy", "rx", Missed},
		{"rx_prio*_buf_discard", "rx", Missed},
		{"rx_prio*_discards", "rx", Missed},
		{"rx%_buff_alloc_err", "rx", NoMemory},
		{"tx%_dropped", "tx", TransmitDropped},
		{"tx_discards_phy", "tx", TransmitDropped},
		{"outbound_pci_buffer_overflow", "rx", PCIStall},
		{"outbound_pci_stalled_rd_events", "tx", PCIStallSeconds},
		{"outbound_pci_stalled_wr_events", "rx", PCIStallSeconds},
		{"rx_pause_ctrl_phy", "rx", PauseReceived},
		{"tx_pause_ctrl_phy", "tx", PauseSent},
	}, "drivers/net/ethernet/mellanox/mlx5/core/en_stats.c; Documentation/networking/device_drivers/ethernet/mellanox/mlx5/counters.rst"},
	{"ice", []CounterName{
		{"rx_queue_%_packets", "rx", QueuePackets},
		{"tx_queue_%_packets", "tx", QueuePackets},
		{"rx_dropped", "rx", NoBuffer},
		{"rx_dropped.nic", "rx", Missed},
		{"rx_alloc_fail", "rx", NoMemory},
		{"rx_pg_alloc_fail", "rx", NoMemory},
		{"tx_dropped_link_down.nic", "tx", TransmitDropped},
		{"link_xoff_rx.nic", "rx", PauseReceived},
		{"link_xoff_tx.nic", "tx", PauseSent},
	}, "drivers/net/ethernet/intel/ice/ice_ethtool.c"},
	{"i40e", []CounterName{
		{"rx-%.packets", "rx", QueuePackets},
		{"tx-%.packets", "tx", QueuePackets},
		{"rx_dropped", "rx", NoBuffer},
		{"port.rx_discards", "rx", Missed},
		{"rx_alloc_fail", "rx", NoMemory},
		{"rx_pg_alloc_fail", "rx", NoMemory},
		{"port.tx_dropped_link_down", "tx", TransmitDropped},
		{"port.link_xoff_rx", "rx", PauseReceived},
		{"port.link_xoff_tx", "tx", PauseSent},
	}, "drivers/net/ethernet/intel/i40e/i40e_ethtool.c"},
	{"ixgbe", []CounterName{
		{"rx_queue_%_packets", "rx", QueuePackets},
		{"tx_queue_%_packets", "tx", QueuePackets},
		{"rx_no_dma_resources", "rx", NoBuffer},
		{"rx_no_buffer_count", "rx", Late},
		{"rx_missed_errors", "rx", Missed},
		{"alloc_rx_page_failed", "rx", NoMemory},
		{"alloc_rx_buff_failed", "rx", NoMemory},
		{"rx_flow_control_xoff", "rx", PauseReceived},
		{"tx_flow_control_xoff", "tx", PauseSent},
	}, "drivers/net/ethernet/intel/ixgbe/ixgbe_ethtool.c"},
	{"igb", intelGigabit, "drivers/net/ethernet/intel/igb/igb_ethtool.c"},
	{"igc", intelGigabit, "drivers/net/ethernet/intel/igc/igc_ethtool.c"},
	{"e1000e", []CounterName{
		{"rx_no_buffer_count", "rx", Late},
		{"rx_missed_errors", "rx", Missed},
		{"alloc_rx_buff_failed", "rx", NoMemory},
		{"tx_dropped", "tx", TransmitDropped},
		{"rx_flow_control_xoff", "rx", PauseReceived},
		{"tx_flow_control_xoff", "tx", PauseSent},
	}, "drivers/net/ethernet/intel/e1000e/ethtool.c"},
	{"bnxt_en", []CounterName{
		{"[%]: rx_ucast_packets", "rx", QueuePackets},
		{"[%]: rx_mcast_packets", "rx", QueuePackets},
		{"[%]: rx_bcast_packets", "rx", QueuePackets},
		{"[%]: tx_ucast_packets", "tx", QueuePackets},
		{"[%]: tx_mcast_packets", "tx", QueuePackets},
		{"[%]: tx_bcast_packets", "tx", QueuePackets},
		{"[%]: rx_discards", "rx", NoBuffer},
		{"rx_stat_discard", "rx", Missed},
		{"rx_total_oom_discards", "rx", NoMemory},
		{"[%]: tx_discards", "tx", TransmitDropped},
		{"rx_pause_frames", "rx", PauseReceived},
		{"tx_pause_frames", "tx", PauseSent},
		{"rx_fec_corrected_blocks", "rx", FECCorrected},
		{"rx_fec_uncorrectable_blocks", "rx", FECUncorrectable},
	}, "drivers/net/ethernet/broadcom/bnxt/bnxt_ethtool.c"},
	{"ena", []CounterName{
		{"queue_%_rx_cnt", "rx", QueuePackets},
		{"queue_%_tx_cnt", "tx", QueuePackets},
		{"queue_%_rx_empty_rx_ring", "rx", Late},
		{"queue_%_rx_page_alloc_fail", "rx", NoMemory},
		{"queue_%_rx_skb_alloc_fail", "rx", NoMemory},
		{"bw_in_allowance_exceeded", "rx", Allowance},
		{"bw_out_allowance_exceeded", "tx", Allowance},
		{"pps_allowance_exceeded", "rx", Allowance},
		{"conntrack_allowance_exceeded", "rx", Allowance},
		{"linklocal_allowance_exceeded", "rx", Allowance},
	}, "drivers/net/ethernet/amazon/ena/ena_ethtool.c"},
	{"gve", []CounterName{
		{"rx_queue_drop_cnt[%]", "rx", NoBuffer},
		{"rx_no_buffers_posted[%]", "rx", Late},
		{"rx_skb_alloc_fail", "rx", NoMemory},
		{"rx_buf_alloc_fail", "rx", NoMemory},
		{"tx_dropped", "tx", TransmitDropped},
	}, "drivers/net/ethernet/google/gve/gve_ethtool.c"},
	{"mana", []CounterName{
		{"rx_%_packets", "rx", QueuePackets},
		{"tx_%_packets", "tx", QueuePackets},
		{"hc_rx_discards_no_wqe", "rx", NoBuffer},
		{"tx_%_mana_map_err", "tx", TransmitDropped},
	}, "drivers/net/ethernet/microsoft/mana/mana_ethtool.c"},
	{"sfc", []CounterName{
		{"rx-%.rx_packets", "rx", QueuePackets},
		{"tx-%.tx_packets", "tx", QueuePackets},
		{"port_rx_nodesc_drops", "rx", NoBuffer},
		{"rx_overflow", "rx", NoBuffer},
		{"port_rx_overflow", "rx", Missed},
		{"port_rx_pm_discard_bb_overflow", "rx", Missed},
		{"port_rx_pm_discard_vfifo_full", "rx", Missed},
		{"rx_noskb_drops", "rx", NoMemory},
		{"port_rx_pause", "rx", PauseReceived},
		{"port_tx_pause", "tx", PauseSent},
		{"fec_corrected_errors", "rx", FECCorrected},
		{"fec_uncorrected_errors", "rx", FECUncorrectable},
	}, "drivers/net/ethernet/sfc/ef10.c; drivers/net/ethernet/sfc/ethtool_common.c"},
	{"qede", []CounterName{
		{"%: rcv_pkts", "rx", QueuePackets},
		{"%_*: xmit_pkts", "tx", QueuePackets},
		{"no_buff_discards", "rx", NoBuffer},
		{"brb_discards", "rx", Missed},
		{"brb_truncates", "rx", Missed},
		{"%: rx_alloc_errors", "rx", NoMemory},
		{"tx_err_drop_pkts", "tx", TransmitDropped},
		{"rx_pause_frames", "rx", PauseReceived},
		{"tx_pause_frames", "tx", PauseSent},
	}, "drivers/net/ethernet/qlogic/qede/qede_ethtool.c; drivers/net/ethernet/qlogic/qed/qed_l2.c"},
	{"virtio_net", []CounterName{
		// Since Linux 6.10 packets and overruns are netdev genl's only.
		{"rx_queue_%_packets", "rx", QueuePackets},
		{"tx_queue_%_packets", "tx", QueuePackets},
		{"rx_queue_%_drops", "rx", ReceiveDropped},
		{"rx%_drops", "rx", ReceiveDropped},
	}, "drivers/net/virtio_net.c"},
	{"vmxnet3", []CounterName{
		{"Rx Queue#", "rx", queueHeader},
		{"Tx Queue#", "tx", queueHeader},
		{"  ucast pkts rx", "rx", QueuePackets},
		{"  mcast pkts rx", "rx", QueuePackets},
		{"  bcast pkts rx", "rx", QueuePackets},
		{"  ucast pkts tx", "tx", QueuePackets},
		{"  mcast pkts tx", "tx", QueuePackets},
		{"  bcast pkts tx", "tx", QueuePackets},
		{"  pkts rx OOB", "rx", NoBuffer},
		{"  drv dropped rx total", "rx", ReceiveDropped},
		{"  rx buf alloc fail", "rx", NoMemory},
		{"  pkts tx discard", "tx", TransmitDropped},
		{"  drv dropped tx total", "tx", TransmitDropped},
	}, "drivers/net/vmxnet3/vmxnet3_ethtool.c"},
	{"hv_netvsc", []CounterName{
		{"rx_queue_%_packets", "rx", QueuePackets},
		{"tx_queue_%_packets", "tx", QueuePackets},
		{"rx_no_memory", "rx", NoMemory},
		{"tx_no_memory", "tx", TransmitDropped},
		{"tx_no_space", "tx", TransmitDropped},
	}, "drivers/net/hyperv/netvsc_drv.c"},
	{"veth", []CounterName{
		{"rx_queue_%_drops", "rx", ReceiveDropped},
	}, "drivers/net/veth.c"},
}

// intelGigabit are the names that igb and igc share.
var intelGigabit = []CounterName{
	{"rx_queue_%_packets", "rx", QueuePackets},
	{"tx_queue_%_packets", "tx", QueuePackets},
	{"rx_queue_%_drops", "rx", NoBuffer},
	{"rx_no_buffer_count", "rx", Late},
	{"rx_missed_errors", "rx", Missed},
	{"rx_queue_%_alloc_failed", "rx", NoMemory},
	{"tx_dropped", "tx", TransmitDropped},
	{"rx_flow_control_xoff", "rx", PauseReceived},
	{"tx_flow_control_xoff", "tx", PauseSent},
}

// overlaps says of a driver's name that it counts what other names of its meaning
// count, too: a priority's share, or the same seen from another place. A total leaves
// it out where one of the others is there.
func overlaps(driver, pattern string) bool {
	switch driver {
	case "mlx5_core": // of rx_discards_phy; a VF has none of these
		return pattern == "rx_prio*_buf_discard" || pattern == "rx_prio*_discards"
	case "sfc": // of port_rx_nodesc_drops; a VF has only this
		return pattern == "rx_overflow"
	}
	return false
}

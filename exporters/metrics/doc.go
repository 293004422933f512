// Package metrics renders facts, counters and drift as Prometheus metrics.
//
// It renders what it is given: a [Source] decides how fresh that is and where it
// comes from. Names follow node_exporter where it has the same fact
// (nictune_network_receive_bytes_total), units are base units, and what is not
// known is an absent sample.
//
// One file here is one collector, which is what a scrape can ask for by name:
// its metrics, and what fills them. An [Exporter] keeps the samples of the last
// collection, and their text as well, so that a scrape costs what has changed
// since: a collector whose part of the [Snapshot] is the same is not asked again,
// and a sample whose value is the same is not written again.
//
// Why it has a server of its own is docs/decisions/0015-metrics-server.md.
//
// It reads nothing of the host, and never fails because of a device.
package metrics

package inventory

// Queues are a NIC's rings and everything that decides which packet goes to
// which of them, and when somebody looks.
type Queues struct {
	// RX and TX are the numbers of queues that the stack uses at most.
	RX *int `json:"rx,omitempty"`
	TX *int `json:"tx,omitempty"`

	Channels *Channels `json:"channels,omitempty"`
	Rings    *Rings    `json:"rings,omitempty"`
	Coalesce *Coalesce `json:"coalesce,omitempty"`
	RSS      *RSS      `json:"rss,omitempty"`
	Ntuple   *Ntuple   `json:"ntuple,omitempty"`

	// NAPI are the polling contexts, PagePools the receive memory, both as netdev
	// genl lists them.
	NAPI      []NAPI     `json:"napi,omitempty"`
	Netdev    []Queue    `json:"netdev,omitempty"`
	PagePools []PagePool `json:"pagePools,omitempty"`
	// GROFlushTimeoutNS and DeferHardIRQs are the device-wide NAPI defaults;
	// Threaded is "0", "1" or "2" as in sysfs.
	GROFlushTimeoutNS *uint64 `json:"groFlushTimeoutNs,omitempty"`
	DeferHardIRQs     *uint32 `json:"napiDeferHardIrqs,omitempty"`
	Threaded          *int    `json:"threaded,omitempty"`
}

// Channels are numbers of queues by kind, as ethtool -l shows them. A kind that
// the device lacks is absent.
type Channels struct {
	RX       *ChannelCount `json:"rx,omitempty"`
	TX       *ChannelCount `json:"tx,omitempty"`
	Other    *ChannelCount `json:"other,omitempty"`
	Combined *ChannelCount `json:"combined,omitempty"`
}

// ChannelCount is how many there are and how many there can be.
type ChannelCount struct {
	Current uint32 `json:"current"`
	Maximum uint32 `json:"maximum"`
}

// Rings are descriptor rings, as ethtool -g shows them. A field that the device
// lacks is absent.
type Rings struct {
	RX      *RingSize `json:"rx,omitempty"`
	RXMini  *RingSize `json:"rxMini,omitempty"`
	RXJumbo *RingSize `json:"rxJumbo,omitempty"`
	TX      *RingSize `json:"tx,omitempty"`
	// RXBufLen is the size of a receive buffer in bytes, CQESize of a completion.
	RXBufLen *uint32 `json:"rxBufLen,omitempty"`
	CQESize  *uint32 `json:"cqeSize,omitempty"`
	TXPush   *bool   `json:"txPush,omitempty"`
	RXPush   *bool   `json:"rxPush,omitempty"`
	// TXPushBufLen is in bytes, with its maximum.
	TXPushBufLen *RingSize `json:"txPushBufLen,omitempty"`
	// TCPDataSplit is "on", "off" or "unknown"; HDSThreshold in bytes.
	TCPDataSplit string    `json:"tcpDataSplit,omitempty"`
	HDSThreshold *RingSize `json:"hdsThreshold,omitempty"`
}

// RingSize is a size in use and the largest possible.
type RingSize struct {
	Current uint32 `json:"current"`
	Maximum uint32 `json:"maximum"`
}

// Coalesce are the interrupt moderation settings of ethtool -c, by ethtool's own
// names ("rx-usecs", "adaptive-rx", "cqe-mode-rx", "tx-aggr-max-bytes"). Numbers
// and flags are two maps; one that the driver lacks is absent.
type Coalesce struct {
	Values map[string]uint32 `json:"values,omitempty"`
	Flags  map[string]bool   `json:"flags,omitempty"`
}

// RSS is receive side scaling: the table and key of the default context, the
// hash fields by flow type, and further contexts.
type RSS struct {
	// Hash is the function: "toeplitz", "xor", "crc32".
	Hash string `json:"hash,omitempty"`
	// InputTransform is "symmetric-xor" or "symmetric-or-xor" where set.
	InputTransform string `json:"inputTransform,omitempty"`
	// Table is the indirection table: the queue of each bucket.
	Table []uint32 `json:"table,omitempty"`
	// Key in colon-separated hex, as ethtool -x prints it.
	Key string `json:"key,omitempty"`
	// Fields are the hashed fields by flow type, in ethtool's letters:
	// "udp4": "sdfn".
	Fields   map[string]string `json:"fields,omitempty"`
	Contexts []RSSContext      `json:"contexts,omitempty"`
}

// RSSContext is one further RSS table.
type RSSContext struct {
	ID    uint32   `json:"id"`
	Hash  string   `json:"hash,omitempty"`
	Table []uint32 `json:"table,omitempty"`
	Key   string   `json:"key,omitempty"`
}

// Ntuple are the receive flow rules of ethtool -n.
type Ntuple struct {
	// Capacity is how many rules the device takes; absent where it doesn't say.
	Capacity *int       `json:"capacity,omitempty"`
	Rules    []FlowRule `json:"rules,omitempty"`
}

// FlowRule is one receive flow rule.
type FlowRule struct {
	Location uint32 `json:"location"`
	// FlowType is ethtool's: "tcp4", "udp6", "ether".
	FlowType string `json:"flowType"`
	// Match are the fields compared, by ethtool's names ("src-ip", "dst-port",
	// "vlan"), as value, or value/mask where the mask isn't full.
	Match map[string]string `json:"match,omitempty"`
	// Action is "drop", or "queue" with Queue, on the VF number VF if not 0.
	Action  string  `json:"action"`
	Queue   *uint32 `json:"queue,omitempty"`
	VF      *uint32 `json:"vf,omitempty"`
	Context *uint32 `json:"context,omitempty"`
}

// NAPI is one polling context.
type NAPI struct {
	ID  uint32 `json:"id"`
	IRQ *int   `json:"irq,omitempty"`
	// PID is the thread's, where NAPI is threaded.
	PID                 *int    `json:"pid,omitempty"`
	DeferHardIRQs       *uint32 `json:"deferHardIrqs,omitempty"`
	GROFlushTimeoutNS   *uint64 `json:"groFlushTimeoutNs,omitempty"`
	IRQSuspendTimeoutNS *uint64 `json:"irqSuspendTimeoutNs,omitempty"`
	// Threaded is "disabled", "enabled" or "busy-poll".
	Threaded string `json:"threaded,omitempty"`
}

// Queue is one queue as netdev genl lists it.
type Queue struct {
	// Direction is "rx" or "tx".
	Direction string  `json:"direction"`
	ID        uint32  `json:"id"`
	NAPI      *uint32 `json:"napi,omitempty"`
	// DMABuf is the id of the memory bound to it (device memory TCP); XSK whether
	// an AF_XDP socket owns the queue.
	DMABuf *uint32 `json:"dmabuf,omitempty"`
	XSK    bool    `json:"xsk,omitempty"`
}

// PagePool is one page pool.
type PagePool struct {
	ID   uint64  `json:"id"`
	NAPI *uint32 `json:"napi,omitempty"`
	// Inflight are pages lent out, InflightBytes the memory they hold.
	Inflight      *uint64 `json:"inflight,omitempty"`
	InflightBytes *uint64 `json:"inflightBytes,omitempty"`
	// DetachedSeconds is the CLOCK_BOOTTIME second when the device let go of it.
	DetachedSeconds *uint64 `json:"detachedSeconds,omitempty"`
}

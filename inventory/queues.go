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
	// GROFlushTimeoutNS (in nanoseconds) and DeferHardIRQs are what NAPI contexts
	// start from; Threaded is sysfs's number, 1 where they have threads of their
	// own. They are read of hardware, and of whatever has NAPI contexts.
	GROFlushTimeoutNS *uint64 `json:"groFlushTimeoutNs,omitempty"`
	DeferHardIRQs     *uint32 `json:"napiDeferHardIrqs,omitempty"`
	Threaded          *int    `json:"threaded,omitempty"`
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
	// IOUring is whether an io_uring instance owns it (zero-copy receive).
	IOUring bool `json:"ioUring,omitempty"`
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

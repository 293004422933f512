package inventory

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

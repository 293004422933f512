package inventory

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

package uapi

// From linux/rtnetlink.h, nexthop.h, neighbour.h, sock_diag.h and xdp_diag.h, and the address families of sys/socket.h.
const (
	RTN_UNICAST           = 1
	RTPROT_KERNEL         = 2
	RTA_DST               = 1
	RTA_SRC               = 2
	RTA_OIF               = 4
	RTA_GATEWAY           = 5
	RTA_MULTIPATH         = 9
	RTA_TABLE             = 15
	RTA_VIA               = 18
	RTA_NH_ID             = 30
	RT_TABLE_MAIN         = 254
	NHA_ID                = 1
	NHA_GROUP             = 2
	NHA_OIF               = 5
	NHA_GATEWAY           = 6
	NUD_NONE              = 0x00
	NUD_INCOMPLETE        = 0x01
	NUD_REACHABLE         = 0x02
	NUD_STALE             = 0x04
	NUD_DELAY             = 0x08
	NUD_PROBE             = 0x10
	NUD_FAILED            = 0x20
	NUD_NOARP             = 0x40
	NUD_PERMANENT         = 0x80
	NTF_USE               = 0x01
	NTF_EXT_LEARNED       = 0x10
	NTF_EXT_MANAGED       = 0x01
	NTF_EXT_EXT_VALIDATED = 0x04
	SOCK_DIAG_BY_FAMILY   = 20
	XDP_SHOW_INFO         = 0x1
	XDP_DIAG_INFO         = 1
	AF_INET               = 2
	AF_INET6              = 10
	AF_XDP                = 44
)

package kernel

import (
	"fmt"
	"strings"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// String names a request for people: "ethtool RINGS_GET dump".
func (r Request) String() string {
	name := commandName(r.Family, r.Command)
	if name == "" {
		name = fmt.Sprint(r.Command)
	}
	if r.Dump {
		name += " dump"
	}
	return r.Family + " " + name
}

// readOnly reports whether a request is known to only read. It names what may
// pass and refuses the rest, so that a command of a newer kernel is not let
// through by mistake.
func readOnly(r Request) bool {
	return strings.HasSuffix(commandName(r.Family, r.Command), "_GET")
}

// commandName is a command's name in the kernel's headers, reordered where
// needed so that exactly those that read end in _GET. It is empty for commands
// that nictune has no use for.
func commandName(family string, command uint16) string {
	switch family {
	case FamilyRoute:
		// Route message types come in fours: NEW, DEL, GET, SET.
		if command < uapi.RTM_BASE {
			return ""
		}
		kind := [...]string{"NEW", "DEL", "GET", "SET"}[(command-uapi.RTM_BASE)%4]
		object, ok := routeObjects[(command-uapi.RTM_BASE)/4]
		if !ok {
			object = fmt.Sprintf("RTM_%d", command)
		}
		return object + "_" + kind
	case FamilySockDiag:
		if command == uapi.SOCK_DIAG_BY_FAMILY {
			return "BY_FAMILY_GET"
		}
	case FamilyControl:
		return controlCommands[command]
	case FamilyEthtool:
		return ethtoolCommands[command]
	case FamilyNetdev:
		return netdevCommands[command]
	case FamilyDevlink:
		return devlinkCommands[command]
	}
	return ""
}

var routeObjects = map[uint16]string{
	(uapi.RTM_NEWLINK - uapi.RTM_BASE) / 4:      "LINK",
	(uapi.RTM_NEWADDR - uapi.RTM_BASE) / 4:      "ADDR",
	(uapi.RTM_NEWROUTE - uapi.RTM_BASE) / 4:     "ROUTE",
	(uapi.RTM_NEWNEIGH - uapi.RTM_BASE) / 4:     "NEIGH",
	(uapi.RTM_GETMULTICAST - uapi.RTM_BASE) / 4: "MULTICAST",
	(uapi.RTM_NEWMDB - uapi.RTM_BASE) / 4:       "MDB",
	(uapi.RTM_NEWSTATS - uapi.RTM_BASE) / 4:     "STATS",
	(uapi.RTM_NEWNEXTHOP - uapi.RTM_BASE) / 4:   "NEXTHOP",
	(uapi.RTM_NEWNSID - uapi.RTM_BASE) / 4:      "NSID",
}

var controlCommands = map[uint16]string{
	uapi.CTRL_CMD_GETFAMILY: "FAMILY_GET",
	uapi.CTRL_CMD_GETPOLICY: "POLICY_GET",
}

var ethtoolCommands = map[uint16]string{
	uapi.ETHTOOL_MSG_STRSET_GET:         "STRSET_GET",
	uapi.ETHTOOL_MSG_LINKINFO_GET:       "LINKINFO_GET",
	uapi.ETHTOOL_MSG_LINKINFO_SET:       "LINKINFO_SET",
	uapi.ETHTOOL_MSG_LINKMODES_GET:      "LINKMODES_GET",
	uapi.ETHTOOL_MSG_LINKMODES_SET:      "LINKMODES_SET",
	uapi.ETHTOOL_MSG_LINKSTATE_GET:      "LINKSTATE_GET",
	uapi.ETHTOOL_MSG_DEBUG_GET:          "DEBUG_GET",
	uapi.ETHTOOL_MSG_WOL_GET:            "WOL_GET",
	uapi.ETHTOOL_MSG_FEATURES_GET:       "FEATURES_GET",
	uapi.ETHTOOL_MSG_FEATURES_SET:       "FEATURES_SET",
	uapi.ETHTOOL_MSG_PRIVFLAGS_GET:      "PRIVFLAGS_GET",
	uapi.ETHTOOL_MSG_PRIVFLAGS_SET:      "PRIVFLAGS_SET",
	uapi.ETHTOOL_MSG_RINGS_GET:          "RINGS_GET",
	uapi.ETHTOOL_MSG_RINGS_SET:          "RINGS_SET",
	uapi.ETHTOOL_MSG_CHANNELS_GET:       "CHANNELS_GET",
	uapi.ETHTOOL_MSG_CHANNELS_SET:       "CHANNELS_SET",
	uapi.ETHTOOL_MSG_COALESCE_GET:       "COALESCE_GET",
	uapi.ETHTOOL_MSG_COALESCE_SET:       "COALESCE_SET",
	uapi.ETHTOOL_MSG_PAUSE_GET:          "PAUSE_GET",
	uapi.ETHTOOL_MSG_PAUSE_SET:          "PAUSE_SET",
	uapi.ETHTOOL_MSG_EEE_GET:            "EEE_GET",
	uapi.ETHTOOL_MSG_EEE_SET:            "EEE_SET",
	uapi.ETHTOOL_MSG_TSINFO_GET:         "TSINFO_GET",
	uapi.ETHTOOL_MSG_CABLE_TEST_ACT:     "CABLE_TEST_ACT",
	uapi.ETHTOOL_MSG_CABLE_TEST_TDR_ACT: "CABLE_TEST_TDR_ACT",
	uapi.ETHTOOL_MSG_TUNNEL_INFO_GET:    "TUNNEL_INFO_GET",
	uapi.ETHTOOL_MSG_FEC_GET:            "FEC_GET",
	uapi.ETHTOOL_MSG_FEC_SET:            "FEC_SET",
	uapi.ETHTOOL_MSG_MODULE_EEPROM_GET:  "MODULE_EEPROM_GET",
	uapi.ETHTOOL_MSG_STATS_GET:          "STATS_GET",
	uapi.ETHTOOL_MSG_PHC_VCLOCKS_GET:    "PHC_VCLOCKS_GET",
	uapi.ETHTOOL_MSG_MODULE_GET:         "MODULE_GET",
	uapi.ETHTOOL_MSG_PSE_GET:            "PSE_GET",
	uapi.ETHTOOL_MSG_RSS_GET:            "RSS_GET",
	uapi.ETHTOOL_MSG_RSS_SET:            "RSS_SET",
	uapi.ETHTOOL_MSG_PLCA_GET_CFG:       "PLCA_CFG_GET",
	uapi.ETHTOOL_MSG_PLCA_GET_STATUS:    "PLCA_STATUS_GET",
	uapi.ETHTOOL_MSG_MM_GET:             "MM_GET",
	uapi.ETHTOOL_MSG_PHY_GET:            "PHY_GET",
	uapi.ETHTOOL_MSG_TSCONFIG_GET:       "TSCONFIG_GET",
}

var netdevCommands = map[uint16]string{
	uapi.NETDEV_CMD_DEV_GET:             "DEV_GET",
	uapi.NETDEV_CMD_PAGE_POOL_GET:       "PAGE_POOL_GET",
	uapi.NETDEV_CMD_PAGE_POOL_STATS_GET: "PAGE_POOL_STATS_GET",
	uapi.NETDEV_CMD_QUEUE_GET:           "QUEUE_GET",
	uapi.NETDEV_CMD_NAPI_GET:            "NAPI_GET",
	uapi.NETDEV_CMD_NAPI_SET:            "NAPI_SET",
	uapi.NETDEV_CMD_QSTATS_GET:          "QSTATS_GET",
}

var devlinkCommands = map[uint16]string{
	uapi.DEVLINK_CMD_GET:                 "DEV_GET",
	uapi.DEVLINK_CMD_PORT_GET:            "PORT_GET",
	uapi.DEVLINK_CMD_PORT_SET:            "PORT_SET",
	uapi.DEVLINK_CMD_ESWITCH_GET:         "ESWITCH_GET",
	uapi.DEVLINK_CMD_ESWITCH_SET:         "ESWITCH_SET",
	uapi.DEVLINK_CMD_RESOURCE_DUMP:       "RESOURCE_GET",
	uapi.DEVLINK_CMD_PARAM_GET:           "PARAM_GET",
	uapi.DEVLINK_CMD_PORT_PARAM_GET:      "PORT_PARAM_GET",
	uapi.DEVLINK_CMD_INFO_GET:            "INFO_GET",
	uapi.DEVLINK_CMD_HEALTH_REPORTER_GET: "HEALTH_REPORTER_GET",
	uapi.DEVLINK_CMD_TRAP_GET:            "TRAP_GET",
	uapi.DEVLINK_CMD_RATE_GET:            "RATE_GET",
	uapi.DEVLINK_CMD_LINECARD_GET:        "LINECARD_GET",
	uapi.DEVLINK_CMD_SELFTESTS_GET:       "SELFTESTS_GET",
}

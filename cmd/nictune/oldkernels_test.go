package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/xdpcheck"
)

// brought is something that a kernel tells, and the first release that does. Every table
// below is of what the recorded hosts' kernel (6.12) tells and older ones don't.
type brought struct {
	since string
	// family and command are of a netlink request; no command is the whole family.
	family  string
	command uint16
	// path leads to an attribute of the answers; empty is the whole command.
	path []uint16
	// commit is the one of Linux that brought it, by its subject.
	commit string
}

// broughtByNetlink is what netlink tells since when: what include/uapi/linux of a release
// lacks is newer. For the tests it is enough to know between which two of oldKernels.
func broughtByNetlink() []brought {
	const (
		link, ethtool, netdev, devlink, diag = kernel.FamilyRoute, kernel.FamilyEthtool, kernel.FamilyNetdev, kernel.FamilyDevlink, kernel.FamilySockDiag
	)
	at := func(types ...uint16) []uint16 { return types }
	return []brought{
		{"4.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_MIN_MTU), "net: report min and max mtu network device settings"},
		{"4.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_MAX_MTU), "net: report min and max mtu network device settings"},
		{"4.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_XDP, uapi.IFLA_XDP_DRV_PROG_ID), "xdp: add per mode attributes for attached programs"},
		{"4.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_XDP, uapi.IFLA_XDP_SKB_PROG_ID), "xdp: add per mode attributes for attached programs"},
		{"4.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_XDP, uapi.IFLA_XDP_HW_PROG_ID), "xdp: add per mode attributes for attached programs"},
		{"5.0", link, uapi.RTM_GETLINK, at(uapi.IFLA_LINKINFO, uapi.IFLA_INFO_DATA, uapi.IFLA_BR_MULTI_BOOLOPT), "net: bridge: add support for user-controlled bool options"},
		{"5.5", link, uapi.RTM_GETLINK, at(uapi.IFLA_PROP_LIST), "net: rtnetlink: add linkprop commands to add and delete alternative ifnames"},
		{"5.6", link, uapi.RTM_GETLINK, at(uapi.IFLA_PERM_ADDRESS), "rtnetlink: provide permanent hardware address in RTM_NEWLINK"},
		{"5.14", link, uapi.RTM_GETLINK, at(uapi.IFLA_PARENT_DEV_NAME), "rtnetlink: add IFLA_PARENT_[DEV|DEV_BUS]_NAME"},
		{"5.14", link, uapi.RTM_GETLINK, at(uapi.IFLA_PARENT_DEV_BUS_NAME), "rtnetlink: add IFLA_PARENT_[DEV|DEV_BUS]_NAME"},
		{"5.15", link, uapi.RTM_GETLINK, at(uapi.IFLA_LINKINFO, uapi.IFLA_INFO_DATA, uapi.IFLA_BR_MCAST_QUERIER_STATE), "net: bridge: mcast: dump ipv4 querier state"},
		{"5.17", link, uapi.RTM_GETLINK, at(uapi.IFLA_GRO_MAX_SIZE), "gro: add ability to control gro max packet size"},
		{"5.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_TSO_MAX_SIZE), "net: add IFLA_TSO_{MAX_SIZE|SEGS} attributes"},
		{"5.19", link, uapi.RTM_GETLINK, at(uapi.IFLA_TSO_MAX_SEGS), "net: add IFLA_TSO_{MAX_SIZE|SEGS} attributes"},
		{"6.0", link, uapi.RTM_GETLINK, at(uapi.IFLA_ALLMULTI), "rtnetlink: advertise allmulti counter"},
		{"6.3", link, uapi.RTM_GETLINK, at(uapi.IFLA_GSO_IPV4_MAX_SIZE), "net: add gso_ipv4_max_size and gro_ipv4_max_size per device"},
		{"6.3", link, uapi.RTM_GETLINK, at(uapi.IFLA_GRO_IPV4_MAX_SIZE), "net: add gso_ipv4_max_size and gro_ipv4_max_size per device"},
		{"6.3", link, uapi.RTM_GETLINK, at(uapi.IFLA_LINKINFO, uapi.IFLA_INFO_SLAVE_DATA, uapi.IFLA_BRPORT_MCAST_N_GROUPS), "net: bridge: Add netlink knobs for number / maximum MDB entries"},
		{"6.3", link, uapi.RTM_GETLINK, at(uapi.IFLA_LINKINFO, uapi.IFLA_INFO_SLAVE_DATA, uapi.IFLA_BRPORT_MCAST_MAX_GROUPS), "net: bridge: Add netlink knobs for number / maximum MDB entries"},

		{"5.6", ethtool, 0, nil, "ethtool: introduce ethtool netlink interface"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_FEATURES_GET, nil, "ethtool: provide netdev features with FEATURES_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_PRIVFLAGS_GET, nil, "ethtool: provide private flags with PRIVFLAGS_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, nil, "ethtool: provide ring sizes with RINGS_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_CHANNELS_GET, nil, "ethtool: provide channel counts with CHANNELS_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_COALESCE_GET, nil, "ethtool: provide coalescing parameters with COALESCE_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_PAUSE_GET, nil, "ethtool: provide pause parameters with PAUSE_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_EEE_GET, nil, "ethtool: provide EEE settings with EEE_GET request"},
		{"5.7", ethtool, uapi.ETHTOOL_MSG_TSINFO_GET, nil, "ethtool: provide timestamping information with TSINFO_GET request"},
		{"5.8", ethtool, uapi.ETHTOOL_MSG_LINKSTATE_GET, at(uapi.ETHTOOL_A_LINKSTATE_SQI), "ethtool: provide UAPI for PHY Signal Quality Index (SQI)"},
		{"5.8", ethtool, uapi.ETHTOOL_MSG_LINKSTATE_GET, at(uapi.ETHTOOL_A_LINKSTATE_SQI_MAX), "ethtool: provide UAPI for PHY Signal Quality Index (SQI)"},
		{"5.8", ethtool, uapi.ETHTOOL_MSG_LINKMODES_GET, at(uapi.ETHTOOL_A_LINKMODES_MASTER_SLAVE_CFG), "ethtool: provide UAPI for PHY master/slave configuration."},
		{"5.8", ethtool, uapi.ETHTOOL_MSG_LINKMODES_GET, at(uapi.ETHTOOL_A_LINKMODES_MASTER_SLAVE_STATE), "ethtool: provide UAPI for PHY master/slave configuration."},
		{"5.9", ethtool, uapi.ETHTOOL_MSG_LINKSTATE_GET, at(uapi.ETHTOOL_A_LINKSTATE_EXT_STATE), "ethtool: Add link extended state"},
		{"5.9", ethtool, uapi.ETHTOOL_MSG_LINKSTATE_GET, at(uapi.ETHTOOL_A_LINKSTATE_EXT_SUBSTATE), "ethtool: Add link extended state"},
		{"5.9", ethtool, uapi.ETHTOOL_MSG_TUNNEL_INFO_GET, nil, "ethtool: add tunnel info interface"},
		{"5.10", ethtool, uapi.ETHTOOL_MSG_PAUSE_GET, at(uapi.ETHTOOL_A_PAUSE_STATS), "ethtool: add standard pause stats"},
		{"5.12", ethtool, uapi.ETHTOOL_MSG_LINKMODES_GET, at(uapi.ETHTOOL_A_LINKMODES_LANES), "ethtool: Extend link modes settings uAPI with lanes"},
		{"5.13", ethtool, uapi.ETHTOOL_MSG_FEC_GET, nil, "ethtool: support FEC settings over netlink"},
		{"5.13", ethtool, uapi.ETHTOOL_MSG_MODULE_EEPROM_GET, nil, "ethtool: Allow network drivers to dump arbitrary EEPROM data"},
		{"5.13", ethtool, uapi.ETHTOOL_MSG_STATS_GET, nil, "ethtool: add a new command for reading standard stats"},
		{"5.15", ethtool, uapi.ETHTOOL_MSG_COALESCE_GET, at(uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_TX), "ethtool: add two coalesce attributes for CQE mode"},
		{"5.15", ethtool, uapi.ETHTOOL_MSG_COALESCE_GET, at(uapi.ETHTOOL_A_COALESCE_USE_CQE_MODE_RX), "ethtool: add two coalesce attributes for CQE mode"},
		{"5.17", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_RX_BUF_LEN), "ethtool: add support to set/get rx buf len via ethtool"},
		{"5.18", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_TCP_DATA_SPLIT), "ethtool: add header/data split indication"},
		{"5.18", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_CQE_SIZE), "ethtool: add support to set/get completion queue event size"},
		{"5.19", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_TX_PUSH), "net: ethtool: extend ringparam set/get APIs for tx_push"},
		{"6.1", ethtool, uapi.ETHTOOL_MSG_LINKMODES_GET, at(uapi.ETHTOOL_A_LINKMODES_RATE_MATCHING), "net: phy: Add support for rate matching"},
		{"6.2", ethtool, uapi.ETHTOOL_MSG_LINKSTATE_GET, at(uapi.ETHTOOL_A_LINKSTATE_EXT_DOWN_CNT), "ethtool: linkstate: add a statistic for PHY down events"},
		{"6.2", ethtool, uapi.ETHTOOL_MSG_RSS_GET, nil, "ethtool: add netlink based get rss support"},
		{"6.3", ethtool, uapi.ETHTOOL_MSG_COALESCE_GET, at(uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_BYTES), "ethtool: add tx aggregation parameters"},
		{"6.3", ethtool, uapi.ETHTOOL_MSG_COALESCE_GET, at(uapi.ETHTOOL_A_COALESCE_TX_AGGR_MAX_FRAMES), "ethtool: add tx aggregation parameters"},
		{"6.3", ethtool, uapi.ETHTOOL_MSG_COALESCE_GET, at(uapi.ETHTOOL_A_COALESCE_TX_AGGR_TIME_USECS), "ethtool: add tx aggregation parameters"},
		{"6.4", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_RX_PUSH), "net: ethtool: extend ringparam set/get APIs for rx_push"},
		{"6.4", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN), "ethtool: Add support for configuring tx_push_buf_len"},
		{"6.4", ethtool, uapi.ETHTOOL_MSG_RINGS_GET, at(uapi.ETHTOOL_A_RINGS_TX_PUSH_BUF_LEN_MAX), "ethtool: Add support for configuring tx_push_buf_len"},
		{"6.8", ethtool, uapi.ETHTOOL_MSG_RSS_GET, at(uapi.ETHTOOL_A_RSS_INPUT_XFRM), "net: ethtool: add support for symmetric-xor RSS hash"},

		{"4.19", devlink, uapi.DEVLINK_CMD_PARAM_GET, nil, "devlink: Add param get command"},
		{"5.1", devlink, uapi.DEVLINK_CMD_INFO_GET, nil, "devlink: add device information API"},
		{"5.3", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_PCI_PF_NUMBER), "devlink: Introduce PCI PF port flavour and port attribute"},
		{"5.3", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER), "devlink: Introduce PCI VF port flavour and port attribute"},
		{"5.9", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_FUNCTION), "net/devlink: Support querying hardware address of port function"},
		{"5.9", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_LANES), "devlink: Add a new devlink port lanes attribute and pass to netlink"},
		{"5.9", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_SPLITTABLE), "devlink: Add a new devlink port split ability attribute and pass to netlink"},
		{"5.9", devlink, uapi.DEVLINK_CMD_INFO_GET, at(uapi.DEVLINK_ATTR_INFO_BOARD_SERIAL_NUMBER), "devlink: Add support for board.serial_number to info_get cb."},
		{"5.10", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_EXTERNAL), "devlink: Introduce external controller flag"},
		{"5.10", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_CONTROLLER_NUMBER), "devlink: Introduce controller number"},
		{"5.12", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_PCI_SF_NUMBER), "devlink: Introduce PCI SF port flavour and port attribute"},
		{"5.12", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_FUNCTION, uapi.DEVLINK_PORT_FN_ATTR_STATE), "devlink: Support get and set state of port function"},
		{"5.12", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_FUNCTION, uapi.DEVLINK_PORT_FN_ATTR_OPSTATE), "devlink: Support get and set state of port function"},
		{"6.2", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_FUNCTION, uapi.DEVLINK_PORT_FN_ATTR_CAPS), "devlink: Expose port function commands to control RoCE"},
		{"6.10", devlink, uapi.DEVLINK_CMD_PORT_GET, at(uapi.DEVLINK_ATTR_PORT_FUNCTION, uapi.DEVLINK_PORT_FN_ATTR_MAX_IO_EQS), "devlink: Support setting max_io_eqs"},

		{"6.3", netdev, 0, nil, "netdev-genl: create a simple family for netdev stuff"},
		{"6.6", netdev, uapi.NETDEV_CMD_DEV_GET, at(uapi.NETDEV_A_DEV_XDP_ZC_MAX_SEGS), "xsk: add new netlink attribute dedicated for ZC max frags"},
		{"6.7", netdev, uapi.NETDEV_CMD_DEV_GET, at(uapi.NETDEV_A_DEV_XDP_RX_METADATA_FEATURES), "bpf: expose information about supported xdp metadata kfunc"},
		{"6.8", netdev, uapi.NETDEV_CMD_DEV_GET, at(uapi.NETDEV_A_DEV_XSK_FEATURES), "xsk: Add TX timestamp and TX checksum offload support"},
		{"6.8", netdev, uapi.NETDEV_CMD_QUEUE_GET, nil, "netdev-genl: Add netlink framework functions for queue"},
		{"6.8", netdev, uapi.NETDEV_CMD_NAPI_GET, nil, "netdev-genl: Add netlink framework functions for napi"},
		{"6.8", netdev, uapi.NETDEV_CMD_PAGE_POOL_GET, nil, "net: page_pool: implement GET in the netlink API"},
		{"6.8", netdev, uapi.NETDEV_CMD_PAGE_POOL_STATS_GET, nil, "net: page_pool: expose page pool stats via netlink"},
		{"6.9", netdev, uapi.NETDEV_CMD_QSTATS_GET, nil, "netdev: add per-queue statistics"},

		{"5.1", diag, 0, nil, "xsk: add sock_diag interface for AF_XDP"}, // of which nothing else is asked
	}
}

// broughtByFiles are files, by the last part of their path, and what brought them.
func broughtByFiles() map[string]brought {
	const aer, msix = "PCI/AER: Add sysfs attributes to provide AER stats and breakdown", "PCI/IOV: Add sysfs MSI-X vector assignment interface"
	return map[string]brought{
		"aer_dev_correctable":  {since: "4.19", commit: aer},
		"aer_dev_nonfatal":     {since: "4.19", commit: aer},
		"aer_dev_fatal":        {since: "4.19", commit: aer},
		"napi_defer_hard_irqs": {since: "5.8", commit: "net: napi: add hard irqs deferral feature"},
		"power_state":          {since: "5.11", commit: "PCI: Add sysfs \"power_state\" attribute"},
		"threaded":             {since: "5.12", commit: "net: add sysfs attribute to control napi threaded mode"},
		"sriov_vf_total_msix":  {since: "5.13", commit: msix},
		"sriov_vf_msix_count":  {since: "5.13", commit: msix},
		"arch":                 {since: "6.1", commit: "kernel/utsname_sysctl.c: print kernel arch"},
	}
}

// old is a recorded host as an older kernel would have answered.
type old struct {
	*kernel.Replay
	release string // as uname -r prints it
}

// has reports whether the kernel is as new as a release.
func (o old) has(release string) bool {
	number := func(s string) (n int) {
		var major, minor int
		if _, err := fmt.Sscanf(s, "%d.%d", &major, &minor); err != nil {
			panic(s)
		}
		return major*1000 + minor
	}
	return number(o.release) >= number(release)
}

func (o old) ReadFile(ctx context.Context, file string) ([]byte, error) {
	if b, is := broughtByFiles()[path.Base(file)]; is && !o.has(b.since) {
		return nil, &kernel.Error{Op: "read", Object: file, Err: syscall.ENOENT}
	}
	data, err := o.Replay.ReadFile(ctx, file)
	switch {
	case err != nil:
	case file == "/proc/sys/kernel/osrelease":
		return []byte(o.release + "\n"), nil
	case file == "/proc/net/softnet_stat" && !o.has("5.10"):
		// The columns after the eleventh are of "net-sysfs: add backlog len and CPU id to
		// softnet data", and newer.
		var text strings.Builder
		for line := range strings.Lines(string(data)) {
			columns := strings.Fields(line)
			fmt.Fprintln(&text, strings.Join(columns[:min(11, len(columns))], " "))
		}
		return []byte(text.String()), nil
	}
	return data, err
}

// ReadLink knows parents also where the recording has them from netlink only: sysfs has
// always told them.
func (o old) ReadLink(ctx context.Context, link string) (string, error) {
	target, err := o.Replay.ReadLink(ctx, link)
	name, of := strings.CutPrefix(link, "/sys/class/net/")
	if !of || !errors.Is(err, kernel.ErrNotRecorded) {
		return target, err
	}
	links, fault := o.Replay.Netlink(ctx, kernel.Request{
		Family: kernel.FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: kernel.Body(make([]byte, linkHeader)).Uint32(uapi.IFLA_EXT_MASK, 0),
	})
	if fault != nil {
		return "", fault
	}
	for _, m := range links {
		var device, parent, bus string
		for a := kernel.AttributesAfter(m.Body, linkHeader); a.Next(); {
			switch a.Type {
			case uapi.IFLA_IFNAME:
				device = a.String()
			case uapi.IFLA_PARENT_DEV_NAME:
				parent = a.String()
			case uapi.IFLA_PARENT_DEV_BUS_NAME:
				bus = a.String()
			}
		}
		switch {
		case parent == "":
		case name == device+"/device":
			return "../../../" + parent, nil
		case name == device+"/device/subsystem":
			return "../../../../bus/" + bus, nil
		}
	}
	return "", &kernel.Error{Op: "read link", Object: link, Err: syscall.ENOENT}
}

// linkHeader is struct ifinfomsg.
const linkHeader = 16

func (o old) ReadDir(ctx context.Context, dir string) ([]string, error) {
	names, err := o.Replay.ReadDir(ctx, dir)
	return slices.DeleteFunc(names, func(name string) bool {
		b, is := broughtByFiles()[name]
		return is && !o.has(b.since)
	}), err
}

func (o old) Netlink(ctx context.Context, r kernel.Request) ([]kernel.Message, error) {
	gone := cuts{}
	for _, b := range broughtByNetlink() {
		switch {
		case b.family != r.Family || o.has(b.since) || b.command != 0 && b.command != r.Command:
		case len(b.path) == 0:
			return nil, &kernel.Error{Op: r.String(), Err: syscall.EOPNOTSUPP}
		default:
			gone.add(b.path)
		}
	}
	messages, err := o.Replay.Netlink(ctx, r)
	if r.Family == kernel.FamilyControl {
		return o.families(messages), err
	}
	header := 0
	if r.Family == kernel.FamilyRoute {
		header = linkHeader
	}
	for i, m := range messages {
		if len(gone) > 0 && len(m.Body) >= header {
			messages[i].Body = append(m.Body[:header:header], gone.from(m.Body[header:])...)
		}
	}
	return messages, err
}

// families is the answer that lists families, without those and their commands that the
// kernel doesn't have.
func (o old) families(messages []kernel.Message) []kernel.Message {
	var all []kernel.Message
	for _, m := range messages {
		name := ""
		for a := kernel.AttributesOf(m.Body); a.Next(); {
			if a.Type == uapi.CTRL_ATTR_FAMILY_NAME {
				name = a.String()
			}
		}
		family, gone := true, map[uint32]bool{}
		for _, b := range broughtByNetlink() {
			if b.family == name && len(b.path) == 0 && !o.has(b.since) {
				family = family && b.command != 0
				gone[uint32(b.command)] = true
			}
		}
		if !family {
			continue
		}
		var body kernel.Body
		for a := kernel.AttributesOf(m.Body); a.Next(); {
			if a.Type != uapi.CTRL_ATTR_OPS {
				body = body.Bytes(a.Type, a.Data)
				continue
			}
			var operations kernel.Body
			for op := a.Nested(); op.Next(); {
				id := uint32(0)
				for f := op.Nested(); f.Next(); {
					if f.Type == uapi.CTRL_ATTR_OP_ID {
						id = f.Uint32()
					}
				}
				if !gone[id] {
					operations = operations.Bytes(op.Type, op.Data)
				}
			}
			body = body.Nested(a.Type, operations)
		}
		all = append(all, kernel.Message{Command: m.Command, Body: body})
	}
	return all
}

// cuts are attributes to be left out: nil, or what is left out of one.
type cuts map[uint16]cuts

func (c cuts) add(path []uint16) {
	if len(path) == 1 {
		c[path[0]] = nil
		return
	}
	inner, known := c[path[0]]
	if !known {
		inner = cuts{}
		c[path[0]] = inner
	}
	if inner != nil {
		inner.add(path[1:])
	}
}

func (c cuts) from(attributes []byte) []byte {
	var left kernel.Body
	for a := kernel.AttributesOf(attributes); a.Next(); {
		switch inner, cut := c[a.Type]; {
		case !cut:
			left = left.Bytes(a.Type, a.Data)
		case inner != nil:
			left = left.Nested(a.Type, inner.from(a.Data))
		}
	}
	return left
}

// asOf makes a recording of a recorded host as if its kernel had been an older one.
func asOf(t *testing.T, release, file string) string {
	t.Helper()
	replay, err := openRecording("--host", file)
	if err != nil {
		t.Fatal(err)
	}
	recorder := kernel.NewRecorder(old{replay, release}, kernel.RecordingHeader{Kernel: release})
	if err := ask(t.Context(), recorder, true, true); err != nil {
		t.Fatal(err)
	}
	var recording bytes.Buffer
	if _, err := recorder.WriteTo(&recording); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "old.txtar")
	if err := os.WriteFile(name, recording.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// hostJudged is a recorded host, and what it is asked.
type hostJudged struct {
	about         string
	host, earlier *kernel.Replay
	groups        []audit.Group
	// of is the rule and the subject for which the host was edited; empty for all.
	of string
}

// hostsJudged are the recorded hosts of all rules, each once: those that are edited are
// asked for what they are edited for, the others everything.
func hostsJudged(t *testing.T) []hostJudged {
	t.Helper()
	parsed := map[string]*kernel.Replay{"": nil}
	replay := func(name string, edits []edit) *kernel.Replay {
		if r, known := parsed[name]; known && len(edits) == 0 {
			return r
		}
		r, err := openRecording("--host", hostOf(t, name, edits))
		if err != nil {
			t.Fatal(err)
		}
		if len(edits) == 0 {
			parsed[name] = r
		}
		return r
	}
	var all []hostJudged
	seen := map[string]bool{}
	for _, g := range audit.Groups() {
		for _, c := range ruleCasesOf(t, g.Name) {
			h := hostJudged{about: strings.TrimSpace(c.host + " " + c.earlier), groups: audit.Groups()}
			if len(c.edits)+len(c.before) > 0 {
				h = hostJudged{about: c.rule + " " + string(c.status), groups: []audit.Group{g}, of: c.rule + " " + c.subject}
			}
			if seen[h.about] {
				continue
			}
			seen[h.about] = true
			h.host, h.earlier = replay(c.host, c.edits), replay(c.earlier, c.before)
			all = append(all, h)
		}
	}
	return all
}

// said is what the rules say of the host as it is, or as of an older release.
func (h hostJudged) said(t *testing.T, release string) map[string]findings.Finding {
	t.Helper()
	as := func(r *kernel.Replay) kernel.Reader {
		if release == "" {
			return r
		}
		return old{r, release}
	}
	var e *audit.Evidence
	var err error
	if h.earlier == nil {
		e, err = audit.Gather(t.Context(), as(h.host), h.groups, 0, inventory.NewModules())
	} else {
		e, err = audit.GatherPair(t.Context(), as(h.earlier), as(h.host), h.groups, inventory.NewModules())
	}
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]findings.Finding{}
	for _, f := range audit.Judge(e, h.groups) {
		name := strings.TrimSpace(f.Rule + " " + cmp.Or(f.Subject.Name, f.Subject.PCIAddress, "host") + " " + f.Subject.Part)
		if h.of == "" || h.of == name {
			all[name] = f
		}
	}
	return all
}

// oldKernels are those of distributions, and one that has the half of netdev.
func oldKernels() []string {
	return []string{"4.18.20", "5.4.302", "5.10.245", "5.15.195", "6.1.158", "6.6.116"}
}

// On an older kernel the recorded hosts of all rules say less, and nothing else: what
// fails or passes does so still, or is unknown.
func TestOldKernelsAreUnknown(t *testing.T) {
	hosts := hostsJudged(t)
	now := make([]map[string]findings.Finding, len(hosts))
	for i, h := range hosts {
		if now[i] = h.said(t, ""); len(now[i]) == 0 {
			t.Errorf("%s: nothing is said of it", h.about)
		}
	}
	last := 0
	for _, release := range oldKernels() {
		t.Run(release, func(t *testing.T) {
			known, unknown := 0, 0
			for i, h := range hosts {
				for name, f := range h.said(t, release) {
					switch is := now[i][name].Status; {
					case f.Status == is && (is == findings.Pass || is == findings.Fail):
						known++
					case f.Status == is:
					case f.Status == findings.Unknown:
						unknown++
					case f.Status == findings.NotApplicable && is == findings.Unknown:
					default:
						t.Errorf("%s: %s: %s: %s\n\twas %s: %s", h.about, name, f.Status, f.Seen, is, now[i][name].Seen)
					}
				}
			}
			if known <= last && unknown > 0 {
				t.Errorf("%d verdicts are as before, %d on the kernel before this", known, last)
			}
			last = known
			t.Logf("%d verdicts are as before, %d unknown", known, unknown)
		})
	}
}

// What policies want is judged on an older kernel as on a newer one, but for what that
// kernel can't be asked or told: the finding says so.
func TestPoliciesOnOldKernels(t *testing.T) {
	for _, asked := range []struct{ group, policies, host string }{
		{"policy", "policies.yaml", "nics"}, {"sriov", "migratable.yaml", "numa"},
	} {
		args := []string{"check", asked.group, "--all"}
		if asked.group == "policy" {
			args = []string{"audit"}
		}
		args = append(args, "-o", "json", "--policy", policiesAsOf(t, asked.policies, time.Now()), "--host")
		said := func(host string) map[string]findings.Finding {
			stdout, stderr, exit := nictune(t, append(args, host)...)
			var said struct{ Findings []findings.Finding }
			if err := json.Unmarshal([]byte(stdout), &said); err != nil {
				t.Fatalf("%v: exit %d, %s: %v", args, exit, stderr, err)
			}
			all := map[string]findings.Finding{}
			for _, f := range said.Findings {
				if strings.HasPrefix(f.Rule, asked.group+"/") {
					all[f.Rule+" "+f.Subject.String()] = f
				}
			}
			return all
		}
		host := hostOf(t, asked.host, nil)
		now := said(host)
		for _, release := range oldKernels() {
			for name, f := range said(asOf(t, release, host)) {
				is := now[name].Status
				impossible := strings.Contains(f.Seen, "this kernel has no ethtool netlink") || strings.HasPrefix(f.Seen, "it can't be had") ||
					strings.HasPrefix(f.Seen, "the device lacks it, and it is optional")
				if f.Status != is && f.Status != findings.Unknown && !impossible {
					t.Errorf("%s: %s: %s: %s\n\twas %s: %s", release, name, f.Status, f.Seen, is, now[name].Seen)
				}
			}
		}
	}
}

// Readiness on an older kernel is as it was, or unknown, for each purpose and NIC.
func TestReadinessOnOldKernels(t *testing.T) {
	said := func(r kernel.Reader) map[string]xdpcheck.Item {
		inv, err := inventory.Read(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		facts := xdpcheck.Of(&inv.Host, inv.NICs, inv.Unread, xdpcheck.Read(t.Context(), r, &inv.Host, inv.NICs))
		all := map[string]xdpcheck.Item{}
		for i := range inv.NICs {
			for _, p := range xdpcheck.Profiles() {
				for _, item := range p.Judge(facts.NIC(i)).Items {
					all[p.Name+" "+inv.NICs[i].Name+" "+item.Name] = item
				}
			}
		}
		return all
	}
	for _, host := range []string{"nics", "nics-worn", "numa"} {
		replay, err := openRecording("--host", hostOf(t, host, nil))
		if err != nil {
			t.Fatal(err)
		}
		now := said(replay)
		for _, release := range oldKernels() {
			for name, item := range said(old{replay, release}) {
				if is := now[name]; item.Status != is.Status && item.Status != findings.Unknown {
					t.Errorf("%s as %s: %s: %s: %s\n\twas %s: %s", host, release, name, item.Status, item.Seen, is.Status, is.Seen)
				}
			}
		}
	}
}

package inventory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Devlink is the devlink instance of a NIC's device, and the port that the NIC
// is on it.
type Devlink struct {
	// Handle is bus/device, "pci/0000:3b:00.0".
	Handle       string `json:"handle"`
	Driver       string `json:"driver,omitempty"`
	SerialNumber string `json:"serialNumber,omitempty"`
	BoardSerial  string `json:"boardSerialNumber,omitempty"`
	// The versions are by the names that devlink dev info prints: "fw.mgmt".
	Fixed   map[string]string `json:"fixed,omitempty"`
	Running map[string]string `json:"running,omitempty"`
	Stored  map[string]string `json:"stored,omitempty"`

	Port *DevlinkPort `json:"port,omitempty"`
}

// DevlinkPort is a NIC as a port of its devlink instance.
type DevlinkPort struct {
	Index int `json:"index"`
	// Flavour is "physical", "pcivf", "pcisf", "pcipf", "virtual", ...
	Flavour string `json:"flavour,omitempty"`
	Number  *int   `json:"number,omitempty"`
	PF      *int   `json:"pf,omitempty"`
	VF      *int   `json:"vf,omitempty"`
	SF      *int   `json:"sf,omitempty"`
	// Lanes is the number of lanes the port has; Splittable whether it can be
	// split.
	Lanes      *int  `json:"lanes,omitempty"`
	Splittable *bool `json:"splittable,omitempty"`
}

// readDevlink reads every devlink instance and port with three dumps and files
// them with the NICs: by the port's network device, or else by the address of
// the NIC's device.
func readDevlink(ctx context.Context, s *survey) {
	instances := map[string]*devlinkInstance{}
	if s.focused && !slices.ContainsFunc(s.nics, func(n *NIC) bool { return n.Parent != nil }) {
		return // firmware is asked, and software devices are nobody's port
	}
	devices, err := s.Netlink(ctx, devlinkDump(uapi.DEVLINK_CMD_GET))
	if err != nil {
		s.missed("nics.devlink", err)
	}
	for _, m := range devices {
		handle, err := decodeDevlinkHandle(m.Body)
		if err != nil {
			s.missed("nics.devlink", err)
			continue
		}
		instances[handle] = &devlinkInstance{Devlink: Devlink{Handle: handle}}
	}
	if len(instances) == 0 {
		return
	}
	s.readDevlinkInfo(ctx, instances)
	ports, err := s.Netlink(ctx, devlinkDump(uapi.DEVLINK_CMD_PORT_GET))
	if err != nil {
		s.missed("nics.devlink.port", err)
	}
	for _, m := range ports {
		handle, ifindex, port, err := decodeDevlinkPort(m.Body)
		if err != nil {
			s.missed("nics.devlink.port", err)
			continue
		}
		n, instance := s.byIndex[ifindex], instances[handle]
		if n == nil || instance == nil {
			continue // A port without a network device, or one in another namespace.
		}
		n.addDevlink(instance, &port)
	}
	for _, n := range s.nics {
		if n.Parent == nil || n.Devlink != nil {
			continue
		}
		if instance := instances[n.Parent.Bus+"/"+n.Parent.Address]; instance != nil {
			n.addDevlink(instance, nil)
		}
	}
}

// devlinkInstance is an instance and what could not be read of it.
type devlinkInstance struct {
	Devlink
	unread []Unread
}

func (n *NIC) addDevlink(instance *devlinkInstance, port *DevlinkPort) {
	d := instance.Devlink
	d.Port = port
	n.Devlink = &d
	n.Unread = append(n.Unread, instance.unread...)
}

// readDevlinkInfo reads drivers, serial numbers and versions. A dump ends at the
// first driver that fails; then each instance that it left out is asked by
// itself, so that one sick device costs only its own facts.
func (s *survey) readDevlinkInfo(ctx context.Context, instances map[string]*devlinkInstance) {
	answered := map[string]bool{}
	add := func(messages []kernel.Message) error {
		var bad error
		for _, m := range messages {
			info, err := decodeDevlinkInfo(m.Body)
			if err != nil {
				bad = errors.Join(bad, err)
				continue
			}
			answered[info.Handle] = true
			if instance := instances[info.Handle]; instance != nil {
				instance.Devlink = info
			}
		}
		return bad
	}
	messages, err := s.Netlink(ctx, devlinkDump(uapi.DEVLINK_CMD_INFO_GET))
	if bad := add(messages); bad != nil {
		s.missed("nics.devlink", bad)
	}
	if err == nil {
		return // An instance that the dump leaves out has no information to give.
	}
	for _, handle := range slices.Sorted(maps.Keys(instances)) {
		if answered[handle] {
			continue
		}
		bus, name, _ := strings.Cut(handle, "/")
		messages, err := s.Netlink(ctx, kernel.Request{
			Family: kernel.FamilyDevlink, Command: uapi.DEVLINK_CMD_INFO_GET,
			Body: kernel.Body{}.String(uapi.DEVLINK_ATTR_BUS_NAME, bus).String(uapi.DEVLINK_ATTR_DEV_NAME, name),
		})
		if err == nil {
			err = add(messages)
		}
		if err != nil {
			instances[handle].unread = append(instances[handle].unread, unread("devlink", err))
		}
	}
}

func devlinkDump(command uint16) kernel.Request {
	return kernel.Request{Family: kernel.FamilyDevlink, Command: command, Dump: true}
}

// devlinkHandle collects the two attributes that name an instance in every
// message.
type devlinkHandle struct{ bus, name string }

func (h *devlinkHandle) take(a *kernel.Attributes) {
	switch a.Type {
	case uapi.DEVLINK_ATTR_BUS_NAME:
		h.bus = a.String()
	case uapi.DEVLINK_ATTR_DEV_NAME:
		h.name = a.String()
	}
}

func (h *devlinkHandle) string() (string, error) {
	if h.bus == "" || h.name == "" {
		return "", fmt.Errorf("%w: a devlink object without its device", kernel.ErrMalformed)
	}
	return h.bus + "/" + h.name, nil
}

// decodeDevlinkHandle decodes an answer to DEVLINK_CMD_GET.
func decodeDevlinkHandle(body []byte) (string, error) {
	var h devlinkHandle
	a := kernel.AttributesOf(body)
	for a.Next() {
		h.take(a)
	}
	if err := a.Err(); err != nil {
		return "", fmt.Errorf("devlink instance: %w", err)
	}
	return h.string()
}

// decodeDevlinkInfo decodes an answer to DEVLINK_CMD_INFO_GET, what `devlink dev
// info` shows.
func decodeDevlinkInfo(body []byte) (Devlink, error) {
	var h devlinkHandle
	var d Devlink
	a := kernel.AttributesOf(body)
	for a.Next() {
		h.take(a)
		switch a.Type {
		case uapi.DEVLINK_ATTR_INFO_DRIVER_NAME:
			d.Driver = a.String()
		case uapi.DEVLINK_ATTR_INFO_SERIAL_NUMBER:
			d.SerialNumber = a.String()
		case uapi.DEVLINK_ATTR_INFO_BOARD_SERIAL_NUMBER:
			d.BoardSerial = a.String()
		case uapi.DEVLINK_ATTR_INFO_VERSION_FIXED:
			decodeDevlinkVersion(a, &d.Fixed)
		case uapi.DEVLINK_ATTR_INFO_VERSION_RUNNING:
			decodeDevlinkVersion(a, &d.Running)
		case uapi.DEVLINK_ATTR_INFO_VERSION_STORED:
			decodeDevlinkVersion(a, &d.Stored)
		}
	}
	if err := a.Err(); err != nil {
		return Devlink{}, fmt.Errorf("devlink info: %w", err)
	}
	var err error
	d.Handle, err = h.string()
	return d, err
}

func decodeDevlinkVersion(a *kernel.Attributes, versions *map[string]string) {
	var name, value string
	v := a.Nested()
	for v.Next() {
		switch v.Type {
		case uapi.DEVLINK_ATTR_INFO_VERSION_NAME:
			name = v.String()
		case uapi.DEVLINK_ATTR_INFO_VERSION_VALUE:
			value = v.String()
		}
	}
	a.Join(v)
	if name == "" {
		return
	}
	if *versions == nil {
		*versions = map[string]string{}
	}
	(*versions)[name] = value
}

// decodeDevlinkPort decodes an answer to DEVLINK_CMD_PORT_GET. ifindex is 0 for a
// port without a network device in this namespace.
func decodeDevlinkPort(body []byte) (handle string, ifindex int, port DevlinkPort, err error) {
	var h devlinkHandle
	a := kernel.AttributesOf(body)
	for a.Next() {
		h.take(a)
		switch a.Type {
		case uapi.DEVLINK_ATTR_PORT_INDEX:
			port.Index = int(a.Uint32())
		case uapi.DEVLINK_ATTR_PORT_NETDEV_IFINDEX:
			ifindex = int(a.Uint32())
		case uapi.DEVLINK_ATTR_PORT_FLAVOUR:
			port.Flavour = devlinkFlavour(a.Uint16())
		case uapi.DEVLINK_ATTR_PORT_NUMBER:
			port.Number = new(int(a.Uint32()))
		case uapi.DEVLINK_ATTR_PORT_PCI_PF_NUMBER:
			port.PF = new(int(a.Uint16()))
		case uapi.DEVLINK_ATTR_PORT_PCI_VF_NUMBER:
			port.VF = new(int(a.Uint16()))
		case uapi.DEVLINK_ATTR_PORT_PCI_SF_NUMBER:
			port.SF = new(int(a.Uint32()))
		case uapi.DEVLINK_ATTR_PORT_LANES:
			port.Lanes = new(int(a.Uint32()))
		case uapi.DEVLINK_ATTR_PORT_SPLITTABLE:
			port.Splittable = new(a.Uint8() != 0)
		}
	}
	if err := a.Err(); err != nil {
		return "", 0, DevlinkPort{}, fmt.Errorf("devlink port: %w", err)
	}
	handle, err = h.string()
	return handle, ifindex, port, err
}

// devlinkFlavour is a port's flavour in the words of `devlink port`.
func devlinkFlavour(flavour uint16) string {
	words := [...]string{
		uapi.DEVLINK_PORT_FLAVOUR_PHYSICAL: "physical",
		uapi.DEVLINK_PORT_FLAVOUR_CPU:      "cpu",
		uapi.DEVLINK_PORT_FLAVOUR_DSA:      "dsa",
		uapi.DEVLINK_PORT_FLAVOUR_PCI_PF:   "pcipf",
		uapi.DEVLINK_PORT_FLAVOUR_PCI_VF:   "pcivf",
		uapi.DEVLINK_PORT_FLAVOUR_VIRTUAL:  "virtual",
		uapi.DEVLINK_PORT_FLAVOUR_UNUSED:   "unused",
		uapi.DEVLINK_PORT_FLAVOUR_PCI_SF:   "pcisf",
	}
	if int(flavour) < len(words) {
		return words[flavour]
	}
	return fmt.Sprintf("flavour %d", flavour)
}

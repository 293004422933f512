package kernel

import (
	"context"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// Family is a generic netlink family as the running kernel registered it.
type Family struct {
	Name    string
	ID      uint16
	Version uint8
	// Operations are the commands it has.
	Operations map[uint16]Operation
	// Groups are the multicast groups, by name.
	Groups map[string]uint32
}

// Operation says how a command may be used.
type Operation struct {
	// Do and Dump: for one object, and for all of them.
	Do, Dump bool
	// Admin: only with CAP_NET_ADMIN.
	Admin bool
}

// Families lists the kernel's generic netlink families by name.
//
// It lists them all even to find one: a look-up by name makes the kernel load a
// module that has the family, and a reader changes nothing.
func Families(ctx context.Context, r Reader) (map[string]Family, error) {
	return families(ctx, r.Netlink)
}

func families(ctx context.Context, ask func(context.Context, Request) ([]Message, error)) (map[string]Family, error) {
	messages, err := ask(ctx, Request{Family: FamilyControl, Command: uapi.CTRL_CMD_GETFAMILY, Dump: true})
	if err != nil && len(messages) == 0 {
		return nil, err
	}
	families := make(map[string]Family, len(messages))
	for _, m := range messages {
		f, err := decodeFamily(m.Body)
		if err != nil {
			return nil, &Error{Op: "nlctrl GETFAMILY", Err: err}
		}
		families[f.Name] = f
	}
	return families, nil
}

// decodeFamily decodes the attributes of CTRL_CMD_NEWFAMILY.
func decodeFamily(body []byte) (Family, error) {
	f := Family{Operations: map[uint16]Operation{}, Groups: map[string]uint32{}}
	attributes := AttributesOf(body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.CTRL_ATTR_FAMILY_NAME:
			f.Name = attributes.String()
		case uapi.CTRL_ATTR_FAMILY_ID:
			f.ID = attributes.Uint16()
		case uapi.CTRL_ATTR_VERSION:
			f.Version = uint8(attributes.Uint32())
		case uapi.CTRL_ATTR_OPS:
			operations := attributes.Nested()
			for operations.Next() {
				var id, flags uint32
				operation := operations.Nested()
				for operation.Next() {
					switch operation.Type {
					case uapi.CTRL_ATTR_OP_ID:
						id = operation.Uint32()
					case uapi.CTRL_ATTR_OP_FLAGS:
						flags = operation.Uint32()
					}
				}
				operations.Join(operation)
				f.Operations[uint16(id)] = Operation{
					Do:    flags&uapi.GENL_CMD_CAP_DO != 0,
					Dump:  flags&uapi.GENL_CMD_CAP_DUMP != 0,
					Admin: flags&(uapi.GENL_ADMIN_PERM|uapi.GENL_UNS_ADMIN_PERM) != 0,
				}
			}
			attributes.Join(operations)
		case uapi.CTRL_ATTR_MCAST_GROUPS:
			groups := attributes.Nested()
			for groups.Next() {
				var name string
				var id uint32
				group := groups.Nested()
				for group.Next() {
					switch group.Type {
					case uapi.CTRL_ATTR_MCAST_GRP_NAME:
						name = group.String()
					case uapi.CTRL_ATTR_MCAST_GRP_ID:
						id = group.Uint32()
					}
				}
				groups.Join(group)
				f.Groups[name] = id
			}
			attributes.Join(groups)
		}
	}
	return f, attributes.Err()
}

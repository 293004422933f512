package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

const (
	// callTimeout bounds every call whose context has no nearer deadline, and does not
	// allow for more ([Patiently]).
	callTimeout = 10 * time.Second
	// callsAtOnce bounds the calls under way, those included that were given up
	// and still hang in a driver.
	callsAtOnce = 64
	// manyAtOnce bounds those of a caller that asks many devices one by one
	// ([AmongMany]).
	manyAtOnce = 48
)

var _ Writer = (*Live)(nil)

// Live is the running kernel, in the network namespace that the calling thread
// of Open was in. It is safe for concurrent use.
type Live struct {
	// Each has one token for each call of its kind under way: files are read while
	// drivers hang, and a dump has a place when all of many devices do.
	slots, files, many chan struct{}

	ioctls  *ioctlSocket
	library *ethtool.Ethtool
	names   pciNames

	mu       sync.Mutex
	idle     map[int][]*conversation // by netlink protocol
	families map[string]Family       // nil until first needed
	strings  map[string][]Message    // the kernel's own string sets, by request
	closed   bool
}

// Open connects to the running kernel.
func Open() (*Live, error) {
	l := &Live{
		slots: make(chan struct{}, callsAtOnce),
		files: make(chan struct{}, callsAtOnce),
		many:  make(chan struct{}, manyAtOnce),
		idle:  map[int][]*conversation{},
	}
	// One socket of each kind now: a host without netlink is found out here.
	for _, protocol := range []int{unix.NETLINK_ROUTE, unix.NETLINK_GENERIC} {
		c, err := l.conversation(protocol)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.giveBack(protocol, c)
	}
	var err error
	if l.ioctls, err = openIoctl(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if l.library, err = ethtool.NewEthtool(); err != nil {
		return nil, errors.Join(&Error{Op: "open a socket for SIOCETHTOOL", Err: err}, l.Close())
	}
	return l, nil
}

// Close lets go of the sockets. Calls under way finish on their own.
func (l *Live) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for _, conversations := range l.idle {
		for _, c := range conversations {
			errs = append(errs, c.close())
		}
	}
	l.idle = nil
	if l.ioctls != nil {
		errs = append(errs, l.ioctls.close())
	}
	if l.library != nil {
		l.library.Close()
	}
	return errors.Join(errs...)
}

// ReadFile implements Reader.
func (l *Live) ReadFile(ctx context.Context, path string) ([]byte, error) {
	return guard(ctx, l.files, opRead, path, func() ([]byte, error) {
		b, err := readFile(path)
		return b, l.gone(path, err)
	})
}

// ReadDir implements Reader.
func (l *Live) ReadDir(ctx context.Context, path string) ([]string, error) {
	return guard(ctx, l.files, opReadDir, path, func() ([]string, error) {
		names, err := readDir(path)
		return names, l.gone(path, err)
	})
}

// ReadLink implements Reader.
func (l *Live) ReadLink(ctx context.Context, path string) (string, error) {
	return guard(ctx, l.files, opReadLink, path, func() (string, error) {
		target, err := readLink(path)
		return target, l.gone(path, err)
	})
}

// gone says of a read that failed because its device went away that it did.
func (l *Live) gone(path string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Err = goneRead(path, e.Err, lstat, l.ioctls.named)
	}
	return err
}

func lstat(path string) error {
	_, err := retry(func() (int, error) { return 0, unix.Lstat(path, new(unix.Stat_t)) })
	return err
}

// WriteFile implements Writer.
func (l *Live) WriteFile(ctx context.Context, path string, data []byte) error {
	_, err := guard(ctx, l.files, opWrite, path, func() (struct{}, error) { return struct{}{}, writeFile(path, data) })
	return err
}

// Ethtool implements Reader.
func (l *Live) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	if err := checkIoctlReads(device, arg); err != nil {
		return nil, err
	}
	return l.EthtoolSet(ctx, device, arg)
}

// EthtoolSet implements Writer.
func (l *Live) EthtoolSet(ctx context.Context, device string, arg []byte) ([]byte, error) {
	if IsOnItsOwn(ctx) { // thousands of times for a scrape
		place := l.place(ctx)
		place <- struct{}{}
		defer func() { <-place }()
		return l.ioctls.issue(device, arg)
	}
	arg = bytes.Clone(arg) // the caller's is no longer ours once ctx ends
	return guard(ctx, l.place(ctx), ioctlOp(ioctlCommand(arg)), device, func() ([]byte, error) { return l.ioctls.issue(device, arg) })
}

// MulticastAddress implements Writer.
func (l *Live) MulticastAddress(ctx context.Context, device string, address net.HardwareAddr, add bool) error {
	address = bytes.Clone(address)
	_, err := guard(ctx, l.slots, multicastOp(add), device, func() (struct{}, error) {
		return struct{}{}, l.ioctls.multicast(device, address, add)
	})
	return err
}

// Irqbalance implements Reader.
func (l *Live) Irqbalance(ctx context.Context) ([]byte, error) {
	return guard(ctx, l.slots, opIrqbalance, "", func() ([]byte, error) { return irqbalanceSetup(irqbalanceDir) })
}

// IrqbalanceSet implements Writer.
func (l *Live) IrqbalanceSet(ctx context.Context, request string) error {
	_, err := guard(ctx, l.slots, opIrqbalance, "", func() ([]byte, error) {
		return askIrqbalance(irqbalanceDir, request)
	})
	return err
}

// UdevRules implements Writer.
func (l *Live) UdevRules(ctx context.Context, name string, rules []byte) error {
	_, err := guard(ctx, l.slots, opUdevRules, name, func() (struct{}, error) {
		return struct{}{}, writeRules(UdevRulesDir, name, rules)
	})
	return err
}

// DriverInfo implements Reader.
func (l *Live) DriverInfo(ctx context.Context, device string) (DriverInfo, error) {
	return guard(ctx, l.place(ctx), ioctlOp(uapi.ETHTOOL_GDRVINFO), device, func() (DriverInfo, error) { return driverInfo(l.library, device) })
}

// Counters implements Reader.
func (l *Live) Counters(ctx context.Context, device string) ([]Counter, error) {
	return guard(ctx, l.place(ctx), ioctlOp(uapi.ETHTOOL_GSTATS), device, func() ([]Counter, error) {
		return counters(device, func(arg []byte) ([]byte, error) { return l.ioctls.issue(device, arg) })
	})
}

// Machine implements Reader.
func (l *Live) Machine(ctx context.Context) (Machine, error) {
	return guard(ctx, l.slots, opMachine, machineSubject, func() (Machine, error) { return readMachine("/") })
}

// PCINames implements Reader.
func (l *Live) PCINames(ctx context.Context, modalias string) (PCINames, error) {
	return guard(ctx, l.slots, opPCINames, modalias, func() (PCINames, error) { return l.names.lookUp(modalias) })
}

// Users implements Reader.
func (l *Live) Users(ctx context.Context) (Users, error) {
	users, err := guard(ctx, l.slots, opUsers, "/proc", func() (Users, error) { return readUsers(ctx) })
	if err != nil {
		return Users{}, err
	}
	for i := range users.Namespaces {
		if err := l.identify(ctx, &users.Namespaces[i]); err != nil {
			return Users{}, err
		}
	}
	return users, nil
}

// SocketHolders implements Reader.
func (l *Live) SocketHolders(ctx context.Context, inodes []uint64) ([]SocketHolder, error) {
	return guard(ctx, l.slots, opSockets, "/proc", func() ([]SocketHolder, error) { return socketHolders(ctx, inodes) })
}

// Netlink implements Reader.
func (l *Live) Netlink(ctx context.Context, req Request) ([]Message, error) {
	if !readOnly(req) {
		return nil, &Error{Op: req.String(), Err: ErrReadOnly}
	}
	return l.netlink(ctx, req)
}

// NetlinkSet implements Writer.
func (l *Live) NetlinkSet(ctx context.Context, req Request) error {
	_, err := l.netlink(ctx, req)
	return err
}

func (l *Live) netlink(ctx context.Context, req Request) ([]Message, error) {
	switch req.Family {
	case FamilyRoute:
		return l.ask(ctx, unix.NETLINK_ROUTE, req, frame{typ: req.Command, dump: req.Dump, create: req.Create, body: req.Body})
	case FamilySockDiag:
		return l.ask(ctx, unix.NETLINK_SOCK_DIAG, req, frame{typ: req.Command, dump: req.Dump, body: req.Body})
	}
	family, err := l.family(ctx, req.Family)
	if err != nil {
		return nil, err
	}
	if err := family.has(req); err != nil {
		return nil, err
	}
	key := ""
	if ownStrings(req) {
		key = string(req.Body)
		l.mu.Lock()
		known := l.strings[key]
		l.mu.Unlock()
		if known != nil {
			return known, nil
		}
	}
	body := append(make([]byte, 0, genericHeader+len(req.Body)), byte(req.Command), family.Version, 0, 0)
	messages, err := l.ask(ctx, unix.NETLINK_GENERIC, req, frame{typ: family.ID, dump: req.Dump, body: append(body, req.Body...)})
	for i, m := range messages {
		if len(m.Body) < genericHeader {
			return nil, &Error{Op: req.String(), Err: fmt.Errorf("%w: %d bytes where a generic netlink header is due", ErrMalformed, len(m.Body))}
		}
		messages[i] = Message{Command: uint16(m.Body[0]), Body: m.Body[genericHeader:]}
	}
	if key != "" && err == nil {
		l.mu.Lock()
		if l.strings == nil {
			l.strings = map[string][]Message{}
		}
		l.strings[key] = messages
		l.mu.Unlock()
	}
	return messages, err
}

// ownStrings says whether a request asks ethtool for string sets of no device:
// names of features and link modes. They are compiled into the kernel, and asked
// for once.
func ownStrings(req Request) bool {
	if req.Family != FamilyEthtool || req.Command != uapi.ETHTOOL_MSG_STRSET_GET || req.Dump {
		return false
	}
	attributes := AttributesOf(req.Body)
	return attributes.Next() && attributes.Type == uapi.ETHTOOL_A_STRSET_HEADER && len(attributes.Data) == 0
}

// has says, in words that help more than the kernel's bare errno, that a family
// lacks a command.
func (f Family) has(req Request) error {
	operation, ok := f.Operations[req.Command]
	switch {
	case !ok:
		return &Error{Op: req.String(), Err: fmt.Errorf("%w: this kernel's %s family does not have the command", syscall.EOPNOTSUPP, f.Name)}
	case req.Dump && !operation.Dump:
		return &Error{Op: req.String(), Err: fmt.Errorf("%w: this kernel's %s family can't dump with this command", syscall.EOPNOTSUPP, f.Name)}
	}
	return nil
}

// family finds a generic netlink family, and reads the kernel's list anew for
// one that it has not seen: a module may have brought it since.
func (l *Live) family(ctx context.Context, name string) (Family, error) {
	if name == FamilyControl {
		operation := Operation{Do: true, Dump: true}
		return Family{Name: name, ID: uapi.GENL_ID_CTRL, Version: 2, Operations: map[uint16]Operation{
			uapi.CTRL_CMD_GETFAMILY: operation, uapi.CTRL_CMD_GETPOLICY: operation,
		}}, nil
	}
	l.mu.Lock()
	family, ok := l.families[name]
	l.mu.Unlock()
	if ok {
		return family, nil
	}
	families, err := families(ctx, l.Netlink)
	if err != nil {
		return Family{}, err
	}
	l.mu.Lock()
	l.families = families
	l.mu.Unlock()
	if family, ok = families[name]; !ok {
		return Family{}, &Error{Op: "netlink family " + name, Err: fmt.Errorf("%w: this kernel does not have the family", syscall.EOPNOTSUPP)}
	}
	return family, nil
}

// ask puts one frame to the kernel on a socket of its own for the time being.
func (l *Live) ask(ctx context.Context, protocol int, req Request, f frame) ([]Message, error) {
	// The socket is opened here and not in the goroutine: a new thread might be
	// in another network namespace.
	c, err := l.conversation(protocol)
	if err != nil {
		return nil, err
	}
	messages, err := guard(ctx, l.place(ctx), req.String(), "", func() ([]Message, error) {
		for {
			messages, err := c.request(f)
			var truncated errTruncated
			if errors.As(err, &truncated) && truncated.size <= receiveBufferMax {
				// What did not fit is lost: ask again on a socket that has no
				// leftovers, with room for it.
				l.giveBack(protocol, c)
				s, dialErr := dial(protocol)
				if dialErr != nil {
					return nil, dialErr
				}
				c = &conversation{transport: s, buffer: make([]byte, 2*truncated.size)}
				continue
			}
			l.giveBack(protocol, c)
			return messages, err
		}
	})
	if errors.Is(err, errNoSlot) {
		l.giveBack(protocol, c) // nobody took it
	}
	return messages, named(err, req.String())
}

// conversation takes an idle socket or opens one.
func (l *Live) conversation(protocol int) (*conversation, error) {
	l.mu.Lock()
	idle := l.idle[protocol]
	if n := len(idle); n > 0 {
		c := idle[n-1]
		l.idle[protocol] = idle[:n-1]
		l.mu.Unlock()
		return c, nil
	}
	l.mu.Unlock()
	s, err := dial(protocol)
	if err != nil {
		return nil, err
	}
	return &conversation{transport: s}, nil
}

// giveBack keeps a socket for the next call, unless answers may still come on
// it.
func (l *Live) giveBack(protocol int, c *conversation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || c.broken {
		_ = c.close() // nothing was written that could be lost
		return
	}
	l.idle[protocol] = append(l.idle[protocol], c)
}

// errNoSlot: guard did not call f.
var errNoSlot = fmt.Errorf("%d earlier calls still hang in the kernel", callsAtOnce)

// guard calls f on a goroutine of its own and stops waiting when ctx ends: a
// driver can hold a thread inside the kernel for as long as its firmware hangs,
// and no signal gets it out. f then finishes, if ever, with nobody listening,
// and keeps its slot until then.
func guard[T any](ctx context.Context, slots chan struct{}, op, object string, f func() (T, error)) (T, error) {
	var zero T
	limit, patient := ctx.Value(patience{}).(time.Duration)
	if !patient {
		limit = callTimeout
	}
	if patient && limit <= endless {
		slots <- struct{}{}
		defer func() { <-slots }()
		return f()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return zero, &Error{Op: op, Object: object, Err: fmt.Errorf("%w: %w", errNoSlot, ctx.Err())}
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-slots }()
		value, err := f()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return zero, &Error{Op: op, Object: object, Err: fmt.Errorf("no answer in time, the driver or its firmware may hang: %w", ctx.Err())}
	}
}

// patience is the key of what Patiently allows.
type patience struct{}

// The patience of whoever waits on a goroutine of its own, for itself or among many.
const (
	endless   time.Duration = -1
	amongMany time.Duration = -2
)

// OnItsOwn is for a caller that has a goroutine of its own for the call, and no need
// of the answer: it hangs there for as long as the driver does, whatever becomes of
// ctx. It saves what it costs to wait beside, several times the call of a driver that
// answers at once.
func OnItsOwn(ctx context.Context) context.Context {
	return context.WithValue(ctx, patience{}, endless)
}

// IsOnItsOwn reports whether a caller waits as OnItsOwn and AmongMany say.
func IsOnItsOwn(ctx context.Context) bool {
	limit, patient := ctx.Value(patience{}).(time.Duration)
	return patient && limit <= endless
}

// AmongMany is OnItsOwn for a caller that asks many devices, each on a goroutine: when
// they all hang, these calls don't take the place of others.
func AmongMany(ctx context.Context) context.Context {
	return context.WithValue(ctx, patience{}, amongMany)
}

// place is where a device's call has its token.
func (l *Live) place(ctx context.Context) chan struct{} {
	if limit, _ := ctx.Value(patience{}).(time.Duration); limit == amongMany {
		return l.many
	}
	return l.slots
}

// Patiently lets each call take as long as this: a device may need more than the
// usual ten seconds to make 128 virtual functions.
func Patiently(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, patience{}, limit)
}

// named completes an error that knows its errno with what was asked.
func named(err error, op string) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		if e.Op == "" {
			e.Op = op
		}
		return err
	}
	return &Error{Op: op, Err: err}
}

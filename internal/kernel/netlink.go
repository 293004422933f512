package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// The netlink client is our own. A dump ends at NLMSG_DONE and at nothing else,
// but the client libraries end it at the first message without NLM_F_MULTI, and
// the kernel leaves that flag out of some dumps (netdev DEV_GET, ethtool
// TSINFO_GET): they return a part of the devices and no error.

const (
	messageHeader = 16 // struct nlmsghdr
	genericHeader = 4  // struct genlmsghdr

	// receiveBuffer is what a dump's datagrams fit into: the kernel builds them
	// of up to 32 KiB, and larger only where one object needs more.
	receiveBuffer = 64 << 10
	// receiveBufferMax bounds what a truncated datagram makes us allocate.
	receiveBufferMax = 16 << 20
	// dumpAttempts is how often a dump is tried whose objects change meanwhile.
	dumpAttempts = 5
	// receiveTimeout ends a wait for an answer that never comes. The kernel
	// answers while it is asked, so only a kernel at fault gets here.
	receiveTimeout = 10 // seconds
)

// frame is one request as it goes to the kernel.
type frame struct {
	typ    uint16
	dump   bool
	create bool
	// body follows the nlmsghdr.
	body []byte
}

// transport is a netlink socket, or a test's stand-in for one.
type transport interface {
	send(b []byte) error
	// receive fills b with one datagram and returns the datagram's length, which
	// is larger than b where it did not fit.
	receive(b []byte) (int, error)
	// peek is the length of the datagram that receive would give next.
	peek() (int, error)
	// port is the address that the kernel gave us.
	port() uint32
	close() error
}

// conversation asks over one transport, one request at a time.
type conversation struct {
	transport
	sequence uint32
	buffer   []byte
	// broken says that answers to a request of ours may still be on their way:
	// the transport can't be used again.
	broken bool
}

// errTruncated is a datagram that did not fit into the receive buffer.
type errTruncated struct{ size int }

func (e errTruncated) Error() string {
	return fmt.Sprintf("an answer of %d bytes did not fit the receive buffer", e.size)
}

// request sends f and returns the messages of its answer, including
// their nlmsghdr's type as Command. See Reader.Netlink for interrupted dumps.
func (c *conversation) request(f frame) ([]Message, error) {
	var all []Message
	for range dumpAttempts {
		before := len(all)
		messages, interrupted, err := c.exchange(f, all)
		if err != nil {
			return messages, err
		}
		if !interrupted {
			return messages[before:], nil
		}
		all = messages
	}
	return all, ErrInterrupted
}

// exchange sends f once and reads its answer to the end, after the messages that there
// are already.
func (c *conversation) exchange(f frame, messages []Message) (all []Message, interrupted bool, err error) {
	c.sequence++
	flags := uint16(uapi.NLM_F_REQUEST | uapi.NLM_F_ACK)
	if f.create {
		flags |= uapi.NLM_F_CREATE
	}
	if f.dump {
		flags = uapi.NLM_F_REQUEST | uapi.NLM_F_DUMP
	}
	b := make([]byte, 0, messageHeader+len(f.body))
	b = binary.NativeEndian.AppendUint32(b, uint32(messageHeader+len(f.body)))
	b = binary.NativeEndian.AppendUint16(b, f.typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, c.sequence)
	b = binary.NativeEndian.AppendUint32(b, c.port())
	b = append(b, f.body...)
	if err := c.send(b); err != nil {
		return messages, false, err
	}
	// From here on an early return leaves answers behind.
	c.broken = true
	if c.buffer == nil {
		c.buffer = make([]byte, receiveBuffer)
	}
	for there := len(messages); ; {
		if !f.dump && len(messages) == there { // what comes behind an answer only ends it
			// The kernel makes an answer about one object as large as it needs (256 VFs:
			// 77 KiB). To find that out by losing it would make a driver ask its
			// firmware twice.
			n, err := c.peek()
			if err != nil {
				return messages, interrupted, err
			}
			if n > len(c.buffer) && n <= receiveBufferMax {
				c.buffer = make([]byte, n)
			}
		}
		n, err := c.receive(c.buffer)
		if err != nil {
			return messages, interrupted, err
		}
		if n > len(c.buffer) {
			return messages, interrupted, errTruncated{n}
		}
		// The messages keep what they point into; the buffer is used again.
		part, err := readDatagram(slices.Clone(c.buffer[:n]), c.sequence, c.port(), messages)
		if err != nil {
			return messages, interrupted, err
		}
		messages = part.messages
		interrupted = interrupted || part.interrupted
		if part.done {
			c.broken = false
			return messages, interrupted, part.err
		}
	}
}

// datagram is what one datagram says about one request.
type datagram struct {
	messages    []Message // after those before it
	interrupted bool
	// done says that the answer ends here, with err where it failed.
	done bool
	err  error
}

// readDatagram decodes the messages of one datagram that answer the request
// with this sequence number, sent from this port. Others are late answers to
// requests that were given up and are passed over. Messages of datagrams before it stand
// before its own.
func readDatagram(b []byte, sequence, port uint32, before []Message) (datagram, error) {
	d := datagram{messages: before}
	for len(b) > 0 {
		m, rest, err := cut(b)
		if err != nil {
			return d, err
		}
		b = rest
		if m.sequence != sequence || m.port != port {
			continue
		}
		d.interrupted = d.interrupted || m.flags&uapi.NLM_F_DUMP_INTR != 0
		switch m.typ {
		case uapi.NLMSG_NOOP:
		case uapi.NLMSG_ERROR, uapi.NLMSG_DONE:
			d.done = true
			d.err, err = readEnd(m)
			return d, err
		case uapi.NLMSG_OVERRUN:
			return d, ErrOverrun
		default:
			if d.messages == nil { // those of a dump are about as long as its first
				d.messages = make([]Message, 0, 1+len(b)/(messageHeader+len(m.body)))
			}
			d.messages = append(d.messages, Message{Command: m.typ, Body: m.body})
		}
	}
	return d, nil
}

// message is one netlink message, header and payload.
type message struct {
	typ, flags     uint16
	sequence, port uint32
	body           []byte
}

// cut takes the first message off b.
func cut(b []byte) (m message, rest []byte, err error) {
	if len(b) < messageHeader {
		return m, nil, fmt.Errorf("%w: %d bytes after the last netlink message", ErrMalformed, len(b))
	}
	length := int(binary.NativeEndian.Uint32(b))
	if length < messageHeader || length > len(b) {
		return m, nil, fmt.Errorf("%w: a netlink message of length %d in %d bytes", ErrMalformed, length, len(b))
	}
	m = message{
		typ:      binary.NativeEndian.Uint16(b[4:]),
		flags:    binary.NativeEndian.Uint16(b[6:]),
		sequence: binary.NativeEndian.Uint32(b[8:]),
		port:     binary.NativeEndian.Uint32(b[12:]),
		body:     b[messageHeader:length:length],
	}
	return m, b[min(align(length), len(b)):], nil
}

// readEnd decodes the errno and the extended acknowledgement of the message
// that ends an answer. The second error is about the message's own form.
func readEnd(m message) (answer, malformed error) {
	const errnoSize = 4
	typ, flags, body := m.typ, m.flags, m.body
	if len(body) < errnoSize {
		if typ == uapi.NLMSG_DONE {
			return nil, nil // some kernels end a dump without a status
		}
		return nil, fmt.Errorf("%w: a netlink error of %d bytes", ErrMalformed, len(body))
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil, nil
	}
	if code > 0 || code < -4095 {
		return nil, fmt.Errorf("%w: a netlink error with status %d", ErrMalformed, code)
	}
	e := &Error{Err: syscall.Errno(-code)}
	if flags&uapi.NLM_F_ACK_TLVS == 0 {
		return e, nil
	}
	rest := body[errnoSize:]
	if typ == uapi.NLMSG_ERROR {
		// The request's header follows, and its body too unless it was capped.
		echo := messageHeader
		if flags&uapi.NLM_F_CAPPED == 0 && len(rest) >= messageHeader {
			echo = align(int(binary.NativeEndian.Uint32(rest)))
		}
		if echo < messageHeader || echo > len(rest) {
			return nil, fmt.Errorf("%w: a netlink error that echoes %d of %d bytes", ErrMalformed, echo, len(rest))
		}
		rest = rest[echo:]
	}
	attributes := AttributesOf(rest)
	for attributes.Next() {
		if attributes.Type == uapi.NLMSGERR_ATTR_MSG {
			e.Message = attributes.String()
		}
	}
	// An unreadable extended acknowledgement does not hide the errno.
	return e, nil
}

// socket is a netlink socket: the transport on a live host.
type socket struct {
	fd      int
	address uint32
}

// dial opens a netlink socket in the network namespace of the calling thread.
func dial(protocol int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, &Error{Op: "open netlink socket", Err: err}
	}
	s := &socket{fd: fd}
	if err := s.setup(); err != nil {
		return nil, errors.Join(&Error{Op: "set up netlink socket", Err: err}, unix.Close(fd))
	}
	return s, nil
}

func (s *socket) setup() error {
	// Extended acks carry the driver's own words, strict checking makes the
	// kernel honour a dump's filters, capped acks leave out the echo. Kernels
	// before 4.12 and 4.20 lack some of these; everything works without.
	for _, option := range []int{uapi.NETLINK_EXT_ACK, uapi.NETLINK_CAP_ACK, uapi.NETLINK_GET_STRICT_CHK} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, option, 1); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
			return err
		}
	}
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: receiveTimeout}); err != nil {
		return err
	}
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	name, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	if n, ok := name.(*unix.SockaddrNetlink); ok {
		s.address = n.Pid
	}
	return nil
}

func (s *socket) port() uint32 { return s.address }

func (s *socket) close() error { return unix.Close(s.fd) }

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (s *socket) receive(b []byte) (int, error) { return s.take(b, unix.MSG_TRUNC) }

func (s *socket) peek() (int, error) { return s.take(nil, unix.MSG_TRUNC|unix.MSG_PEEK) }

func (s *socket) take(b []byte, flags int) (int, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, b, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("the kernel did not answer in %d s: %w", receiveTimeout, err)
		case err != nil:
			return 0, err
		}
		// Anybody with privileges can write to our port; only the kernel's word
		// counts. What is only looked at is still there for receive to pass over.
		if a, ok := from.(*unix.SockaddrNetlink); flags&unix.MSG_PEEK != 0 || ok && a.Pid == 0 {
			return n, nil
		}
	}
}

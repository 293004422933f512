package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// serveVhost answers the control messages of QEMU's vhost-user network backend (the protocol of
// QEMU's docs/interop/vhost-user.rst), so that a virtio-net in the guest has several queue pairs,
// RSS and rings that resize, with no privilege on the host. It moves no packet: what the guest
// sends stays in its ring, and nothing ever arrives. It returns when QEMU hangs up.
func serveVhost(l *net.UnixListener, queuePairs int) error {
	c, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer c.Close()
	v := vhost{conn: c, queuePairs: uint64(queuePairs), base: map[uint32]uint32{}}
	for {
		if err := v.serveOne(); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("vhost-user: %w", err)
		}
	}
}

type vhost struct {
	conn       *net.UnixConn
	queuePairs uint64
	base       map[uint32]uint32 // ring -> index of the next descriptor, given back as it came
}

// Requests that need an answer, and header flags.
const (
	getFeatures         = 1
	setVringBase        = 10
	getVringBase        = 11
	getProtocolFeatures = 15
	getQueueNum         = 17

	versionReply = 1 | 1<<2
	needReply    = 1 << 3
)

func (v *vhost) serveOne() error {
	var h [12]byte
	if err := v.read(h[:]); err != nil {
		return err
	}
	request, flags := binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[4:])
	size := binary.LittleEndian.Uint32(h[8:])
	if size > 4096 {
		return fmt.Errorf("request %d of %d bytes", request, size)
	}
	body := make([]byte, size)
	if err := v.read(body); err != nil {
		return err
	}

	var reply []byte
	u64 := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	ring := func() (index, value uint32) {
		if len(body) >= 8 {
			index, value = binary.LittleEndian.Uint32(body), binary.LittleEndian.Uint32(body[4:])
		}
		return
	}
	switch request {
	case getFeatures:
		reply = u64(features())
	case getProtocolFeatures:
		const multiQueue, replyAck, mtu = 1 << 0, 1 << 3, 1 << 4
		reply = u64(multiQueue | replyAck | mtu)
	case getQueueNum:
		reply = u64(v.queuePairs)
	case setVringBase:
		i, base := ring()
		v.base[i] = base
	case getVringBase:
		i, _ := ring()
		reply = binary.LittleEndian.AppendUint32(nil, i)
		reply = binary.LittleEndian.AppendUint32(reply, v.base[i])
	}
	if reply == nil && flags&needReply != 0 {
		reply = u64(0) // done
	}
	if reply == nil {
		return nil
	}
	out := binary.LittleEndian.AppendUint32(nil, request)
	out = binary.LittleEndian.AppendUint32(out, versionReply)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(reply)))
	_, err := v.conn.Write(append(out, reply...))
	return err
}

// read fills b and closes the descriptors (memory, eventfds) that come along: nothing here
// looks at the guest's memory.
func (v *vhost) read(b []byte) error {
	oob := make([]byte, syscall.CmsgSpace(16*4))
	for len(b) > 0 {
		n, on, _, _, err := v.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		b = b[n:]
		messages, err := syscall.ParseSocketControlMessage(oob[:on])
		if err != nil {
			return err
		}
		for _, m := range messages {
			fds, err := syscall.ParseUnixRights(&m)
			if err != nil {
				return err
			}
			for _, fd := range fds {
				syscall.Close(fd)
			}
		}
	}
	return nil
}

// features offers what a vhost network backend may: the bits of linux/virtio_net.h,
// linux/virtio_config.h and linux/virtio_ring.h, and the vhost-user protocol bit.
func features() (f uint64) {
	for _, bit := range []int{
		0, 1, 2, 3, // checksum, guest checksum, guest offloads control, MTU
		7, 8, 9, 10, 11, 12, 13, 14, // segmentation, to and from the guest
		15, 16, 17, 18, 19, 20, 21, 22, 23, // mergeable buffers, status, control queue and its classes, queue pairs, MAC
		27, 28, 29, 30, // any layout, indirect descriptors, event index, vhost-user protocol features
		32, 34, 35, 36, 40, // version 1, packed ring, in order, order platform, ring reset
		52, 53, 54, 55, 56, 57, 60, 63, // notification coalescing, guest USO, host USO, hash report, RSS, speed and duplex
	} {
		f |= 1 << bit
	}
	return f
}

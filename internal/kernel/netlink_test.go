package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// script is a transport that answers each request with the datagrams written
// down for it.
type script struct {
	answers [][][]byte // by request, then by datagram
	sent    [][]byte
	queue   [][]byte
	peeks   int
}

func (s *script) send(b []byte) error {
	s.sent = append(s.sent, bytes.Clone(b))
	if len(s.sent) <= len(s.answers) {
		s.queue = append(s.queue, s.answers[len(s.sent)-1]...)
	}
	return nil
}

func (s *script) receive(b []byte) (int, error) {
	if len(s.queue) == 0 {
		return 0, errors.New("the script ends here: the client waits for more than the kernel would send")
	}
	d := s.queue[0]
	s.queue = s.queue[1:]
	copy(b, d)
	return len(d), nil
}

func (s *script) peek() (int, error) {
	s.peeks++
	if len(s.queue) == 0 {
		return 0, errors.New("the script ends here: the client waits for more than the kernel would send")
	}
	return len(s.queue[0]), nil
}

func (s *script) port() uint32 { return 77 }
func (s *script) close() error { return nil }

// packet frames one netlink message as the kernel would answer request number
// sequence.
func packet(typ, flags uint16, sequence uint32, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(messageHeader+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 77)
	b = append(b, body...)
	return append(b, make([]byte, align(len(body))-len(body))...)
}

func status(code int32, rest ...byte) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, uint32(code)), rest...)
}

const device = 200 // a message type that is none of netlink's own

func bodies(messages []Message) string {
	var b bytes.Buffer
	for _, m := range messages {
		fmt.Fprintf(&b, "%s;", m.Body)
	}
	return b.String()
}

func TestDumpsEndAtDoneOnly(t *testing.T) {
	// netdev DEV_GET and ethtool TSINFO_GET answer dumps without NLM_F_MULTI.
	for _, flags := range []uint16{0, uapi.NLM_F_MULTI} {
		s := &script{answers: [][][]byte{{
			append(packet(device, flags, 1, []byte("eth0")), packet(device, flags, 1, []byte("eth1"))...),
			packet(device, flags, 1, []byte("eth2")),
			packet(uapi.NLMSG_DONE, uapi.NLM_F_MULTI, 1, status(0)),
		}}}
		c := conversation{transport: s}
		messages, err := c.request(frame{typ: device, dump: true})
		if err != nil || bodies(messages) != "eth0;eth1;eth2;" {
			t.Errorf("flags %#x: got %q, %v; want all three devices", flags, bodies(messages), err)
		}
		if c.broken {
			t.Errorf("flags %#x: the socket is not used again after a whole answer", flags)
		}
	}
}

func TestInterruptedDumps(t *testing.T) {
	attempt := func(sequence uint32, intr uint16, names ...string) [][]byte {
		var d []byte
		for _, n := range names {
			d = append(d, packet(device, uapi.NLM_F_MULTI|intr, sequence, []byte(n))...)
		}
		return [][]byte{append(d, packet(uapi.NLMSG_DONE, uapi.NLM_F_MULTI|intr, sequence, status(0))...)}
	}
	t.Run("asked again", func(t *testing.T) {
		s := &script{answers: [][][]byte{
			attempt(1, uapi.NLM_F_DUMP_INTR, "eth0"),
			attempt(2, 0, "eth0", "eth1"),
		}}
		c := conversation{transport: s}
		messages, err := c.request(frame{typ: device, dump: true})
		if err != nil || bodies(messages) != "eth0;eth1;" {
			t.Errorf("got %q, %v; want the second dump alone", bodies(messages), err)
		}
	})
	t.Run("never whole", func(t *testing.T) {
		s := &script{}
		for i := range uint32(dumpAttempts) {
			s.answers = append(s.answers, attempt(i+1, uapi.NLM_F_DUMP_INTR, fmt.Sprint("eth", i)))
		}
		c := conversation{transport: s}
		messages, err := c.request(frame{typ: device, dump: true})
		if !errors.Is(err, ErrInterrupted) || bodies(messages) != "eth0;eth1;eth2;eth3;eth4;" {
			t.Errorf("got %q, %v; want the answers of all attempts in order and ErrInterrupted", bodies(messages), err)
		}
	})
}

func TestTruncatedDatagram(t *testing.T) {
	s := &script{answers: [][][]byte{{packet(device, 0, 1, make([]byte, receiveBuffer+1000))}}}
	c := conversation{transport: s}
	_, err := c.request(frame{typ: device, dump: true})
	var truncated errTruncated
	if !errors.As(err, &truncated) || truncated.size != messageHeader+receiveBuffer+1000 {
		t.Errorf("got %v, want the size that did not fit", err)
	}
	if !c.broken {
		t.Error("the socket would be used again with an answer still to come")
	}
}

// The answer about one object is asked for once, however large it is, and looked at once
// before it is taken: each is a system call.
func TestLargeAnswer(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 3*receiveBuffer)
	s := &script{answers: [][][]byte{{packet(device, 0, 1, large), packet(uapi.NLMSG_ERROR, 0, 1, status(0))}}}
	c := conversation{transport: s}
	messages, err := c.request(frame{typ: device})
	if err != nil || len(messages) != 1 || !bytes.Equal(messages[0].Body, large) || len(s.sent) != 1 || s.peeks != 1 {
		t.Errorf("%d messages to %d requests, %v", len(messages), len(s.sent), err)
	}
	s = &script{answers: [][][]byte{{packet(device, 0, 1, make([]byte, receiveBufferMax+1))}}}
	c = conversation{transport: s}
	var truncated errTruncated
	if _, err := c.request(frame{typ: device}); !errors.As(err, &truncated) {
		t.Errorf("more than there is memory for: %v", err)
	}
}

func TestLateAnswersArePassedOver(t *testing.T) {
	s := &script{answers: [][][]byte{{
		packet(device, 0, 99, []byte("late")),
		append(packet(device, 0, 1, []byte("eth0")), packet(uapi.NLMSG_ERROR, 0, 1, status(0))...),
	}}}
	c := conversation{transport: s}
	messages, err := c.request(frame{typ: device})
	if err != nil || bodies(messages) != "eth0;" {
		t.Errorf("got %q, %v", bodies(messages), err)
	}
}

func TestErrors(t *testing.T) {
	words := Body{}.Uint32(uapi.NLMSGERR_ATTR_OFFS, 20).String(uapi.NLMSGERR_ATTR_MSG, "requested channel count exceeds maximum")
	echo := make([]byte, messageHeader)
	binary.NativeEndian.PutUint32(echo, messageHeader+6)
	for _, test := range []struct {
		name        string
		typ, flags  uint16
		body        []byte
		errno       syscall.Errno
		words       string
		wantMalform bool
	}{
		{"plain", uapi.NLMSG_ERROR, 0, status(-int32(syscall.EPERM), echo...), syscall.EPERM, "", false},
		{"capped with words", uapi.NLMSG_ERROR, uapi.NLM_F_CAPPED | uapi.NLM_F_ACK_TLVS,
			append(status(-int32(syscall.EINVAL), echo...), words...), syscall.EINVAL, "requested channel count exceeds maximum", false},
		{"whole echo with words", uapi.NLMSG_ERROR, uapi.NLM_F_ACK_TLVS,
			append(append(status(-int32(syscall.EINVAL), echo...), make([]byte, 8)...), words...), syscall.EINVAL, "requested channel count exceeds maximum", false},
		{"dump", uapi.NLMSG_DONE, uapi.NLM_F_MULTI, status(-int32(syscall.EOPNOTSUPP)), syscall.EOPNOTSUPP, "", false},
		{"dump with words", uapi.NLMSG_DONE, uapi.NLM_F_MULTI | uapi.NLM_F_ACK_TLVS, append(status(-int32(syscall.EINVAL)), words...),
			syscall.EINVAL, "requested channel count exceeds maximum", false},
		{"short", uapi.NLMSG_ERROR, 0, []byte{1, 2}, 0, "", true},
		{"positive", uapi.NLMSG_ERROR, 0, status(12), 0, "", true},
		{"far out", uapi.NLMSG_ERROR, 0, status(-70000), 0, "", true},
		{"echo beyond the end", uapi.NLMSG_ERROR, uapi.NLM_F_ACK_TLVS, status(-1, echo...)[:12], 0, "", true},
		{"words cut off", uapi.NLMSG_ERROR, uapi.NLM_F_CAPPED | uapi.NLM_F_ACK_TLVS,
			append(status(-int32(syscall.EINVAL), echo...), words[:14]...), syscall.EINVAL, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := conversation{transport: &script{answers: [][][]byte{{packet(test.typ, test.flags, 1, test.body)}}}}
			_, err := c.request(frame{typ: device, dump: test.typ == uapi.NLMSG_DONE})
			if test.wantMalform {
				if !errors.Is(err, ErrMalformed) {
					t.Fatalf("got %v, want ErrMalformed", err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, test.errno) || e.Message != test.words {
				t.Errorf("got %#v, want %v with %q", err, test.errno, test.words)
			}
		})
	}
}

func TestMalformedDatagrams(t *testing.T) {
	whole := packet(device, 0, 1, []byte("eth0"))
	long := bytes.Clone(whole)
	binary.NativeEndian.PutUint32(long, 4096)
	short := bytes.Clone(whole)
	binary.NativeEndian.PutUint32(short, 3)
	for name, b := range map[string][]byte{
		"cut header": whole[:9], "length beyond the end": long, "length below a header": short,
		"trailing bytes": append(bytes.Clone(whole), 1, 2, 3),
	} {
		c := conversation{transport: &script{answers: [][][]byte{{b}}}}
		if _, err := c.request(frame{typ: device}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
	c := conversation{transport: &script{answers: [][][]byte{{packet(uapi.NLMSG_OVERRUN, 0, 1, nil)}}}}
	if _, err := c.request(frame{typ: device}); !errors.Is(err, ErrOverrun) {
		t.Errorf("overrun: got %v, want ErrOverrun", err)
	}
}

func FuzzReadDatagram(f *testing.F) {
	f.Add(packet(device, uapi.NLM_F_MULTI, 1, []byte("eth0")))
	f.Add(packet(uapi.NLMSG_ERROR, uapi.NLM_F_ACK_TLVS, 1, append(status(-22, make([]byte, 16)...), Body{}.String(1, "no")...)))
	f.Add(packet(uapi.NLMSG_DONE, uapi.NLM_F_MULTI, 1, status(0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := readDatagram(b, 1, 77, nil)
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrOverrun) {
			t.Errorf("an error of no known kind: %v", err)
		}
		for _, m := range d.messages {
			if len(m.Body) > len(b) {
				t.Error("a message is longer than its datagram")
			}
		}
	})
}

func FuzzAttributes(f *testing.F) {
	f.Add([]byte(Body{}.Uint32(1, 7).String(2, "eth0").Nested(3, Body{}.Uint8(1, 1))))
	f.Add([]byte{3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var walk func(a *Attributes, depth int)
		walk = func(a *Attributes, depth int) {
			for a.Next() {
				_, _ = a.String(), a.Uint()
				if depth > 0 {
					inner := a.Nested()
					walk(inner, depth-1)
				}
			}
			if err := a.Err(); err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("an error of no known kind: %v", err)
			}
		}
		walk(AttributesOf(b), 3)
	})
}

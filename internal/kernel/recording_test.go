package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// documented is the example of docs/recordings.md.
func documented(t testing.TB) []byte {
	t.Helper()
	page, err := os.ReadFile("../../docs/recordings.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(page), "```\nnictune recording")
	example, _, _ = strings.Cut(example, "```")
	if !ok {
		t.Fatal("docs/recordings.md has no example")
	}
	return []byte("nictune recording" + example)
}

// TestDocumentedExample holds the example of docs/recordings.md, and by it each kind of section.
func TestDocumentedExample(t *testing.T) {
	if byteOrder() != "little-endian" {
		t.Skip("the example is of a little-endian host")
	}
	r, err := ParseRecording(documented(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if h := r.Header(); h.Kernel != "6.12.57+deb13-amd64" || h.Nictune != "v0.1.0" || h.Recorded.Year() != 2026 {
		t.Errorf("header %+v", h)
	}
	if b, err := r.ReadFile(ctx, "/sys/class/net/eth0/mtu"); string(b) != "1500\n" || err != nil {
		t.Errorf("mtu: %q, %v", b, err)
	}
	if _, err := r.ReadFile(ctx, "/sys/class/net/eth0/phys_port_name"); err == nil ||
		err.Error() != "read /sys/class/net/eth0/phys_port_name: operation not supported" || ReasonOf(err) != Unsupported {
		t.Errorf("phys_port_name: %v", err)
	}
	if b, err := r.ReadFile(ctx, "/sys/bus/pci/devices/0000:01:00.0/config"); !bytes.Equal(b, []byte{0x86, 0x80, 0xc9, 0x10, 7, 4, 0x10, 0}) || err != nil {
		t.Errorf("config: %x, %v", b, err)
	}
	if names, err := r.ReadDir(ctx, "/sys/class/net"); !slices.Equal(names, []string{"eth0", "lo"}) || err != nil {
		t.Errorf("dir: %q, %v", names, err)
	}
	if l, err := r.ReadLink(ctx, "/sys/class/net/eth0/device"); l != "../../../0000:01:00.0" || err != nil {
		t.Errorf("link: %q, %v", l, err)
	}
	if d, err := r.DriverInfo(ctx, "eth0"); d != (DriverInfo{Driver: "igb", Version: "6.12.57", Firmware: "3.25, 0x800005cc", Bus: "0000:01:00.0"}) || err != nil {
		t.Errorf("driver: %+v, %v", d, err)
	}
	if c, err := r.Counters(ctx, "eth0"); !slices.Equal(c, []Counter{{"rx_packets", 12}, {"tx_packets", 7}}) || err != nil {
		t.Errorf("counters: %+v, %v", c, err)
	}
	if p, err := r.PCINames(ctx, "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00"); p.Class != "Ethernet controller" || p.Subsystem != "" || err != nil {
		t.Errorf("pci: %+v, %v", p, err)
	}
	ask := append(binary.NativeEndian.AppendUint32(nil, uapi.ETHTOOL_GRXRINGS), make([]byte, 12)...)
	if b, err := r.Ethtool(ctx, "eth0", ask); len(b) != 16 || binary.NativeEndian.Uint64(b[8:]) != 4 || err != nil {
		t.Errorf("ioctl: %x, %v", b, err)
	}
	rings := func(device string) Request {
		return Request{Family: FamilyEthtool, Command: uapi.ETHTOOL_MSG_RINGS_GET, Body: Body{}.Nested(1, Body{}.String(2, device))}
	}
	messages, err := r.Netlink(ctx, rings("eth0"))
	if err != nil || len(messages) != 1 || messages[0].Command != 16 {
		t.Fatalf("rings: %+v, %v", messages, err)
	}
	sizes := map[uint16]uint32{}
	a := AttributesOf(messages[0].Body)
	for a.Next() {
		if a.Type != 1 {
			sizes[a.Type] = a.Uint32()
		}
	}
	if want := map[uint16]uint32{2: 4096, 5: 4096, 6: 512, 9: 512}; !maps.Equal(sizes, want) || a.Err() != nil {
		t.Errorf("rings: %v, %v", sizes, a.Err())
	}
	_, err = r.Netlink(ctx, rings("eth1"))
	if err == nil || err.Error() != "ethtool RINGS_GET: no such device (kernel: no device matches name)" || ReasonOf(err) != Gone {
		t.Errorf("rings of eth1: %v", err)
	}
}

// TestRecordingRefused shows what a bad archive is told.
func TestRecordingRefused(t *testing.T) {
	const head = "nictune recording 1\n"
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "line 1: it does not begin with \"nictune recording 1\""},
		{"something else", "apiVersion: v1\n", "line 1: \"apiVersion: v1\" is not how a recording"},
		{"a newer format", "nictune recording 2\n-- end --\n", "line 1: format \"2\": this nictune reads format 1"},
		{"cut short", head + "-- file /a --\n1\n", `line 4: it ends without "-- end --"`},
		{"cut within an attribute", head + "-- netlink ethtool 1 --\nask 1{", `line 3: it ends without "-- end --"`},
		{"cut within the end", head + "-- file /a --\n1\n-- en", `line 4: it ends without "-- end --"`},
		{"reordered", head + "-- end --\n-- file /a --\n1\n", `line 3, section "file /a": a section after the end`},
		{"text after the end", head + "-- end --\nmore\n", `line 3, section "end": text after the end`},
		{"unknown field", head + "colour: red\n-- end --\n", `line 2: unknown field "colour" of the header`},
		{"another byte order", head + "byte-order: middle-endian\n-- end --\n", "line 2: it was recorded on a host of another byte order"},
		{"bad time", head + "\n\nrecorded: yesterday\n-- end --\n", "line 4: recorded: "},
		{"unknown section", head + "-- registry /a --\n-- end --\n", `line 2, section "registry /a": unknown kind`},
		{"unnamed section", head + "-- \"\" --\n-- end --\n", "unknown kind"},
		{"unknown modifier", head + "-- dir hex /a --\n-- end --\n", "not of the form \"dir [error] SUBJECT\""},
		{"relative path", head + "-- file a/b --\n-- end --\n", "not an absolute path"},
		{"path with dots", head + "-- file /a/../b --\n-- end --\n", "not an absolute path"},
		{"answered twice", head + "-- file /a --\n-- file /a --\n-- end --\n", "line 3, section \"file /a\": the question was answered on line 2 already"},
		{"asked twice", head + "-- netlink ethtool 1 --\nask 00\nask 00\n-- end --\n", "answered on line"},
		{"odd hex", head + "-- file hex /a --\n123\n-- end --\n", `"123" is no hex`},
		{"entry with a slash", head + "-- dir /a --\nb/c\n-- end --\n", "line 3, section \"dir /a\": \"b/c\" is not the name"},
		{"no target", head + "-- link /a --\n-- end --\n", "a link without a target"},
		{"two targets", head + "-- link /a --\nb\nc\n-- end --\n", "line 4, section \"link /a\": a link has one target"},
		{"unknown error", head + "-- file error /a --\nEWHATEVER\n-- end --\n", "line 3, section \"file error /a\": \"EWHATEVER\" is not the name of an error"},
		{"no error", head + "-- file error /a --\n-- end --\n", "an error without a name"},
		{"failed how", head + "-- file error /a --\nfailed\n-- end --\n", "needs a detail"},
		{"negative counter", head + "-- counters a --\nx: -1\n-- end --\n", "counter \"x\": \"-1\" is not a number"},
		{"counter without a number", head + "-- counters a --\nx\n-- end --\n", "not of the form"},
		{"unknown driver field", head + "-- driver a --\ncolour: red\n-- end --\n", "unknown field \"colour\""},
		{"driver field twice", head + "-- driver a --\nbus: 1\nbus: 2\n-- end --\n", "line 4, section \"driver a\": a second bus"},
		{"unknown command", head + "-- netlink ethtool RINGS_FRY --\n-- end --\n", "command \"RINGS_FRY\" is not a number"},
		{"command too large", head + "-- netlink ethtool 65536 --\n-- end --\n", "not a number of 16 bits"},
		{"no command", head + "-- netlink ethtool --\n-- end --\n", "not of the form"},
		{"ioctl without ask", head + "-- ethtool a --\n-- end --\n", "without an ask"},
		{"ioctl without answer", head + "-- ethtool a --\nask 00\n-- end --\n", "without an answer"},
		{"ioctl answered before", head + "-- ethtool a --\nanswer 00\nask 00\n-- end --\n", "one answer"},
		{"answer after error", head + "-- netlink ethtool 1 --\nerror EIO\nanswer 1 00\n-- end --\n", "after the error"},
		{"junk in exchange", head + "-- netlink ethtool 1 --\nreply 00\n-- end --\n", "\"reply\" is none of ask"},
		{"open attribute", head + "-- netlink ethtool 1 --\nask 1{\n-- end --\n", "lacks its closing }"},
		{"closed attribute", head + "-- netlink ethtool 1 --\nask }\n-- end --\n", "without its {"},
		{"deep attributes", head + "-- netlink ethtool 1 --\nask " + strings.Repeat("1{", 99) + "\n-- end --\n", "within one another"},
		{"long attribute", head + "-- netlink ethtool 1 --\nask 1{zero:65536}\n-- end --\n", "more than its length can say"},
		{"many zeros", head + "-- netlink ethtool 1 --\nask zero:99999999999\n-- end --\n", "not a number of bytes"},
		{"many zeros by and by", head + "-- netlink ethtool 1 --\nanswer 1" + strings.Repeat(" zero:1048576", 65) + "\n-- end --\n", "more than 67108864 zeros in all"},
		{"number too large", head + "-- netlink ethtool 1 --\nask u8:256\n-- end --\n", "not a number of 8 bits"},
		{"open text", head + "-- netlink ethtool 1 --\nask \"a\n-- end --\n", `lacks its closing "`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := ParseRecording([]byte(test.text))
			if err == nil {
				t.Fatalf("taken: %+v", r.answers)
			}
			if !strings.HasPrefix(err.Error(), "recording line ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v\nwant %s", err, test.want)
			}
		})
	}
}

// TestRecordingCutAnywhere cuts a recording after each of its bytes: none of the parts is taken for a whole one.
func TestRecordingCutAnywhere(t *testing.T) {
	whole := bytes.TrimSuffix(documented(t), []byte("\n"))
	for n := range len(whole) {
		if _, err := ParseRecording(whole[:n]); err == nil {
			t.Fatalf("taken though cut:\n%s", whole[:n])
		}
	}
}

// TestNotation holds the notation of bytes against the builder of netlink bodies.
func TestNotation(t *testing.T) {
	for _, test := range []struct {
		text string
		want []byte
	}{
		{"", nil},
		{"  # nothing\n", nil},
		{"0A0b\n0c # three\n0d", []byte{10, 11, 12, 13}},
		{`"a\x00b" ""`, []byte("a\x00b\x00\x00")},
		{"u8:255 s8:-1 zero:2", []byte{255, 255, 0, 0}},
		{"u16:0x102", binary.NativeEndian.AppendUint16(nil, 0x102)},
		{"s32:-2", binary.NativeEndian.AppendUint32(nil, 0xfffffffe)},
		{"u64:1", binary.NativeEndian.AppendUint64(nil, 1)},
		{"3{u8:1}4{}", Body{}.Uint8(3, 1).Flag(4)},
		{`0x12n{ 1{"lo"} 2{u32:7} } 00`, append(Body{}.Nested(0x12, Body{}.String(1, "lo").Uint32(2, 7)), 0)},
	} {
		got, err := parseBytes(test.text, new(int))
		if err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%q: %x, %v, want %x", test.text, got, err, test.want)
		}
	}
}

// TestMessageLines shows how a message is written, and that it is the same when read again.
func TestMessageLines(t *testing.T) {
	body := Body{}.Nested(1, Body{}.Uint32(1, 2).String(2, "eth0")).Uint32(2, 4096).Uint8(3, 1).Bytes(4, binary.NativeEndian.AppendUint64(nil, 1<<40)).Flag(5).Bytes(6, []byte{0x52, 0x54, 0, 1, 2, 3})
	for _, test := range []struct {
		name   string
		body   []byte
		header int
		want   string
	}{
		{"attributes", body, 0, `1n{1{u32:2} 2{"eth0"}} 2{u32:4096} 3{u8:1} 4{u64:1099511627776} 5{} 6{525400010203}`},
		{"header", append(make([]byte, 8), Body{}.String(3, "lo")...), 8, "0000000000000000\n" + `3{"lo"}`},
		{"long", Body{}.Nested(9, Body{}.Bytes(1, make([]byte, 40)).Uint16(2, 7)), 0,
			"9n{1{zero:40} 2{u16:7}}"},
		{"zeros within", Body{}.Bytes(1, slices.Concat([]byte{1, 0, 2}, make([]byte, 32), bytes.Repeat([]byte{3}, 33), make([]byte, 31))), 0,
			"1{\n\t010002\n\tzero:32\n\t" + strings.Repeat("03", 32) + "\n\t03" + strings.Repeat("00", 31) + "\n}"},
		{"flagged but no attributes", Body{}.Bytes(1|attributeNested, []byte{1, 2, 3, 4, 5}), 0, "1n{0102030405}"},
		{"no attributes", []byte{1, 2, 3}, 0, "010203"},
		{"shorter than its header", []byte{1, 2, 3}, 16, "010203"},
		{"padding that is not zero", []byte{5, 0, 1, 0, 9, 7, 7, 7}, 0, "0500010009070707"},
		{"nothing", nil, 0, ""},
	} {
		got := messageLines(test.body, test.header)
		if byteOrder() == "little-endian" && strings.Join(got, "\n") != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, strings.Join(got, "\n"), test.want)
		}
		if again, err := parseBytes(strings.Join(got, "\n"), new(int)); err != nil || !bytes.Equal(again, test.body) {
			t.Errorf("%s: %x, %v, was %x", test.name, again, err, test.body)
		}
	}
}

// FuzzMessageLines: whatever is written reads as the same bytes.
func FuzzMessageLines(f *testing.F) {
	f.Add([]byte(Body{}.Nested(1, Body{}.Uint32(1, 2).String(2, "eth0")).Uint16(3, 4)), uint8(0))
	f.Add(append(make([]byte, 16), Body{}.String(3, "lo").Uint32(4, 5)...), uint8(16))
	f.Add([]byte{5, 0, 1, 0x80, 9, 7, 7, 7}, uint8(0))
	f.Fuzz(func(t *testing.T, body []byte, header uint8) {
		lines := messageLines(body, int(header))
		again, err := parseBytes(strings.Join(lines, "\n"), new(int))
		if err != nil || !bytes.Equal(again, body) {
			t.Errorf("%x, %v, was %x:\n%s", again, err, body, strings.Join(lines, "\n"))
		}
	})
}

// odd are texts that a careless format loses.
var odd = []string{
	"", " ", "a", "a b", " lead", "trail ", "#hash", "-- end --", "-- x", "--", `"quoted"`, `back\slash`, "tab\t", "line\nfeed", "cr\r",
	"nul\x00", "\xff\xfe", "ünï", "\u00a0", "error", "dump", "ask 00", "a: b", ": ", "name: 1", "\u2028", "x\n-- end --\n", "\n", "\n\n", "x\n",
}

// oddErrors are the errors that a Reader gives.
func oddErrors(q question) []error {
	plain := func(err error) error { return &Error{Op: q.op(), Object: q.object(), Err: err} }
	return []error{
		nil, plain(syscall.ENOENT), plain(syscall.EOPNOTSUPP), plain(ErrInterrupted), plain(ErrMalformed), plain(context.DeadlineExceeded),
		plain(errors.New("a driver's mood")), plain(errors.New(" ")),
		&Error{Op: "netlink family devlink", Object: q.object(), Err: syscall.EOPNOTSUPP, Message: "not\nhere "},
		&Error{Op: q.op(), Object: q.object(), Err: &recordedError{"no EPERM: ask root", syscall.EPERM}},
	}
}

// TestRoundTrip writes many recordings of odd answers and reads them back.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		pick := func() string { return odd[rnd.IntN(len(odd))] }
		want := map[question]answer{}
		for range 20 {
			q := question{kind: []string{askFile, askDir, askLink, askDriver, askCounters, askMachine, askPCI, askUsers, askEthtool, askNetlink}[rnd.IntN(10)], subject: pick()}
			var a answer
			if rnd.IntN(3) == 0 {
				errs := oddErrors(q)
				a.err = errs[rnd.IntN(len(errs))]
			}
			ok := a.err == nil
			switch q.kind {
			case askFile:
				q.subject = "/" + strings.NewReplacer("/", "", "\x00", "").Replace(q.subject)
				if ok {
					a.bytes = []byte(pick() + pick())
				}
			case askDir:
				q.subject = "/sys/" + strings.NewReplacer("/", "", "\x00", "").Replace(q.subject+"d")
				for range rnd.IntN(4) {
					if n := pick(); n != "" && ok {
						a.names = append(a.names, n)
					}
				}
				slices.Sort(a.names)
			case askLink:
				q.subject = "/l" + strings.NewReplacer("/", "", "\x00", "").Replace(q.subject)
				if ok {
					a.link = pick()
				}
			case askDriver:
				if ok {
					a.driver = DriverInfo{Driver: pick(), Version: pick(), Bus: pick()}
				}
			case askCounters:
				for range rnd.IntN(5) {
					if ok {
						a.counters = append(a.counters, Counter{pick(), rnd.Uint64()})
					}
				}
			case askMachine:
				if ok {
					a.machine = Machine{Vendor: pick(), BIOSDate: pick()}
				}
			case askPCI:
				if ok {
					a.pci = PCINames{Vendor: pick(), Class: pick()}
				}
			case askUsers:
				if ok {
					a.users.Files = []OpenFile{{PID: rnd.IntN(9), Path: pick()}}
					a.users.Namespaces = []Namespace{
						{Inode: rnd.Uint64(), Own: true},
						{Inode: rnd.Uint64(), ID: new(rnd.IntN(9)), PIDs: []int{1, 2}, Paths: []string{pick(), pick()}},
					}
					a.users.Hidden = rnd.IntN(3)
				}
			case askEthtool:
				q.body = pick() + "body"
				if ok {
					a.bytes = []byte(strings.Repeat(pick(), 20))
				}
			case askNetlink:
				q.command, q.dump, q.body = uint16(rnd.IntN(80)), rnd.IntN(2) == 0, pick()
				q.subject = []string{FamilyRoute, FamilyEthtool, q.subject}[rnd.IntN(3)]
				for range rnd.IntN(4) {
					a.messages = append(a.messages, Message{Command: uint16(rnd.IntN(1 << 16)), Body: []byte(strings.Repeat(pick(), 9))})
				}
			}
			if a.err != nil { // what it is about was changed above
				var e *Error
				if errors.As(a.err, &e) {
					e.Object = q.object()
					if e.Message == "" {
						e.Op = q.op()
					}
				}
			}
			want[q] = a
		}
		header := RecordingHeader{Nictune: pick(), Kernel: pick(), Recorded: time.Unix(int64(seed), 0).UTC()}
		text := formatRecording(header, want)
		gotHeader, got, err := parseRecording(text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if gotHeader != header {
			t.Errorf("seed %d: header %+v, want %+v", seed, gotHeader, header)
		}
		if len(got) != len(want) {
			t.Errorf("seed %d: %d answers, want %d", seed, len(got), len(want))
		}
		for q, w := range want {
			g, ok := got[q]
			if !ok {
				t.Fatalf("seed %d: %q is lost in\n%s", seed, q, text)
			}
			if !sameAnswer(g, w) {
				t.Errorf("seed %d: %q:\n%+v %v, want\n%+v %v", seed, q, g, g.err, w, w.err)
			}
		}
		if again := formatRecording(gotHeader, got); !bytes.Equal(again, text) {
			t.Errorf("seed %d: written again it differs:\n%s\nwas\n%s", seed, again, text)
		}
	}
}

func sameAnswer(a, b answer) bool {
	if (a.err == nil) != (b.err == nil) {
		return false
	}
	if a.err != nil {
		if a.err.Error() != b.err.Error() || ReasonOf(a.err) != ReasonOf(b.err) {
			return false
		}
		for _, sentinel := range []error{ErrInterrupted, ErrMalformed, context.DeadlineExceeded} {
			if errors.Is(a.err, sentinel) != errors.Is(b.err, sentinel) {
				return false
			}
		}
	}
	same := bytes.Equal(a.bytes, b.bytes) && slices.Equal(a.names, b.names) && a.link == b.link &&
		a.driver == b.driver && slices.Equal(a.counters, b.counters) && a.pci == b.pci && reflect.DeepEqual(a.users, b.users)
	return same && slices.EqualFunc(a.messages, b.messages, func(x, y Message) bool {
		return x.Command == y.Command && bytes.Equal(x.Body, y.Body)
	})
}

// TestReplayKnowsNothingElse shows the two refusals of a recorded host.
func TestReplayKnowsNothingElse(t *testing.T) {
	r, err := ParseRecording([]byte("nictune recording 1\n-- end --\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, err = r.ReadFile(ctx, "/etc/os-release")
	if !errors.Is(err, ErrNotRecorded) || err.Error() != "read /etc/os-release: not in this recording: file /etc/os-release" || ReasonOf(err) != Failed {
		t.Errorf("file: %v", err)
	}
	_, err = r.Netlink(ctx, Request{Family: FamilyRoute, Command: uapi.RTM_GETLINK, Dump: true, Body: []byte{1, 2}})
	if !errors.Is(err, ErrNotRecorded) || !strings.Contains(err.Error(), "netlink route LINK_GET dump ask 0102") {
		t.Errorf("netlink: %v", err)
	}
	if _, err = r.Netlink(ctx, Request{Family: FamilyRoute, Command: uapi.RTM_SETLINK}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("RTM_SETLINK: %v", err)
	}
	if _, err = r.Ethtool(ctx, "eth0", binary.NativeEndian.AppendUint32(nil, uapi.ETHTOOL_SRINGPARAM)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("ETHTOOL_SRINGPARAM: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = r.ReadFile(ended, "/a"); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// changing answers every read of a file with another number.
type changing struct {
	*Replay
	mu sync.Mutex
	n  byte
}

func (c *changing) ReadFile(context.Context, string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return []byte{c.n}, nil
}

// TestRecorder records a recorded host and gets the same recording.
func TestRecorder(t *testing.T) {
	if byteOrder() != "little-endian" {
		t.Skip("the example is of a little-endian host")
	}
	host, err := ParseRecording(documented(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	record := func() []byte {
		r := NewRecorder(host, host.Header())
		var wg sync.WaitGroup
		for q := range host.answers { // in any order, at once, and twice
			for range 2 {
				wg.Go(func() { askAgain(ctx, r, q) })
			}
		}
		_, _ = r.ReadFile(ctx, "/not/recorded")
		_, _ = r.Netlink(ctx, Request{Family: FamilyRoute, Command: uapi.RTM_SETLINK})
		wg.Wait()
		var b bytes.Buffer
		n, err := r.WriteTo(&b)
		if err != nil || n != int64(b.Len()) {
			t.Fatal(n, err)
		}
		return b.Bytes()
	}
	first := record()
	if second := record(); !bytes.Equal(first, second) {
		t.Errorf("two recordings differ:\n%s\n%s", first, second)
	}
	again, err := ParseRecording(first)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.header, host.header) || !maps.EqualFunc(again.answers, host.answers, sameAnswer) {
		t.Errorf("recorded:\n%s", first)
	}

	r := NewRecorder(&changing{Replay: host}, RecordingHeader{})
	for want := range byte(3) {
		if b, err := r.ReadFile(ctx, "/proc/sys/kernel/osrelease"); err != nil || b[0] != want+1 {
			t.Errorf("read %d: %v, %v", want, b, err)
		}
	}
	if a := r.answers[question{kind: askFile, subject: "/proc/sys/kernel/osrelease"}]; a.bytes[0] != 1 {
		t.Errorf("kept answer %d, want the first", a.bytes[0])
	}
}

func askAgain(ctx context.Context, r Reader, q question) {
	switch q.kind {
	case askFile:
		_, _ = r.ReadFile(ctx, q.subject)
	case askDir:
		_, _ = r.ReadDir(ctx, q.subject)
	case askLink:
		_, _ = r.ReadLink(ctx, q.subject)
	case askDriver:
		_, _ = r.DriverInfo(ctx, q.subject)
	case askCounters:
		_, _ = r.Counters(ctx, q.subject)
	case askMachine:
		_, _ = r.Machine(ctx)
	case askPCI:
		_, _ = r.PCINames(ctx, q.subject)
	case askUsers:
		_, _ = r.Users(ctx)
	case askEthtool:
		_, _ = r.Ethtool(ctx, q.subject, []byte(q.body))
	case askNetlink:
		_, _ = r.Netlink(ctx, Request{Family: q.subject, Command: q.command, Dump: q.dump, Body: []byte(q.body)})
	}
}

// FuzzParseRecording: whatever is taken can be written and read again, and means the same.
func FuzzParseRecording(f *testing.F) {
	f.Add(documented(f))
	f.Add([]byte("nictune recording 1\n-- end --\n"))
	f.Add([]byte("nictune recording 1\n-- file noeol /a --\n1\n-- dir error /b --\nEACCES\nmessage: \"no\\nway\"\n-- end --\n"))
	f.Add([]byte("nictune recording 1\n-- netlink route 18 dump --\nask 1n{2{\"x\"}}\nanswer 16 u32:1\n\t0a0b\nerror interrupted\n-- end --\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		header, answers, err := parseRecording(data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "recording") {
				t.Errorf("%v", err)
			}
			return
		}
		text := formatRecording(header, answers)
		header2, answers2, err := parseRecording(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !header2.Recorded.Equal(header.Recorded) || header2.Kernel != header.Kernel {
			t.Errorf("header %+v, was %+v", header2, header)
		}
		if !maps.EqualFunc(answers, answers2, sameAnswer) {
			t.Errorf("%+v\nwas\n%+v\n%s", answers2, answers, text)
		}
	})
}

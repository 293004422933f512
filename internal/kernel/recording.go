package kernel

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"github.com/nictune/nictune/internal/kernel/uapi"
)

// The format of a recording is described for people in docs/recordings.md. This
// file holds what a recording consists of and writes it; recording_parse.go
// reads it.

const (
	recordingTitle  = "nictune recording "
	recordingFormat = "1"
)

// Kinds of questions: the first word of a section's name.
const (
	askFile     = "file"
	askDir      = "dir"
	askLink     = "link"
	askDriver   = "driver"
	askCounters = "counters"
	askMachine  = "machine"
	askPCI      = "pci"
	askUsers    = "users"
	askEthtool  = "ethtool"
	askNetlink  = "netlink"
	sectionEnd  = "end"
)

// The subjects of the one question about the machine, and of the one about users.
const (
	machineSubject = "identity"
	usersSubject   = "devices"
)

// Modifiers, between the kind and the subject.
const (
	asHex   = "hex"   // the content is in the notation of bytes
	asNoEOL = "noeol" // the content's last line has no line feed
	asError = "error" // the content is an error
)

// RecordingHeader says where a recording comes from.
type RecordingHeader struct {
	// Nictune is the version that recorded.
	Nictune string
	// Recorded is when, zero where unknown.
	Recorded time.Time
	// Kernel is the release of the recorded host, as uname -r prints it.
	Kernel string
}

// question is one question to a Reader: what a recording is searched by.
type question struct {
	kind string
	// subject is the path, device, modalias or netlink family.
	subject string
	command uint16 // netlink
	dump    bool   // netlink
	body    string // netlink and ioctl
}

func netlinkQuestion(r Request) question {
	return question{kind: askNetlink, subject: r.Family, command: r.Command, dump: r.Dump, body: string(r.Body)}
}

// op and object are those of an Error about the question.
func (q question) op() string {
	switch q.kind {
	case askFile:
		return opRead
	case askDir:
		return opReadDir
	case askLink:
		return opReadLink
	case askMachine:
		return opMachine
	case askPCI:
		return opPCINames
	case askUsers:
		return opUsers
	case askDriver:
		return ioctlOp(uapi.ETHTOOL_GDRVINFO)
	case askCounters:
		return ioctlOp(uapi.ETHTOOL_GSTATS)
	case askEthtool:
		return ioctlOp(ioctlCommand([]byte(q.body)))
	default:
		return Request{Family: q.subject, Command: q.command, Dump: q.dump}.String()
	}
}

func (q question) object() string {
	if q.kind == askNetlink {
		return ""
	}
	return q.subject
}

// String names the question for the reader of an error.
func (q question) String() string {
	s := q.kind + " " + q.subject
	if q.kind == askNetlink {
		s = q.kind + " " + q.op()
	}
	if q.body != "" {
		const shown = 64
		s += fmt.Sprintf(" ask %x", q.body[:min(len(q.body), shown)])
		if len(q.body) > shown {
			s += fmt.Sprintf("... (%d bytes)", len(q.body))
		}
	}
	return s
}

// section is the name of the section that holds the answer; questions that
// differ in their body only share one.
func (q question) section() string {
	if q.kind != askNetlink {
		return q.kind + " " + quoteWord(q.subject)
	}
	command := commandName(q.subject, q.command)
	if command == "" {
		command = strconv.Itoa(int(q.command))
	}
	s := q.kind + " " + quoteWord(q.subject) + " " + command
	if q.dump {
		s += " dump"
	}
	return s
}

// compareQuestions orders a recording: files as a person would look for them,
// bytes at the end.
func compareQuestions(a, b question) int {
	rank := []string{askFile, askDir, askLink, askDriver, askCounters, askMachine, askPCI, askUsers, askEthtool, askNetlink}
	dumps := map[bool]int{true: 1}
	return cmp.Or(
		cmp.Compare(slices.Index(rank, a.kind), slices.Index(rank, b.kind)),
		cmp.Compare(a.subject, b.subject),
		cmp.Compare(a.command, b.command),
		cmp.Compare(dumps[a.dump], dumps[b.dump]),
		cmp.Compare(a.body, b.body),
	)
}

// netlinkHeader is the length of the header that a family's messages have
// before their attributes.
func netlinkHeader(family string, command uint16) int {
	switch family {
	case FamilyRoute:
	case FamilySockDiag:
		return 16 // struct xdp_diag_msg; nothing else is asked
	default:
		return 0 // the genlmsghdr is not in a Message
	}
	switch routeObjects[(command-uapi.RTM_BASE)/4] {
	case "LINK":
		return unix.SizeofIfInfomsg
	case "ADDR":
		return unix.SizeofIfAddrmsg
	case "ROUTE":
		return unix.SizeofRtMsg
	case "NEXTHOP":
		return 8 // struct nhmsg
	case "NEIGH":
		return unix.SizeofNdMsg
	case "MDB":
		return 8 // struct br_port_msg
	case "STATS":
		return 12 // struct if_stats_msg
	case "NSID":
		return 4 // struct rtgenmsg, padded
	}
	return 0
}

// answer is what a Reader said: err, and the field that the question is after.
type answer struct {
	bytes    []byte // file, ethtool
	names    []string
	link     string
	messages []Message
	driver   DriverInfo
	counters []Counter
	machine  Machine
	pci      PCINames
	users    Users
	err      error
}

// formatRecording writes an archive. Equal questions and answers give equal
// bytes.
func formatRecording(h RecordingHeader, answers map[question]answer) []byte {
	a := &txtar.Archive{Comment: formatHeader(h)}
	var last string
	for _, q := range slices.SortedFunc(maps.Keys(answers), compareQuestions) {
		name, data := formatAnswer(q, answers[q])
		if name == last { // another request of the same kind
			data = append(a.Files[len(a.Files)-1].Data, data...)
			a.Files = a.Files[:len(a.Files)-1]
		}
		last = name
		a.Files = append(a.Files, txtar.File{Name: name, Data: data})
	}
	a.Files = append(a.Files, txtar.File{Name: sectionEnd})
	return txtar.Format(a)
}

func formatHeader(h RecordingHeader) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n", recordingTitle, recordingFormat)
	writeField(&b, "nictune", h.Nictune)
	if !h.Recorded.IsZero() {
		writeField(&b, "recorded", h.Recorded.UTC().Format(time.RFC3339))
	}
	writeField(&b, "kernel", h.Kernel)
	writeField(&b, "byte-order", byteOrder())
	b.WriteByte('\n')
	return b.Bytes()
}

// byteOrder is the host's: the numbers in netlink messages and ioctls have it.
func byteOrder() string {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return "little-endian"
	}
	return "big-endian"
}

func formatAnswer(q question, a answer) (name string, data []byte) {
	var b bytes.Buffer
	name = q.section()
	modified := func(modifier string) string {
		return q.kind + " " + modifier + " " + quoteWord(q.subject)
	}
	switch q.kind {
	case askEthtool, askNetlink:
		format := hexLines // a C struct
		if q.kind == askNetlink {
			header := netlinkHeader(q.subject, q.command)
			format = func(body []byte) []string { return messageLines(body, header) }
		}
		writeLines(&b, "ask", format([]byte(q.body)))
		if q.kind == askEthtool && a.err == nil {
			writeLines(&b, "answer", format(a.bytes))
		}
		for _, m := range a.messages {
			writeLines(&b, fmt.Sprintf("answer %d", m.Command), format(m.Body))
		}
		if a.err != nil {
			b.WriteString("error ")
			writeError(&b, q, a.err)
		}
		return name, b.Bytes()
	}
	if a.err != nil {
		writeError(&b, q, a.err)
		return modified(asError), b.Bytes()
	}
	switch q.kind {
	case askFile:
		switch {
		case !isText(a.bytes):
			for _, l := range hexLines(a.bytes) {
				fmt.Fprintln(&b, l)
			}
			return modified(asHex), b.Bytes()
		case len(a.bytes) > 0 && a.bytes[len(a.bytes)-1] != '\n':
			return modified(asNoEOL), append(slices.Clone(a.bytes), '\n')
		}
		return name, a.bytes
	case askDir:
		for _, n := range a.names {
			fmt.Fprintln(&b, quoteLine(n))
		}
	case askLink:
		fmt.Fprintln(&b, quoteLine(a.link))
	case askDriver:
		for _, f := range driverFields(&a.driver) {
			writeField(&b, f.name, *f.value)
		}
	case askCounters:
		for _, c := range a.counters {
			fmt.Fprintf(&b, "%s: %d\n", quoteLine(c.Name), c.Value)
		}
	case askMachine:
		for _, f := range machineFields(&a.machine) {
			writeField(&b, f.name, *f.value)
		}
	case askPCI:
		for _, f := range pciFields(&a.pci) {
			writeField(&b, f.name, *f.value)
		}
	case askUsers:
		for _, l := range usersLines(a.users) {
			fmt.Fprintln(&b, l)
		}
	}
	return name, b.Bytes()
}

// field is one named string of a struct.
type field struct {
	name  string
	value *string
}

func driverFields(d *DriverInfo) []field {
	return []field{
		{"driver", &d.Driver}, {"version", &d.Version}, {"firmware", &d.Firmware},
		{"expansion-rom", &d.ExpansionROM}, {"bus", &d.Bus},
	}
}

func machineFields(m *Machine) []field {
	return []field{
		{"vendor", &m.Vendor}, {"product", &m.Product}, {"version", &m.Version},
		{"bios-vendor", &m.BIOSVendor}, {"bios-version", &m.BIOSVersion}, {"bios-date", &m.BIOSDate},
	}
}

func pciFields(p *PCINames) []field {
	return []field{{"vendor", &p.Vendor}, {"device", &p.Device}, {"subsystem", &p.Subsystem}, {"class", &p.Class}}
}

// writeField writes "name: value"; an empty value is left out.
func writeField(b *bytes.Buffer, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s: %s\n", name, quoteLine(value))
	}
}

// writeLines writes a word and what belongs to it: on the same line where it is
// one short line, on indented lines otherwise.
func writeLines(b *bytes.Buffer, word string, lines []string) {
	b.WriteString(word)
	if len(lines) == 1 && len(lines[0]) <= notationLine {
		b.WriteByte(' ')
		b.WriteString(lines[0])
		lines = nil
	}
	b.WriteByte('\n')
	for _, l := range lines {
		b.WriteByte('\t')
		b.WriteString(l)
		b.WriteByte('\n')
	}
}

// writeError writes an error's name and what else it says. What the question
// implies is left out.
func writeError(b *bytes.Buffer, q question, err error) {
	e := &Error{Op: q.op(), Object: q.object(), Err: err}
	errors.As(err, &e)
	name, cause := errorName(e.Err)
	fmt.Fprintln(b, name)
	writeField(b, "message", e.Message)
	if cause == nil || cause.Error() != e.Err.Error() {
		writeField(b, "detail", e.Err.Error())
	}
	if e.Op != q.op() {
		writeField(b, "op", e.Op)
	}
	if e.Object != q.object() {
		writeField(b, "object", e.Object)
	}
}

// failedName is an error that is neither an errno nor one of ours.
const failedName = "failed"

// errorNames are the errors that a recording holds besides errnos.
func errorNames() map[string]error {
	return map[string]error{
		"interrupted": ErrInterrupted,
		"malformed":   ErrMalformed,
		"overrun":     ErrOverrun,
		"timeout":     context.DeadlineExceeded,
	}
}

// errorName is the name of what err wraps, and that.
func errorName(err error) (string, error) {
	for name, sentinel := range errorNames() {
		if errors.Is(err, sentinel) {
			return name, sentinel
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if name := errnoName(errno); name != "" {
			return name, errno
		}
	}
	return failedName, nil
}

// errnoName is an errno's name in errno.h. x/sys calls 95 ENOTSUP, which is
// another name for it; the kernel's own is EOPNOTSUPP.
func errnoName(e syscall.Errno) string {
	if e == syscall.EOPNOTSUPP {
		return "EOPNOTSUPP"
	}
	return unix.ErrnoName(e)
}

// isText says whether content can stand in an archive as it is: text in which
// no line looks like the start of a section.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f {
			return false
		}
	}
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte("-- ")) {
			return false
		}
	}
	return true
}

// quoteLine quotes what could not stand at the start of a line, or up to its
// end, as it is.
func quoteLine(s string) string {
	q := strconv.Quote(s)
	if q[1:len(q)-1] != s || s == "" || strings.TrimSpace(s) != s || strings.HasPrefix(s, "#") || strings.HasPrefix(s, "-- ") {
		return q
	}
	return s
}

// quoteWord quotes what could not stand between spaces as it is.
func quoteWord(s string) string {
	if strings.Contains(s, " ") {
		return strconv.Quote(s)
	}
	return quoteLine(s)
}

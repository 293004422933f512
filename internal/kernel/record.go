package kernel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

// Recorder passes questions on to another Reader and keeps what was asked and
// answered. It is safe for concurrent use where the other Reader is.
//
// A question that is asked again goes through again, but the recording keeps
// the first answer, so that a recorded host stands still. Answers that never
// came because the caller gave up are not kept.
type Recorder struct {
	from   Reader
	header RecordingHeader

	mu      sync.Mutex
	answers map[question]answer
}

// NewRecorder records what r answers. The header's Kernel may be left empty: it
// is filled in when /proc/sys/kernel/osrelease is among the files read.
func NewRecorder(r Reader, header RecordingHeader) *Recorder {
	return &Recorder{from: r, header: header, answers: map[question]answer{}}
}

// WriteTo writes the recording so far as one archive. The same answers give the
// same bytes, whatever the order they came in.
func (r *Recorder) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(r.format())
	return int64(n), err
}

func (r *Recorder) format() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.header
	if h.Kernel == "" {
		release := r.answers[question{kind: askFile, subject: "/proc/sys/kernel/osrelease"}]
		h.Kernel = strings.TrimSpace(string(release.bytes))
	}
	return formatRecording(h, r.answers)
}

// keep notes an answer.
func (r *Recorder) keep(ctx context.Context, q question, a answer) {
	if ctx.Err() != nil && a.err != nil || errors.Is(a.err, ErrReadOnly) || errors.Is(a.err, ErrNotRecorded) {
		return // not a word of the host's
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.answers[q]; !ok {
		r.answers[q] = a
	}
}

// ReadFile implements Reader.
func (r *Recorder) ReadFile(ctx context.Context, path string) ([]byte, error) {
	b, err := r.from.ReadFile(ctx, path)
	r.keep(ctx, question{kind: askFile, subject: path}, answer{bytes: bytes.Clone(b), err: err})
	return b, err
}

// ReadDir implements Reader.
func (r *Recorder) ReadDir(ctx context.Context, path string) ([]string, error) {
	names, err := r.from.ReadDir(ctx, path)
	r.keep(ctx, question{kind: askDir, subject: path}, answer{names: slices.Clone(names), err: err})
	return names, err
}

// ReadLink implements Reader.
func (r *Recorder) ReadLink(ctx context.Context, path string) (string, error) {
	target, err := r.from.ReadLink(ctx, path)
	r.keep(ctx, question{kind: askLink, subject: path}, answer{link: target, err: err})
	return target, err
}

// Netlink implements Reader.
func (r *Recorder) Netlink(ctx context.Context, req Request) ([]Message, error) {
	messages, err := r.from.Netlink(ctx, req)
	r.keep(ctx, netlinkQuestion(req), answer{messages: slices.Clone(messages), err: err})
	return messages, err
}

// Ethtool implements Reader.
func (r *Recorder) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	q := question{kind: askEthtool, subject: device, body: string(arg)}
	b, err := r.from.Ethtool(ctx, device, arg)
	r.keep(ctx, q, answer{bytes: bytes.Clone(b), err: err})
	return b, err
}

// DriverInfo implements Reader.
func (r *Recorder) DriverInfo(ctx context.Context, device string) (DriverInfo, error) {
	info, err := r.from.DriverInfo(ctx, device)
	r.keep(ctx, question{kind: askDriver, subject: device}, answer{driver: info, err: err})
	return info, err
}

// Counters implements Reader.
func (r *Recorder) Counters(ctx context.Context, device string) ([]Counter, error) {
	counters, err := r.from.Counters(ctx, device)
	r.keep(ctx, question{kind: askCounters, subject: device}, answer{counters: slices.Clone(counters), err: err})
	return counters, err
}

// Machine implements Reader.
func (r *Recorder) Machine(ctx context.Context) (Machine, error) {
	m, err := r.from.Machine(ctx)
	r.keep(ctx, question{kind: askMachine, subject: machineSubject}, answer{machine: m, err: err})
	return m, err
}

// PCINames implements Reader.
func (r *Recorder) PCINames(ctx context.Context, modalias string) (PCINames, error) {
	names, err := r.from.PCINames(ctx, modalias)
	r.keep(ctx, question{kind: askPCI, subject: modalias}, answer{pci: names, err: err})
	return names, err
}

// Irqbalance implements Reader. It is no part of a recording.
func (r *Recorder) Irqbalance(ctx context.Context) ([]byte, error) {
	return r.from.Irqbalance(ctx)
}

// Users implements Reader.
func (r *Recorder) Users(ctx context.Context) (Users, error) {
	users, err := r.from.Users(ctx)
	r.keep(ctx, question{kind: askUsers, subject: usersSubject}, answer{users: users, err: err})
	return users, err
}

// SocketHolders implements Reader. They are no part of a recording.
func (r *Recorder) SocketHolders(ctx context.Context, inodes []uint64) ([]SocketHolder, error) {
	return r.from.SocketHolders(ctx, inodes)
}

package kernel

import (
	"bytes"
	"context"
	"slices"
)

// Replay is a recorded host: a Reader that gives the answers of an archive and
// knows nothing else.
type Replay struct {
	header  RecordingHeader
	answers map[question]answer
}

// ParseRecording reads an archive that a Recorder wrote, or a person: the
// format is described in docs/recordings.md. It is strict; its errors name the
// line and the section.
func ParseRecording(data []byte) (*Replay, error) {
	header, answers, err := parseRecording(data)
	if err != nil {
		return nil, err
	}
	return &Replay{header: header, answers: answers}, nil
}

// Header says where the recording comes from.
func (p *Replay) Header() RecordingHeader { return p.header }

// ReadFile implements Reader.
func (p *Replay) ReadFile(ctx context.Context, path string) ([]byte, error) {
	a, err := p.answer(ctx, question{kind: askFile, subject: path})
	return bytes.Clone(a.bytes), err
}

// ReadDir implements Reader.
func (p *Replay) ReadDir(ctx context.Context, path string) ([]string, error) {
	a, err := p.answer(ctx, question{kind: askDir, subject: path})
	return slices.Clone(a.names), err
}

// ReadLink implements Reader.
func (p *Replay) ReadLink(ctx context.Context, path string) (string, error) {
	a, err := p.answer(ctx, question{kind: askLink, subject: path})
	return a.link, err
}

// Netlink implements Reader.
func (p *Replay) Netlink(ctx context.Context, req Request) ([]Message, error) {
	if !readOnly(req) {
		return nil, &Error{Op: req.String(), Err: ErrReadOnly}
	}
	a, err := p.answer(ctx, netlinkQuestion(req))
	return slices.Clone(a.messages), err
}

// Ethtool implements Reader.
func (p *Replay) Ethtool(ctx context.Context, device string, arg []byte) ([]byte, error) {
	if err := checkIoctlReads(device, arg); err != nil {
		return nil, err
	}
	a, err := p.answer(ctx, question{kind: askEthtool, subject: device, body: string(arg)})
	return bytes.Clone(a.bytes), err
}

// DriverInfo implements Reader.
func (p *Replay) DriverInfo(ctx context.Context, device string) (DriverInfo, error) {
	a, err := p.answer(ctx, question{kind: askDriver, subject: device})
	return a.driver, err
}

// Counters implements Reader.
func (p *Replay) Counters(ctx context.Context, device string) ([]Counter, error) {
	a, err := p.answer(ctx, question{kind: askCounters, subject: device})
	return slices.Clone(a.counters), err
}

// Machine implements Reader.
func (p *Replay) Machine(ctx context.Context) (Machine, error) {
	a, err := p.answer(ctx, question{kind: askMachine, subject: machineSubject})
	return a.machine, err
}

// PCINames implements Reader.
func (p *Replay) PCINames(ctx context.Context, modalias string) (PCINames, error) {
	a, err := p.answer(ctx, question{kind: askPCI, subject: modalias})
	return a.pci, err
}

// Irqbalance implements Reader; no recording has it.
func (p *Replay) Irqbalance(_ context.Context) ([]byte, error) {
	return nil, &Error{Op: opIrqbalance, Err: ErrNotRecorded}
}

// Users implements Reader.
func (p *Replay) Users(ctx context.Context) (Users, error) {
	a, err := p.answer(ctx, question{kind: askUsers, subject: usersSubject})
	return a.users, err
}

// SocketHolders implements Reader; no recording has them.
func (p *Replay) SocketHolders(_ context.Context, _ []uint64) ([]SocketHolder, error) {
	return nil, &Error{Op: opSockets, Err: ErrNotRecorded}
}

func (p *Replay) answer(ctx context.Context, q question) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, &Error{Op: q.op(), Object: q.object(), Err: err}
	}
	a, ok := p.answers[q]
	if !ok {
		return answer{}, &Error{Op: q.op(), Object: q.object(), Err: &recordedError{
			text: ErrNotRecorded.Error() + ": " + q.String(), cause: ErrNotRecorded,
		}}
	}
	return a, a.err
}

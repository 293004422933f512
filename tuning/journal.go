package tuning

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"
)

// A journal is the life of one transaction as lines of text, each
//
//	CRC SP JSON LF
//
// where CRC is the CRC-32C of the JSON in eight hex digits. A record is synced
// to the disk before what it announces is done, so only the last one can be torn
// by a power cut; a torn record counts as not written. Damage before the last
// record is never explained away: the journal is refused.

// A record is one line of a journal.
type record struct {
	// Sequence counts from 0 in each journal.
	Sequence int       `json:"seq"`
	At       time.Time `json:"at"`
	Kind     kind      `json:"kind"`
	// Begin is the transaction as planned, in the first record.
	Begin *beginning `json:"begin,omitempty"`
	// Change is the index of the change concerned.
	Change int `json:"change,omitempty"`
	// Found is the setting as it was read back.
	Found Values `json:"found,omitzero"`
	// After are the fields that are about to be written, as they shall be.
	After Values `json:"after,omitzero"`
	// Text is why: of an undo, or of a change that was left alone.
	Text string `json:"text,omitempty"`
	// Until is in the record that says that the transaction awaits confirmation.
	Until *Until `json:"until,omitempty"`
	// Outcome is in the last record.
	Outcome Outcome `json:"outcome,omitempty"`
}

type kind string

const (
	// kindBegin opens the journal; nothing has been written.
	kindBegin kind = "begin"
	// kindWriting: the change is about to be written, or once more, to repair it.
	kindWriting kind = "writing"
	// kindVerified: the change was read back and holds; once more, where a later
	// change moved other fields of the setting.
	kindVerified kind = "verified"
	// kindPassed: the setting can't be written; the text is why, in the kernel's words.
	kindPassed kind = "passed"
	// kindUnconfirmed: every change holds, and is taken back unless confirmed.
	kindUnconfirmed kind = "unconfirmed"
	// kindUndoing: from here on everything goes back.
	kindUndoing kind = "undoing"
	// kindRestoring: the setting of the change is about to be written to put it back,
	// or to make way for that.
	kindRestoring kind = "restoring"
	// kindRestored: the change was read back and is as before.
	kindRestored kind = "restored"
	// kindLeft: the fields found here were neither as before nor as written, so that
	// somebody else owns them now, or the driver of a NIC that is new refuses them; they
	// are not put back with the rest.
	kindLeft kind = "left"
	// kindEnd closes the journal.
	kindEnd kind = "end"
)

// Outcome is how a transaction ended.
type Outcome string

const (
	// Pending: it has not ended. Without a running process it waits for recovery.
	Pending Outcome = "pending"
	// Unconfirmed: every change holds, and is taken back if nobody confirms it in
	// time.
	Unconfirmed Outcome = "unconfirmed"
	// Applied: every change holds.
	Applied Outcome = "applied"
	// Undone: a change failed, or a crash came, and what was changed was put back.
	Undone Outcome = "undone"
)

// beginning is what is known before the first write.
type beginning struct {
	ID      int     `json:"id"`
	Request Request `json:"request"`
	// RollbackOf is the transaction that this one takes back, 0 for none. RollbackTo is
	// the one after which all are, nil for none; 0 are all.
	RollbackOf int  `json:"rollbackOf,omitempty"`
	RollbackTo *int `json:"rollbackTo,omitempty"`
	Plan       Plan `json:"plan"`
}

// Request is who asks for a transaction, and why.
type Request struct {
	// UID and User are those of the process, Login is who became root with sudo.
	UID   int    `json:"uid"`
	User  string `json:"user,omitempty"`
	Login string `json:"login,omitempty"`
	// Reason is free text: the command, the policies.
	Reason string `json:"reason,omitempty"`
	// Allow is the worst impact that is allowed.
	Allow Impact `json:"allow,omitempty"`
	// Disrupt are the NICs, by name, of which the use may be disturbed.
	Disrupt []string `json:"disrupt,omitempty"`
	// ConfirmSeconds, where not 0, is how long the changes hold unless confirmed.
	ConfirmSeconds float64 `json:"confirmSeconds,omitempty"`
}

// Transaction is what a journal tells.
type Transaction struct {
	ID         int       `json:"id"`
	Started    time.Time `json:"started"`
	Ended      time.Time `json:"ended,omitzero"`
	Outcome    Outcome   `json:"outcome"`
	Request    Request   `json:"request"`
	RollbackOf int       `json:"rollbackOf,omitempty"`
	// RollbackTo is the transaction after which this one took all back, 0 for the
	// beginning; nil: it did not.
	RollbackTo *int `json:"rollbackTo,omitempty"`
	// RolledBackBy is the transaction that took this one back, 0 for none.
	RolledBackBy int `json:"rolledBackBy,omitempty"`
	// Until is when it is taken back unless confirmed, where it awaited that;
	// ConfirmedBy is who did.
	Until       *Until `json:"until,omitempty"`
	ConfirmedBy string `json:"confirmedBy,omitempty"`
	// UndoReason is why it was undone.
	UndoReason string `json:"undoReason,omitempty"`
	Plan       Plan   `json:"plan"`
	// Steps has one entry for each change of the plan.
	Steps []Step `json:"steps"`
}

// Step is how far one change came.
type Step struct {
	State State `json:"state"`
	// After are the fields that were written last, as they should become. Of a late
	// change it is what was seen only when its turn had come.
	After Values `json:"after,omitzero"`
	// Found is the setting as read back after the change.
	Found Values `json:"found,omitzero"`
	// Foreign are the fields that somebody else changed since, or that can't be put
	// back any more, as they were found.
	Foreign Values `json:"foreign,omitzero"`
	// Detail is why the change was passed over, or fields of it were left alone.
	Detail string `json:"detail,omitempty"`

	// wrote and seen are the numbers of the records by which the setting was last
	// about to be written, and last read back.
	wrote, seen int
	// passed is whether it can't be written.
	passed bool
}

// State is how far a change came.
type State string

// The states of a change, in order.
const (
	Unwritten State = "planned"   // not written
	Writing   State = "writing"   // perhaps written
	Verified  State = "verified"  // written and read back
	Passed    State = "passed"    // made way or was to be kept, and can't be written: what the driver makes of it
	Restoring State = "restoring" // perhaps as before again
	Restored  State = "restored"  // as before again
	Left      State = "left"      // as before again, but for what somebody else changed since, or the driver of a NIC that is new refused
)

const crcLength = 8

// castagnoli is the table of CRC-32C, which the library makes when it is first asked.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// encodeRecord makes a record's line.
func encodeRecord(r *record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return withChecksum(b), nil
}

// withChecksum makes a line of JSON.
func withChecksum(b []byte) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(b, castagnoli()), b)
}

// checked is the JSON in a line without its end.
func checked(line []byte) ([]byte, error) {
	if len(line) <= crcLength || line[crcLength] != ' ' {
		return nil, errors.New("no checksum")
	}
	sum, err := hex.DecodeString(string(line[:crcLength]))
	if err != nil {
		return nil, errors.New("no checksum")
	}
	body := line[crcLength+1:]
	if !bytes.Equal(sum, crcBytes(body)) {
		return nil, errors.New("the checksum does not fit")
	}
	return body, nil
}

// decodeRecord reads a line without its end.
func decodeRecord(line []byte) (*record, error) {
	body, err := checked(line)
	if err != nil {
		return nil, err
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	return &r, nil
}

func crcBytes(b []byte) []byte {
	n := crc32.Checksum(b, castagnoli())
	return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// decodeJournal replays a journal. valid is how many bytes of it are whole
// records; what follows them is a torn record. A journal without a whole record
// gives a nil transaction and no error: nothing had been done.
func decodeJournal(b []byte) (t *Transaction, valid int, err error) {
	number := 0
	for rest := b; len(rest) > 0; number++ {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole {
			return t, valid, nil
		}
		r, fault := decodeRecord(line)
		if fault != nil && holdsRecord(after) {
			return nil, valid, fmt.Errorf("line %d of the journal is damaged (%w) and whole records follow it", number+1, fault)
		}
		if fault != nil {
			return t, valid, nil //nolint:nilerr // a torn record was not written
		}
		if r.Sequence != number {
			return nil, valid, fmt.Errorf("line %d of the journal has the number %d", number+1, r.Sequence)
		}
		if t, err = t.replay(r); err != nil {
			return nil, valid, fmt.Errorf("line %d of the journal: %w", number+1, err)
		}
		rest = after
		valid = len(b) - len(rest)
	}
	return t, valid, nil
}

// holdsRecord says whether a whole record is anywhere in b.
func holdsRecord(b []byte) bool {
	for line := range bytes.Lines(b) {
		if line, whole := bytes.CutSuffix(line, []byte{'\n'}); whole {
			if _, err := decodeRecord(line); err == nil {
				return true
			}
		}
	}
	return false
}

// replay is the transaction after one more record.
func (t *Transaction) replay(r *record) (*Transaction, error) {
	if (t == nil) != (r.Kind == kindBegin) {
		return nil, fmt.Errorf("%q is out of place", r.Kind)
	}
	if t == nil {
		if r.Begin == nil {
			return nil, errors.New("the beginning is empty")
		}
		if err := r.Begin.Plan.validate(); err != nil {
			return nil, err
		}
		t = &Transaction{
			ID: r.Begin.ID, Started: r.At, Outcome: Pending, Request: r.Begin.Request,
			RollbackOf: r.Begin.RollbackOf, RollbackTo: r.Begin.RollbackTo, Plan: r.Begin.Plan, Steps: make([]Step, len(r.Begin.Plan.Changes)),
		}
		for i := range t.Steps {
			t.Steps[i].State = Unwritten
		}
		return t, nil
	}
	if t.Outcome != Pending && t.Outcome != Unconfirmed {
		return nil, errors.New("a record after the end")
	}
	switch r.Kind {
	case kindUnconfirmed:
		if r.Until == nil || t.UndoReason != "" {
			return nil, fmt.Errorf("%q is out of place", r.Kind)
		}
		t.Outcome, t.Until = Unconfirmed, r.Until
		return t, nil
	case kindUndoing:
		t.Outcome, t.UndoReason = Pending, r.Text
		return t, nil
	case kindEnd:
		if r.Outcome != Applied && r.Outcome != Undone {
			return nil, fmt.Errorf("unknown outcome %q", r.Outcome)
		}
		if t.Outcome == Unconfirmed {
			t.ConfirmedBy = r.Text
		}
		t.Outcome, t.Ended = r.Outcome, r.At
		return t, nil
	}
	if r.Change < 0 || r.Change >= len(t.Steps) {
		return nil, fmt.Errorf("there is no change %d", r.Change)
	}
	step := &t.Steps[r.Change]
	transitions := map[kind]struct {
		from []State
		to   State
	}{
		kindWriting:   {[]State{Unwritten, Writing, Verified}, Writing},
		kindVerified:  {[]State{Writing, Verified}, Verified},
		kindPassed:    {[]State{Unwritten, Writing}, Passed},
		kindRestoring: {[]State{Unwritten, Writing, Verified, Passed, Restoring}, Restoring},
		kindRestored:  {[]State{Writing, Verified, Passed, Restoring, Restored}, Restored},
		kindLeft:      {[]State{Writing, Verified, Passed, Restoring, Restored, Left}, Left},
	}
	move, known := transitions[r.Kind]
	switch {
	case !known:
		return nil, fmt.Errorf("unknown kind of record %q", r.Kind)
	case !slices.Contains(move.from, step.State):
		return nil, fmt.Errorf("change %d can't go from %s to %s", r.Change, step.State, move.to)
	}
	switch {
	case r.Kind == kindLeft && r.Found != nil: // the others go back yet
		step.Foreign, step.Detail = r.Found, r.Text
		return t, nil
	case r.Kind == kindRestored && step.Foreign != nil:
		step.State = Left
		return t, nil
	}
	step.State = move.to
	if step.Foreign == nil {
		step.Detail = r.Text
	}
	switch r.Kind {
	case kindWriting, kindRestoring:
		step.wrote = r.Sequence
	case kindVerified, kindPassed:
		step.seen, step.passed = r.Sequence, r.Kind == kindPassed
	}
	switch {
	case r.Kind == kindWriting:
		step.Found, step.After = nil, r.After
		if r.After == nil { // as it was before there were late changes
			c := &t.Plan.Changes[r.Change]
			step.After = only(c.After, c.names())
		}
	case r.Kind == kindRestoring:
		after := maps.Clone(step.After)
		if after == nil {
			after = Values{}
		}
		maps.Copy(after, r.After)
		step.After = after
	case r.Kind == kindPassed:
		step.Found, step.After = r.Found, nil
	case r.Found != nil:
		step.Found = r.Found
	}
	return t, nil
}

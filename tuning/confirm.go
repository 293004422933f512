package tuning

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Until is when an unconfirmed transaction is taken back.
type Until struct {
	// UptimeSeconds counts from the start of the host and goes on while it sleeps:
	// nobody sets that clock.
	UptimeSeconds float64 `json:"uptimeSeconds"`
	// At is the same moment by the wall clock, as it went when this was written.
	At time.Time `json:"at"`
}

// ErrNothingToConfirm says that no transaction awaits confirmation.
var ErrNothingToConfirm = errors.New("no transaction awaits confirmation")

// Now is a moment in the life of a host: the boot, and how long that has lasted.
type Now struct {
	BootID string
	Uptime time.Duration
}

// ReadNow reads what time it is.
func ReadNow(ctx context.Context, r kernel.Reader) (Now, error) {
	uptime, err := readUptime(ctx, r)
	return Now{BootID: readHostID(ctx, r).BootID, Uptime: uptime}, err
}

// readUptime is how long the host has been up, from /proc/uptime.
func readUptime(ctx context.Context, r kernel.Reader) (time.Duration, error) {
	b, err := r.ReadFile(ctx, "/proc/uptime")
	if err != nil {
		return 0, err
	}
	word, _, _ := strings.Cut(string(b), " ")
	seconds, err := strconv.ParseFloat(word, 64)
	if err != nil || seconds < 0 {
		return 0, fmt.Errorf("/proc/uptime: %w: %q", kernel.ErrMalformed, word)
	}
	return inSeconds(seconds), nil
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Left is how long a transaction may still be confirmed: 0 when that time is over,
// or the host was restarted, and for one that awaits nothing.
func (t *Transaction) Left(now Now) time.Duration {
	if t.Outcome != Unconfirmed || now.BootID != t.Plan.Host.BootID {
		return 0
	}
	return max(0, inSeconds(t.Until.UptimeSeconds)-now.Uptime)
}

// Awaiting are the transactions that await confirmation, without locking
// anything.
func Awaiting(dir string) ([]Transaction, error) {
	all, err := transactions(filepath.Join(dir, pendingDir), 0)
	var waiting []Transaction
	for _, t := range all {
		if t.Outcome == Unconfirmed {
			waiting = append(waiting, t)
		}
	}
	return waiting, err
}

// Unfinished says, without locking anything, when recovery is next due: not at
// all, or so long from now. A transaction that is being carried out, or was
// interrupted, is due at once.
func Unfinished(ctx context.Context, r kernel.Reader, dir string) (due bool, in time.Duration, err error) {
	all, err := transactions(filepath.Join(dir, pendingDir), 0)
	if err != nil || len(all) == 0 {
		return false, 0, err
	}
	now, err := ReadNow(ctx, r)
	if err != nil {
		return false, 0, err
	}
	for i := range all {
		left := all[i].Left(now)
		if !due || left < in {
			due, in = true, left
		}
	}
	return due, in, nil
}

// conclude ends a transaction of which every change holds, or leaves it to be
// confirmed.
func (t *transaction) conclude(ctx context.Context) error {
	seconds := t.journal.Request.ConfirmSeconds
	if seconds <= 0 {
		return t.journal.end(Applied)
	}
	uptime, err := readUptime(ctx, t.Writer)
	if err != nil {
		return fmt.Errorf("the time to confirm can't be told: %w", err)
	}
	return t.journal.append(record{Kind: kindUnconfirmed, Until: &Until{
		UptimeSeconds: uptime.Seconds() + seconds,
		At:            time.Now().UTC().Add(inSeconds(seconds)),
	}})
}

// waits says whether recovery has to leave a transaction alone, because it may
// still be confirmed, and otherwise why it is taken back: "" where it did not
// wait for anybody.
func (t *transaction) waits(ctx context.Context) (bool, string) {
	j := t.journal
	switch {
	case j.Outcome != Unconfirmed && (j.Request.ConfirmSeconds == 0 || j.UndoReason != ""):
		return false, ""
	case j.Outcome != Unconfirmed:
		return false, "nictune was interrupted before it could be confirmed"
	case !t.sameBoot:
		return false, "the host was restarted before it was confirmed"
	}
	now, err := ReadNow(ctx, t.Writer)
	if err == nil && j.Left(now) > 0 {
		return true, ""
	}
	return false, fmt.Sprintf("nobody confirmed it within %s", inSeconds(j.Request.ConfirmSeconds))
}

// Confirm keeps what a transaction changed that is taken back otherwise; 0 means
// the only one that waits. It returns an error that wraps [ErrRefused] where the
// time is over: what is unconfirmed then, recovery takes back.
//
// Whoever holds the store confirms or takes back, so only one of them does.
func (e *Engine) Confirm(ctx context.Context, id int, who Request) (*Transaction, error) {
	if id == 0 {
		waiting, err := Awaiting(e.Store.dir)
		switch {
		case err != nil:
			return nil, err
		case len(waiting) == 0:
			return nil, ErrNothingToConfirm
		case len(waiting) > 1:
			var ids []string
			for _, t := range waiting {
				ids = append(ids, strconv.Itoa(t.ID))
			}
			return nil, fmt.Errorf("the transactions %s await confirmation: name one", strings.Join(ids, ", "))
		}
		id = waiting[0].ID
	}
	j, err := e.Store.pending(id)
	if errors.Is(err, fs.ErrNotExist) {
		return e.confirmed(id)
	}
	if err != nil {
		return nil, err
	}
	if j == nil || j.Outcome != Unconfirmed {
		if j != nil {
			err = j.close()
		}
		return nil, errors.Join(fmt.Errorf("%w: transaction %d was interrupted and is being undone: there is nothing to confirm", ErrRefused, id), err)
	}
	t := e.of(ctx, j)
	if waits, why := t.waits(ctx); !waits {
		return nil, errors.Join(fmt.Errorf("%w: transaction %d can't be confirmed any more: %s; if it is not taken back in a moment, run nictune recover", ErrRefused, id, why), j.close())
	}
	if err := j.endWith(Applied, who.who()); err != nil {
		return &j.Transaction, err
	}
	return &j.Transaction, nil
}

// confirmed says why a transaction that has ended can't be confirmed.
func (e *Engine) confirmed(id int) (*Transaction, error) {
	past, err := readJournal(filepath.Join(e.Store.dir, historyDir, fileName(id)))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && past == nil:
		l, err := readLedger(e.Store.dir)
		return nil, cmp.Or(err, l.lacks(id))
	case err != nil:
		return nil, err
	case past.Outcome == Undone:
		return past, fmt.Errorf("%w: transaction %d can't be confirmed any more: it was undone, because %s", ErrRefused, id, past.UndoReason)
	case past.ConfirmedBy != "":
		return past, fmt.Errorf("transaction %d was confirmed already, by %s", id, past.ConfirmedBy)
	default:
		return past, fmt.Errorf("transaction %d holds without being confirmed", id)
	}
}

// withdraw takes an unconfirmed transaction back at once.
func (e *Engine) withdraw(ctx context.Context, j *journal, nics []inventory.NIC, who Request) (*Transaction, error) {
	if err := j.append(record{Kind: kindUndoing, Text: who.who() + " took it back"}); err != nil {
		return nil, errors.Join(err, j.close())
	}
	if err := e.recover(ctx, j, nics); err != nil {
		return &j.Transaction, err
	}
	return &j.Transaction, nil
}

// unconfirmed opens the journal of a transaction if it awaits confirmation.
func (e *Engine) unconfirmed(id int) (*journal, error) {
	j, err := e.Store.pending(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil || j == nil:
		return nil, err
	case j.Outcome != Unconfirmed:
		return nil, j.close()
	}
	return j, nil
}

// of is a transaction as far as its journal tells, without its NICs.
func (e *Engine) of(ctx context.Context, j *journal) *transaction {
	t := &transaction{Engine: e, plan: &j.Plan, journal: j}
	t.sameBoot = j.Plan.Host.BootID != "" && readHostID(ctx, e.Writer).BootID == j.Plan.Host.BootID
	return t
}

// mayBeConfirmed says whether recovery has to leave a transaction alone.
func (e *Engine) mayBeConfirmed(ctx context.Context, j *journal) bool {
	waits, _ := e.of(ctx, j).waits(ctx)
	return waits
}

// awaits refuses a plan for a NIC of which a change awaits confirmation.
func (e *Engine) awaits(ctx context.Context, nic string, t *Transaction) error {
	left := "its time is over"
	if now, err := ReadNow(ctx, e.Writer); err == nil && t.Left(now) > 0 {
		left = t.Left(now).Round(time.Second).String() + " left"
	}
	return fmt.Errorf("%w: %s has the unconfirmed transaction %d (%s): nictune confirm %d keeps it, nictune rollback %d takes it back",
		ErrRefused, nic, t.ID, left, t.ID, t.ID)
}

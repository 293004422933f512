package tuning

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StateDir is where transactions are kept unless told otherwise.
const StateDir = "/var/lib/nictune"

// The state directory holds a lock, two folders of journals, each named by the number of
// its transaction: what has not ended, and what has; and the ledger of what has.
const (
	lockFile   = "lock"
	pendingDir = "pending"
	historyDir = "history"
	extension  = ".journal"
)

// ErrLocked says that another process is applying.
var ErrLocked = errors.New("another nictune is changing this host; try again when it is done")

// Store is the state directory, held by this process alone until Close.
type Store struct {
	dir  string
	lock *os.File
	// keep and batch, where set, are for keptJournals and ledgerBatch.
	keep, batch int
}

// OpenStore makes the state directory if need be and locks it. The lock ends
// with the process, however that ends.
func OpenStore(dir string) (*Store, error) {
	for _, d := range []string{dir, filepath.Join(dir, pendingDir), filepath.Join(dir, historyDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w; changing the host needs root", err)
			}
			return nil, fmt.Errorf("state directory: %w", err)
		}
		if err := trustworthy(d); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	// Who can read a file can lock it.
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return &Store{dir: dir, lock: lock}, nil
}

// trustworthy refuses a directory in which somebody else could leave a journal
// for us to undo, or a link for us to follow.
func trustworthy(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("anybody can write to %s, and journals there be forged: use another, or chmod o-w", dir)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
	case s.Uid != 0 && int(s.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to the user %d, who can forge journals there: use another, or chown it", dir, s.Uid)
	case s.Gid != 0 && info.Mode().Perm()&0o020 != 0:
		return fmt.Errorf("the group %d can write to %s, and journals there be forged: use another, or chmod g-w", s.Gid, dir)
	}
	return nil
}

// Close gives the state directory free.
func (s *Store) Close() error { return s.lock.Close() }

// History reads all transactions that are kept, the oldest first, without locking
// anything. A journal that can't be read is missing from the list and in the error.
func History(dir string) ([]Transaction, error) {
	all, err := transactionsAfter(dir, 0)
	faults := []error{err}
	l, err := readLedger(dir) // now: while journals were read some can have gone
	faults = append(faults, err)
	all = slices.DeleteFunc(all, func(t Transaction) bool { return t.ID <= l.Trimmed })
	for _, t := range all {
		if t.Outcome != Applied {
			continue
		}
		if t.RollbackTo != nil {
			returned(all, &t)
		}
		if t.RollbackOf == 0 {
			continue
		}
		if i, ok := slices.BinarySearchFunc(all, t.RollbackOf, func(t Transaction, id int) int { return t.ID - id }); ok {
			all[i].RolledBackBy = t.ID
		}
	}
	return all, errors.Join(faults...)
}

// returned notes what a rollback to a point took back: all after that. What had been taken
// back since, of what was before, holds again.
func returned(all []Transaction, back *Transaction) {
	for i := range all {
		switch o := &all[i]; {
		case o.ID >= back.ID:
			return
		case o.ID <= *back.RollbackTo && o.RolledBackBy > *back.RollbackTo:
			o.RolledBackBy = 0
		case o.ID > *back.RollbackTo && o.Outcome == Applied && o.RolledBackBy == 0:
			o.RolledBackBy = back.ID
		}
	}
}

// transactionsAfter are those with a journal that came after another, the oldest first.
func transactionsAfter(dir string, id int) ([]Transaction, error) {
	var all []Transaction
	var faults []error
	// Pending ones first: one that ends meanwhile is then seen at least once.
	for _, d := range []string{pendingDir, historyDir} {
		some, err := transactions(filepath.Join(dir, d), id)
		all, faults = append(all, some...), append(faults, err)
	}
	slices.SortStableFunc(all, func(a, b Transaction) int { return a.ID - b.ID })
	for i := 1; i < len(all); i++ {
		if all[i].ID == all[i-1].ID { // seen on both sides of its end
			all = slices.Delete(all, i-1, i)
			i--
		}
	}
	return all, errors.Join(faults...)
}

// transactions are those after another whose journals are in a folder. A folder that is
// not there has none.
func transactions(dir string, after int) (all []Transaction, err error) {
	ids, err := journals(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	faults := []error{err}
	for _, id := range ids {
		if id <= after {
			continue
		}
		t, err := readJournal(filepath.Join(dir, fileName(id)))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it ended meanwhile
		case err != nil:
			faults = append(faults, fmt.Errorf("%w; what it had changed can't be told. Look at the host, then move the file away", err))
		case t != nil:
			all = append(all, *t)
		}
	}
	return all, errors.Join(faults...)
}

// readJournal reads one journal; nil without an error is one that never began.
func readJournal(path string) (*Transaction, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, _, err := decodeJournal(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// journals are the numbers of the journals in a folder, sorted.
func journals(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, e := range entries {
		id, err := strconv.Atoi(strings.TrimSuffix(e.Name(), extension))
		if err == nil && id > 0 && e.Name() == fileName(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func fileName(id int) string { return fmt.Sprintf("%06d%s", id, extension) }

// journal is the open journal of a transaction that has not ended.
type journal struct {
	Transaction
	store *Store
	file  *os.File
	next  int   // sequence number of the next record
	size  int64 // of the whole records, in bytes
	// broken is why no record can be appended any more: the end of the file is
	// unknown then, and only the last record of a journal may be torn.
	broken error
}

// begin starts a journal. When it returns the plan is on the disk.
func (s *Store) begin(b beginning) (*journal, error) {
	l, err := readLedger(s.dir)
	if err != nil {
		return nil, err
	}
	b.ID = max(b.ID, l.Through) // no number is given twice
	for _, d := range []string{pendingDir, historyDir} {
		ids, err := journals(filepath.Join(s.dir, d))
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 {
			b.ID = max(b.ID, ids[len(ids)-1])
		}
	}
	b.ID++
	dir := filepath.Join(s.dir, pendingDir)
	file, err := os.OpenFile(filepath.Join(dir, fileName(b.ID)), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	j := &journal{store: s, file: file}
	if err := errors.Join(j.append(record{Kind: kindBegin, Begin: &b}), syncDir(dir)); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return j, nil
}

// pending opens a journal that was left behind, without its torn end. It is nil
// for one in which nothing had begun; that one is removed.
func (s *Store) pending(id int) (*journal, error) {
	path := filepath.Join(s.dir, pendingDir, fileName(id))
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, valid, err := decodeJournal(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; what it had changed can't be told. Look at the host, then move the file away", path, err)
	}
	if t == nil {
		return nil, errors.Join(os.Remove(path), syncDir(filepath.Dir(path)))
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(file.Truncate(int64(valid)), file.Sync()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &journal{
		Transaction: *t, store: s, file: file, next: strings.Count(string(b[:valid]), "\n"), size: int64(valid),
	}, nil
}

// append writes one record and returns when it is on the disk.
func (j *journal) append(r record) error {
	if j.broken != nil {
		return j.broken
	}
	r.Sequence, r.At = j.next, time.Now().UTC()
	// On a copy: what is not on the disk has not happened.
	var t *Transaction
	if r.Kind != kindBegin {
		next := j.Transaction
		next.Steps = slices.Clone(next.Steps)
		t = &next
	}
	after, err := t.replay(&r)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	line, err := encodeRecord(&r)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, err = j.file.Write(line)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// What could not be synced may be there all the same, and say Applied of
		// what is undone next.
		_ = j.file.Truncate(j.size)
		j.broken = fmt.Errorf("journal: %w", err)
		return j.broken
	}
	j.Transaction = *after
	j.next++
	j.size += int64(len(line))
	return nil
}

// end closes the journal and files it away.
func (j *journal) end(outcome Outcome) error { return j.endWith(outcome, "") }

// endWith notes who confirmed the end.
func (j *journal) endWith(outcome Outcome, who string) error {
	if j.Outcome == Pending || j.Outcome == Unconfirmed {
		if err := j.append(record{Kind: kindEnd, Outcome: outcome, Text: who}); err != nil {
			return errors.Join(err, j.close())
		}
	}
	from, to := filepath.Join(j.store.dir, pendingDir), filepath.Join(j.store.dir, historyDir)
	err := errors.Join(
		os.Rename(j.file.Name(), filepath.Join(to, filepath.Base(j.file.Name()))),
		syncDir(to), syncDir(from), j.close(),
	)
	if err == nil {
		// It has ended whatever comes of this, which the next end tries again.
		_ = j.store.balance()
	}
	return err
}

// close leaves a journal as it is, for recovery. Its records are on the disk.
func (j *journal) close() error { return j.file.Close() }

// syncDir makes a folder's entries survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

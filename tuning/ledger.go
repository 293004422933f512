package tuning

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// What the history comes to: a host that is put right each minute for a year has half a
// million transactions. The ledger is what plans need of those that have ended, so that
// they read no journals but the last ones, and so that old journals can go.

const (
	ledgerFile = "ledger"
	// keptJournals is how many transactions the history keeps of those that have ended.
	keptJournals = 1000
	// ledgerBatch is how many end before they are entered, and as many old ones go.
	ledgerBatch = 64
)

// ledger sums the transactions up to one that have ended. It is a file of one line,
// checked like a journal's.
type ledger struct {
	// Through is the last transaction that is in it.
	Through int `json:"through"`
	// Trimmed is the last transaction of which no journal is kept, and Gone what these
	// were by outcome.
	Trimmed   int              `json:"trimmed,omitempty"`
	Gone      map[Outcome]gone `json:"gone,omitempty"`
	Rollbacks int              `json:"rollbacks,omitempty"` // of those that are gone
	// BootID is the boot of the last transaction, and Deeds what was done in it.
	BootID string `json:"bootID,omitempty"`
	Deeds  []deed `json:"deeds,omitempty"`
}

// gone are transactions of one outcome of which no journal is kept.
type gone struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
}

// deed is what many changes of one setting of one target come to: one change that says
// of whose the fields are, and what was there first, what all of them say.
type deed struct {
	NIC     Target `json:"nic"`
	Setting string `json:"setting"`
	Turn    Turn   `json:"turn,omitempty"`
	// Before are fields as they were before they were first changed.
	Before Values `json:"before,omitzero"`
	// After are fields that were added, or without a value, removed.
	After Values `json:"after,omitzero"`
}

// transaction is the ledger as if it were one transaction.
func (l *ledger) transaction() Transaction {
	t := Transaction{ID: l.Through, Outcome: Applied, Plan: Plan{Host: HostID{BootID: l.BootID}}}
	for _, d := range l.Deeds {
		step := Step{State: Verified, After: d.After}
		if d.Before != nil {
			step.Found = Values{} // something else
		}
		t.Plan.Changes = append(t.Plan.Changes, Change{NIC: d.NIC, Setting: d.Setting, Turn: d.Turn, Before: d.Before})
		t.Steps = append(t.Steps, step)
	}
	return t
}

// enter adds transactions that have ended since. Of a NIC that was renamed, or whose driver
// was loaded again, each name and number that it had knows what all of them come to.
func (l *ledger) enter(ended []Transaction) {
	all := append([]Transaction{l.transaction()}, ended...)
	for _, t := range ended {
		l.Through = t.ID
		l.BootID = cmp.Or(t.Plan.Host.BootID, l.BootID)
	}
	past := thisBoot(all, HostID{BootID: l.BootID})
	type key struct {
		nic     Target
		setting string
	}
	var first []key
	lastly, n := map[key]int{}, 0
	for i := range past {
		for j, c := range past[i].Plan.Changes {
			k := key{c.NIC, c.Setting}
			if !past[i].Steps[j].open() {
				continue
			}
			if lastly[k] == 0 {
				first = append(first, k)
			}
			n++
			lastly[k] = n
		}
	}
	// The order in which each was first changed, and last.
	last := slices.SortedFunc(slices.Values(first), func(a, b key) int { return lastly[a] - lastly[b] })
	l.Deeds = nil
	for _, k := range first {
		if before := originals(past, k.nic, k.setting); len(before) > 0 {
			l.Deeds = append(l.Deeds, deed{NIC: k.nic, Setting: k.setting, Before: before})
		}
	}
	for _, k := range last {
		d := added(past, k.nic, k.setting)
		after := d.ours
		away := Values{}
		for field := range d.moved {
			if d.moved[field] && after[field] == nil {
				after[field], away[field] = json.RawMessage("0"), nil
			}
		}
		// The same NIC by another name or number may have added what was removed here.
		if slices.ContainsFunc(last, func(o key) bool { return o.nic != k.nic && o.setting == k.setting && o.nic.alike(k.nic) }) {
			for _, field := range d.removed {
				if _, ours := after[field]; !ours {
					after[field] = nil
				}
			}
		}
		if len(after) > 0 {
			l.Deeds = append(l.Deeds, deed{NIC: k.nic, Setting: k.setting, After: after})
		}
		if len(away) > 0 {
			l.Deeds = append(l.Deeds, deed{NIC: k.nic, Setting: k.setting, Turn: MakingWay, After: away})
		}
	}
}

// originals are the numbers that [original] finds.
func originals(past []Transaction, target Target, setting string) Values {
	first := Values{}
	for c, step := range steps(past, target, setting) {
		for field, before := range c.Before {
			if _, numeric := number(before); numeric && first[field] == nil && step.Found != nil && !bytes.Equal(before, step.Found[field]) {
				first[field] = before
			}
		}
	}
	return first
}

// readLedger reads the ledger of a state directory. Where there is none it is empty.
func readLedger(dir string) (ledger, error) {
	var l ledger
	path := filepath.Join(dir, ledgerFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		var body []byte
		if body, err = checked(bytes.TrimSuffix(b, []byte{'\n'})); err == nil {
			err = json.Unmarshal(body, &l)
		}
	}
	if err != nil {
		return ledger{}, fmt.Errorf("%s: %w; what nictune had changed can't be told. Look at the host, then move the file away", path, err)
	}
	return l, nil
}

// write puts the ledger in place of the last one. After a crash there is either.
func (l *ledger) write(dir string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, ledgerFile)
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(withChecksum(b))
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(file.Name(), path), syncDir(dir))
}

// balance enters what has ended into the ledger, once that are enough, and removes the
// journals of transactions that are no longer kept: in this order, and the ledger says
// which, so that a crash between loses nothing and leaves nothing that counts. What has
// not ended holds up all that came after it.
func (s *Store) balance() error {
	l, err := readLedger(s.dir)
	if err != nil {
		return err
	}
	history := filepath.Join(s.dir, historyDir)
	ids, err := journals(history)
	if err != nil {
		return err
	}
	open, err := journals(filepath.Join(s.dir, pendingDir))
	if err != nil {
		return err
	}
	oldest := math.MaxInt
	if len(open) > 0 {
		oldest = open[0]
	}
	fresh := slices.DeleteFunc(slices.Clone(ids), func(id int) bool { return id <= l.Through || id >= oldest })
	if len(fresh) < cmp.Or(s.batch, ledgerBatch) {
		return nil
	}
	for some := range slices.Chunk(fresh, ledgerBatch) { // the first time there can be many
		var ended []Transaction
		for _, id := range some {
			t, err := readJournal(filepath.Join(history, fileName(id)))
			if err != nil {
				return err // who plans is told the same
			}
			if t != nil {
				ended = append(ended, *t)
			}
		}
		l.enter(ended)
		l.Through = some[len(some)-1]
	}
	old := slices.DeleteFunc(ids[:max(0, len(ids)-cmp.Or(s.keep, keptJournals))], func(id int) bool { return id > l.Through })
	for _, id := range old {
		if id > l.Trimmed {
			l.forget(history, id)
		}
	}
	if err := l.write(s.dir); err != nil {
		return err
	}
	var faults []error
	for _, id := range old {
		faults = append(faults, os.Remove(filepath.Join(history, fileName(id))))
	}
	if len(old) > 0 {
		faults = append(faults, syncDir(history))
	}
	return errors.Join(faults...)
}

// forget counts a transaction whose journal goes.
func (l *ledger) forget(history string, id int) {
	l.Trimmed = id
	t, err := readJournal(filepath.Join(history, fileName(id)))
	if err != nil || t == nil {
		return
	}
	if l.Gone == nil {
		l.Gone = map[Outcome]gone{}
	}
	l.Gone[t.Outcome] = gone{l.Gone[t.Outcome].Count + 1, t.Ended}
	if t.isRollback() && t.Outcome == Applied {
		l.Rollbacks++
	}
}

// Remembered is what the history says for [MakePlan]: what nictune did in this boot of
// the host, the oldest first. It reads the last journals only; what came before them is
// one transaction here. Nothing is locked.
func Remembered(dir string) ([]Transaction, error) {
	for range 10 {
		before, err := readLedger(dir)
		if err != nil {
			return nil, err
		}
		all, err := transactionsAfter(dir, before.Through)
		after, fault := readLedger(dir)
		switch {
		case fault != nil:
			return nil, fault
		case after.Through != before.Through || after.Trimmed != before.Trimmed:
			continue // journals can have gone meanwhile
		case before.Through > 0:
			all = append([]Transaction{before.transaction()}, all...)
		}
		return all, err
	}
	return nil, fmt.Errorf("%s: its ledger is written again and again", dir)
}

// Trimmed is the last transaction that the history has no more, 0 where it has all.
func Trimmed(dir string) (int, error) {
	l, err := readLedger(dir)
	return l.Trimmed, err
}

// lacks says why a transaction is not in the history.
func (l *ledger) lacks(id int) error {
	if id > l.Trimmed {
		return fmt.Errorf("there is no transaction %d; nictune history lists them", id)
	}
	return fmt.Errorf("transaction %d is not in the history any more: the oldest that is kept is %d", id, l.Trimmed+1)
}

package tuning

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// ResultKind and HistoryKind head the JSON forms of results and histories.
const (
	ResultKind  = "TransactionResult"
	HistoryKind = "TransactionHistory"
)

// Result is how an apply or a rollback ended, as a document.
type Result struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Transaction is absent where there was nothing to change, or nothing tried.
	Transaction *Transaction `json:"transaction,omitempty"`
	// Recovered are earlier transactions that were ended first.
	Recovered []Transaction `json:"recovered,omitempty"`
	Error     string        `json:"error,omitempty"`
}

// HistoryDocument is a list of transactions, the oldest first, as a document.
type HistoryDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Trimmed is the last transaction that is not in it any more, absent where all are.
	Trimmed      int           `json:"trimmed,omitempty"`
	Transactions []Transaction `json:"transactions"`
}

// HistoryOf makes the document of some transactions. trimmed is the last that is not
// kept any more, 0 for none.
func HistoryOf(all []Transaction, trimmed int) HistoryDocument {
	if all == nil {
		all = []Transaction{}
	}
	return HistoryDocument{APIVersion, HistoryKind, trimmed, all}
}

// LastApplied is the number of the last transaction that holds, confirmed or not, and is no
// rollback itself, 0 if there is none.
func LastApplied(all []Transaction) int {
	for _, t := range slices.Backward(all) {
		if (t.Outcome == Applied || t.Outcome == Unconfirmed) && !t.isRollback() && t.RolledBackBy == 0 {
			return t.ID
		}
	}
	return 0
}

// isRollback says whether the transaction takes others back.
func (t *Transaction) isRollback() bool { return t.RollbackOf != 0 || t.RollbackTo != nil }

// WriteHistory writes a line for each transaction. now is the host's, empty if it
// is unknown, and trimmed the last transaction that is not kept any more, 0 for none.
func WriteHistory(w io.Writer, all []Transaction, now Now, trimmed int) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "ID\tWHEN\tWHO\tOUTCOME\tCHANGES\tWHY")
	for _, t := range all {
		var nics []string
		for _, c := range t.Plan.Changes {
			if !slices.Contains(nics, c.NIC.Name) {
				nics = append(nics, c.NIC.Name)
			}
		}
		const few = 3
		if len(nics) > few {
			nics = append(nics[:few], fmt.Sprintf("%d more", len(nics)-few))
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%d on %s\t%s\n", t.ID, when(t.Started), t.Request.who(), t.outcome(now),
			len(t.Plan.Changes), strings.Join(nics, ", "), t.Request.Reason)
	}
	if err := tw.Flush(); err != nil || trimmed == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "\nTransactions up to %d were trimmed: the last %d are kept.\n", trimmed, keptJournals)
	return err
}

// WriteText writes one transaction with its changes and how far each came.
// now is the host's, empty if it is unknown.
func (t *Transaction) WriteText(w io.Writer, now Now) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Transaction %d: %s, %s, by %s: %s\n", t.ID, t.outcome(now), when(t.Started), t.Request.who(), t.Request.Reason)
	if t.ConfirmedBy != "" {
		fmt.Fprintf(&b, "Confirmed by %s, %s\n", t.ConfirmedBy, when(t.Ended))
	}
	if len(t.Request.Disrupt) > 0 {
		fmt.Fprintf(&b, "Allowed to disturb the use of %s\n", strings.Join(t.Request.Disrupt, ", "))
	}
	if t.UndoReason != "" {
		fmt.Fprintf(&b, "Undone because: %s\n", t.UndoReason)
	}
	fmt.Fprintln(&b)
	tw := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for i, c := range t.Plan.Changes {
		fmt.Fprintf(tw, "%s: %s (%s)\n", c.NIC, c.Setting, t.Steps[i].State)
		for _, f := range c.Fields {
			fmt.Fprintf(tw, "    %s\t%s\t->\t%s\t%s\n", f.Name, show(f.Before), show(f.After), origin(f))
		}
		// What the driver changed along with it.
		found := t.Steps[i].Found
		for _, name := range differing(c.Before, found) {
			if found != nil && !slices.Contains(c.names(), name) {
				fmt.Fprintf(tw, "    %s\t%s\t->\t%s\tby itself\n", name, show(c.Before[name]), show(found[name]))
			}
		}
		if d := t.Steps[i].Detail; d != "" {
			fmt.Fprintf(tw, "    %s\n", d)
		}
	}
	tw.Flush()
	_, err := io.WriteString(w, trimLines(b.String()))
	return err
}

func (t *Transaction) outcome(now Now) string {
	switch {
	case t.Left(now) > 0:
		return fmt.Sprintf("unconfirmed, %s left", t.Left(now).Round(time.Second))
	case t.Outcome == Unconfirmed && now != (Now{}):
		return "unconfirmed, time is over"
	case t.RolledBackBy != 0:
		return fmt.Sprintf("rolled back by %d", t.RolledBackBy)
	case t.RollbackTo != nil && t.Outcome == Applied && *t.RollbackTo == 0:
		return "back to the beginning"
	case t.RollbackTo != nil && t.Outcome == Applied:
		return fmt.Sprintf("back to %d", *t.RollbackTo)
	case t.RollbackOf != 0 && t.Outcome == Applied:
		return fmt.Sprintf("took %d back", t.RollbackOf)
	default:
		return string(t.Outcome)
	}
}

// who is "root", or "root (alice)" where alice became root.
func (r Request) who() string {
	who := r.User
	if who == "" {
		who = fmt.Sprintf("uid %d", r.UID)
	}
	if r.Login != "" && r.Login != r.User {
		who += " (" + r.Login + ")"
	}
	return who
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// Package policies turns documents written by people into wants: which value
// which field of which setting of which NIC should have, and the line of the
// document that says so.
//
// Parse reads YAML, Load the files and directories a user names. Bind
// holds the documents against the [Catalogue] of settings that exist, and
// [Resolve] matches them against an inventory. Every fault names the file, line
// and column, shows the line, and says what to write instead.
//
// The room knows no setting and no device's limits: package tuning hands it the
// catalogue. It reads nothing of the host, writes nothing, and decides nothing
// by the order in which documents were found.
package policies

import (
	"fmt"
	"strconv"

	"github.com/nictune/nictune/inventory"
)

// Kind is the kind of a document that wants settings.
const Kind = "TuningPolicy"

// Policy is one document of kind TuningPolicy.
type Policy struct {
	// Name tells policies apart: it is unique among those resolved together.
	Name string
	// Description is one line for people.
	Description string
	// Priority decides between policies that want different values: the higher
	// wins. The default is 0.
	Priority int
	Match    Match
	// Settings are in the order of the document.
	Settings []Block
	// Optional is what may be left out on a NIC that does not have it, Clamp what
	// is lowered to the largest number that a device takes.
	Optional, Clamp Selection
	// Source is where its name stands.
	Source Source

	text string // the file's, to show lines of
}

// Match says which NICs a policy is for. All keys that are given must hold; of a
// key's values one must. A match without keys that say which NICs is for every
// one that is hardware of its own: the kinds pf, vf, sf and plain.
type Match struct {
	// Driver are globs over the driver's name.
	Driver []string
	// PCI are globs over the vendor and device id ("8086:10c9", "15b3:*") or over
	// the address ("0000:3b:00.*").
	PCI []string
	// Kind are what part of a device the NIC is.
	Kind []inventory.Function
	// Name are globs over the NIC's name and its altnames.
	Name []string
	// PermanentMAC are addresses in lower-case hex with colons.
	PermanentMAC []string

	// Vendor and Device are globs over the PCI ids ("15b3"), Subsystem over the
	// subsystem's ids ("15b3:0058").
	Vendor, Device, Subsystem []string

	// What follows only narrows: a match of nothing else is for hardware, as one
	// without keys is.

	// Speed is compared with the link's, in Mb/s.
	Speed []Comparison
	// NUMANode are memory nodes.
	NUMANode []int
	// Firmware are globs over the firmware's version, as ethtool -i prints it.
	Firmware []string
	// LinkState are "up" and "down".
	LinkState []string
	// Labels must all be the host's.
	Labels []Label
	// Where is a condition, or nil. WhereSource is where it begins.
	Where       *Condition
	WhereSource Source
}

// Comparison compares a number with Value: "" (equal), ">=", "<=", ">" or "<".
type Comparison struct {
	Operator string
	Value    uint64
}

// Label is one label of a host: its value must match one of the globs.
type Label struct {
	Key    string
	Values []string
}

// Block is what one document wants of one setting.
type Block struct {
	// Setting is the setting's name: "rings".
	Setting string
	Source  Source
	// Fields are in the order of the document.
	Fields []Assignment
	// Items are the items of a list setting, in the order of the document. Not nil
	// but empty: the list shall have none.
	Items []Item
	// Optional and Clamp say, after Bind, that the policy's keys of these names have
	// the whole setting.
	Optional, Clamp bool
	// Host says, after Bind, that the setting is the host's.
	Host bool
}

// Item is one item of a list setting: one flow rule.
type Item struct {
	// Source is where the item's first field was written.
	Source Source
	// Fields are in the order of the document.
	Fields []Assignment
}

// Assignment is one wanted value of one field.
type Assignment struct {
	// Field is the field's name: "rx". After Bind it is the catalogue's name.
	Field string
	// Source is where the field's name was written.
	Source Source
	Value  Value
	// Group is, after Bind, the field's in the catalogue.
	Group string
	// Optional and Clamp say, after Bind, what the policy says of this field: leave
	// it out where the device does not have it, and take the device's maximum
	// instead of more.
	Optional, Clamp bool
}

// Selection is all or some of what a policy sets.
type Selection struct {
	All bool
	// Names are settings ("rings") and fields of settings ("rings.tx").
	Names []Selected
}

// Selected is one name of a selection, and where it was written.
type Selected struct {
	Name   string
	Source Source
}

// Value is one wanted value, and where it was written. It is a number, a bool, a
// word, a list or an expression, as Number, Bool, Word, List and Expression tell;
// which of them a field takes is the catalogue's to say. Only Bind tells
// expressions from words, because it knows where numbers are wanted.
type Value struct {
	// Source is what an error about this value names.
	Source Source

	form   form
	number uint64
	on     bool
	word   string

	expression *Expression // of which word is the spelling
}

type form uint8

const (
	formWord form = iota
	formNumber
	formBool
	formList
	formExpression
)

// Number returns the value if it is a number: an unsigned decimal, unquoted.
func (v Value) Number() (n uint64, ok bool) { return v.number, v.form == formNumber }

// Bool returns the value if it is one of the words for on and off: on, true,
// yes, off, false, no, in lower case as ethtool has them.
func (v Value) Bool() (on, ok bool) { return v.on, v.form == formBool }

// Word returns the value if it is a single one and neither a number nor a bool:
// "max".
func (v Value) Word() (word string, ok bool) { return v.word, v.form == formWord }

// List returns the value if it is a list of numbers and words, joined by commas:
// "0,2,4-7".
func (v Value) List() (items string, ok bool) { return v.word, v.form == formList }

// Expression returns the value if it is a number to be computed. After Bind every
// number is one that is not plain: also "max".
func (v Value) Expression() (e *Expression, ok bool) {
	return v.expression, v.form == formExpression
}

// Equal says whether two values ask for the same, wherever they were written.
func (v Value) Equal(w Value) bool {
	v.Source, w.Source = Source{}, Source{}
	v.expression, w.expression = nil, nil // the words spell them
	return v == w
}

// String is the value as ethtool spells it: "4096", "on", "max".
func (v Value) String() string {
	switch v.form {
	case formNumber:
		return strconv.FormatUint(v.number, 10)
	case formBool:
		if v.on {
			return "on"
		}
		return "off"
	default: // a list's brackets are YAML's
		return v.word
	}
}

// NumberValue is a number written at a source.
func NumberValue(n uint64, at Source) Value { return Value{Source: at, form: formNumber, number: n} }

// BoolValue is on or off, written at a source.
func BoolValue(on bool, at Source) Value { return Value{Source: at, form: formBool, on: on} }

// WordValue is a word, written at a source. It may be any text: on, 1 and
// "max" become words.
func WordValue(word string, at Source) Value { return Value{Source: at, word: word} }

// ListValue is a list written at a source, its items joined by commas.
func ListValue(items string, at Source) Value { return Value{Source: at, form: formList, word: items} }

// ExpressionValue is an expression written at a source.
func ExpressionValue(e *Expression, at Source) Value {
	return Value{Source: at, form: formExpression, word: e.String(), expression: e}
}

// Source is a place in a document.
type Source struct {
	Policy string `json:"policy,omitempty"`
	File   string `json:"file,omitempty"`
	// Line and Column count from 1; a column is a character, not a byte.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// String is "file:line".
func (s Source) String() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

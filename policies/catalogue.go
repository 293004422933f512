package policies

// Catalogue lists the settings that exist, so that documents can be held against
// it before any device is asked. Package tuning makes it from its knobs.
type Catalogue []Setting

// Setting is one setting that a document can name under settings.
type Setting struct {
	// Name is the key: "rings".
	Name string
	// Doc says in a sentence or two what it does, for explain and editors.
	Doc    string
	Fields []Field
	// Host says that the setting is the host's, and not each NIC's: a sysctl.
	Host bool
	// List says that the setting is a list, each item of which has the Fields.
	List bool
	// Open, where present, describes the fields whose names only a device knows:
	// any name not among Fields is then accepted, and is the knob's to judge.
	// Its Name is empty.
	Open *Field
}

// Field is one field of a setting, and what values it takes.
type Field struct {
	// Name is the key: "rx-mini". One with a dot is the key of a mapping in an item of a
	// list, and a key in that: "rx-flow-hash.udp4" is udp4 in {rx-flow-hash: {udp4: sdfn}}.
	Name string
	// Aliases are other names that users know the field by. One alias may stand
	// for several fields ("tcp-segmentation-offload"): it then sets them all.
	Aliases []string
	Doc     string
	Type    Type
	// Form says for people what a Text is: "a CPU list as in 0-3,8".
	Form string
	// Words are the words that it takes, besides what Type allows: "max".
	Words []string
	// Many says of a Number that the device has not one but many of it, for each queue
	// one for example, or none at all: what it is now can't be told, so that neither
	// default nor a bound means anything.
	Many bool
	// Group names what the fields of one setting are together that exclude each other, or
	// of which one says what the others mean: of several policies one has all of them.
	// [WholeSetting] is that with all other fields of the setting, wherever this one is
	// said.
	Group string
	// Example is a value as a document has it, where none of the words would do.
	Example string
}

// WholeSetting is the group of a field that says what all others are about: which queues.
const WholeSetting = "*"

// Type is what a field takes besides its words.
type Type uint8

// The types of a field.
const (
	// Words takes nothing but the field's words.
	Words Type = iota
	// Number takes an unsigned number, or an [Expression]. One that needs the
	// maximum it takes only where "max" is among the words, and one that needs what
	// the field is, or was, not where that is Many.
	Number
	// Bool takes on and off.
	Bool
	// Text takes any text, number or list, for the setting to read: "0-3,8".
	Text
)

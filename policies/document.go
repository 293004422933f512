package policies

import (
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/nictune/nictune/inventory"
)

// The keys of a document, in the order in which they are usually written.
var (
	documentKeys = []string{"apiVersion", "kind", "name", "description", "priority", "match", "settings", "optional", "clamp"}
	matchKeys    = []string{"driver", "pci", "vendor", "device", "subsystem", "kind", "name", "permanentMac", "speed", "numaNode", "firmware", "linkState", "labels", "where"}
)

// functions are what match.kind can name.
var functions = []string{
	string(inventory.PF), string(inventory.VF), string(inventory.SF),
	string(inventory.Representor), string(inventory.Plain), string(inventory.Virtual),
}

// everyHardware is the advice for a document that says nothing of NICs.
const everyHardware = "say which NICs it is for, or write \"match: {}\" for all that are hardware of their own (kinds pf, vf, sf and plain)"

// Names become labels of metrics and words on a command line.
var policyName = matcher(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

const policyNameMax = 63 // bytes

// matcher is a regular expression that is compiled where it is first asked for: to
// compile all of them would be a good part of what it costs to start nictune.
func matcher(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	token *token.Token
	value ast.Node
}

// read reads one document; what is wrong becomes faults.
func (d *decoder) read(body ast.Node) {
	d.policy = ""
	found := map[string]entry{}
	before := len(d.faults)
	entries := d.mapping(body, "a policy")
	if entries == nil {
		if len(d.faults) == before {
			d.fault(body.GetToken(), "an empty document is no policy: write apiVersion, kind, name, match and settings")
		}
		return
	}
	for _, e := range entries {
		found[e.key] = e
	}
	// What the document claims to be comes first: of a document that is none of
	// ours, its other keys are no faults.
	kind, ok := d.head(found, entries[0])
	switch {
	case !ok:
		return
	case kind == CheckKind:
		d.readCheck(found, entries)
		return
	case kind == RuleKind:
		d.readRules(found, entries)
		return
	}
	for _, e := range entries {
		if !slices.Contains(documentKeys, e.key) && !d.full() {
			d.fault(e.token, "unknown key %s%s", quoted(e.key), suggest(e.key, documentKeys))
		}
	}
	p := Policy{text: d.text}
	p.Name, p.Description, p.Priority, p.Source = d.common(found, entries[0])
	if e, ok := d.required(found, entries[0], "match", everyHardware); ok {
		p.Match = d.match(e)
	}
	if e, ok := d.required(found, entries[0], "settings", "say what the NICs should have"); ok {
		p.Settings = d.settings(e)
	}
	if e, ok := found["optional"]; ok {
		p.Optional = d.selection(e)
	}
	if e, ok := found["clamp"]; ok {
		p.Clamp = d.selection(e)
	}
	d.Policies = append(d.Policies, p)
}

// common reads what documents of all kinds begin with.
func (d *decoder) common(found map[string]entry, first entry) (name, description string, priority int, at Source) {
	if e, ok := d.required(found, first, "name", "a name tells policies apart in plans and reports"); ok {
		if text, at, ok := d.scalar(e.value, "name"); ok {
			if len(text) > policyNameMax || !policyName().MatchString(text) {
				d.fault(at, "name %s: use up to 63 letters, digits, dots, dashes and underscores", quoted(text))
			}
			d.policy, name = text, text
		}
		at = d.source(e.value.GetToken())
	}
	if e, ok := found["description"]; ok {
		if text, _, ok := d.scalar(e.value, "description"); ok {
			description = strings.TrimSpace(text)
		}
	}
	if e, ok := found["priority"]; ok {
		priority = d.priority(e.value)
	}
	return name, description, priority, at
}

// head checks apiVersion and kind, and says which kind it is.
func (d *decoder) head(found map[string]entry, first entry) (kind string, ok bool) {
	ok = true
	for _, want := range [...]struct {
		key, value string
		others     []string
	}{{"apiVersion", inventory.APIVersion, nil}, {"kind", Kind, []string{CheckKind, RuleKind}}} {
		e, present := found[want.key]
		if !present {
			near := ""
			for key := range found {
				if nearest(key, documentKeys) == want.key && !slices.Contains(documentKeys, key) {
					near, first = key, found[key]
				}
			}
			if near != "" {
				d.fault(first.token, "unknown key %s; did you mean %q?", quoted(near), want.key)
			} else {
				d.fault(first.token, "the key %q is missing: write %q", want.key, want.key+": "+want.value)
			}
			ok = false
			continue
		}
		value, at, scalar := d.scalar(e.value, want.key)
		known := value == want.value || slices.Contains(want.others, value)
		if scalar && !known {
			or := ""
			if len(want.others) > 0 {
				or = fmt.Sprintf(", or %q or %q for nictune check and audit", want.others[0], want.others[1])
			}
			d.fault(at, "%s %s is not known here: write %q%s", want.key, quoted(value), want.value, or)
		}
		ok, kind = ok && scalar && known, value
	}
	return kind, ok
}

// required finds a key that a document must have.
func (d *decoder) required(found map[string]entry, first entry, key, why string) (entry, bool) {
	e, ok := found[key]
	if !ok {
		d.fault(first.token, "the key %q is missing: %s", key, why)
	}
	return e, ok
}

func (d *decoder) priority(n ast.Node) int {
	text, at, ok := d.scalar(n, "priority")
	if !ok {
		return 0
	}
	priority, err := strconv.ParseInt(text, 10, 32)
	if err != nil || at.Indicator == token.QuotedScalarIndicator {
		d.fault(at, "priority takes a whole number between -2147483648 and 2147483647, not %s", quoted(text))
	}
	return int(priority)
}

func (d *decoder) match(e entry) Match {
	var m Match
	if isNull(e.value) {
		d.fault(e.token, "match is empty: %s", everyHardware)
		return m
	}
	for _, e := range d.mapping(e.value, "match") {
		if d.full() {
			break
		}
		switch e.key {
		case "driver":
			m.Driver = d.list(e, d.glob)
		case "pci":
			m.PCI = d.list(e, d.pci)
		case "kind":
			for _, kind := range d.list(e, d.function) {
				m.Kind = append(m.Kind, inventory.Function(kind))
			}
		case "name":
			m.Name = d.list(e, d.glob)
		case "permanentMac":
			m.PermanentMAC = d.list(e, d.mac)
		case "vendor":
			m.Vendor = d.list(e, d.id)
		case "device":
			m.Device = d.list(e, d.id)
		case "subsystem":
			m.Subsystem = d.list(e, d.ids)
		case "speed":
			d.list(e, func(text string, at *token.Token) (string, bool) {
				return text, d.comparison(text, at, &m.Speed)
			})
		case "numaNode":
			d.list(e, func(text string, at *token.Token) (string, bool) { return text, d.node(text, at, &m.NUMANode) })
		case "firmware":
			m.Firmware = d.list(e, d.glob)
		case "linkState":
			m.LinkState = d.list(e, d.linkState)
		case "labels":
			m.Labels = d.labels(e)
		case "where":
			m.Where, m.WhereSource = d.where(e)
		default:
			d.fault(e.token, "unknown key %s in match%s", quoted(e.key), suggest(e.key, matchKeys))
		}
	}
	return m
}

func (d *decoder) function(text string, at *token.Token) (string, bool) {
	if !slices.Contains(functions, text) {
		d.fault(at, "unknown kind %s%s", quoted(text), suggest(text, functions))
		return "", false
	}
	return text, true
}

func (d *decoder) linkState(text string, at *token.Token) (string, bool) {
	states := []string{"up", "down"}
	if !slices.Contains(states, text) {
		d.fault(at, "linkState is up or down, not %s%s", quoted(text), suggest(text, states))
		return "", false
	}
	return text, true
}

// comparison reads 25000 or ">=25000".
func (d *decoder) comparison(text string, at *token.Token, into *[]Comparison) bool {
	digits := strings.TrimLeft(text, "<>=")
	operator := text[:len(text)-len(digits)]
	digits = strings.TrimSpace(digits)
	n, err := strconv.ParseUint(digits, 10, 31)
	if !slices.Contains([]string{"", ">=", "<=", ">", "<"}, operator) || !decimal(digits) || err != nil {
		d.fault(at, "speed is in Mb/s, as 25000 or \">=25000\", not %s", quoted(text))
		return false
	}
	*into = append(*into, Comparison{operator, n})
	return true
}

func (d *decoder) node(text string, at *token.Token, into *[]int) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || !decimal(text) {
		d.fault(at, "numaNode is the number of a memory node, as 0, not %s", quoted(text))
		return false
	}
	*into = append(*into, int(n))
	return true
}

// labels reads which labels the host must have.
func (d *decoder) labels(e entry) (labels []Label) {
	before := len(d.faults)
	entries := d.mapping(e.value, "labels")
	if len(entries) == 0 && len(d.faults) == before {
		d.fault(e.token, "labels is empty: leave the key out")
	}
	for _, l := range entries {
		if !labelKey().MatchString(l.key) {
			d.fault(l.token, "label %s: %s", quoted(l.key), labelKeys)
			continue
		}
		labels = append(labels, Label{Key: l.key, Values: d.list(entry{l.key, l.token, l.value}, d.glob)})
	}
	return labels
}

// where compiles the condition of a match.
func (d *decoder) where(e entry) (*Condition, Source) { return d.condition(e, "where") }

// condition compiles a condition; what is wrong with it is shown in its place.
func (d *decoder) condition(e entry, what string) (*Condition, Source) {
	text, at, ok := d.scalarOf(e.value, what, maxCondition)
	if !ok {
		return nil, Source{}
	}
	if d.conditions == nil {
		var err error
		if d.conditions, err = NewConditions(); err != nil {
			d.fault(at, "conditions can't be read: %v", err)
			return nil, Source{}
		}
	}
	condition, err := d.conditions.Compile(text)
	d.misread(e, what, text, err)
	return condition, d.source(at)
}

// misread tells what is wrong with the text of a condition.
func (d *decoder) misread(e entry, what, text string, err error) {
	_, at, ok := d.scalarOf(e.value, what, maxCondition)
	if !ok {
		return // that has been told
	}
	for _, err := range parts(err) {
		var fault *ConditionError
		place, width := d.source(at), 1
		if errors.As(err, &fault) {
			if exact, ok := within(d.text, place, text, fault.Offset); ok {
				place, width = exact, fault.Width
			}
		}
		hint := ""
		if rest := []rune(line(d.text, place.Line)); place.Column <= len(rest) && rest[place.Column-1] == ',' && fault != nil && fault.Offset >= len([]rune(text)) {
			hint = ": within { } a comma ends a value, so put the condition in quotes"
		}
		d.add(d.text, place, width, "%s: %v%s", what, err, hint)
	}
}

// parts are the errors that one was joined of.
func parts(err error) []error {
	switch joined := err.(type) { //nolint:errorlint // the parts, not what they wrap
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		return joined.Unwrap()
	}
	return []error{err}
}

func (d *decoder) glob(text string, at *token.Token) (string, bool) {
	if _, err := path.Match(text, ""); err != nil {
		d.fault(at, "%s is not a pattern: use *, ? and [a-z], and close what you open", quoted(text))
		return "", false
	}
	if strings.Contains(text, "[!") { // a shell's, which would match a "!" here
		d.fault(at, "%s: write [^a-z] for any character but these", quoted(text))
		return "", false
	}
	return text, true
}

// What a PCI id or address may consist of: its parts in full, or with globs.
var (
	pciID          = matcher(`^[0-9a-f]{4}:[0-9a-f]{4}$`)
	pciAddress     = matcher(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	pciIDGlob      = matcher(`^([0-9a-f]{4}|[0-9a-f?\[\]^-]*[*?\[][0-9a-f*?\[\]^-]*):([0-9a-f]{4}|[0-9a-f?\[\]^-]*[*?\[][0-9a-f*?\[\]^-]*)$`)
	pciAddressGlob = matcher(`^[0-9a-f*?\[\]^-]+:[0-9a-f*?\[\]^-]+:[0-9a-f.*?\[\]^-]+$`)
)

// pci makes an id or an address of what lspci prints.
func (d *decoder) pci(text string, at *token.Token) (string, bool) {
	pattern := strings.ToLower(text)
	if strings.Count(pattern, ":") == 1 && strings.Contains(pattern, ".") {
		pattern = "0000:" + pattern // lspci leaves the first domain out
	}
	globs := strings.ContainsAny(pattern, "*?[")
	_, err := path.Match(pattern, "")
	switch {
	case err != nil:
	case !globs && (pciID().MatchString(pattern) || pciAddress().MatchString(pattern)):
		return pattern, true
	case globs && (pciIDGlob().MatchString(pattern) || pciAddressGlob().MatchString(pattern)):
		return pattern, true
	}
	d.fault(at, "%s is neither vendor:device as lspci -n prints it (\"8086:10c9\", \"15b3:*\") nor a PCI address (\"0000:3b:00.0\", \"0000:3b:00.*\")", quoted(text))
	return "", false
}

// What one PCI id may consist of: four hex digits, or a glob over them.
var (
	pciPart   = `([0-9a-f]{4}|[0-9a-f?\[\]^-]*[*?\[][0-9a-f*?\[\]^-]*)`
	pciOneID  = matcher(`^` + pciPart + `$`)
	pciTwoIDs = matcher(`^` + pciPart + `:` + pciPart + `$`)
)

func (d *decoder) id(text string, at *token.Token) (string, bool) {
	return d.pciPattern(text, at, pciOneID(), "a PCI id as lspci -n prints it: four hex digits, as in \"8086\", or a pattern")
}

func (d *decoder) ids(text string, at *token.Token) (string, bool) {
	return d.pciPattern(text, at, pciTwoIDs(), "vendor:device of a subsystem as lspci -nv prints it: \"15b3:0058\", \"15b3:*\"")
}

func (d *decoder) pciPattern(text string, at *token.Token, form *regexp.Regexp, what string) (string, bool) {
	pattern := strings.ToLower(text)
	if _, err := path.Match(pattern, ""); err != nil || !form.MatchString(pattern) {
		d.fault(at, "%s is not %s", quoted(text), what)
		return "", false
	}
	return pattern, true
}

func (d *decoder) mac(text string, at *token.Token) (string, bool) {
	mac, err := net.ParseMAC(text)
	if err != nil {
		d.fault(at, "%s is not a MAC address: write six bytes as in \"52:54:00:12:34:56\"", quoted(text))
		return "", false
	}
	return mac.String(), true
}

// settings reads setting, field and value; which exist is not known here.
func (d *decoder) settings(e entry) []Block {
	var blocks []Block
	before := len(d.faults)
	settings := d.mapping(e.value, "settings")
	if len(settings) == 0 && len(d.faults) == before {
		d.fault(e.token, "settings is empty: say what the NICs should have, as in \"rings: {rx: max}\"")
	}
	for _, s := range settings {
		block := Block{Setting: s.key, Source: d.source(s.token)}
		if list, ok := s.value.(*ast.SequenceNode); ok {
			block.Items = d.items(list, s.key)
		} else {
			block.Fields, _ = d.fields(s.value, s.token, s.key, "rings: {rx: max}")
		}
		blocks = append(blocks, block)
	}
	return blocks
}

// items reads the items of a list setting.
func (d *decoder) items(list *ast.SequenceNode, setting string) []Item {
	items := []Item{} // an empty list asks for none
	for _, n := range list.Values {
		if d.full() {
			break
		}
		fields, ok := d.fields(n, n.GetToken(), "an item of "+setting, "- {queue: 1}")
		if ok {
			items = append(items, Item{Source: fields[0].Source, Fields: fields})
		}
	}
	return items
}

// fields reads the fields of a setting, or of one of its items.
func (d *decoder) fields(n ast.Node, at *token.Token, what, example string) (fields []Assignment, ok bool) {
	before := len(d.faults)
	entries := d.mapping(n, what)
	if len(entries) == 0 && len(d.faults) == before {
		d.fault(at, "%s asks for nothing: name its fields, as in %q", what, example)
	}
	for _, f := range entries {
		if isNull(f.value) && strings.HasSuffix(f.key, ")") {
			d.fault(f.token, "within { } a comma ends a value: put the expression in quotes, as in \"min(local-cpus, 16)\"")
			continue
		}
		setting, isItem := strings.CutPrefix(what, "an item of ")
		if _, isMap := f.value.(ast.MapNode); isItem && isMap {
			fields = append(fields, d.inside(f, setting)...)
			continue
		}
		if v, ok := d.value(f.value, setting+"."+f.key); ok {
			fields = append(fields, Assignment{Field: f.key, Source: d.source(f.token), Value: v})
		}
	}
	return fields, len(fields) > 0
}

// inside reads a mapping in an item of a list: each of its entries becomes a field of the
// item, by both names.
func (d *decoder) inside(f entry, setting string) (fields []Assignment) {
	what, before := setting+"."+f.key, len(d.faults)
	entries := d.mapping(f.value, what)
	if len(entries) == 0 && len(d.faults) == before {
		d.fault(f.token, "%s asks for nothing: leave it out", what)
	}
	for _, e := range entries {
		if v, ok := d.value(e.value, what+"."+e.key); ok {
			fields = append(fields, Assignment{Field: f.key + "." + e.key, Source: d.source(e.token), Value: v})
		}
	}
	return fields
}

// selection reads true, or names of settings and fields; which exist is not known
// here.
func (d *decoder) selection(e entry) (s Selection) {
	if seq, ok := e.value.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
		d.fault(e.token, "%s is an empty list: leave the key out", e.key)
		return s
	} else if !ok {
		text, _, ok := d.scalar(e.value, e.key)
		switch {
		case !ok:
			return s
		case text == "true" || text == "yes" || text == "on":
			s.All = true
			return s
		case text == "false" || text == "no" || text == "off":
			return s
		}
	}
	d.list(e, func(name string, at *token.Token) (string, bool) {
		s.Names = append(s.Names, Selected{Name: name, Source: d.source(at)})
		return name, true
	})
	return s
}

// value reads one wanted value, or a list of them.
func (d *decoder) value(n ast.Node, what string) (Value, bool) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.single(n, what)
	}
	if len(list.Values) == 0 {
		d.fault(n.GetToken(), "%s is an empty list: leave it out", what)
	}
	before := len(d.faults)
	var items []string
	for _, n := range list.Values {
		item, ok := d.single(n, what)
		switch _, isBool := item.Bool(); {
		case d.full():
			return Value{}, false
		case isBool:
			d.fault(n.GetToken(), "%s: %s has no place in a list", what, item)
		case ok:
			items = append(items, item.String())
		}
	}
	return ListValue(strings.Join(items, ","), d.source(n.GetToken())), len(d.faults) == before && len(items) > 0
}

// single reads one value. Words for on and off are the same in quotes,
// because programs that write YAML put them there; a number in quotes is a word.
func (d *decoder) single(n ast.Node, what string) (Value, bool) {
	text, at, ok := d.scalar(n, what)
	if !ok {
		return Value{}, false
	}
	source := d.source(at)
	switch text {
	case "on", "true", "yes":
		return BoolValue(true, source), true
	case "off", "false", "no":
		return BoolValue(false, source), true
	}
	if at.Indicator != token.QuotedScalarIndicator && decimal(text) {
		number, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			d.fault(at, "%s: %s is too large for any device", what, quoted(text))
			return Value{}, false
		}
		return NumberValue(number, source), true
	}
	return WordValue(text, source), true
}

// decimal says whether text is a number in decimal digits. It leaves 010 out, which
// YAML's versions read differently.
func decimal(text string) bool {
	return text == "0" || text != "" && text[0] != '0' && strings.Trim(text, "0123456789") == ""
}

// mapping lists the entries of a mapping in their order, each key once.
func (d *decoder) mapping(n ast.Node, what string) []entry {
	m, ok := n.(ast.MapNode)
	if !ok {
		if isNull(n) {
			return nil
		}
		d.fault(n.GetToken(), "%s is a mapping of keys to values, not %s", what, shape(n))
		return nil
	}
	var entries []entry
	lines := map[string]Source{}
	for it := m.MapRange(); it.Next(); {
		at := it.Key().GetToken()
		key := at.Value
		if first, ok := lines[key]; ok {
			d.fault(at, "the key %s is already on line %d: keep one of them", quoted(key), first.Line)
			continue
		}
		lines[key] = d.source(at)
		entries = append(entries, entry{key, at, it.Value()})
	}
	return entries
}

// list reads one value or a list of values, each through a check that may
// rewrite it.
func (d *decoder) list(e entry, check func(string, *token.Token) (string, bool)) []string {
	nodes := []ast.Node{e.value}
	if seq, ok := e.value.(*ast.SequenceNode); ok {
		if nodes = seq.Values; len(nodes) == 0 {
			d.fault(e.token, "%s is an empty list, which no NIC could match: leave the key out", e.key)
		}
	}
	var list []string
	for _, n := range nodes {
		if d.full() {
			break
		}
		if text, at, ok := d.scalar(n, e.key); ok {
			if text, ok = check(text, at); ok {
				list = append(list, text)
			}
		}
	}
	return list
}

// scalar returns a single value as it is written, without its quotes.
func (d *decoder) scalar(n ast.Node, what string) (text string, at *token.Token, ok bool) {
	return d.scalarOf(n, what, 1024)
}

// scalarOf is scalar with a limit of bytes.
func (d *decoder) scalarOf(n ast.Node, what string, long int) (text string, at *token.Token, ok bool) {
	switch v := n.(type) {
	case *ast.NullNode:
		d.fault(v.GetToken(), "%s has no value", what)
		return "", nil, false
	case *ast.LiteralNode: // the text of a block, | or >
		text, at = v.Value.Value, v.GetToken()
	case ast.ScalarNode:
		text, at = v.GetToken().Value, v.GetToken()
	case ast.MapNode:
		d.fault(n.GetToken(), "%s takes a single value, not a mapping: put text that has a colon in quotes", what)
		return "", nil, false
	default:
		d.fault(n.GetToken(), "%s takes a single value, not %s", what, shape(n))
		return "", nil, false
	}
	switch {
	case len(text) > long:
		d.fault(at, "%s is longer than %d bytes", what, long)
	case strings.TrimSpace(text) == "":
		d.fault(at, "%s has no value", what)
	default:
		return text, at, true
	}
	return "", nil, false
}

func isNull(n ast.Node) bool {
	_, ok := n.(*ast.NullNode)
	return n == nil || ok
}

// shape names what stands where something else should.
func shape(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	default:
		return "a single value"
	}
}

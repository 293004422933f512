package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nictune/nictune/inventory"
)

// Schema is the JSON Schema (draft 7, which editors know best) of a document
// whose settings are those of the catalogue, or whose rules are those named. What it refuses, Parse and Bind
// refuse too, in better words; only text that YAML takes for a number (a NIC
// named 1) has to be in quotes for an editor's sake.
func Schema(catalogue Catalogue, rules []string) ([]byte, error) {
	settings := object{}
	for _, s := range catalogue {
		settings[s.Name] = s.schema()
	}
	kinds := anys(functions)
	tuning := object{
		"title":                "settings that NICs should have",
		"additionalProperties": false,
		"required":             []string{"apiVersion", "kind", "name", "match", "settings"},
		"properties": object{
			"apiVersion":  object{"const": inventory.APIVersion},
			"kind":        object{"const": Kind},
			"name":        object{"type": "string", "pattern": policyName().String(), "maxLength": policyNameMax, "description": "Tells policies apart in plans and reports."},
			"description": object{"type": "string", "description": "One line for people."},
			"priority": object{
				"type": "integer", "minimum": -1 << 31, "maximum": 1<<31 - 1, "default": 0,
				"description": "The policy of the higher priority wins. Equal priorities that want different values are an error.",
			},
			"match": object{
				"type": "object", "additionalProperties": false,
				"description": "Which NICs the policy is for. All keys must hold, of a list one value. {} is every NIC that is hardware of its own, and so is a match of speed, numaNode, firmware, linkState, labels and where alone.",
				"properties": object{
					"driver":    oneOrMore(object{"type": "string"}, "Globs over the driver, as ethtool -i names it."),
					"pci":       oneOrMore(object{"type": "string"}, "Vendor and device id (\"8086:10c9\", \"15b3:*\") or address (\"0000:3b:00.*\")."),
					"vendor":    oneOrMore(object{"type": []string{"string", "integer"}}, "Globs over the PCI vendor id (\"8086\")."),
					"device":    oneOrMore(object{"type": []string{"string", "integer"}}, "Globs over the PCI device id (\"10c9\")."),
					"subsystem": oneOrMore(object{"type": "string"}, "Globs over the subsystem's vendor and device id (\"15b3:0058\", \"15b3:*\")."),
					"speed":     oneOrMore(object{"type": []string{"integer", "string"}, "minimum": 0, "pattern": `^(>=|<=|>|<)? *(0|[1-9][0-9]*) *$`}, "The link's speed in Mb/s: 25000, \">=25000\". One that is not known matches nothing, and is reported."),
					"numaNode":  oneOrMore(object{"type": "integer", "minimum": 0}, "The memory node that the device is on."),
					"firmware":  oneOrMore(object{"type": []string{"string", "number"}}, "Globs over the firmware's version, as ethtool -i names it."),
					"linkState": oneOrMore(object{"enum": []string{"up", "down"}}, "Whether the link has a carrier."),
					"labels": object{
						"type": "object", "minProperties": 1, "description": "Labels that the host must have (--label, /etc/nictune/labels), each a glob or a list of them.",
						"additionalProperties": oneOrMore(object{"type": []string{"string", "number", "boolean"}}, ""),
						"propertyNames":        object{"pattern": labelKey().String()},
					},
					"where":        object{"type": "string", "minLength": 1, "description": "A condition in CEL over nic (as nictune inventory -o json has it) and host. One that needs a fact which is not known does not match, and is reported."},
					"kind":         oneOrMore(object{"enum": kinds}, "What part of a device the NIC is."),
					"name":         oneOrMore(object{"type": "string"}, "Globs over the name and the altnames."),
					"permanentMac": oneOrMore(object{"type": "string"}, "The MAC address that the device came with."),
				},
			},
			"optional": selection("What is left out, with a finding, on a NIC that does not have it: true for all, or names of settings and fields (\"rings\", \"rings.tx\"). What is not named is an error there."),
			"clamp":    selection("What is lowered to the largest number that the device takes, where the policy wants more: true for all, or names of settings and fields."),
			"settings": object{
				"type": "object", "additionalProperties": false, "minProperties": 1,
				"description": "What the NICs should have: setting, field, value.",
				"properties":  settings,
			},
		},
	}
	properties, ok := tuning["properties"].(object)
	if !ok {
		return nil, errors.New("a schema without properties")
	}
	root := object{
		"$schema":  "http://json-schema.org/draft-07/schema#",
		"$id":      "https://nictune.github.io/schema/policy.schema.json",
		"title":    "nictune policy",
		"type":     "object",
		"required": []string{"apiVersion", "kind"},
		"if":       object{"properties": object{"kind": object{"const": CheckKind}}, "required": []string{"kind"}},
		"then":     object{"$ref": "#/definitions/check"},
		"else": object{
			"if":   object{"properties": object{"kind": object{"const": RuleKind}}, "required": []string{"kind"}},
			"then": object{"$ref": "#/definitions/rules"},
			"else": object{"$ref": "#/definitions/tuning"},
		},
		"definitions": object{
			"number": numberSchema(Maximum), "bounded-number": numberSchema(), "count": numberSchema(Maximum, Default, Current),
			"tuning": tuning, "check": checkSchema(properties, rules), "rules": rulesSchema(properties),
		},
	}
	schema, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(schema, '\n'), nil
}

// checkSchema is the schema of a [CheckPolicy]; what it has in common with others is
// taken from their properties.
func checkSchema(common object, rules []string) object {
	names := slices.Clone(rules)
	for _, rule := range rules {
		group, _, _ := strings.Cut(rule, "/")
		if all := group + "/*"; !slices.Contains(names, all) {
			names = append(names, all)
		}
	}
	return object{
		"title":                "what nictune check makes of its rules",
		"additionalProperties": false,
		"required":             []string{"apiVersion", "kind", "name", "match"},
		"anyOf":                []any{object{"required": []string{"rules"}}, object{"required": []string{"waivers"}}},
		"properties": object{
			"apiVersion": common["apiVersion"], "name": common["name"], "description": common["description"],
			"priority": common["priority"], "match": common["match"],
			"kind": object{"const": CheckKind},
			"rules": object{
				"type": "object", "description": "What becomes of rules: off, or another severity. GROUP/* is all of a group.",
				"propertyNames": object{"anyOf": []any{object{"enum": names}, object{"pattern": userRuleID().String()}, object{"const": UserGroup + "/*"}}},
				// An editor may read off as a word or, by older YAML, as false.
				"additionalProperties": object{"enum": append([]any{false}, anys(ruleSeverities)...)},
			},
			"waivers": object{
				"type": "array", "description": "Failures that are accepted for a time.",
				"items": object{
					"type": "object", "additionalProperties": false, "required": waiverKeys,
					"properties": object{
						"rule":    oneOrMore(object{"anyOf": []any{object{"enum": rules}, object{"type": "string", "pattern": userRuleID().String()}}}, "The rule that may fail, or several."),
						"reason":  text("Why it may fail."),
						"owner":   text("Who answers for it."),
						"expires": object{"type": "string", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, "description": "The last day on which it holds, in UTC: 2027-01-31. After it the rule fails again, and says so."},
					},
				},
			},
		},
	}
}

// rulesSchema is the schema of a [RulePolicy].
func rulesSchema(common object) object {
	return object{
		"title":                "rules of one's own, for nictune check and nictune audit",
		"additionalProperties": false,
		"required":             []string{"apiVersion", "kind", "name", "match", "rules"},
		"properties": object{
			"apiVersion": common["apiVersion"], "name": common["name"], "description": common["description"], "match": common["match"],
			"kind": object{"const": RuleKind},
			"rules": object{
				"type": "object", "minProperties": 1, "description": "The rules, each under its id: user/NAME.",
				"propertyNames": object{"pattern": userRuleID().String()},
				"additionalProperties": object{
					"type": "object", "additionalProperties": false, "required": []string{"severity", "title", "why", "remedy", "expect"},
					"properties": object{
						"severity": object{"enum": severities(), "description": "How much it matters when it fails."},
						"title":    text("What is wrong when it fails, in a few words."),
						"why":      text("Why that matters."),
						"remedy":   text("What to do."),
						"sources":  oneOrMore(object{"type": "string"}, "The pages or standards behind it."),
						"subject":  object{"enum": ruleObjects, "default": "nic", "description": "Whether it is judged on each NIC that the match is for, or once, on the host."},
						"expect":   object{"type": "string", "minLength": 1, "description": "A condition in CEL over nic (as nictune inventory -o json has it) and host, which holds where all is well. One that needs a fact which is not known makes the rule unknown."},
					},
				},
			},
		},
	}
}

// text is the schema of words for people.
func text(doc string) object { return object{"type": "string", "pattern": `\S`, "description": doc} }

func anys(words []string) []any {
	list := make([]any, len(words))
	for i, word := range words {
		list[i] = word
	}
	return list
}

// object is a JSON object; encoding/json sorts its keys.
type object map[string]any

func (s *Setting) schema() object {
	fields, inside := object{}, map[string]object{}
	for _, f := range s.Fields {
		if outer, inner, ok := strings.Cut(f.Name, "."); ok && s.List {
			if inside[outer] == nil {
				inside[outer] = object{}
				fields[outer] = object{"type": "object", "minProperties": 1, "properties": inside[outer], "additionalProperties": false}
			}
			inside[outer][inner] = f.schema()
			continue
		}
		fields[f.Name] = f.schema()
		for _, alias := range f.Aliases {
			fields[alias] = described(f.schema(), strings.TrimSpace("Sets "+strings.Join(s.meaning(alias), ", ")+". "+f.Doc))
		}
	}
	o := object{"type": "object", "minProperties": 1, "properties": fields, "additionalProperties": false}
	if s.Open != nil {
		o["additionalProperties"] = s.Open.schema()
	}
	if s.List {
		o = object{"type": "array", "items": o}
	}
	return described(o, s.Doc)
}

// selection is the schema of a [Selection].
func selection(doc string) object {
	return object{"description": doc, "anyOf": []any{
		object{"enum": []any{true, false, "on", "off", "true", "false", "yes", "no"}},
		object{"type": "string"}, object{"type": "array", "minItems": 1, "items": object{"type": "string"}},
	}}
}

// numberSchema is a number, or a text that looks like an [Expression] without the
// quantities named; more than that only ParseExpression can say. The words are
// named so that an editor can offer them.
func numberSchema(without ...Quantity) object {
	words := slices.DeleteFunc(slices.Clone(quantities), func(word string) bool { return slices.Contains(without, Quantity(word)) })
	named := slices.DeleteFunc(slices.Clone(words), func(word string) bool { return word == string(Maximum) })
	doc := "A plain number, or one to be computed: " + strings.Join(named, ", ") + ", min(a, b, ...), max(a, b, ...)"
	operand := strings.Join(words, "|") + `|(?:min|max) *\(.+\)`
	if !slices.Contains(without, Maximum) {
		operand += `|(?:100|[1-9][0-9]?) *%`
	}
	pattern := operand
	if slices.Contains(without, Current) {
		doc += "."
	} else {
		doc += "; behind >= or <= one that only raises or only lowers what is there."
		pattern += `|[<>]= *(?:[0-9]+|` + operand + `)`
	}
	if !slices.Contains(without, Maximum) {
		doc += " max is the device's maximum, 50% half of it."
	}
	return object{"description": doc, "anyOf": []any{
		object{"type": "integer", "minimum": 0}, object{"enum": words},
		object{"type": "string", "pattern": `^ *(?:` + pattern + `) *$`},
	}}
}

// meaning are the fields that a name stands for.
func (s *Setting) meaning(name string) []string {
	var names []string
	for _, f := range s.fields(name) {
		names = append(names, f.Name)
	}
	return names
}

func (f *Field) schema() object {
	var forms []any
	switch f.Type {
	case Number:
		definition := "number"
		switch {
		case slices.Contains(f.Words, string(Maximum)):
			definition = "bounded-number"
		case f.Many:
			definition = "count"
		}
		forms = append(forms, object{"$ref": "#/definitions/" + definition})
	case Bool:
		// An editor may read on and yes as words or, by older YAML, as true.
		forms = append(forms, object{"enum": []any{true, false, "on", "off", "true", "false", "yes", "no"}})
	case Text:
		// The words are among the texts; naming them lets an editor offer them.
		item := object{"type": []string{"string", "integer"}}
		forms = append(forms, item, object{"type": "array", "minItems": 1, "items": item})
	case Words:
	}
	if words := slices.DeleteFunc(slices.Clone(f.Words), func(word string) bool { return f.Type == Number && word == string(Maximum) }); len(words) > 0 {
		forms = append(forms, object{"enum": words})
	}
	if len(forms) == 1 && f.Type != Number { // beside a reference nothing counts
		if o, ok := forms[0].(object); ok {
			return described(o, f.Doc)
		}
	}
	return described(object{"anyOf": forms}, f.Doc)
}

func described(o object, doc string) object {
	if doc != "" {
		o["description"] = doc
	}
	return o
}

func oneOrMore(item object, doc string) object {
	return described(object{"anyOf": []any{item, object{"type": "array", "minItems": 1, "items": item}}}, doc)
}

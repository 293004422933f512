package policies

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/nictune/nictune/inventory"
)

// CheckKind is the kind of a document that says what rules of nictune check count.
const CheckKind = "CheckPolicy"

// CheckPolicy is one document of kind CheckPolicy: which rules are off, which matter
// more or less, and which failures are waived.
type CheckPolicy struct {
	Name, Description string
	// Priority decides between policies that say different things of a rule and a
	// NIC: the higher wins.
	Priority int
	// Match says on which NICs. A finding about the host is meant where the match
	// names no NICs: {} or labels alone.
	Match   Match
	Rules   []RuleSetting
	Waivers []Waiver
	// Source is where its name stands.
	Source Source

	text string
}

// RuleSetting is what a document makes of a rule.
type RuleSetting struct {
	// Rule is an id, "link/eee", or all of a group, "link/*".
	Rule string
	// Severity is "off", "info", "warning" or "critical".
	Severity string
	Source   Source
}

// Waiver accepts that a rule fails.
type Waiver struct {
	Rule string
	// Reason is why, Owner who answers for it.
	Reason, Owner string
	// Expires is the last day on which it holds, at midnight UTC.
	Expires time.Time
	Source  Source
}

// Expired says whether the waiver's last day is over, in UTC.
func (w *Waiver) Expired(now time.Time) bool { return !now.Before(w.Expires.AddDate(0, 0, 1)) }

// RuleOff is the severity of a rule that is switched off.
const RuleOff = "off"

var (
	checkKeys      = []string{"apiVersion", "kind", "name", "description", "priority", "match", "rules", "waivers"}
	waiverKeys     = []string{"rule", "reason", "owner", "expires"}
	ruleSeverities = []string{RuleOff, "info", "warning", "critical"}
	ruleID         = matcher(`^[a-z]+/([a-z0-9-]+|\*)$`)
)

// readCheck reads a document of kind CheckPolicy.
func (d *decoder) readCheck(found map[string]entry, entries []entry) {
	for _, e := range entries {
		if !slices.Contains(checkKeys, e.key) && !d.full() {
			d.fault(e.token, "unknown key %s%s", quoted(e.key), suggest(e.key, checkKeys))
		}
	}
	c := CheckPolicy{text: d.text}
	c.Name, c.Description, c.Priority, c.Source = d.common(found, entries[0])
	if e, ok := d.required(found, entries[0], "match", everyHardware); ok {
		c.Match = d.match(e)
	}
	if e, ok := found["rules"]; ok {
		for _, r := range d.mapping(e.value, "rules") {
			severity, at, ok := d.scalar(r.value, r.key)
			switch {
			case d.full() || !ok:
			case !ruleID().MatchString(r.key):
				d.fault(r.token, "%s is no rule: write its id, as in \"link/eee\", or \"link/*\" for all of a group", quoted(r.key))
			case !slices.Contains(ruleSeverities, severity):
				d.fault(at, "a rule is off, info, warning or critical, not %s%s", quoted(severity), suggest(severity, ruleSeverities))
			default:
				c.Rules = append(c.Rules, RuleSetting{r.key, severity, d.source(r.token)})
			}
		}
	}
	if e, ok := found["waivers"]; ok {
		list, isList := e.value.(*ast.SequenceNode)
		if !isList {
			d.fault(e.token, "waivers is a list: begin each with \"- rule: ...\"")
			list = &ast.SequenceNode{}
		}
		for _, n := range list.Values {
			if d.full() {
				break
			}
			c.Waivers = append(c.Waivers, d.waiver(n)...)
		}
	}
	if found["rules"].value == nil && found["waivers"].value == nil {
		d.fault(entries[0].token, "the policy says nothing: write rules or waivers")
	}
	d.Checks = append(d.Checks, c)
}

// waiver reads one waiver: one of each rule that it names.
func (d *decoder) waiver(n ast.Node) []Waiver {
	entries := d.mapping(n, "a waiver")
	if len(entries) == 0 {
		d.fault(n.GetToken(), "an empty waiver: write rule, reason, owner and expires")
		return nil
	}
	found := map[string]entry{}
	for _, e := range entries {
		found[e.key] = e
		if !slices.Contains(waiverKeys, e.key) {
			d.fault(e.token, "unknown key %s in a waiver%s", quoted(e.key), suggest(e.key, waiverKeys))
		}
	}
	var w Waiver
	for _, text := range []struct {
		key, why string
		into     *string
	}{{"reason", "say why it may fail", &w.Reason}, {"owner", "say who answers for it", &w.Owner}} {
		if e, ok := d.required(found, entries[0], text.key, text.why); ok {
			*text.into, _, _ = d.scalar(e.value, text.key)
			*text.into = strings.TrimSpace(*text.into)
		}
	}
	if e, ok := d.required(found, entries[0], "expires", "say until when, as 2027-01-31: what is waived for ever is better switched off in rules"); ok {
		if day, at, ok := d.scalar(e.value, "expires"); ok {
			var err error
			if w.Expires, err = time.Parse(time.DateOnly, day); err != nil {
				d.fault(at, "expires is a day, as 2027-01-31, not %s", quoted(day))
			}
		}
	}
	e, ok := d.required(found, entries[0], "rule", "say which rule may fail")
	if !ok {
		return nil
	}
	var all []Waiver
	d.list(e, func(id string, at *token.Token) (string, bool) {
		if !ruleID().MatchString(id) || strings.HasSuffix(id, "*") {
			d.fault(at, "%s is no rule: write its id, as in \"link/eee\"", quoted(id))
			return "", false
		}
		w.Rule, w.Source = id, d.source(at)
		all = append(all, w)
		return id, true
	})
	return all
}

// BindChecks holds documents against the ids of the rules that exist. All that is
// wrong is reported together.
func BindChecks(checks []CheckPolicy, rules []string) error {
	var fs faults
	known := func(c *CheckPolicy, id string, at Source) {
		if slices.ContainsFunc(rules, func(rule string) bool { return meant(id, rule) }) {
			return
		}
		fs.add(c.text, at, utf8.RuneCountInString(id), "there is no rule %s%s", quoted(id), suggest(id, rules))
	}
	for i := range checks {
		c := &checks[i]
		for _, r := range c.Rules {
			known(c, r.Rule, r.Source)
		}
		for _, w := range c.Waivers {
			known(c, w.Rule, w.Source)
		}
	}
	return fs.err()
}

// meant reports whether a rule is the one written, or one of its group.
func meant(written, rule string) bool {
	ok, err := path.Match(written, rule)
	return ok && err == nil
}

// Ruling is what policies make of one rule on one NIC or on the host.
type Ruling struct {
	// Severity is "off", another severity, or empty where the rule's own counts; By
	// is where that is written.
	Severity string
	By       Source
	// Waiver is the one that holds the longest; nil where there is none.
	Waiver *Waiver
}

// Rule says what policies make of a rule on a NIC; with no NIC, on the host. Policies
// of one priority that say different things are an error. A condition that can't be
// decided is one, too: the ruling is then what the other policies make of it.
func Rule(checks []CheckPolicy, rule string, nic *inventory.NIC, host *Host) (Ruling, error) {
	var ruling Ruling
	var said []says
	var fs faults
	for i := range checks {
		c := &checks[i]
		ok, err := c.holds(nic, host)
		if err != nil {
			fs = append(fs, fmt.Errorf("%s: match of %s: %w", c.Source, c.Name, err))
		}
		if !ok || err != nil {
			continue
		}
		if r := c.about(rule); r != nil {
			said = append(said, says{c, r})
		}
		for j := range c.Waivers {
			w := &c.Waivers[j]
			if w.Rule == rule && (ruling.Waiver == nil || cmp.Compare(w.Expires.Unix(), ruling.Waiver.Expires.Unix()) > 0) {
				ruling.Waiver = w
			}
		}
	}
	// What a higher priority overrules contradicts nobody.
	slices.SortStableFunc(said, func(a, b says) int { return cmp.Compare(b.policy.Priority, a.policy.Priority) })
	for i, s := range said {
		switch {
		case i == 0:
			ruling.Severity, ruling.By = s.rule.Severity, s.rule.Source
		case s.policy.Priority == said[0].policy.Priority && s.rule.Severity != ruling.Severity:
			fs.add(s.policy.text, s.rule.Source, utf8.RuneCountInString(s.rule.Rule), "%s is %s here and %s at %s, of the same priority %d: raise one of them",
				rule, s.rule.Severity, ruling.Severity, ruling.By, s.policy.Priority)
		}
	}
	return ruling, fs.err()
}

// says is what one document makes of a rule.
type says struct {
	policy *CheckPolicy
	rule   *RuleSetting
}

// about is what the document says of a rule, nil if nothing. The rule's own line counts
// for more than its group's.
func (c *CheckPolicy) about(rule string) *RuleSetting {
	var group *RuleSetting
	for i := range c.Rules {
		switch r := &c.Rules[i]; {
		case r.Rule == rule:
			return r
		case group == nil && meant(r.Rule, rule):
			group = r
		}
	}
	return group
}

// Concerns says whether the policy is for the host or for one of the NICs, as far as
// that can be decided.
func (c *CheckPolicy) Concerns(nics []inventory.NIC, host *Host) bool {
	if ok, _ := c.holds(nil, host); ok { // without a NIC it can always be decided
		return true
	}
	return slices.ContainsFunc(nics, func(n inventory.NIC) bool {
		ok, err := c.holds(&n, host)
		return ok || err != nil
	})
}

// holds says whether the policy is for a NIC, or the host.
func (c *CheckPolicy) holds(nic *inventory.NIC, host *Host) (bool, error) {
	m := &c.Match
	if nic != nil {
		return m.Holds(nic, host)
	}
	narrowed := len(m.Speed)+len(m.NUMANode)+len(m.Firmware)+len(m.LinkState) > 0 || m.Where != nil
	return m.everyHardware() && !narrowed && m.holdsLabels(host), nil
}

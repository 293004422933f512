package tuning

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ParsePlan reads a plan as JSON, the form that encoding/json gives it. A plan
// of another version, with unknown parts or parts that contradict each other is
// refused.
func ParsePlan(b []byte) (*Plan, error) {
	var p Plan
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("not a plan: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a plan: something follows it")
	}
	if err := p.compact(); err != nil {
		return nil, err
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	return &p, nil
}

// compact undoes what indentation did to the values.
func (p *Plan) compact() error {
	compact := func(v *json.RawMessage) error {
		var b bytes.Buffer
		if err := json.Compact(&b, *v); err != nil {
			return err
		}
		*v = b.Bytes()
		return nil
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Wish != nil {
			if err := compact(&c.Wish); err != nil {
				return err
			}
		}
		for _, state := range []Values{c.Before, c.After, c.Goal} {
			for name, v := range state {
				if v == nil {
					continue
				}
				if err := compact(&v); err != nil {
					return err
				}
				state[name] = v
			}
		}
		for j := range c.Fields {
			f := &c.Fields[j]
			for _, v := range []*json.RawMessage{&f.Before, &f.After, &f.Asked} {
				if *v == nil {
					continue
				}
				if err := compact(v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// validate finds what no plan of ours has.
func (p *Plan) validate() error {
	if p.APIVersion != APIVersion || p.Kind != PlanKind {
		return fmt.Errorf("not a plan that this nictune knows: it is %q %q, not %q %q", p.APIVersion, p.Kind, APIVersion, PlanKind)
	}
	seen := map[[4]string]bool{}
	for _, c := range p.Changes {
		at := fmt.Sprintf("the plan's change of %s of %s", c.Setting, c.NIC.Name)
		key := [4]string{c.NIC.ID, c.NIC.Name, c.Setting}
		if c.Turn == MakingWay {
			key[3] = string(c.Turn)
		}
		differ, fromLate := differing(c.Before, c.After), c.Wish != nil || c.Goal != nil
		switch _, err := ParseImpact(string(c.Impact)); {
		case c.NIC.ID == "" || c.NIC.Name == "" || c.Setting == "":
			return fmt.Errorf("%s does not say which", at)
		case seen[key]:
			return fmt.Errorf("%s is there twice", at)
		case err != nil:
			return fmt.Errorf("%s: %w", at, err)
		case !slices.Contains([]Turn{Direct, MakingWay, Late, Kept}, c.Turn):
			return fmt.Errorf("%s: unknown turn %q", at, c.Turn)
		case (c.Turn == Late || c.Turn == Kept) != fromLate:
			return fmt.Errorf("%s: it does not say what it is resolved from", at)
		case c.Turn == Kept && (c.Wish != nil || len(c.Fields) > 0):
			return fmt.Errorf("%s: it is to be kept and changed", at)
		case !fromLate && (len(c.Fields) == 0 || !slices.Equal(c.names(), differ)):
			return fmt.Errorf("%s: the fields are not those in which before and after differ", at)
		case slices.ContainsFunc(c.Stay, func(field string) bool {
			return c.Turn != Direct || c.After[field] == nil || slices.Contains(differ, field)
		}):
			return fmt.Errorf("%s: a field is to stay that is not there, or changes", at)
		}
		seen[key] = true
		for _, f := range c.Fields {
			if !bytes.Equal(f.Before, c.Before[f.Name]) || !bytes.Equal(f.After, c.After[f.Name]) {
				return fmt.Errorf("%s: field %s contradicts before and after", at, f.Name)
			}
		}
	}
	return nil
}

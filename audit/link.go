package audit

import (
	"slices"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// linkRules judge links, what they lose, and modules. They say nothing of software
// devices, which have none.
func linkRules() []findings.Rule[nic] {
	return slices.Concat(stateRules(), modeRules(), lossRules(), moduleRules(), qualityRules())
}

// noLink is the verdict on a device that has no link of its own, and whether it is one.
func (n nic) noLink() (findings.Verdict, bool) {
	switch n.Function {
	case inventory.Virtual:
		return findings.Inapplicable("a software device"), true
	case inventory.Representor:
		return findings.Inapplicable("a representor: it has no link of its own"), true
	}
	return findings.Verdict{}, false
}

// noPort is the verdict on a device that has no port of its own, and whether it is
// one: a VF's and a subfunction's is the PF's, and is judged there.
func (n nic) noPort() (findings.Verdict, bool) {
	switch n.Function {
	case inventory.VF, inventory.SF:
		return findings.Inapplicable("the port is the physical function's"), true
	}
	return n.noLink()
}

// noCarrier is the verdict on a port whose rule needs a link that is up, and whether
// there is none.
func (n nic) noCarrier() (findings.Verdict, bool) {
	if v, is := n.noPort(); is {
		return v, true
	}
	if n.Link.Carrier == nil || !*n.Link.Carrier {
		return findings.Inapplicable("no carrier"), true
	}
	return findings.Verdict{}, false
}

// untold is the verdict where the driver's answer about its link lacks something.
func (n nic) untold(what string) findings.Verdict {
	const fact = "link.supportedModes" // all of it comes in one answer
	if n.noted(fact) {
		return findings.Unread(n.Unread, fact)
	}
	return findings.Unclear("the driver tells no %s", what)
}

// cut reports whether a port that is up has no carrier.
func (n nic) cut() bool {
	return n.Link.Admin != "down" && n.Link.Carrier != nil && !*n.Link.Carrier
}

// before is the NIC as the earlier look saw it; nil where there was none.
func (n nic) before() *inventory.NIC {
	return n.evidence.earlierNIC(n.ID())
}

// earlierNIC is the NIC of this ID in the earlier look; nil where there is none. Each of
// thousands of NICs asks for its own.
func (e *Evidence) earlierNIC(id string) *inventory.NIC {
	if e.Earlier == nil {
		return nil
	}
	if e.indexed != e.Earlier {
		e.indexed, e.earlierNICs = e.Earlier, make(map[string]*inventory.NIC, len(e.Earlier.NICs))
		for i := range e.Earlier.NICs {
			one := &e.Earlier.NICs[i]
			if id := one.ID(); e.earlierNICs[id] == nil { // of several the first
				e.earlierNICs[id] = one
			}
		}
	}
	return e.earlierNICs[id]
}

// common are the modes that both have.
func common(a, b []string) []string {
	var both []string
	for _, mode := range a {
		if slices.Contains(b, mode) {
			both = append(both, mode)
		}
	}
	return both
}

package xdpcheck

import (
	"cmp"
	"fmt"

	"github.com/nictune/nictune/findings"
)

// Report is what XDP is doing on a NIC, and what it could.
type Report struct {
	Subject findings.Subject `json:"subject"`
	Driver  string           `json:"driver,omitempty"`
	// Programs are those attached now.
	Programs []Program `json:"programs"`
	// Above and Below are the devices on it and under it that have programs.
	Above []string `json:"above,omitempty"`
	Below []string `json:"below,omitempty"`
	// Features, Metadata, XSKFeatures and ZeroCopyMaxSegments are what the kernel
	// announces; absent where it has no words for it.
	Features            []string     `json:"features,omitzero"`
	Metadata            []string     `json:"metadata,omitzero"`
	XSKFeatures         []string     `json:"xskFeatures,omitzero"`
	ZeroCopyMaxSegments *uint32      `json:"zeroCopyMaxSegments,omitempty"`
	MTU                 *int         `json:"mtu,omitempty"`
	Capabilities        Capabilities `json:"capabilities"`
	// Probe is what really happened, where it was tried.
	Probe *Probed `json:"probe,omitempty"`
}

// Report judges the NIC; programs are what [Programs] found, nil on a recorded host.
func (n NIC) Report(programs map[int][]Program) Report {
	o := &n.Offloads
	r := Report{
		Subject: n.Subject(), Programs: programs[n.Index], Features: o.XDPFeatures, Metadata: o.XDPMetadata, XSKFeatures: o.XSKFeatures,
		ZeroCopyMaxSegments: o.XDPZeroCopyMaxSegments, MTU: n.Link.MTU, Capabilities: n.Capabilities(),
	}
	if n.Driver != nil {
		r.Driver = n.Driver.Name
	}
	if r.Programs == nil {
		r.Programs = []Program{}
		for _, p := range o.XDP {
			r.Programs = append(r.Programs, Program{Mode: p.Mode, ID: p.ID})
		}
	}
	for _, upper := range n.uppers() {
		if len(upper.Offloads.XDP) > 0 {
			r.Above = append(r.Above, upper.Name)
		}
	}
	for _, name := range n.Stack.Lower {
		if lower := n.facts.named(name); lower != nil && len(lower.Offloads.XDP) > 0 {
			r.Below = append(r.Below, name)
		}
	}
	return r
}

// String is a program as people name it: "xdp_pass, id 12, tag 3b185187f1855c4c, driver mode, held by link 4".
func (p Program) String() string {
	s := fmt.Sprintf("%s, id %d", cmp.Or(p.Name, "a program"), p.ID)
	if p.Tag != "" {
		s += ", tag " + p.Tag
	}
	s += ", " + p.Mode + " mode"
	if p.Link != nil {
		s += fmt.Sprintf(", held by bpf_link %d", *p.Link)
	}
	return s
}

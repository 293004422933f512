package metrics

import (
	"regexp"

	"github.com/nictune/nictune/inventory"
)

// Filter says which devices are shown. The zero value: all.
type Filter struct {
	// Device is for names, Driver for drivers' names, Kind for what an inventory
	// calls so: "pf", "vf", "sf", "representor", "virtual", "plain".
	Device, Driver, Kind Match
}

// Match chooses by name. Both expressions match anywhere in it unless they are
// anchored, as node_exporter's do; nil ones choose all and exclude none.
type Match struct {
	Include, Exclude *regexp.Regexp
}

// Has says whether a name is chosen.
func (m Match) Has(name string) bool {
	return (m.Include == nil || m.Include.MatchString(name)) && (m.Exclude == nil || !m.Exclude.MatchString(name))
}

func (m Match) all() bool { return m.Include == nil && m.Exclude == nil }

// Has says whether a device is shown.
func (f Filter) Has(n *inventory.NIC) bool {
	driver := ""
	if n.Driver != nil {
		driver = n.Driver.Name
	}
	return f.Device.Has(n.Name) && f.Driver.Has(driver) && f.Kind.Has(string(n.Function))
}

// chosen is what a filter says of devices, by name.
type chosen struct {
	filter Filter
	facts  *inventory.Inventory // that known is of
	known  map[string]bool
}

// of takes the facts that drivers and kinds are from.
func (c *chosen) of(inv *inventory.Inventory) (changed bool) {
	if c.filter.Driver.all() && c.filter.Kind.all() || c.facts == inv && c.known != nil {
		return false
	}
	c.facts, c.known = inv, map[string]bool{}
	if inv != nil {
		for i := range inv.NICs {
			c.known[inv.NICs[i].Name] = c.filter.Has(&inv.NICs[i])
		}
	}
	return true
}

// has says whether a device is shown. One that is so new that its facts have not
// been read is, if neither driver nor kind say which are.
func (c *chosen) has(name string) bool {
	if c.filter.Driver.all() && c.filter.Kind.all() {
		return c.filter.Device.Has(name)
	}
	if shown, ok := c.known[name]; ok {
		return shown
	}
	return c.filter.Driver.Include == nil && c.filter.Kind.Include == nil && c.filter.Device.Has(name)
}

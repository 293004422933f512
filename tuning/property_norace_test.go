//go:build !race

package tuning

const (
	// anyPolicies is how many policies are tried on any device. Ten thousand are over the
	// settings as they are shipped, in the room below.
	anyPolicies = 2000
	// crashedPlans is how many plans crash at each of their writes.
	crashedPlans = 60
)

//go:build !race

package tuning

const (
	// anyPolicies is how many policies are tried on any device.
	anyPolicies = 10000
	// crashedPlans is how many plans crash at each of their writes.
	crashedPlans = 60
)

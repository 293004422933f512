//go:build !race

package settings

// anyPolicies is how many random policies are tried.
const anyPolicies = 10000

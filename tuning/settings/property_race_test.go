//go:build race

package settings

// A tenth with the race detector, which makes them take minutes; `make test-unit` runs
// the tests without it, too.
const anyPolicies = 1000

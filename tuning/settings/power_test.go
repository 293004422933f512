//go:build lab || labhost

package settings

import "flag"

// every asks for more than make test has time for: go test ... -args -every.
var every = flag.Bool("every", false, "kill or cut the power at each write, where it is some of them")

// cutAt is in the environment of the tests that are cut off: the write at which a
// test on the host wants the power cut.
const cutAt = "NICTUNE_TEST_CUT_AT"

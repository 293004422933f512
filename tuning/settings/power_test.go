//go:build lab || labhost

package settings

// cutAt is in the environment of TestTenKnobsUntilPowerCut: the write at which
// TestTenKnobsPowerCut wants the power cut.
const cutAt = "NICTUNE_TEST_CUT_AT"

package inventory

import (
	"strconv"
	"strings"
)

// ModeSpeed is the speed in Mb/s in a link mode's name: "25000baseCR/Full". Zero is
// none.
func ModeSpeed(mode string) int {
	digits, _, found := strings.Cut(mode, "base")
	speed, err := strconv.Atoi(digits)
	if !found || err != nil {
		return 0
	}
	return speed
}

// FastestMode is the highest speed among link modes, in Mb/s; zero where there is none.
func FastestMode(modes []string) int {
	speed := 0
	for _, mode := range modes {
		speed = max(speed, ModeSpeed(mode))
	}
	return speed
}

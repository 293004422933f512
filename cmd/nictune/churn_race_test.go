//go:build race

package main

// churnTimes is less with the race detector, which makes it take minutes; `make
// test-unit` runs the test without it, too.
const churnTimes = 50

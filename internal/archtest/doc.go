// Package archtest holds the tests that keep the house in order: which room may import which, which library
// belongs to which room, and what no library may do (run programs, read the environment, open files behind the
// seam's back, keep mutable package variables). It reads the module's source with go/parser, holds no code of the
// product and never runs any.
//
// docs/ARCHITECTURE.md shows the same table and says why it is as it is.
package archtest

// Package tuning is the engine that changes a host, and the only room that
// does: it plans, applies, verifies, undoes, and remembers.
//
// It knows no knob. A [Knob] says how one kernel object is read, checked and
// written; package settings lists them. A [Plan] is data: what each setting of
// each NIC is and shall be. [Engine.Apply] carries a plan out as one
// transaction: it refuses a plan that no longer fits the host, writes a journal
// and syncs it before each write, reads back what was written, and undoes
// everything when one change does not hold. [Engine.Recover] finishes what a
// crash left half done. Values that already hold are never written.
//
// Plans are made with a kernel.Reader, so they work on recorded hosts; only
// apply, undo and recovery take a kernel.Writer. The room never decides what is
// wanted (policies do) and never guesses: where the host is in a state that
// neither it nor its plan explains, it leaves the host alone and says so.
package tuning

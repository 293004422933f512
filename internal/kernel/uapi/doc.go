// Package uapi holds the numbers of the kernel's interface to network devices,
// under the kernel's own names so that both can be searched for at once.
// golang.org/x/sys has only some of them and lags behind the kernel.
//
// They are those of Linux 7.2; a number never changes once the kernel has it.
// The package holds constants and nothing else.
package uapi

// Package bench measures what nictune costs, beside what it stands in for: one
// ethtool process for each device and group of facts, and the bare system calls.
//
// `make bench` runs it, and docs/benchmarks.md says what each number means. The
// benchmarks report and never judge: how fast a machine is fails no test. What a
// test here holds instead is what speed comes from and no machine changes, the
// number of calls into the kernel.
//
// It is the only room besides lab that runs programs, and no other imports it.
package bench

package xdpcheck

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
)

// Probed is what the kernel and the driver really did.
type Probed struct {
	// Attached is whether the driver took a program that passes everything on.
	Attached bool `json:"attached"`
	// Refused is the kernel's own word where it didn't.
	Refused string `json:"refused,omitempty"`
	// MultiBuffer is the same for a program that takes packets of several buffers; it
	// is tried where the other was refused.
	MultiBuffer bool `json:"multiBuffer,omitempty"`
	// ZeroCopy is whether an AF_XDP socket that insists on zero copy could be bound to
	// queue 0 meanwhile, ZeroCopyRefused the kernel's own word where not. They are
	// absent where no program was attached.
	ZeroCopy        *bool  `json:"zeroCopy,omitempty"`
	ZeroCopyRefused string `json:"zeroCopyRefused,omitempty"`
	// Copy is whether one that does not insist could.
	Copy *bool `json:"copy,omitempty"`
	// Features is what the kernel announced while the program was attached.
	Features []string `json:"features,omitzero"`
	// CarrierAfter is how long it took, after all was detached, until there was a
	// carrier again; absent where there was none before. CarrierLost says that it had
	// not come back in the time that was waited.
	CarrierAfter *time.Duration `json:"carrierAfterNs,omitempty"`
	CarrierLost  bool           `json:"carrierLost,omitempty"`
}

// Refusal says why a NIC is not probed. Nothing was attached.
type Refusal struct{ Why, Do string }

func (r *Refusal) Error() string { return r.Why + ": " + r.Do }

// ProbeImpact is what probing the NIC does to its traffic: an impact of nictune
// apply, and a clause. Of a driver that the table doesn't know the worst is
// expected.
func (n NIC) ProbeImpact() (impact, does string) {
	d := n.driver()
	switch {
	case d != nil && d.Attach != nil:
		return d.Attach.Impact, d.Attach.Does
	case d != nil && d.Native.None:
		return "seamless", "its driver refuses a program"
	}
	return "nic-reset", "what this driver does isn't in the table; many reset the device"
}

// Refuses says why the NIC can't be probed at all, nil if it can.
func (n NIC) Refuses() error {
	for _, p := range n.Offloads.XDP {
		return &Refusal{
			Why: fmt.Sprintf("%s has the XDP program with id %d", n.Name, p.ID),
			Do:  "nothing was tried; the probe never takes the place of a program",
		}
	}
	for _, upper := range n.uppers() {
		if len(upper.Offloads.XDP) > 0 {
			return &Refusal{
				Why: fmt.Sprintf("%s, which lies on %s, has the XDP program with id %d", upper.Name, n.Name, upper.Offloads.XDP[0].ID),
				Do:  "nothing was tried; the kernel takes no program below another",
			}
		}
	}
	for _, q := range n.Queues.Netdev {
		if q.XSK {
			return &Refusal{Why: fmt.Sprintf("an AF_XDP socket has queue %d of %s", q.ID, n.Name), Do: "nothing was tried; the probe would take its packets' memory away"}
		}
	}
	return nil
}

// uppers are the devices that lie on the NIC, directly or not.
func (n NIC) uppers() []*inventory.NIC {
	var all []*inventory.NIC
	names := n.Stack.Upper
	for seen := map[string]bool{}; len(names) > 0; {
		name := names[0]
		names = names[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		if upper := n.facts.named(name); upper != nil {
			all = append(all, upper)
			names = append(append([]string{}, names...), upper.Stack.Upper...)
		}
	}
	return all
}

// Probe attaches a program that passes every packet on, in driver mode and never in
// another, and binds an AF_XDP socket that insists on zero copy; then takes both
// away. The bpf_link that holds the program ends with this process, should it die.
//
// The error is for a NIC that could not be probed. What the driver refuses is an
// answer and no error.
//
// The caller has asked Refuses, and made sure that ProbeImpact is allowed.
func Probe(ctx context.Context, live *kernel.Live, nic inventory.NIC) (p Probed, err error) {
	had, known := ParseRelease(release(ctx, live))
	if known && had.Before(Release{5, 9}) {
		return p, &Refusal{
			Why: fmt.Sprintf("Linux %s has no bpf_link for XDP (5.9 has)", had),
			Do:  "nothing was tried; without one the program would stay if this process died",
		}
	}
	carried := nic.Link.Carrier != nil && *nic.Link.Carrier
	held, err := attach(nic, had, 0)
	var refused *refusedError
	if errors.As(err, &refused) {
		p.Refused = kernelWord(err)
		if held, err = attach(nic, had, fragments); err != nil {
			return p, settle(ctx, live, nic, carried, &p)
		}
		p.MultiBuffer = true
	}
	if err != nil {
		return p, err
	}
	p.Attached = !p.MultiBuffer
	zero, fault := live.XDPSocket(ctx, nic.Index, 0, true)
	p.ZeroCopy = &zero
	if fault != nil {
		p.ZeroCopyRefused = kernelWord(fault)
		_, fault := live.XDPSocket(ctx, nic.Index, 0, false)
		p.Copy = new(fault == nil)
	}
	if now, err := inventory.Read(ctx, live); err == nil {
		for i := range now.NICs {
			if now.NICs[i].Index == nic.Index {
				p.Features = now.NICs[i].Offloads.XDPFeatures
			}
		}
	}
	if err := held.Close(); err != nil {
		return p, fmt.Errorf("%s: detach the probe's program (it goes when this process ends): %w", nic.Name, err)
	}
	return p, settle(ctx, live, nic, carried, &p)
}

// release is the running kernel's.
func release(ctx context.Context, r kernel.Reader) string {
	b, _ := r.ReadFile(ctx, "/proc/sys/kernel/osrelease") // without it the attach tells
	return strings.TrimSpace(string(b))
}

// settle waits until a NIC that had a carrier has it again.
func settle(ctx context.Context, r kernel.Reader, nic inventory.NIC, had bool, p *Probed) error {
	if !had {
		return nil
	}
	const patience, step = 20 * time.Second, 50 * time.Millisecond
	began := time.Now()
	for time.Since(began) < patience {
		if b, err := r.ReadFile(ctx, "/sys/class/net/"+nic.Name+"/carrier"); err == nil && strings.TrimSpace(string(b)) == "1" {
			p.CarrierAfter = new(time.Since(began).Round(time.Millisecond))
			return nil
		}
		select {
		case <-ctx.Done():
			p.CarrierLost = true
			return fmt.Errorf("%s: wait for the carrier: %w", nic.Name, ctx.Err())
		case <-time.After(step):
		}
	}
	p.CarrierLost = true
	return nil
}

// kernelWord is the innermost error: what the kernel itself said.
func kernelWord(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// overLimit says what may be meant where a kernel before Linux 5.11 refuses to load a
// program: there its memory counts against RLIMIT_MEMLOCK, also root's
// (kernel/bpf/syscall.c, bpf_charge_memlock), since then against the cgroup's.
func overLimit(err error, on Release) error {
	if kernel.ReasonOf(err) != kernel.Denied || on.IsZero() || !on.Before(Release{5, 11}) {
		return err
	}
	return fmt.Errorf("in Linux %s a program's memory counts against RLIMIT_MEMLOCK: if you are root, raise it (ulimit -l unlimited): %w", on, err)
}

// fragments is BPF_F_XDP_HAS_FRAGS of linux/bpf.h.
const fragments = 1 << 5

// refusedError is a driver's no.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// attach attaches a program that returns XDP_PASS.
func attach(nic inventory.NIC, on Release, flags uint32) (link.Link, error) {
	const pass = 2
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nictune_probe", Type: ebpf.XDP, License: "GPL", Flags: flags,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: load an XDP program: %w", nic.Name, overLimit(err, on))
	}
	defer func() { _ = program.Close() }() // the link holds it
	held, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: nic.Index, Flags: link.XDPDriverMode})
	if err == nil {
		return held, nil
	}
	switch kernel.ReasonOf(err) {
	case kernel.Denied, kernel.Gone:
		return nil, fmt.Errorf("%s: attach an XDP program: %w", nic.Name, err)
	default:
		return nil, &refusedError{err}
	}
}

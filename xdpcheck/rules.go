package xdpcheck

import (
	"fmt"
	"strings"

	"github.com/nictune/nictune/findings"
)

// Rules judge what is attached to a NIC, and what is in the way of attaching.
func Rules() []findings.Rule[NIC] {
	return []findings.Rule[NIC]{
		{About: findings.About{
			ID: "xdp/generic-mode", Severity: findings.Warning,
			Title:   "an XDP program runs in generic mode on a driver that could run it",
			Why:     "In generic mode the program sees a packet only after the kernel has allocated a socket buffer for it and often copied it: the cost that XDP is used to save. Loaders fall back to it silently where driver mode is not demanded.",
			Remedy:  "Attach the program in driver mode (ip link set dev NAME xdpdrv ...), and have the loader demand it.",
			Sources: []string{"net/core/dev.c, netif_receive_generic_xdp", "include/uapi/linux/if_link.h: XDP_FLAGS_DRV_MODE"},
		}, Judge: genericMode},
		{About: findings.About{
			ID: "xdp/merged-packets", Severity: findings.Warning,
			Title:   "LRO or hardware GRO merges packets on a NIC with an XDP program",
			Why:     "The program is to see each packet as it came off the wire. Merged ones are larger than its buffer or pass it by: mlx5 skipped the program for them until it learnt to refuse LRO.",
			Remedy:  "Turn both off: settings: {features: {rx-lro: off, rx-gro-hw: off}}.",
			Sources: []string{"cf6e34c8c22f net/mlx5e: Properly block LRO when XDP is enabled"},
		}, Judge: mergedPackets},
		{About: findings.About{
			ID: "xdp/jit-off", Severity: findings.Warning,
			Title:   "XDP programs are interpreted",
			Why:     "With net.core.bpf_jit_enable=0 every instruction of the program is interpreted, for every packet.",
			Remedy:  "Set it: sysctl -w net.core.bpf_jit_enable=1. A program that is loaded already has to be loaded anew.",
			Sources: []string{"Documentation/admin-guide/sysctl/net.rst, bpf_jit_enable"},
		}, Judge: jitOff},
		{About: findings.About{
			ID: "xdp/program-above", Severity: findings.Info,
			Title:   "a device and one that lies on it both have XDP programs",
			Why:     "Each packet goes through two programs, and the kernel takes no other program on the lower device for as long as the upper one has its own.",
			Remedy:  "Keep one of them: the lower one sees packets first.",
			Sources: []string{"net/core/dev.c, dev_xdp_attach: Cannot attach when an upper device already has a program"},
		}, Judge: programAbove},
		{About: findings.About{
			ID: "xdp/native-blocked", Severity: findings.Info,
			Title:   "the driver could run XDP programs, and a setting is in the way",
			Why:     "The kernel announces no XDP, or refuses the attach, because of how the NIC is set up now. That looks like a NIC without XDP, and is none.",
			Remedy:  "Change what is named, before a program is attached.",
			Sources: []string{"docs/xdp-drivers.md, with the source of each claim"},
		}, Judge: func(n NIC) findings.Verdict { return n.Capabilities().Native.verdict() }},
		{About: findings.About{
			ID: "xdp/zero-copy-blocked", Severity: findings.Info,
			Title:   "AF_XDP could do without copying, and a setting is in the way",
			Why:     "A socket that does not insist on zero copy gets its packets copied instead, and nobody is told.",
			Remedy:  "Change what is named, before sockets are bound.",
			Sources: []string{"docs/xdp-drivers.md, with the source of each claim", "Documentation/networking/af_xdp.rst: XDP_COPY and XDP_ZEROCOPY bind flags"},
		}, Judge: zeroCopyBlocked},
	}
}

// verdict is what the capability is as a finding: only what is blocked fails.
func (c Capability) verdict() findings.Verdict {
	switch c.Answer {
	case Yes:
		return findings.Passes("%s", c.Why)
	case Unsupported:
		return findings.Inapplicable("%s", c.Why)
	case Blocked:
		v := findings.Fails(c.Why, "nothing in the way")
		var dos []string
		for _, b := range c.Blockers {
			dos = append(dos, b.Do)
		}
		return v.To("%s", strings.Join(dos, " "))
	default:
		return findings.Unclear("%s", c.Why)
	}
}

func zeroCopyBlocked(n NIC) findings.Verdict {
	c := n.Capabilities()
	if c.Native.Answer == Blocked && c.ZeroCopy.Answer == Blocked {
		return findings.Inapplicable("programs are blocked already: xdp/native-blocked")
	}
	return c.ZeroCopy.verdict()
}

func genericMode(n NIC) findings.Verdict {
	if len(n.Offloads.XDP) == 0 {
		return findings.Inapplicable("no program is attached")
	}
	for _, p := range n.Offloads.XDP {
		if p.Mode != "generic" {
			continue
		}
		seen := fmt.Sprintf("program %d in generic mode", p.ID)
		switch native := n.Capabilities().Native; native.Answer {
		case Yes, Blocked:
			v := findings.Fails(seen, "driver mode")
			if native.Answer == Blocked {
				var dos []string
				for _, b := range native.Blockers {
					dos = append(dos, b.Do)
				}
				v = v.To("%s Then attach it in driver mode.", strings.Join(append([]string{"Driver mode is blocked: " + native.Why + "."}, dos...), " "))
			}
			return v
		case Unsupported:
			return findings.Inapplicable("%s, and %s", seen, native.Why)
		default:
			return findings.Unclear("%s; whether the driver could: %s", seen, native.Why)
		}
	}
	return findings.Passes("in %s mode", n.Offloads.XDP[0].Mode)
}

func mergedPackets(n NIC) findings.Verdict {
	if len(n.Offloads.XDP) == 0 {
		return findings.Inapplicable("no program is attached")
	}
	if n.Offloads.Features == nil {
		return findings.Unread(n.Unread, "offloads.features")
	}
	var on []string
	for _, feature := range []string{"rx-lro", "rx-gro-hw"} {
		if n.Offloads.Features[feature].Active {
			on = append(on, feature)
		}
	}
	if len(on) > 0 {
		return findings.Fails(strings.Join(on, " and ")+" on", "off")
	}
	return findings.Passes("rx-lro and rx-gro-hw are off")
}

func jitOff(n NIC) findings.Verdict {
	switch {
	case len(n.Offloads.XDP) == 0:
		return findings.Inapplicable("no program is attached")
	case n.facts.extra.JIT == "":
		return findings.Unclear(jitUnread)
	case n.facts.extra.JIT == "0":
		return findings.Fails("net.core.bpf_jit_enable=0", "1")
	}
	return findings.Passes("net.core.bpf_jit_enable=%s", n.facts.extra.JIT)
}

func programAbove(n NIC) findings.Verdict {
	if len(n.Offloads.XDP) == 0 {
		return findings.Inapplicable("no program is attached")
	}
	for _, upper := range n.uppers() {
		if len(upper.Offloads.XDP) > 0 {
			return findings.Fails(fmt.Sprintf("program %d here, program %d on %s", n.Offloads.XDP[0].ID, upper.Offloads.XDP[0].ID, upper.Name), "one program")
		}
	}
	return findings.Passes("no device on it has a program")
}

package main

import (
	"time"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/policies"
	"github.com/nictune/nictune/tuning"
)

// besidePause is the least time between two judgements of a host, however much changes
// on it: a thousand devices take some 0.2 s of CPU.
const besidePause = 30 * time.Second

// beside is what the agent keeps beside facts, for the collectors that are on.
func (f *agentFlags) beside(documents policies.Documents, labels map[string]string) *agent.Beside {
	on := f.collectors.enabled(f.exporter)
	b := &agent.Beside{
		Rules: documents.Rules, Checks: documents.Checks, Wanted: documents.Policies, Labels: labels,
		VFs: on("sriov"), XDP: on("xdp_ready") || on("offload"), Pause: besidePause,
	}
	if on("findings") {
		b.Groups = audit.Groups()
	}
	if on("history") {
		b.History = tuning.PastIn(f.state).Summary
	}
	return b
}

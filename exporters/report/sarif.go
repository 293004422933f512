package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// The objects of SARIF 2.1.0 (OASIS), as far as they are used.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Automation  sarifAutomation   `json:"automationDetails"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
		Properties  map[string]any    `json:"properties,omitempty"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string             `json:"id"`
		Short   sarifText          `json:"shortDescription"`
		Full    sarifText          `json:"fullDescription"`
		Help    sarifText          `json:"help"`
		Default sarifConfiguration `json:"defaultConfiguration"`
		// Properties has the group as a tag, and the severity in our words.
		Properties map[string]any `json:"properties"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifConfiguration struct {
		Level string `json:"level"`
	}
	sarifAutomation struct {
		ID string `json:"id"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		EndTime       string              `json:"endTimeUtc"`
		Machine       string              `json:"machine,omitempty"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    *int               `json:"ruleIndex,omitempty"`
		Kind         string             `json:"kind"`
		Level        string             `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Baseline     string             `json:"baselineState,omitempty"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   map[string]any     `json:"properties,omitempty"`
	}
	sarifLocation struct {
		Logical []sarifLogical `json:"logicalLocations"`
	}
	sarifLogical struct {
		Name          string `json:"name"`
		QualifiedName string `json:"fullyQualifiedName"`
		Kind          string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

// fingerprint names what the fingerprints are made of: the rule, and what of the
// subject stays over renames.
const fingerprint = "nictuneSubject/v1"

// SARIF writes the report as SARIF 2.1.0, for programs that collect what scanners
// find. Results are what fails, is waived (suppressed) or could not be judged (of the
// kind open), and what failed in the baseline by a rule that doesn't apply any more (of the
// kind notApplicable); a rule that is listed and has no result passed or did not apply. A
// device is no file: locations are logical ones.
func SARIF(w io.Writer, r *audit.HostReport) error {
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: "nictune", Version: visible(r.Version), InformationURI: "https://nictune.github.io", Rules: []sarifRule{},
		}},
		Automation:  sarifAutomation{"nictune/audit/" + line(hostName(r)) + "/"},
		Invocations: []sarifInvocation{{Successful: true, EndTime: r.CollectedAt.UTC().Format(time.RFC3339), Machine: line(hostName(r))}},
		Results:     []sarifResult{},
		Properties:  map[string]any{"counts": r.Counts, "kernel": visible(r.Host.Kernel), "machineId": visible(r.Host.MachineID)},
	}
	for _, p := range r.Problems {
		i := &run.Invocations[0]
		i.Successful = false
		i.Notifications = append(i.Notifications, sarifNotification{"error", sarifText{Text: visible(p)}})
	}
	index := map[string]int{}
	for i, about := range r.Rules {
		index[about.ID] = i
		help := visible(about.Why) + "\n\nWhat to do: " + visible(about.Remedy)
		markdown := escaped(about.Why) + "\n\n**What to do:** " + escaped(about.Remedy)
		for j, source := range about.Sources {
			if j == 0 {
				help += "\n\nSources:"
				markdown += "\n\nSources:\n"
			}
			help += "\n- " + visible(source)
			markdown += "\n- " + escaped(source)
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			ID: visible(about.ID), Short: sarifText{Text: visible(about.Title) + "."}, Full: sarifText{Text: visible(about.Why)},
			Help: sarifText{help, markdown}, Default: sarifConfiguration{level(about.Severity)},
			Properties: map[string]any{"tags": []string{group(visible(about.ID))}, "severity": about.Severity},
		})
	}
	keys, is := audit.Keys(r.Findings), changes(r)
	for i := range r.Findings {
		f := &r.Findings[i]
		one := sarifResult{
			RuleID: visible(f.Rule), Kind: "fail", Level: level(f.Severity), Message: sarifText{Text: message(f)},
			Locations:    []sarifLocation{{[]sarifLogical{{line(f.Subject.String()), line(hostName(r) + "/" + f.Subject.ID + part(f.Subject)), "resource"}}}},
			Fingerprints: map[string]string{fingerprint: hash(keys[i])}, Baseline: baselineState(is[i]),
			Properties: map[string]any{"status": f.Status, "severity": f.Severity},
		}
		if at, ok := index[f.Rule]; ok {
			one.RuleIndex = &at
		}
		switch f.Status {
		case findings.Fail:
		case findings.Waived:
			one.Suppressions = []sarifSuppression{{"external", "accepted", visible(accepted(f.Waiver))}}
		case findings.Error, findings.Unknown:
			one.Kind, one.Level = "open", "none"
		case findings.NotApplicable:
			if is[i] != notApplicable {
				continue
			}
			one.Kind, one.Level = "notApplicable", "none"
		default:
			continue
		}
		run.Results = append(run.Results, one)
	}
	if r.Baseline != nil {
		run.absent(r, index)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

// baselineState is SARIF's word for what a finding is beside the baseline. What failed and
// can't be told any more is neither gone nor as it was.
func baselineState(change string) string {
	switch change {
	case notApplicable, "unclear":
		return "updated"
	}
	return change
}

// absent are the results of the baseline that are no more.
func (run *sarifRun) absent(r *audit.HostReport, index map[string]int) {
	gone := slices.Concat(r.Baseline.Fixed, r.Baseline.Gone)
	asFindings := make([]findings.Finding, len(gone))
	for i, c := range gone {
		asFindings[i] = findings.Finding{Rule: c.Rule, Subject: c.Subject}
	}
	for i, key := range audit.Keys(asFindings) {
		c := gone[i]
		one := sarifResult{
			RuleID: visible(c.Rule), Kind: "fail", Level: level(c.Severity), Message: sarifText{Text: visible(c.Title) + "."},
			Locations:    []sarifLocation{{[]sarifLogical{{line(c.Subject.String()), line(hostName(r) + "/" + c.Subject.ID + part(c.Subject)), "resource"}}}},
			Fingerprints: map[string]string{fingerprint: hash(key)}, Baseline: "absent",
			Properties: map[string]any{"severity": c.Severity},
		}
		if at, ok := index[c.Rule]; ok {
			one.RuleIndex = &at
		}
		run.Results = append(run.Results, one)
	}
}

func part(s findings.Subject) string {
	if s.Part == "" {
		return ""
	}
	return "/" + s.Part
}

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// level is SARIF's word for a severity.
func level(s findings.Severity) string {
	switch s {
	case findings.Critical:
		return "error"
	case findings.Warning:
		return "warning"
	}
	return "note"
}

// message is what a finding says in a sentence or two.
func message(f *findings.Finding) string {
	text := f.Subject.String() + ": " + f.Title
	if f.Seen != "" {
		text += ": " + f.Seen
	}
	if f.Expected != "" {
		text += " (expected: " + f.Expected + ")"
	}
	text += "."
	if f.Remedy != "" {
		text += " " + f.Remedy
	}
	return visible(text)
}

package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// The elements of a JUnit report, as Jenkins, GitLab, GitHub's actions and Azure read
// them (the schema of Jenkins' xUnit plugin, junit-10.xsd).
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Hostname  string      `xml:"hostname,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string       `xml:"name,attr"`
		Class   string       `xml:"classname,attr"`
		Time    string       `xml:"time,attr"`
		Failure *junitResult `xml:"failure"`
		Error   *junitResult `xml:"error"`
		Skipped *junitResult `xml:"skipped"`
	}
	junitResult struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes a test suite for each group of rules, and in it a test case for each
// rule and subject. What fails with less than the severity least is skipped, as what is
// unknown, waived or does not apply is: a test case that passes was judged, and passed.
// Cases go by what stays over renames (the PCI address and permanent MAC that baselines go
// by, too), so that CI knows them from one run to the next; the device's name is in what
// they say.
func JUnit(w io.Writer, r *audit.HostReport, least findings.Severity) error {
	all := junitSuites{Name: "nictune audit of " + line(hostName(r)), Time: "0"}
	at := map[string]int{}
	names := map[string]bool{}
	keys := audit.Keys(r.Findings)
	for i := range r.Findings {
		f := &r.Findings[i]
		name := group(f.Rule)
		j, ok := at[name]
		if !ok {
			j = len(all.Suites)
			at[name] = j
			all.Suites = append(all.Suites, junitSuite{
				Name: line(name), Time: "0", Timestamp: r.CollectedAt.UTC().Format("2006-01-02T15:04:05"), Hostname: line(hostName(r)),
			})
		}
		s := &all.Suites[j]
		c := junitCase{Name: line(strings.TrimPrefix(keys[i], f.Rule)), Class: line(strings.ReplaceAll(f.Rule, "/", ".")), Time: "0"}
		for names[c.Class+"\n"+c.Name] { // what tells them apart can't be seen
			c.Name += "'"
		}
		names[c.Class+"\n"+c.Name] = true
		switch {
		case f.Status == findings.Fail && f.Severity.AtLeast(least):
			c.Failure = &junitResult{Message: line(f.Subject.String() + ": " + string(f.Severity) + ": " + f.Title + ": " + f.Seen), Type: string(f.Severity), Text: visible(inWords(f))}
			s.Failures++
		case f.Status == findings.Fail:
			c.Skipped = &junitResult{Message: line(f.Subject.String() + ": " + string(f.Severity) + " only: " + f.Title + ": " + f.Seen)}
			s.Skipped++
		case f.Status == findings.Error:
			c.Error = &junitResult{Message: line(f.Subject.String() + ": " + f.Title + ": " + f.Seen), Type: "error", Text: visible(inWords(f))}
			s.Errors++
		case f.Status == findings.Waived:
			c.Skipped = &junitResult{Message: line(f.Subject.String() + ": " + accepted(f.Waiver) + ": " + f.Title + ": " + f.Seen)}
			s.Skipped++
		case f.Status != findings.Pass:
			c.Skipped = &junitResult{Message: line(f.Subject.String() + ": " + string(f.Status) + ": " + f.Seen)}
			s.Skipped++
		}
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	slices.SortFunc(all.Suites, func(a, b junitSuite) int { return strings.Compare(a.Name, b.Name) })
	for i, p := range r.Problems {
		if i == 0 {
			all.Suites = append(all.Suites, junitSuite{
				Name: "problems", Time: "0", Timestamp: r.CollectedAt.UTC().Format("2006-01-02T15:04:05"), Hostname: line(hostName(r)),
			})
		}
		s := &all.Suites[len(all.Suites)-1]
		s.Tests, s.Errors = s.Tests+1, s.Errors+1
		first, _, _ := strings.Cut(p, "\n")
		s.Cases = append(s.Cases, junitCase{Name: fmt.Sprintf("problem %d", i+1), Class: "problems", Time: "0", Error: &junitResult{Message: line(first), Type: "error", Text: visible(p)}})
	}
	for _, s := range all.Suites {
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// inWords is all that a finding says.
func inWords(f *findings.Finding) string {
	var b strings.Builder
	for _, part := range []struct{ label, text string }{
		{"rule", f.Rule}, {"device", f.Subject.String()}, {"subject", f.Subject.ID}, {"seen", f.Seen}, {"expected", f.Expected}, {"why", f.Why}, {"do", f.Remedy},
		{"waiver", accepted(f.Waiver)}, {"severity by", f.Policy},
	} {
		if part.text != "" {
			b.WriteString(part.label + ": " + part.text + "\n")
		}
	}
	return b.String()
}

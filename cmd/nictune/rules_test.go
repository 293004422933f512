package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
)

// ruleCases has recorded hosts on which rules are known to fire, and not to:
// docs/recordings.md, "Hosts for rules".
const ruleCases = "testdata/rules/"

// ruleCase is a recorded host of which a rule is known to say something.
type ruleCase struct {
	rule, subject string
	status        findings.Status
	// host is the recording's name, earlier that of one made before, if any.
	host, earlier string
	// edited says why the recording was changed by edits: what no device of the lab does.
	edited string
	edits  []edit
	// before are those of the earlier recording.
	before []edit
	// policies are what the command is told to obey or judge by.
	policies string
}

// edit changes one section of a recording.
type edit struct {
	section string
	lines   []string // as of a patch: "-" takes out, "+" puts in, " " stays, "..." is a gap
}

// ruleCasesOf reads the cases of a group.
func ruleCasesOf(t *testing.T, group string) []ruleCase {
	t.Helper()
	archive, err := txtar.ParseFile(ruleCases + group + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all []ruleCase
	for _, f := range archive.Files {
		words := strings.SplitN(f.Name, " ", 3)
		if len(words) != 3 {
			t.Fatalf("%s: %q is not \"RULE STATUS SUBJECT\"", group, f.Name)
		}
		c := ruleCase{rule: words[0], status: findings.Status(words[1]), subject: words[2]}
		var edits *[]edit
		for line := range strings.Lines(string(f.Data)) {
			line = strings.TrimSuffix(line, "\n")
			if section, is := strings.CutPrefix(line, "@@ "); is {
				edits = &c.edits
				if earlier, is := strings.CutPrefix(section, "earlier "); is {
					section, edits = earlier, &c.before
				}
				*edits = append(*edits, edit{section: section})
				continue
			}
			if edits != nil {
				last := &(*edits)[len(*edits)-1]
				last.lines = append(last.lines, line)
				continue
			}
			name, value, _ := strings.Cut(line, ": ")
			field, known := map[string]*string{"host": &c.host, "earlier": &c.earlier, "edited": &c.edited, "policies": &c.policies}[name]
			if !known {
				t.Fatalf("%s: %s: %q", group, f.Name, line)
			}
			*field = value
		}
		if (c.edited == "") != (len(c.edits)+len(c.before) == 0) {
			t.Fatalf("%s: %s: what is edited says why, and what says why is edited", group, f.Name)
		}
		all = append(all, c)
	}
	return all
}

// apply changes a recording, and is an error where it doesn't fit.
func apply(recording []byte, edits []edit) ([]byte, error) {
	archive := txtar.Parse(recording)
	for _, e := range edits {
		kind, name, _ := strings.Cut(e.section, " ")
		at := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == e.section || f.Name == name })
		switch {
		case kind == "new" && at < 0:
			text := ""
			for _, line := range e.lines {
				text += strings.TrimPrefix(line, "+") + "\n"
			}
			archive.Files = slices.Insert(archive.Files, len(archive.Files)-1, txtar.File{Name: name, Data: []byte(text)})
		case kind == "without" && at >= 0 && len(e.lines) == 0:
			archive.Files = slices.Delete(archive.Files, at, at+1)
		case at >= 0 && archive.Files[at].Name == e.section:
			data, err := e.apply(archive.Files[at].Data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.section, err)
			}
			archive.Files[at].Data = data
		default:
			return nil, fmt.Errorf("%s: the recording does not fit", e.section)
		}
	}
	return txtar.Format(archive), nil
}

// apply changes a section's text.
func (e edit) apply(data []byte) ([]byte, error) {
	text, from := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), 0
	for at := 0; at < len(e.lines); at++ {
		var is, shall []string
		for ; at < len(e.lines) && e.lines[at] != "..."; at++ {
			line := e.lines[at]
			switch {
			case strings.HasPrefix(line, " "):
				is, shall = append(is, line[1:]), append(shall, line[1:])
			case strings.HasPrefix(line, "-"):
				is = append(is, line[1:])
			case strings.HasPrefix(line, "+"):
				shall = append(shall, line[1:])
			default:
				return nil, fmt.Errorf("%q begins with none of \" -+\"", line)
			}
		}
		var found []int
		for i := from; len(is) > 0 && i+len(is) <= len(text); i++ {
			if slices.Equal(text[i:i+len(is)], is) {
				found = append(found, i)
			}
		}
		switch {
		case len(is) == 0 && from == 0:
			found = []int{len(text)} // at the end
		case len(is) == 0:
			found = []int{from}
		case len(found) == 0:
			return nil, fmt.Errorf("there is no %q", is[0])
		case len(found) > 1 && from == 0: // after a gap it is the next one
			return nil, fmt.Errorf("there are %d of %q", len(found), is[0])
		}
		text = slices.Replace(text, found[0], found[0]+len(is), shall...)
		from = found[0] + len(shall)
	}
	return []byte(strings.Join(text, "\n") + "\n"), nil
}

// rulesSaid is what nictune found on recorded hosts, by its arguments.
type rulesSaid map[string][]findings.Finding

// of runs nictune on the recordings of a case.
func (r rulesSaid) of(t *testing.T, c ruleCase) []findings.Finding {
	t.Helper()
	group, _, _ := strings.Cut(c.rule, "/")
	args := []string{"check", group, "--all"}
	switch {
	case group == "policy":
		args = []string{"audit", "--fail-on", "info"}
	case c.policies != "" && group != "sriov":
		args = []string{"check", "--all"}
	}
	args = append(args, "-o", "json", "--host", hostOf(t, c.host, c.edits))
	if c.earlier != "" {
		args = append(args, "--earlier", hostOf(t, c.earlier, c.before))
	}
	if c.policies != "" {
		args = append(args, "--policy", policiesAsOf(t, c.policies, time.Now()))
	}
	key := strings.Join(args, " ") // a file of a test's own is used once
	if known, ok := r[key]; ok {
		return known
	}
	stdout, stderr, exit := nictune(t, args...)
	var said struct{ Findings []findings.Finding }
	if err := json.Unmarshal([]byte(stdout), &said); err != nil {
		t.Fatalf("%v: exit %d, %s: %v", args, exit, stderr, err)
	}
	r[key] = said.Findings
	return said.Findings
}

// hostOf is the file with a recording, as edited.
func hostOf(t *testing.T, name string, edits []edit) string {
	t.Helper()
	file := ruleCases + "hosts/" + name + ".txtar.gz"
	if len(edits) == 0 {
		return file
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	recording, err := unzipped(packed)
	if err == nil {
		recording, err = apply(recording, edits)
	}
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), name+".txtar")
	if err := os.WriteFile(file, recording, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// policiesAsOf is a document whose days are counted from now: +7d is in a week.
func policiesAsOf(t *testing.T, name string, now time.Time) string {
	t.Helper()
	b, err := os.ReadFile(ruleCases + name)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.ReplaceAll(b, []byte("+7d"), []byte(now.Add(7*24*time.Hour).Format(time.DateOnly)))
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRulesOnRecordedHosts has a recorded host for each rule on which it fires and one on
// which it doesn't. nictune check reads them as it reads a user's.
func TestRulesOnRecordedHosts(t *testing.T) {
	missing := map[string]bool{}
	var groups []string
	for _, r := range audit.Rules() {
		missing[r.ID+" fail"], missing[r.ID+" pass"] = true, true
		if !slices.Contains(groups, r.Group()) {
			groups = append(groups, r.Group())
		}
	}
	said := rulesSaid{}
	for _, group := range groups {
		for _, c := range ruleCasesOf(t, group) {
			t.Run(strings.ReplaceAll(c.rule, "/", "_")+" "+string(c.status)+" "+c.subject, func(t *testing.T) {
				delete(missing, c.rule+" "+string(c.status))
				heard := "nothing"
				for _, f := range said.of(t, c) {
					subject := strings.TrimSpace(f.Subject.Name + " " + f.Subject.Part)
					if subject == "" {
						subject = "host"
					}
					if f.Rule != c.rule || subject != c.subject {
						continue
					}
					heard = fmt.Sprintf("%s: %s", f.Status, f.Seen)
					if f.Status == c.status {
						return
					}
				}
				t.Errorf("it says %s", heard)
			})
		}
	}
	for _, what := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s: no recorded host in %s", what, ruleCases)
	}
}

// A recording says where it comes from; what is changed in one is in the cases only.
func TestRuleHostsAreRecorded(t *testing.T) {
	files, err := filepath.Glob(ruleCases + "hosts/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		replay, err := openRecording("--host", file)
		if err != nil {
			t.Fatal(err)
		}
		if h := replay.Header(); h.Kernel == "" || h.Recorded.IsZero() || h.Nictune == "" {
			t.Errorf("%s: %+v", file, h)
		}
	}
}

func TestEdits(t *testing.T) {
	const recording = "nictune recording 1\n-- file /a --\n1\n2\n3\n2\n-- file /b --\nx\n-- end --\n"
	for _, c := range []struct {
		section, lines string
		want           string // or a part of the error
	}{
		{"file /a", "-1\n+7", "7\n2\n3\n2\n"},
		{"file /a", " 3\n-2\n+7", "1\n2\n3\n7\n"},
		{"file /a", " 1\n...\n-2\n+7\n...\n-2", "1\n7\n3\n"},
		{"file /a", "+7", "1\n2\n3\n2\n7\n"},
		{"new file /c", "+7", "-- file /c --\n7\n-- end --"},
		{"without file /a", "", "1\n-- file /b"},
		{"file /a", "-2\n+7", "there are 2"},
		{"file /a", "-4\n+7", "there is no"},
		{"file /a", " 3\n...\n-1", "there is no"},
		{"file /a", "=1", "begins with none of"},
		{"file /c", "-1", "does not fit"},
		{"new file /b", "+1", "does not fit"},
		{"without file /c", "", "does not fit"},
	} {
		e := edit{section: c.section}
		if c.lines != "" {
			e.lines = strings.Split(c.lines, "\n")
		}
		got, err := apply([]byte(recording), []edit{e})
		if text := fmt.Sprint(string(got), err); !strings.Contains(text, c.want) {
			t.Errorf("%s %q: %s", c.section, c.lines, text)
		}
	}
}

// Two recordings of a host are judged by what happened between them.
func TestEarlier(t *testing.T) {
	const hosts = ruleCases + "hosts/"
	stdout, stderr, exit := nictune(t, "check", "link", "igb1", "--host", hosts+"nics-later.txtar.gz", "--earlier", hosts+"nics-worn.txtar.gz")
	if exit != exitDifferences || !strings.Contains(stdout, "lost once within 2.") {
		t.Errorf("exit %d, %s\n%s", exit, stderr, stdout)
	}
	stdout, stderr, exit = nictune(t, "check", "queues", "pf0", "--host", hosts+"nics-later.txtar.gz", "--earlier", hosts+"nics-worn.txtar.gz")
	if exit != exitOK || !strings.HasPrefix(stdout, "2.15 seconds:") || stderr != "" {
		t.Errorf("exit %d, %s\n%s", exit, stderr, stdout)
	}
	identified := func(host, id string) string {
		return hostOf(t, host, []edit{
			{section: "without file error /etc/machine-id"}, {section: "new file /etc/machine-id", lines: []string{"+" + id}},
		})
	}
	cut := filepath.Join(t.TempDir(), "cut.txtar.gz")
	whole, err := os.ReadFile(hosts + "nics.txtar.gz")
	if err == nil {
		err = os.WriteFile(cut, whole[:len(whole)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	timeless := hostOf(t, "nics-worn", []edit{{section: "without file /proc/uptime"}})
	for _, c := range []struct{ host, earlier, why string }{
		{hosts + "nics-worn.txtar.gz", hosts + "nics-later.txtar.gz", "wrong order"},
		{hosts + "nics-later.txtar.gz", timeless, "/proc/uptime"},
		{identified("nics-later", "1"), identified("nics-worn", "2"), "two hosts"},
		{hosts + "nics-later.txtar.gz", cut, "unexpected EOF"},
		{hosts + "nics-later.txtar.gz", hosts + "none", "no such file"},
		{"", hosts + "nics-worn.txtar.gz", "--host"},
	} {
		stdout, stderr, exit := nictune(t, "check", "link", "--host", c.host, "--earlier", c.earlier)
		if exit != exitError || stdout != "" || !strings.Contains(stderr, c.why) {
			t.Errorf("%s, %s: exit %d, %s%s", c.host, c.earlier, exit, stdout, stderr)
		}
	}
}

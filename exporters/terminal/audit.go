package terminal

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// auditWidth is how wide lines of an audit are: what a rescue console shows.
const auditWidth = 80

// Audit writes an audit report for people: how it stands first, and then what fails,
// device by device, the worst first, with what to do.
func Audit(w io.Writer, r *audit.HostReport, s Screen) error {
	p := auditPage{w: w, color: s.Color, r: r, advised: map[string]string{}}
	p.summary()
	p.changes()
	for _, d := range devicesOf(r, findings.Fail) {
		p.device(d)
	}
	p.notJudged()
	p.waived()
	return p.err
}

// AuditSummary writes how it stands, and no more.
func AuditSummary(w io.Writer, r *audit.HostReport, s Screen) error {
	p := auditPage{w: w, color: s.Color, r: r}
	p.summary()
	return p.err
}

// auditPage is a report while it is written.
type auditPage struct {
	w     io.Writer
	err   error
	color bool
	r     *audit.HostReport
	// advised are the devices for which a remedy has been written.
	advised map[string]string
}

func (p *auditPage) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// wrapped writes text behind a label, on as many lines as it takes.
func (p *auditPage) wrapped(label, text string) {
	if p.err == nil {
		wrapTo(p.w, label, printable(text), auditWidth)
	}
}

// severity is a severity as a line begins with it. Colour is beside what is said.
func (p *auditPage) severity(s findings.Severity) string {
	text := fmt.Sprintf("%-8s", strings.ToUpper(string(s)))
	code := map[findings.Severity]string{findings.Critical: "1;31", findings.Warning: "33"}[s]
	if !p.color || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// summary says how the host stands.
func (p *auditPage) summary() {
	r := p.r
	head := printable(cmp.Or(r.Host.Name, "this host"))
	for _, fact := range []string{r.Host.Kernel, r.Host.Architecture} {
		if fact != "" {
			head += ", " + printable(fact)
		}
	}
	if vm := r.Host.VirtualMachine; vm != nil && *vm {
		head += ", a virtual machine"
	}
	p.printf("%s\n", head)
	about := fmt.Sprintf("%d devices, looked at %s", len(r.NICs), r.CollectedAt.UTC().Format("2006-01-02 15:04:05 UTC"))
	if r.WatchedSeconds > 0 {
		about += fmt.Sprintf(", watched for %s", time.Duration(r.WatchedSeconds*float64(time.Second)).Round(100*time.Millisecond))
	}
	p.printf("%s\n\n", about)
	severities := map[findings.Severity]int{}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Status == findings.Fail {
			severities[f.Severity]++
		}
	}
	var counts []string
	for _, s := range slices.Backward(findings.Severities()) {
		if n := severities[s]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	switch {
	case len(counts) > 0:
		p.wrapped("FAILS       ", strings.Join(counts, ", "))
	case r.Counts[findings.Pass] > 0:
		p.printf("NOTHING FAILS\n")
	default:
		p.printf("NOTHING WAS JUDGED\n")
	}
	for _, n := range []struct {
		label  string
		status findings.Status
		text   string
	}{
		{"ERROR       ", findings.Error, "%d could not be judged, since reading failed"},
		{"unknown     ", findings.Unknown, "%d could not be judged: the driver or kernel doesn't tell, or not to us"},
		{"waived      ", findings.Waived, "%d fail and were accepted"},
		{"passed      ", findings.Pass, "%d"},
	} {
		if count := r.Counts[n.status]; count > 0 {
			p.wrapped(n.label, fmt.Sprintf(n.text, count))
		}
	}
	p.drift()
	if d := r.Baseline; d != nil {
		text := fmt.Sprintf("%d new, %d fixed, %d unchanged", len(d.New), len(d.Fixed), len(d.Unchanged))
		switch n := len(d.NotApplicable); {
		case n == 1:
			text += ", 1 rule doesn't apply any more"
		case n > 1:
			text += fmt.Sprintf(", %d rules don't apply any more", n)
		}
		if n := len(d.Unclear); n > 0 {
			text += fmt.Sprintf(", %d can't be judged any more", n)
		}
		if n := len(d.Gone); n > 0 {
			text += fmt.Sprintf(", %d on what is gone", n)
		}
		p.wrapped("since       ", d.Since.UTC().Format("2006-01-02 15:04 UTC")+": "+text)
	}
	for _, problem := range r.Problems {
		label := "PROBLEM     "
		for text := range strings.Lines(problem) {
			p.wrapped(label, strings.TrimSpace(text))
			label = "            "
		}
	}
}

// drift counts what policies want.
func (p *auditPage) drift() {
	if p.r.Drift == nil {
		return
	}
	if len(p.r.Drift) == 0 {
		p.printf("policies    want nothing of this host\n")
		return
	}
	n := map[string]int{}
	for _, d := range p.r.Drift {
		n[d.Status]++
	}
	text := fmt.Sprintf("%d of %d settings as wanted", n[audit.AsWanted], len(p.r.Drift))
	for _, status := range []string{audit.Drifted, audit.Impossible, audit.Skipped, audit.Undecided} {
		if n[status] > 0 {
			text += fmt.Sprintf(", %d %s", n[status], status)
		}
	}
	p.wrapped("policies    ", text)
}

// changes lists what is no more, which nothing else says.
func (p *auditPage) changes() {
	d := p.r.Baseline
	if d == nil || len(d.Fixed)+len(d.NotApplicable)+len(d.Unclear)+len(d.Gone) == 0 {
		return
	}
	p.printf("\n")
	for _, list := range []struct {
		label   string
		changes []audit.Change
	}{{"FIXED     ", d.Fixed}, {"N/A NOW   ", d.NotApplicable}, {"UNCLEAR   ", d.Unclear}, {"GONE      ", d.Gone}} {
		for _, c := range list.changes {
			p.wrapped(list.label, c.Rule+" on "+c.Subject.String()+": "+c.Title)
		}
	}
}

// judgedDevice is a device with its findings.
type judgedDevice struct {
	subject  findings.Subject // without a part
	findings []*findings.Finding
}

// devicesOf are the devices with findings of a status: those with the gravest first.
func devicesOf(r *audit.HostReport, status findings.Status) []judgedDevice {
	var all []judgedDevice
	at := map[string]int{}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Status != status {
			continue
		}
		s := f.Subject
		s.Part = ""
		j, ok := at[s.String()]
		if !ok {
			j = len(all)
			at[s.String()] = j
			all = append(all, judgedDevice{subject: s})
		}
		all[j].findings = append(all[j].findings, f)
	}
	// Findings are sorted by severity, so the first of each device is its gravest, and
	// devices came in that order.
	slices.SortStableFunc(all, func(a, b judgedDevice) int {
		order := findings.Severities()
		return slices.Index(order, b.findings[0].Severity) - slices.Index(order, a.findings[0].Severity)
	})
	return all
}

// device writes what fails on one device.
func (p *auditPage) device(d judgedDevice) {
	p.printf("\n%s\n", printable(p.title(d.subject)))
	var before *findings.Finding
	for rest := d.findings; len(rest) > 0; {
		f, n := rest[0], 1
		parts := []string{}
		if f.Subject.Part != "" {
			parts = append(parts, f.Subject.Part)
		}
		for n < len(rest) && alike(f, rest[n]) {
			parts = append(parts, rest[n].Subject.Part)
			n++
		}
		p.finding(f, before, parts)
		before, rest = f, rest[n:]
	}
}

// alike reports whether findings differ in nothing but the part of the device.
func alike(a, b *findings.Finding) bool {
	return a.Rule == b.Rule && a.Severity == b.Severity && a.Seen == b.Seen && a.Expected == b.Expected && a.Remedy == b.Remedy && a.Subject.Part != "" && b.Subject.Part != ""
}

// title is a device in a line: eth0  igb  0000:01:00.0  1 of 10 Gb/s.
func (p *auditPage) title(s findings.Subject) string {
	if s.ID == "host" {
		return "the host itself"
	}
	i := slices.IndexFunc(p.r.NICs, func(n audit.NICSummary) bool {
		return s.Name != "" && n.Name == s.Name || s.Name == "" && n.ID == s.ID
	})
	if i < 0 {
		return cmp.Or(s.Name, s.PCIAddress, s.ID)
	}
	n := &p.r.NICs[i]
	words := []string{cmp.Or(n.Name, n.ID)}
	add := func(word string) {
		if word != "" && len([]rune(strings.Join(words, "  ")))+2+len([]rune(word)) <= auditWidth {
			words = append(words, word)
		}
	}
	if n.Kind == inventory.Virtual {
		add(n.Type)
	} else {
		add(n.Driver)
	}
	if n.PCI != nil {
		add(n.PCI.Address)
	}
	add(linkWords(&n.Link))
	if n.PCI != nil {
		add(n.PCI.Device)
	}
	return strings.Join(words, "  ")
}

// linkWords is a link in two or three words.
func linkWords(l *audit.LinkSummary) string {
	switch {
	case l.Admin == "down":
		return "set down"
	case l.Carrier != nil && !*l.Carrier:
		return "no carrier"
	case l.SpeedMbps != nil && l.MaxSpeedMbps != nil && *l.MaxSpeedMbps != *l.SpeedMbps:
		return gigabits(*l.SpeedMbps) + " of " + gigabits(*l.MaxSpeedMbps) + " Gb/s"
	case l.SpeedMbps != nil:
		return gigabits(*l.SpeedMbps) + " Gb/s"
	}
	return ""
}

func gigabits(mbps int) string { return fmt.Sprintf("%g", float64(mbps)/1000) }

// finding writes one: what is wrong, what was seen, what to do. What is for information
// is short, and has no advice but that for the device itself. Nor is said again what
// was said of the finding before.
func (p *auditPage) finding(f, before *findings.Finding, parts []string) {
	const indent = "            "
	short := f.Severity == findings.Info
	name := f.Rule
	if p.isNew(f) {
		name = "NEW " + name
	}
	again := before != nil && before.Rule == f.Rule && before.Severity == f.Severity && p.isNew(before) == p.isNew(f)
	if !again {
		p.printf("  %s  %s\n", p.severity(f.Severity), printable(name))
		p.wrapped(indent, f.Title)
	}
	if len(parts) > 0 {
		p.wrapped(indent+"on        ", partsInWords(parts))
	}
	p.wrapped(indent+"seen      ", f.Seen)
	if f.Expected != "" && !short && !(again && before.Expected == f.Expected) {
		p.wrapped(indent+"expected  ", f.Expected)
	}
	switch told := p.advised[f.Rule+"\n"+f.Remedy]; {
	case f.Remedy == "" || short && !f.Exact:
	case again && before.Remedy == f.Remedy:
	case told != "":
		p.wrapped(indent+"do        ", "as for "+told)
	default:
		p.wrapped(indent+"do        ", f.Remedy)
		p.advised[f.Rule+"\n"+f.Remedy] = cmp.Or(f.Subject.Name, f.Subject.String())
	}
	if f.Policy != "" {
		p.wrapped(indent+"severity  ", "by "+f.Policy)
	}
	if v := f.Waiver; v != nil {
		p.wrapped(indent+"WAIVER    ", "expired after "+v.Expires+": "+v.Reason+" ("+v.Owner+", "+v.Policy+")")
	}
}

func (p *auditPage) isNew(f *findings.Finding) bool {
	d := p.r.Baseline
	return d != nil && slices.ContainsFunc(d.New, func(c audit.Change) bool { return c.Rule == f.Rule && c.Subject == f.Subject })
}

// partsInWords is "vf 0, 1, 2" for parts that begin with one word.
func partsInWords(parts []string) string {
	first, _, _ := strings.Cut(parts[0], " ")
	text := parts[0]
	for _, part := range parts[1:] {
		word, rest, ok := strings.Cut(part, " ")
		if ok && word == first {
			part = rest
		}
		text += ", " + part
	}
	return text
}

// notJudged writes what could not be read, once for each device and reason.
func (p *auditPage) notJudged() {
	all := devicesOf(p.r, findings.Error)
	if len(all) == 0 {
		return
	}
	p.printf("\nCOULD NOT BE JUDGED\n")
	for _, d := range all {
		rules := map[string][]string{}
		var causes []string
		for _, f := range d.findings {
			if rules[f.Seen] == nil {
				causes = append(causes, f.Seen)
			}
			rules[f.Seen] = append(rules[f.Seen], f.Rule)
		}
		for _, cause := range causes {
			p.wrapped("  "+printable(d.subject.String())+"  ", cause)
			p.wrapped("            for ", strings.Join(rules[cause], ", "))
		}
	}
}

// waived writes what was accepted, once for each waiver, with the devices.
func (p *auditPage) waived() {
	if p.r.Counts[findings.Waived] == 0 {
		return
	}
	type accepted struct {
		rule   string
		waiver findings.Waiver
	}
	var order []accepted
	on := map[accepted][]string{}
	for i := range p.r.Findings {
		f := &p.r.Findings[i]
		if f.Status != findings.Waived || f.Waiver == nil {
			continue
		}
		a := accepted{f.Rule, *f.Waiver}
		if on[a] == nil {
			order = append(order, a)
		}
		on[a] = append(on[a], f.Subject.String())
	}
	p.printf("\nWAIVED\n")
	for _, a := range order {
		p.wrapped("  ", a.rule+" on "+strings.Join(on[a], ", "))
		p.wrapped("            ", fmt.Sprintf("until %s, %s: %s", a.waiver.Expires, a.waiver.Owner, a.waiver.Reason))
	}
}

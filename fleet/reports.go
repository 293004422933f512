package fleet

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// extensions are those of the files that are read of a folder, also with packing behind
// them; of files that are named, any is read.
var (
	extensions = []string{".json", ".jsonl", ".ndjson"}
	packing    = []string{".gz", ".zst"}
)

// readable reports whether a file of a folder is one to read by its name.
func readable(name string) bool {
	name = strings.ToLower(name)
	for _, p := range packing {
		name = strings.TrimSuffix(name, p)
	}
	return slices.Contains(extensions, filepath.Ext(name))
}

// ReadReports adds the audit reports of files and folders, and of standard input for
// "-". A file holds one report, or several one after the other, in lines or not, as
// they are or packed by gzip or zstd. Of a folder the files are read whose names end in
// .json, .jsonl or .ndjson (and .gz or .zst), those of folders in it, too; hidden ones are not, since
// a file that is still being copied is often named so.
//
// A report is held in memory only while it is read. What is wrong with a file or a
// report is a problem of the fleet's report. An error says that there is nothing at a
// path, or that the context ended.
func ReadReports(ctx context.Context, a *Aggregate, paths []string, stdin io.Reader) error {
	for _, path := range paths {
		if path == "-" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := min(runtime.GOMAXPROCS(0), mostWorkers)
	r := &reader{
		ctx: ctx, stdin: stdin, jobs: make(chan job), results: make(chan result, workers), free: make(chan []byte, workers+1),
	}
	for range cap(r.free) {
		r.free <- nil
	}
	var working sync.WaitGroup
	for range workers {
		working.Go(r.work)
	}
	go func() {
		for _, path := range paths {
			r.read(path)
		}
		close(r.jobs)
		working.Wait()
		close(r.results)
	}()
	for {
		select {
		case <-ctx.Done():
			// Who waits for input that doesn't come is left waiting.
			return context.Cause(ctx)
		case result, ok := <-r.results:
			switch {
			case !ok:
				return context.Cause(ctx)
			case result.problem != nil:
				a.Problem(*result.problem)
			default:
				if err := a.Add(result.host); err != nil {
					return err
				}
			}
		}
	}
}

// mostWorkers is how many reports are decoded at once at most: one goroutine finds where
// they end, and is not faster than so many.
const mostWorkers = 4

// reader reads files and hands what is in them to workers.
type reader struct {
	ctx     context.Context
	stdin   io.Reader
	jobs    chan job
	results chan result
	free    chan []byte // buffers for pieces: as many as can be in work
}

// job is a piece of input that should be a report, and what is wrong with it already.
type job struct {
	piece  []byte
	source string
	err    error
}

type result struct {
	host    *Host
	problem *Problem
}

// send hands over a result, as long as somebody waits for it.
func (r *reader) send(done result) {
	select {
	case r.results <- done:
	case <-r.ctx.Done():
	}
}

// problem says what is wrong with an input.
func (r *reader) problem(p Problem) { r.send(result{problem: &p}) }

// read reads a file, all that is in a folder, or standard input.
func (r *reader) read(path string) {
	if path == "-" {
		r.stream("-", r.stdin)
		return
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		r.folder(path)
		return
	}
	if err == nil {
		err = r.file(path)
	}
	if err != nil {
		r.problem(Problem{Kind: Unreadable, Source: path, Detail: reasonOf(err)})
	}
}

// reasonOf is an error without the path that is said beside it.
func reasonOf(err error) string {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err.Error()
	}
	return err.Error()
}

func (r *reader) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	r.stream(path, f)
	return f.Close()
}

// folder reads the files of a folder in whatever order it has them, some at a time:
// a list of all would grow with the fleet.
func (r *reader) folder(path string) {
	dir, err := os.Open(path)
	if err != nil {
		r.problem(Problem{Kind: Unreadable, Source: path, Detail: reasonOf(err)})
		return
	}
	defer dir.Close()
	for r.ctx.Err() == nil {
		entries, err := dir.ReadDir(256)
		for _, e := range entries {
			name := filepath.Join(path, e.Name())
			switch {
			case strings.HasPrefix(e.Name(), "."):
			case e.IsDir():
				r.folder(name)
			case !readable(e.Name()):
				r.problem(Problem{Kind: PassedOver, Source: name, Detail: "its name ends in none of " + strings.Join(extensions, ", ") + ", with or without " + strings.Join(packing, " or ")})
			case e.Type().IsRegular(), e.Type()&fs.ModeSymlink != 0 && isRegular(name):
				if err := r.file(name); err != nil {
					r.problem(Problem{Kind: Unreadable, Source: name, Detail: reasonOf(err)})
				}
			default:
				r.problem(Problem{Kind: Unreadable, Source: name, Detail: "it is neither a file nor a folder"})
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.problem(Problem{Kind: Unreadable, Source: path, Detail: reasonOf(err)})
			return
		}
	}
}

// isRegular reports whether a link leads to a file.
func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// maxWindow is how far back what is packed by zstd may refer: that of zstd --ultra. What
// needs more (zstd --long=31) is refused.
const maxWindow = 128 << 20

// stream hands out the reports of one input.
func (r *reader) stream(name string, input io.Reader) {
	buffered := bufio.NewReaderSize(input, 64<<10)
	source := io.Reader(buffered)
	switch magic, _ := buffered.Peek(4); {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unpacked, err := gzip.NewReader(buffered)
		if err != nil {
			r.problem(Problem{Kind: Truncated, Source: name, Detail: "gzip: " + err.Error()})
			return
		}
		source = unpacked
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		unpacked, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			r.problem(Problem{Kind: Truncated, Source: name, Detail: "zstd: " + err.Error()})
			return
		}
		defer unpacked.Close()
		source = unpacked
	}
	s := newSplitter(source)
	for n := 1; r.ctx.Err() == nil; n++ {
		piece, err := s.next()
		if errors.Is(err, io.EOF) {
			if n == 1 {
				r.problem(Problem{Kind: Truncated, Source: name, Detail: "it is empty"})
			}
			return
		}
		j := job{source: name, err: err}
		if n > 1 {
			j.source += "#" + strconv.Itoa(n)
		}
		if piece == nil {
			r.problem(Problem{Kind: Unreadable, Source: name, Detail: err.Error()})
			continue
		}
		var buffer []byte
		select {
		case buffer = <-r.free:
		case <-r.ctx.Done():
			return
		}
		j.piece = append(buffer[:0], piece...)
		r.jobs <- j
	}
}

// work decodes what is handed out.
func (r *reader) work() {
	for j := range r.jobs {
		var done result
		if h, problem := decode(j.piece, j.source, j.err); problem != nil {
			done.problem = problem
		} else {
			done.host = h
		}
		r.send(done)
		if cap(j.piece) > roomKept {
			j.piece = nil
		}
		r.free <- j.piece
	}
}

// document is an [audit.HostReport], of which findings are counted as they are read, and
// what is not needed is passed over.
type document struct {
	audit.HostReport
	Findings *judged `json:"findings"`
	Rules    skipped `json:"rules"`
	Baseline skipped `json:"baseline"`
}

// skipped is a value that nobody asks for.
type skipped struct{}

// UnmarshalJSONFrom reads over the value.
func (skipped) UnmarshalJSONFrom(d *jsontext.Decoder) error { return d.SkipValue() }

// options are those of a reader that has no say in what is written: text that is no
// UTF-8 is replaced, and of two fields with one name the last is taken.
func options() json.Options {
	return json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// decode makes a host of one report.
func decode(piece []byte, source string, err error) (*Host, *Problem) {
	wrong := func(kind ProblemKind, detail string) (*Host, *Problem) {
		return nil, &Problem{Kind: kind, Source: source, Host: hostOf(piece), Detail: detail}
	}
	switch {
	case errors.Is(err, errTruncated):
		return wrong(Truncated, err.Error())
	case errors.Is(err, errTooLarge):
		return wrong(TooLarge, err.Error())
	case err != nil:
		return wrong(Malformed, err.Error()+": "+strconv.QuoteToASCII(string(piece[:min(len(piece), 40)])))
	}
	if err := audit.CheckDensity(piece); err != nil {
		return wrong(Malformed, err.Error())
	}
	var d document
	failed := json.Unmarshal(piece, &d, options())
	if failed != nil {
		// What another document calls its fields may well be of other types.
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if json.Unmarshal(piece, &head, options()) == nil {
			d.APIVersion, d.Kind = head.APIVersion, head.Kind
		}
	}
	switch {
	case d.Kind == audit.Kind:
		return wrong(WrongKind, "kind "+d.Kind+", wanted "+audit.HostKind+": nictune audit -o json writes it, nictune check does not")
	case d.Kind != "" && d.Kind != audit.HostKind:
		return wrong(WrongKind, "kind "+d.Kind+", wanted "+audit.HostKind)
	case d.APIVersion != "" && d.APIVersion != inventory.APIVersion:
		return wrong(NewerVersion, "apiVersion "+d.APIVersion+", this nictune reads "+inventory.APIVersion)
	case failed != nil:
		return wrong(Malformed, failed.Error())
	case d.Kind == "" || d.APIVersion == "":
		return wrong(WrongKind, "it does not say kind and apiVersion: no report of nictune audit")
	case d.Findings == nil || d.NICs == nil:
		return wrong(Malformed, "it has no list of findings, or none of NICs")
	}
	if err := d.Findings.agree(d.Counts); err != nil {
		return wrong(Malformed, err.Error())
	}
	h := hostFrom(&d.HostReport, d.Findings)
	h.Source = source
	return h, nil
}

// hostOf finds the host's name in a report that can't be read to its end.
func hostOf(piece []byte) string {
	d := jsontext.NewDecoder(bytes.NewReader(piece), options())
	if d.PeekKind() != jsontext.KindBeginObject {
		return ""
	}
	for _, err := d.ReadToken(); err == nil && d.PeekKind() == jsontext.KindString; {
		var key jsontext.Token
		key, err = d.ReadToken()
		if err == nil && key.String() == "host" {
			var host struct {
				Name string `json:"name"`
			}
			if json.UnmarshalDecode(d, &host) != nil {
				return ""
			}
			return clip(host.Name)
		}
		if err == nil {
			err = d.SkipValue()
		}
	}
	return ""
}

// judged are a host's findings, counted.
type judged struct {
	verdicts map[Verdict]int
	waivers  map[Waiver]int
	findings []Finding
}

// UnmarshalJSONFrom counts the findings of a list.
func (j *judged) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if kind := d.PeekKind(); kind != jsontext.KindBeginArray {
		return fmt.Errorf("findings are no list, but %s", kind)
	}
	_, err := d.ReadToken()
	var f findings.Finding
	for err == nil && d.PeekKind() != jsontext.KindEndArray {
		f = findings.Finding{}
		if err = json.UnmarshalDecode(d, &f); err == nil {
			j.add(&f)
		}
	}
	if err == nil {
		_, err = d.ReadToken()
	}
	return err
}

func (j *judged) add(f *findings.Finding) {
	if j.verdicts == nil {
		j.verdicts, j.waivers = map[Verdict]int{}, map[Waiver]int{}
	}
	j.verdicts[Verdict{Rule: f.Rule, Severity: f.Severity, Status: f.Status}]++
	if w := f.Waiver; w != nil {
		j.waivers[Waiver{Rule: f.Rule, Owner: w.Owner, Reason: w.Reason, Expires: w.Expires}]++
	}
	switch f.Status {
	case findings.Pass, findings.NotApplicable, findings.Unknown:
	default:
		j.findings = append(j.findings, Finding{
			Rule: f.Rule, Severity: f.Severity, Status: f.Status, NIC: f.Subject.ID,
			Device: cmp.Or(f.Subject.Name, f.Subject.PCIAddress), Part: f.Subject.Part, Title: f.Title, Seen: f.Seen,
		})
	}
}

// agree holds the findings against what the report counts itself: findings that were cut
// out are not taken for findings that there never were.
func (j *judged) agree(counts map[findings.Status]int) error {
	listed := map[findings.Status]int{}
	for v, n := range j.verdicts {
		listed[v.Status] += n
	}
	for _, of := range [...]map[findings.Status]int{counts, listed} {
		for _, status := range slices.Sorted(maps.Keys(of)) {
			if counts[status] != listed[status] {
				return fmt.Errorf("it counts %d findings of status %s and lists %d", counts[status], status, listed[status])
			}
		}
	}
	return nil
}

// FromReport is what a fleet's report takes of a host's own.
func FromReport(r *audit.HostReport) *Host {
	var j judged
	for i := range r.Findings {
		j.add(&r.Findings[i])
	}
	return hostFrom(r, &j)
}

// hostFrom is the same with findings that are counted already.
func hostFrom(r *audit.HostReport, j *judged) *Host {
	h := &Host{
		Name: r.Host.Name, MachineID: r.Host.MachineID, CollectedAt: r.CollectedAt, Version: r.Version,
		Kernel: r.Host.Kernel, VirtualMachine: r.Host.VirtualMachine, Findings: j.findings, Problems: r.Problems,
	}
	for v, n := range j.verdicts {
		v.Subjects = n
		h.Verdicts = append(h.Verdicts, v)
	}
	slices.SortFunc(h.Verdicts, func(a, b Verdict) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Status, b.Status))
	})
	waivers := maps.Clone(j.waivers)
	if waivers == nil {
		waivers = map[Waiver]int{}
	}
	for i := range r.Waivers { // those that no finding names, too
		w := &r.Waivers[i]
		waivers[Waiver{Rule: w.Rule, Owner: w.Owner, Reason: w.Reason, Expires: w.Expires}] += 0
	}
	h.Waivers = waiversOf(waivers)
	for i := range r.NICs {
		if n := &r.NICs[i]; n.Kind != inventory.Virtual {
			h.NICs = append(h.NICs, nicOf(n))
		}
	}
	if r.Drift != nil {
		h.Drift = []Drift{}
	}
	for _, d := range r.Drift {
		h.Drift = append(h.Drift, Drift{Policy: d.Policy, NIC: d.NIC, Device: d.Name, Setting: d.Setting, Status: d.Status})
	}
	return h
}

// nicOf is what is taken of a NIC.
func nicOf(n *audit.NICSummary) NIC {
	nic := NIC{
		ID: n.ID, Device: n.Name, Kind: string(n.Kind), Driver: n.Driver, DriverVersion: n.DriverVersion, Firmware: n.Firmware,
		Carrier: n.Link.Carrier, SpeedMbps: n.Link.SpeedMbps, MaxSpeedMbps: n.Link.MaxSpeedMbps, Downs: n.Link.Downs,
		Readiness: n.Readiness,
	}
	if p := n.PCI; p != nil {
		nic.Address, nic.Model, nic.PhysicalFunction = p.Address, modelOf(p), p.PhysicalFunction
		if p.Link != nil && p.Link.Current != nil && p.Link.Maximum != nil {
			nic.PCIe = &PCIe{p.Link.Current.GTs, p.Link.Maximum.GTs, p.Link.Current.Width, p.Link.Maximum.Width}
		}
	}
	if n.Module != nil && len(n.Module.Doubts) == 0 {
		nic.Optics = opticsOf(n.Module)
	}
	if n.SRIOV != nil {
		nic.VFs = vfsOf(n.SRIOV)
	}
	return nic
}

// modelOf is what a NIC is called by what made it, as the label model of nictune_nic_info
// has it: the names of vendor and device, or "8086:1592" where they are not known.
func modelOf(p *audit.PCISummary) string {
	switch {
	case p.Device != "":
		return strings.TrimSpace(p.Vendor + " " + p.Device)
	case p.VendorID != "":
		return p.VendorID + ":" + p.DeviceID
	}
	return ""
}

// opticsOf are the quantities of a module, each by the lane that is nearest to a
// threshold.
func opticsOf(m *audit.ModuleBrief) []Optic {
	var all []Optic
	for i := range m.Measured {
		o, ok := NewOptic(&m.Measured[i])
		if !ok {
			continue
		}
		o.Vendor, o.PartNumber, o.SerialNumber = m.Vendor, m.PartNumber, m.SerialNumber
		at := slices.IndexFunc(all, func(other Optic) bool { return other.Quantity == o.Quantity })
		switch {
		case at < 0:
			all = append(all, o)
		case o.nearer(&all[at]):
			all[at] = o
		}
	}
	return all
}

// NewOptic is one value beside its thresholds, and whether there is anything to say of
// it: no thresholds, nothing to say.
func NewOptic(m *audit.Measured) (Optic, bool) {
	o := Optic{Quantity: m.Quantity, Lane: m.Lane, Value: m.Value, Unit: m.Unit, Verdict: m.Verdict}
	if m.Margins != nil && m.Value != nil {
		low, high := m.Margins.LowWarning, m.Margins.HighWarning
		if low == nil {
			low = m.Margins.LowAlarm
		}
		if high == nil {
			high = m.Margins.HighAlarm
		}
		switch {
		case low != nil && high != nil:
			least := rounded(min(*low, *high), 6)
			o.Margin = &least
			if between := *low + *high; between > 0 {
				room := rounded(min(*low, *high)/between, 4)
				o.Room = &room
			}
		case low != nil:
			o.Margin = low
		case high != nil:
			o.Margin = high
		}
	}
	return o, o.Margin != nil || o.Verdict != ""
}

// nearer reports whether o is nearer to a threshold than another of its quantity.
func (o *Optic) nearer(other *Optic) bool {
	return compareOptics(OpticRow{Optic: *o}, OpticRow{Optic: *other}) < 0
}

// vfsOf counts virtual functions.
func vfsOf(s *audit.SRIOVSummary) *VFs {
	v := &VFs{Enabled: s.NumVFs, Total: s.TotalVFs}
	if s.NumVFs == nil || len(s.VFs) == 0 && *s.NumVFs > 0 {
		return v // how they are used is not known
	}
	used, known := 0, len(s.VFs) >= *s.NumVFs
	groups := map[int][]int{}
	for _, vf := range s.VFs {
		if len(vf.Users) > 0 {
			used++
		} else if vf.UsersUnread != "" {
			known = false
		}
		if v.Drivers == nil {
			v.Drivers = map[string]int{}
		}
		v.Drivers[vf.Driver]++
		if vf.IOMMU != nil && vf.IOMMU.Shared {
			groups[vf.IOMMU.Group] = append(groups[vf.IOMMU.Group], vf.Index)
		}
	}
	if known {
		v.Used = &used
	}
	for group, vfs := range groups {
		slices.Sort(vfs)
		v.Shared = append(v.Shared, SharedGroup{group, vfs})
	}
	slices.SortFunc(v.Shared, func(a, b SharedGroup) int { return cmp.Compare(a.Group, b.Group) })
	return v
}

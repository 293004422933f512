package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/inventory"
)

// MaxHostReport is how large a report may be, in bytes, whoever reads it. That of a host
// with four ports and 64 VFs has half a megabyte, that of one with 4,000 devices a third
// of this.
const MaxHostReport = 256 << 20

// What a report may hold at most: more is no host, or somebody's joke.
const (
	maxFindings = 1 << 20
	maxNICs     = 1 << 16
)

// ErrHostReport is the error of what is no whole report of a host.
var ErrHostReport = errors.New("no audit report")

// ReadHostReport reads one report: as JSON, with nothing behind it.
func ReadHostReport(r io.Reader) (*HostReport, error) {
	data, err := readAtMost(r, MaxHostReport)
	if err != nil {
		return nil, err
	}
	return ParseHostReport(data)
}

// readAtMost reads what there is, if it is no more than a limit.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = tooLong(limit)
	}
	return data, err
}

func tooLong(limit int64) error {
	return fmt.Errorf("%w: more than %d MiB", ErrHostReport, limit>>20)
}

// CheckDensity is an error where JSON has more objects than a report of its length can have. Two
// bytes of it can become hundreds in memory: [{},{},{}]. Of a real report an object has
// some 150 bytes of text.
func CheckDensity(data []byte) error {
	objects := bytes.Count(data, []byte("{")) + bytes.Count(data, []byte("null"))
	if objects > 1000+len(data)/32 {
		return fmt.Errorf("%d objects in %d bytes", objects, len(data))
	}
	return nil
}

// ParseHostReport reads one report. It takes nothing on trust: a report that is cut
// short, contradicts itself or says what this version has no word for is an error, and
// never a report with less in it. Fields that it doesn't know are left out, since a
// newer nictune may have added some.
func ParseHostReport(data []byte) (*HostReport, error) {
	if len(data) > MaxHostReport {
		return nil, tooLong(MaxHostReport)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrHostReport)
	}
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) || bytes.HasPrefix(data, []byte("\x28\xb5\x2f\xfd")) {
		return nil, fmt.Errorf("%w: it is packed with gzip or zstd: unpack it first", ErrHostReport)
	}
	if err := CheckDensity(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHostReport, err)
	}
	r := &HostReport{}
	err := json.Unmarshal(data, r)
	head := struct{ APIVersion, Kind string }{r.APIVersion, r.Kind}
	if err != nil {
		// What kind it is of says more than which of its fields doesn't fit.
		if other := json.Unmarshal(data, &head); other != nil {
			return nil, fmt.Errorf("%w: %w%s", ErrHostReport, inWords(other), whereIn(data, other))
		}
	}
	switch {
	case head.Kind != HostKind:
		return nil, fmt.Errorf("%w: it says that it is of kind %.40q, not %s: nictune audit -o json writes one", ErrHostReport, head.Kind, HostKind)
	case head.APIVersion != inventory.APIVersion:
		return nil, fmt.Errorf("%w: its version is %.40q, and this nictune reads %s", ErrHostReport, head.APIVersion, inventory.APIVersion)
	case err != nil:
		return nil, fmt.Errorf("%w: %w%s", ErrHostReport, inWords(err), whereIn(data, err))
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHostReport, err)
	}
	return r, nil
}

// inWords says of a value that is of another type what it is, without the names that
// types have here.
func inWords(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &kind):
		return err
	case kind.Field == "":
		return fmt.Errorf("it is a JSON %s, and a report is an object", kind.Value)
	}
	return fmt.Errorf("%s can't be a JSON %s", kind.Field, kind.Value)
}

// whereIn tells the line of an error in JSON.
func whereIn(data []byte, err error) string {
	var offset int64
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	if offset <= 0 || offset > int64(len(data)) {
		return ""
	}
	if offset == int64(len(data)) {
		return fmt.Sprintf(" (after %d bytes: it was cut short)", offset)
	}
	return fmt.Sprintf(" (line %d)", 1+bytes.Count(data[:offset], []byte("\n")))
}

// check holds a report against itself.
func (r *HostReport) check() error {
	switch {
	case r.CollectedAt.IsZero():
		return errors.New("it doesn't say when it was collected")
	case r.Findings == nil:
		return errors.New("it has no list of findings")
	case len(r.Findings) > maxFindings:
		return fmt.Errorf("%d findings", len(r.Findings))
	case len(r.NICs) > maxNICs:
		return fmt.Errorf("%d NICs", len(r.NICs))
	case r.WatchedSeconds < 0:
		return fmt.Errorf("it was watched for %g seconds", r.WatchedSeconds)
	}
	for i := range r.Findings {
		if err := checkFinding(&r.Findings[i]); err != nil {
			return fmt.Errorf("finding %d: %w", i+1, err)
		}
	}
	counted := countsOf(r.Findings)
	for _, status := range findings.Statuses() {
		if counted[status] != r.Counts[status] {
			return fmt.Errorf("it counts %d findings of status %s and lists %d", r.Counts[status], status, counted[status])
		}
	}
	for _, about := range r.Rules {
		if !slices.Contains(findings.Severities(), about.Severity) {
			return fmt.Errorf("rule %.80q has the unknown severity %.40q", about.ID, about.Severity)
		}
	}
	for i := range r.NICs {
		n := &r.NICs[i]
		if n.ID == "" {
			return fmt.Errorf("NIC %d has no id", i+1)
		}
		for profile, answer := range n.Readiness {
			if answer != Ready && answer != NotReady && answer != ReadyUnknown {
				return fmt.Errorf("NIC %.80q: for %.40q it is %.40q", n.ID, profile, answer)
			}
		}
		if l := &n.Link; negative(l.SpeedMbps) || negative(l.MaxSpeedMbps) {
			return fmt.Errorf("NIC %.80q has a speed below zero", n.ID)
		}
	}
	for i := range r.Drift {
		switch d := &r.Drift[i]; {
		case d.NIC == "" || d.Policy == "":
			return fmt.Errorf("drift %d names no policy or no NIC", i+1)
		case d.Status != AsWanted && d.Status != Drifted && d.Status != Impossible && d.Status != Skipped && d.Status != Undecided:
			return fmt.Errorf("drift %d has the unknown status %.40q", i+1, d.Status)
		}
	}
	return nil
}

func negative(n *int) bool { return n != nil && *n < 0 }

func checkFinding(f *findings.Finding) error {
	switch {
	case f.Rule == "" || strings.ContainsAny(f.Rule, " \t\r\n"):
		return fmt.Errorf("%.80q is no rule", f.Rule)
	case f.Subject.ID == "":
		return fmt.Errorf("%.80s names no subject", f.Rule)
	case !slices.Contains(findings.Statuses(), f.Status):
		return fmt.Errorf("%.80s has the unknown status %.40q", f.Rule, f.Status)
	case !slices.Contains(findings.Severities(), f.Severity):
		return fmt.Errorf("%.80s has the unknown severity %.40q", f.Rule, f.Severity)
	case f.Status == findings.Waived && (f.Waiver == nil || f.Waiver.Expired):
		return fmt.Errorf("%.80s is waived without a waiver that holds", f.Rule)
	}
	return nil
}

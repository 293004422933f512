package xdpcheck

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Table is what is known of drivers: which kernel was the first with what, what
// has to be so, and what attaching does. drivers.yaml holds it, with the source of
// each claim; drivers.json is made from that, since it takes a hundredth of the time
// to read (go generate).
type Table struct {
	// Version is that of the form, Read the last kernel that was read for it.
	Version int      `json:"version"`
	Read    Release  `json:"read"`
	Drivers []Driver `json:"drivers"`
}

// Driver is one driver, by the names that ethtool -i has for it.
type Driver struct {
	Names       []string  `json:"driver"`
	Title       string    `json:"name"`
	Native      Support   `json:"native"`
	Redirect    Support   `json:"redirect"`
	Xmit        Support   `json:"xmit"`
	ZeroCopy    Support   `json:"zero-copy"`
	MultiBuffer Support   `json:"multi-buffer"`
	Offload     Support   `json:"offload"`
	MTU         *MTU      `json:"mtu"`
	Attach      *Attach   `json:"attach"`
	Blockers    []Blocker `json:"blockers"`
	// ZeroCopyBlockers are in the way of AF_XDP without copying only.
	ZeroCopyBlockers []Blocker `json:"zero-copy-blockers"`
	Notes            []string  `json:"notes"`
}

// Support says which mainline kernels have something. Empty, nobody looked.
type Support struct {
	None      bool    `json:"none"`
	Since     Release `json:"since"`
	Seen      Release `json:"seen"`
	Absent    Release `json:"absent"`
	Announced Release `json:"announced"`
	// Quiet is set where the driver has it and never says so.
	Quiet bool `json:"quiet"`
	// When is "attached" for what a device tells only while a program is attached.
	When   string `json:"when"`
	Source string `json:"source"`
}

// MTU is the largest one for programs that take packets of one buffer.
type MTU struct {
	Formula    Formula `json:"formula"`
	LargePages Formula `json:"large-pages"`
	WithFlag   *struct {
		Flag    string  `json:"flag"`
		Formula Formula `json:"formula"`
	} `json:"with-flag"`
	// Of is "peer" where the MTU of a veth's other end counts.
	Of     string `json:"of"`
	Source string `json:"source"`
}

// Attach is what attaching the first program does.
type Attach struct {
	// Impact is "seamless", "link-flap" or "nic-reset", as of nictune apply.
	Impact string `json:"impact"`
	Does   string `json:"does"`
	Source string `json:"source"`
}

// Blocker is a state in which a driver takes no program. drivers.yaml lists the
// kinds and effects.
type Blocker struct {
	Kind    string  `json:"kind"`
	Feature string  `json:"feature"`
	Value   uint32  `json:"value"`
	Effect  string  `json:"effect"`
	Seen    Release `json:"seen"`
	Absent  Release `json:"absent"`
	Source  string  `json:"source"`
}

//go:embed drivers.json
var drivers []byte

// KnownDrivers is the table that the program was built with.
var KnownDrivers = sync.OnceValue(func() *Table {
	t, err := ParseTable(drivers)
	if err != nil {
		return &Table{} // a test sees to it that this is never so
	}
	return t
})

// ParseTable reads a table in its JSON form. Unknown fields are errors.
func ParseTable(data []byte) (*Table, error) {
	t := &Table{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("table of drivers: %w", err)
	}
	if t.Version != 1 {
		return nil, fmt.Errorf("table of drivers: version %d, not 1", t.Version)
	}
	return t, nil
}

// Driver finds a driver by the name that ethtool -i shows, nil if it isn't there.
func (t *Table) Driver(name string) *Driver {
	for i := range t.Drivers {
		if slices.Contains(t.Drivers[i].Names, name) {
			return &t.Drivers[i]
		}
	}
	return nil
}

// Release is a mainline kernel's: 6 and 12 of "6.12.107+deb13-amd64".
type Release struct{ Major, Minor int }

// ParseRelease takes the first two numbers of a kernel's release. ok is false for
// what has none.
func ParseRelease(s string) (r Release, ok bool) {
	major, rest, _ := strings.Cut(s, ".")
	end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end >= 0 {
		rest = rest[:end]
	}
	var err1, err2 error
	r.Major, err1 = strconv.Atoi(major)
	r.Minor, err2 = strconv.Atoi(rest)
	if err1 != nil || err2 != nil || r.Major <= 0 {
		return Release{}, false
	}
	return r, true
}

// UnmarshalText reads a release as drivers.yaml has it.
func (r *Release) UnmarshalText(data []byte) error {
	s := string(data)
	parsed, ok := ParseRelease(s)
	if !ok || parsed.String() != s {
		return fmt.Errorf("%q is no kernel release", s)
	}
	*r = parsed
	return nil
}

// String is "6.12".
func (r Release) String() string { return fmt.Sprintf("%d.%d", r.Major, r.Minor) }

// IsZero reports whether no release is known.
func (r Release) IsZero() bool { return r == Release{} }

// Before reports whether r is older than o.
func (r Release) Before(o Release) bool {
	return r.Major < o.Major || r.Major == o.Major && r.Minor < o.Minor
}

// has is what the table says of one kernel: +1 it has it, -1 it has it not, 0
// nobody knows.
func (s Support) has(kernel, read Release) int {
	return known(s.None, s.Since, s.Seen, s.Absent, kernel, read)
}

// applies is the same of a blocker; one without releases always did.
func (b Blocker) applies(kernel, read Release) int {
	if b.Seen.IsZero() && b.Absent.IsZero() {
		return 1
	}
	return known(false, Release{}, b.Seen, b.Absent, kernel, read)
}

func known(none bool, since, seen, absent, kernel, read Release) int {
	switch {
	case kernel.IsZero():
		return 0
	case none && !read.Before(kernel):
		return -1
	case !since.IsZero() && kernel.Before(since):
		return -1
	case !since.IsZero():
		return 1
	case !seen.IsZero() && !kernel.Before(seen):
		return 1
	case !absent.IsZero() && !absent.Before(kernel):
		return -1
	}
	return 0
}

// span says for people which kernels have it.
func (s Support) span() string {
	switch {
	case s.None:
		return "none"
	case !s.Since.IsZero():
		return s.Since.String()
	case !s.Seen.IsZero() && !s.Absent.IsZero():
		return "after " + s.Absent.String() + ", by " + s.Seen.String()
	case !s.Seen.IsZero():
		return "by " + s.Seen.String()
	}
	return "?"
}

// Formula computes a size in bytes: numbers and the words of drivers.yaml with + and
// - between them.
type Formula string

// memory is what a formula's words stand for.
type memory struct {
	page int // 0 where it is not known
	// shinfo and align are known for the architectures where drivers.yaml says so.
	shinfo, align int
	exact         bool
}

// bytes is the value. ok is false where a word's value is not known.
func (f Formula) bytes(m memory) (n int, ok bool, err error) {
	sign := 1
	words := strings.Fields(string(f))
	if len(words)%2 == 0 {
		return 0, false, fmt.Errorf("formula %q: it ends too early", f)
	}
	for i, word := range words {
		if i%2 == 1 {
			switch word {
			case "+":
				sign = 1
			case "-":
				sign = -1
			default:
				return 0, false, fmt.Errorf("formula %q: %q is neither + nor -", f, word)
			}
			continue
		}
		value, err := strconv.Atoi(word)
		switch {
		case err == nil:
		case word == "page" || word == "page16k":
			if value = m.page; value == 0 {
				return 0, false, nil
			}
			if word == "page16k" {
				value = min(value, 16384)
			}
		case word == "shinfo" || word == "align":
			if !m.exact {
				return 0, false, nil
			}
			if value = m.align; word == "shinfo" {
				value = m.shinfo
			}
		default:
			return 0, false, fmt.Errorf("formula %q: %q is no number and no known word", f, word)
		}
		n += sign * value
	}
	return n, n > 0, nil
}

// limit is the largest MTU on such a machine, with these private flags. ok is
// false where it is not known.
func (u *MTU) limit(m memory, flags map[string]bool) (n int, ok bool) {
	f := u.Formula
	switch {
	case u.WithFlag != nil && flags[u.WithFlag.Flag]:
		f = u.WithFlag.Formula
	case u.LargePages != "" && m.page == 0:
		return 0, false
	case u.LargePages != "" && m.page >= 8192:
		f = u.LargePages
	}
	n, ok, err := f.bytes(m)
	return n, ok && err == nil
}

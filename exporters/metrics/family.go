package metrics

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strings"
)

// family is a metric and its samples as of the last collection.
//
// A collection sets the samples one after the other. Each is compared with the
// one that had its place last time, and only what differs makes the text of its
// block stale.
type family struct {
	Metric
	// byName are the places of the labels in the order of their names, which is
	// the order of the exposition.
	byName []int
	// device is the place of the label that names a device, or -1.
	device int

	count  int       // how many were set in this collection
	values []float64 // of the last collection where it has come no further
	labels []string  // len(Labels) for each value
	common bool      // labels are other families', too, and must not be written on
	blocks []block
	// version and message are the whole family's, for a format that has it in one.
	version uint64
	message [codings]piece
	// shuffled is set when labels are others than last time: only then can two
	// samples have become the same.
	shuffled bool
	// twice are the samples whose labels another before them has, too.
	twice map[int]bool

	// print is the family that has this one's fingerprint; nil for none.
	print *family

	// devices says which are shown, room how many samples more, and cut how many
	// there was no room for. They are the exporter's; nil for none.
	devices func(string) bool
	shown   verdict
	quota   *quota
}

// verdict is the last device that was asked about: most come many times in a row.
type verdict struct {
	device string
	known  bool
	shown  bool
}

// quota is how many samples a collector may have.
type quota struct {
	left int
	cut  int
}

// blockSize is how many samples share one piece of kept text: few enough that one
// busy device costs little, and enough to compress well.
const blockSize = 512

// block is the kept text of up to blockSize samples.
type block struct {
	version uint64
	kept    [int(protobuf) * int(codings)]piece
}

func newFamily(m Metric) *family {
	f := &family{Metric: m, device: slices.Index(m.Labels, deviceLabel)}
	for i := range m.Labels {
		f.byName = append(f.byName, i)
	}
	slices.SortFunc(f.byName, func(a, b int) int { return strings.Compare(m.Labels[a], m.Labels[b]) })
	return f
}

// set gives the family's next sample. There is a label value for each label. Of
// two samples with the same labels the first counts.
func (f *family) set(value float64, labels ...string) {
	width := len(f.Labels)
	if len(labels) != width {
		panic("metrics: " + f.Name + " is set with the wrong number of labels")
	}
	if f.devices != nil && f.device >= 0 && !f.wanted(labels[f.device]) {
		return
	}
	if f.quota != nil {
		if f.quota.left == 0 {
			f.quota.cut++
			return
		}
		f.quota.left--
	}
	i := f.count
	f.count++
	if i == len(f.values) {
		f.values = append(f.values, value)
		f.own()
		f.labels = append(f.labels, labels...)
		f.stale(i)
		f.shuffled = true
		return
	}
	kept := f.at(i)
	for j, label := range labels {
		if kept[j] != label {
			f.own()
			copy(f.at(i), labels)
			f.stale(i)
			f.shuffled = true
			break
		}
	}
	if math.Float64bits(f.values[i]) != math.Float64bits(value) {
		f.values[i] = value
		f.stale(i)
	}
}

// wanted says whether a device is to be shown. A setting of the whole host has no
// device, and is.
func (f *family) wanted(device string) bool {
	if !f.shown.known || f.shown.device != device {
		f.shown = verdict{device, true, device == "" || f.devices(device)}
	}
	return f.shown.shown
}

// stale says that a sample's block has to be written anew.
func (f *family) stale(i int) {
	for len(f.blocks) <= i/blockSize {
		f.blocks = append(f.blocks, block{})
	}
	f.blocks[i/blockSize].version++
	f.version++
}

// begin starts a collection.
func (f *family) begin() {
	f.count, f.shown = 0, verdict{}
}

// own is called before labels are written on.
func (f *family) own() {
	if f.common {
		f.labels, f.common = slices.Clone(f.labels), false
	}
}

// end closes a collection: samples that were not set are gone.
func (f *family) end(seen *seen) {
	if n := f.count; n < len(f.values) {
		f.own()
		clear(f.labels[n*len(f.Labels):])
		f.values, f.labels = f.values[:n], f.labels[:n*len(f.Labels)]
		full := (n + blockSize - 1) / blockSize
		clear(f.blocks[full:])
		f.blocks = f.blocks[:full]
		if n > 0 {
			f.stale(n - 1)
		}
		f.shuffled = true
	}
	if f.shuffled {
		f.findTwice(seen)
		seen.share(f)
		f.shuffled = false
	}
}

// findTwice looks for samples that a scrape must not show: Prometheus would take
// one of them, and say so each time. Some drivers have two counters of one name.
func (f *family) findTwice(seen *seen) {
	for i := range f.twice {
		if i < len(f.values) {
			f.stale(i)
		}
	}
	f.twice = nil
	seen.clear()
	for i := range f.values {
		if seen.before(f, i) {
			if f.twice == nil {
				f.twice = map[int]bool{}
			}
			f.twice[i] = true
			f.stale(i)
		}
	}
}

// fingerprint is a number that families have in common which have the same samples, in
// whatever order: 48 bits of their text's SHA-256. A server may keep 15 digits of a number.
func (f *family) fingerprint() float64 {
	lines := make([]string, len(f.values))
	for i := range lines {
		lines[i] = string(f.appendSamples(nil, i, i+1))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return float64(binary.BigEndian.Uint64(sum[:]) >> 16)
}

// at are the labels of a sample.
func (f *family) at(i int) []string {
	width := len(f.Labels)
	return f.labels[i*width : (i+1)*width]
}

// seen finds labels that were there before in a collection: within a family, and a whole
// family's.
type seen struct {
	seed     maphash.Seed
	first    map[uint64]int
	families []*family
}

// share has a family go by the labels of another that has the same. Most families have
// one sample for each device, and its name is their only label.
func (s *seen) share(f *family) {
	if len(f.labels) == 0 {
		return
	}
	for _, other := range s.families {
		if slices.Equal(other.labels, f.labels) {
			f.labels, f.common, other.common = other.labels, true, true
			return
		}
	}
	s.families = append(s.families, f)
}

func (s *seen) clear() {
	if s.first == nil {
		s.seed, s.first = maphash.MakeSeed(), map[uint64]int{}
	}
	clear(s.first)
}

// before compares labels as they are shown: two that are no UTF-8 may be one.
func (s *seen) before(f *family, i int) bool {
	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, label := range f.at(i) {
		_, _ = h.WriteString(valid(label)) // it never fails
		_ = h.WriteByte(0)
	}
	first, ok := s.first[h.Sum64()]
	if !ok {
		s.first[h.Sum64()] = i
		return false
	}
	return slices.EqualFunc(f.at(first), f.at(i), func(a, b string) bool { return valid(a) == valid(b) })
}

package metrics

import (
	"math"
	"strconv"
	"strings"
)

// format is what a page is written in.
type format int

const (
	text format = iota
	openMetrics
	protobuf
	formats
)

// appendHead appends what stands before a family's samples.
func (f *family) appendHead(b []byte, as format) []byte {
	name, help := f.Name, helpEscapes.Replace(f.Help)
	if as == openMetrics {
		name, help = strings.TrimSuffix(name, "_total"), labelEscapes.Replace(f.Help)
	}
	b = append(append(append(append(b, "# HELP "...), name...), ' '), help...)
	b = append(append(append(append(b, "\n# TYPE "...), name...), ' '), f.Type...)
	return append(b, '\n')
}

// appendSamples appends the samples from one place to another.
func (f *family) appendSamples(b []byte, from, to int) []byte {
	for i := from; i < to; i++ {
		if f.twice[i] {
			continue
		}
		b = append(b, f.Name...)
		labels := f.at(i)
		for n, j := range f.byName {
			if n == 0 {
				b = append(b, '{')
			} else {
				b = append(b, ',')
			}
			b = append(append(b, f.Labels[j]...), '=', '"')
			b = appendLabel(b, labels[j])
			b = append(b, '"')
		}
		if len(labels) > 0 {
			b = append(b, '}')
		}
		b = append(appendValue(append(b, ' '), f.values[i]), '\n')
	}
	return b
}

var (
	helpEscapes  = strings.NewReplacer("\\", `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer("\\", `\\`, "\n", `\n`, `"`, `\"`)
)

// appendLabel appends a label value, escaped where it has to be: hardly ever.
func appendLabel(b []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c == '\\' || c == '"' || c == '\n' || c >= 0x80 {
			return append(b, labelEscapes.Replace(valid(value))...)
		}
	}
	return append(b, value...)
}

// appendValue appends a sample's value. Counts are written as such, which is
// several times faster than as numbers with a fraction, and better to read.
func appendValue(b []byte, v float64) []byte {
	const exact = 1 << 53
	switch {
	case v >= 0 && v < exact && v == math.Trunc(v):
		return strconv.AppendUint(b, uint64(v), 10)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64) // "NaN" is written so
}

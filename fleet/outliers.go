package fleet

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// What makes an outlier, besides not being chance: see [Outlier].
const (
	outlierHosts  = 3
	outlierFactor = 2
	outlierAlpha  = 0.05
)

// wilson is the lower end of the 95% Wilson score interval of a share of k in n
// (E. B. Wilson, Probable inference, the law of succession, and statistical inference,
// JASA 22, 1927).
func wilson(k, n int) float64 {
	if n == 0 {
		return 0
	}
	const z = 1.959964 // the 97.5% quantile of the normal distribution
	N := float64(n)
	p := float64(k) / N
	middle := p + z*z/(2*N)
	spread := z * math.Sqrt(p*(1-p)/N+z*z/(4*N*N))
	return max(0, (middle-spread)/(1+z*z/N))
}

// fisher is the probability that a group of n out of N holds k or more of the K that
// fail if it were drawn blindly: Fisher's exact test, one-sided.
func fisher(k, n, K, N int) float64 {
	if k <= 0 {
		return 1
	}
	choose := func(n, k int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	all := choose(N, n)
	sum, last := 0.0, 0.0
	for x := k; x <= min(n, K); x++ {
		if n-x > N-K {
			continue // so few in the group can't be
		}
		term := math.Exp(choose(K, x) + choose(N-K, n-x) - all)
		sum += term
		if term < last && term < sum*1e-15 {
			break
		}
		last = term
	}
	return min(1, sum)
}

// tally is on how many hosts which rules fail, of those that have a kind of NIC.
type tally struct {
	hosts   int
	failing map[string]int // by rule
}

// kind says which NICs are meant: those of a dimension that have a name in common among
// the peers of another.
type kind struct{ dimension, of, name string }

// outliers are those among kinds that fail more often than their peers, the least
// probable first, and how many comparisons that took.
func outliers(kinds map[kind]*tally) (list []Outlier, tests int) {
	type peers struct{ dimension, of string }
	families := map[peers][]kind{}
	for k := range kinds {
		p := peers{k.dimension, k.of}
		families[p] = append(families[p], k)
	}
	for _, family := range families {
		if len(family) < 2 {
			continue
		}
		hosts, failing := 0, map[string]int{}
		for _, k := range family {
			hosts += kinds[k].hosts
			for rule, n := range kinds[k].failing {
				failing[rule] += n
			}
		}
		// Which rules fail anywhere says nothing of where they do, so that leaving out
		// the others doesn't favour anybody.
		tests += len(family) * len(failing)
		for _, k := range family {
			for rule, n := range kinds[k].failing {
				o := Outlier{
					Dimension: k.dimension, Of: k.of, Name: k.name, Rule: rule, Hosts: kinds[k].hosts, Failing: n,
					PeerHosts: hosts - kinds[k].hosts, PeerFailing: failing[rule] - n,
				}
				o.Share = float64(o.Failing) / float64(o.Hosts)
				o.PeerShare = float64(o.PeerFailing) / float64(o.PeerHosts)
				if n >= outlierHosts && o.Share >= outlierFactor*o.PeerShare {
					o.P = fisher(n, o.Hosts, failing[rule], hosts)
					list = append(list, o)
				}
			}
		}
	}
	// Holm's method: the least by as many as there are tests, the next by one less, and
	// none less than the one before (S. Holm, A simple sequentially rejective multiple
	// test procedure, 1979). What was not computed would come in between and make it
	// less strict.
	slices.SortFunc(list, compareOutliers)
	least := 0.0
	for i := range list {
		least = max(least, min(1, list[i].P*float64(tests-i)))
		list[i].P = least
	}
	list = slices.DeleteFunc(list, func(o Outlier) bool { return o.P >= outlierAlpha })
	for i := range list {
		list[i].P = rounded(list[i].P, 2)
		list[i].Share, list[i].PeerShare = rounded(list[i].Share, 4), rounded(list[i].PeerShare, 4)
	}
	return list, tests
}

func compareOutliers(a, b Outlier) int {
	return cmp.Or(
		cmp.Compare(a.P, b.P), cmp.Compare(b.Failing, a.Failing), strings.Compare(a.Dimension, b.Dimension),
		strings.Compare(a.Of, b.Of), strings.Compare(a.Name, b.Name), strings.Compare(a.Rule, b.Rule),
	)
}

// rounded keeps so many significant digits: sums of logarithms differ in their last.
func rounded(v float64, digits int) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	scale := math.Pow(10, float64(digits-1)-math.Floor(math.Log10(math.Abs(v))))
	if math.IsInf(scale, 0) {
		return 0
	}
	return math.Round(v*scale) / scale
}

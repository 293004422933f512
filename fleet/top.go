package fleet

import "slices"

// top keeps the n first of all that it is given, by an order in which no two are equal
// unless they are the same: then what is kept doesn't depend on the order of adding.
type top[T any] struct {
	n       int
	compare func(a, b T) int
	kept    []T
	seen    int
}

func newTop[T any](n int, compare func(a, b T) int) *top[T] {
	return &top[T]{n: n, compare: compare}
}

func (t *top[T]) add(v T) {
	t.seen++
	// Twice as many are held as are asked for, so that sorting is seldom.
	if t.kept = append(t.kept, v); len(t.kept) >= 2*t.n+8 {
		t.cut()
	}
}

func (t *top[T]) cut() {
	slices.SortFunc(t.kept, t.compare)
	if len(t.kept) > t.n {
		clear(t.kept[t.n:])
		t.kept = t.kept[:t.n]
	}
}

// list are the first n in order, and how many more there were. It is never nil.
func (t *top[T]) list() (kept []T, leftOut int) {
	t.cut()
	kept = append([]T{}, t.kept...)
	return kept, t.seen - len(kept)
}

// firsts are the first n of a list, in order, and how many more there are.
func firsts[T any](all []T, n int, compare func(a, b T) int) (kept []T, leftOut int) {
	slices.SortFunc(all, compare)
	kept = append([]T{}, all[:min(n, len(all))]...)
	return kept, len(all) - len(kept)
}

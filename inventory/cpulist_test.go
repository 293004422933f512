package inventory

import (
	"slices"
	"testing"
)

func TestParseCPUSet(t *testing.T) {
	for _, c := range []struct {
		in, out string
		n       int
	}{
		{"", "", 0},
		{"\n", "", 0},
		{"0", "0", 1},
		{"0-3,8\n", "0-3,8", 5},
		{"8,0-3", "0-3,8", 5},
		{"0-1,2-3", "0-3", 4},
		{"63-64", "63-64", 2},
		{"0,2,4,6", "0,2,4,6", 4},
		{"0-511", "0-511", 512},
		{"5,5,4-6", "4-6", 3},
		{"0-15:2/8", "0-1,8-9", 4},
		{"1-10:1/3", "1,4,7,10", 4},
	} {
		set, err := ParseCPUSet(c.in)
		if err != nil {
			t.Errorf("ParseCPUSet(%q): %v", c.in, err)
			continue
		}
		if set.String() != c.out || set.Len() != c.n {
			t.Errorf("ParseCPUSet(%q) = %q with %d CPUs, want %q with %d", c.in, set, set.Len(), c.out, c.n)
		}
	}
	for _, in := range []string{
		"a", "-", "1-", "-1", "3-1", "0,", ",0", "0-4294967295", "65536", "99999999999999999999", "0-3:0/2",
		"0-3:3/2", "0-3:1", "0-3:", "(null)", "0x3", "1--3",
	} {
		if set, err := ParseCPUSet(in); err == nil {
			t.Errorf("ParseCPUSet(%q) = %q, want an error", in, set)
		}
	}
}

// cpus is a set for a test.
func cpus(t testing.TB, list string) CPUSet {
	t.Helper()
	set, err := ParseCPUSet(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestCPUSetYieldsInOrder(t *testing.T) {
	if got := slices.Collect(cpus(t, "100,64,0-3").All()); !slices.Equal(got, []int{0, 1, 2, 3, 64, 100}) {
		t.Error("All yields", got)
	}
	for cpu := range cpus(t, "3-5").All() {
		if cpu != 3 {
			t.Error("All goes on after the end")
		}
		break
	}
}

func TestCPUSetAlgebra(t *testing.T) {
	a, b := cpus(t, "0-3,100"), cpus(t, "2-5")
	for _, c := range []struct{ what, got, want string }{
		{"intersection", a.Intersect(b).String(), "2-3"},
		{"difference", a.Minus(b).String(), "0-1,100"},
		{"difference, the other way", b.Minus(a).String(), "4-5"},
		{"operands unchanged", a.String() + " " + b.String(), "0-3,100 2-5"},
		{"with the empty set", a.Intersect(CPUSet{}).String(), ""},
		{"from numbers", NewCPUSet(9, -1, 7, 8, maxCPUs).String(), "7-9"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
}

func FuzzParseCPUSet(f *testing.F) {
	for _, seed := range []string{"", "0", "0-3,8", "0-31:2/8", "1-", ",", "0-4294967295", "(null)\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		set, err := ParseCPUSet(in)
		if err != nil {
			return
		}
		again, err := ParseCPUSet(set.String())
		if err != nil || again.String() != set.String() || again.Len() != set.Len() {
			t.Fatalf("%q reads as %q, which reads as %q, %v", in, set, again, err)
		}
	})
}

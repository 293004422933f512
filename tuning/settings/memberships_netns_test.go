package settings

import (
	"slices"
	"strings"
	"testing"

	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
)

// static are the groups that ip maddr shows as added by an administrator.
func static(t *testing.T, device string) (groups []string) {
	t.Helper()
	for line := range strings.Lines(string(nstest.Run(t, "ip", "maddr", "show", "dev", device))) {
		if words := strings.Fields(line); words[0] == "link" && slices.Contains(words, "static") {
			groups = append(groups, words[1])
		}
	}
	slices.Sort(groups)
	return groups
}

// TestMemberships adds and takes away groups, and has ip judge. What somebody
// else added stays.
func TestMemberships(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "tune0", "type veth peer name tune1")
	const foreign, a, b, c = "01:00:5e:00:00:99", "01:00:5e:00:00:0a", "33:33:00:00:00:0b", "01:00:5e:00:00:0c"
	nstest.IP(t, "maddr add "+foreign+" dev tune0")
	w := live(t)
	all := nics(t, w)
	dir := t.TempDir()
	e := engine(t, w, dir)
	apply := func(list string, writes int) int {
		t.Helper()
		w.writes = 0
		past, err := tuning.History(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor("tune0", "memberships: {link: "+list+"}")), func() ([]tuning.Transaction, error) { return past, nil })
		if err != nil {
			t.Fatal(err)
		}
		done, err := e.Apply(t.Context(), p, all, allow)
		if err != nil || w.writes != writes {
			t.Fatalf("%s: %v, %d writes, want %d", list, err, w.writes, writes)
		}
		if done == nil {
			return 0
		}
		return done.ID
	}
	first := apply(`["`+a+`", "`+strings.ToUpper(b)+`"]`, 2)
	if got, want := static(t, "tune0"), []string{a, foreign, b}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if apply(`["`+a+`", "`+b+`"]`, 0) != 0 {
		t.Error("the second time there was something to do")
	}
	// One of ours goes, one comes, one was there before us.
	apply(`["`+a+`", "`+c+`", "`+foreign+`"]`, 2)
	if got, want := static(t, "tune0"), []string{a, c, foreign}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	apply("none", 2)
	if got, want := static(t, "tune0"), []string{foreign}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// What was there at first comes back, but what is somebody else's by now stays.
	if _, err := e.Rollback(t.Context(), first, all, allow, true); err != nil {
		t.Error(err)
	}
	if got, want := static(t, "tune0"), []string{foreign}; !slices.Equal(got, want) {
		t.Errorf("after the rollback %v, want %v", got, want)
	}
}

// TestMembershipsRefused: what is no group is found before anything is written.
func TestMembershipsRefused(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "tune0", "type veth peer name tune1")
	w := live(t)
	all := nics(t, w)
	for _, bad := range []string{"02:00:00:00:00:01", "01:00:5e:00:00", "239.1.2.3"} {
		_, err := tuning.MakePlan(t.Context(), w, All(), wants(t, all, policyFor("tune0", `memberships: {link: "`+bad+`"}`)), nil)
		if err == nil || !strings.Contains(err.Error(), "is no group address") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

package inventory

import (
	"errors"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

func TestParseSoftnet(t *testing.T) {
	online := cpus(t, "0,2")
	for _, c := range []struct {
		what, in string
		want     []Softnet
	}{
		{
			"Linux 6.18, 15 columns, of two CPUs",
			"00000014 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n" +
				"000056ba 00000001 00000002 00000000 00000000 00000000 00000000 00000000 00000005 00000003 00000004 00000006 00000001 00000000 00000000\n",
			[]Softnet{
				{CPU: 0, Processed: 0x14, Backlog: new(uint64(0))},
				{CPU: 1, Processed: 0x56ba, Dropped: 1, TimeSqueeze: 2, Collisions: 5, ReceivedRPS: 3, FlowLimit: 4, Backlog: new(uint64(6))},
			},
		},
		{
			"Linux 5.10, 13 columns, CPU 1 offline",
			"00358fe3 00000000 0000008a 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n" +
				"00953d1a 00000000 0000031f 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000002\n",
			[]Softnet{{CPU: 0, Processed: 0x358fe3, TimeSqueeze: 0x8a, Backlog: new(uint64(0))}, {CPU: 2, Processed: 0x953d1a, TimeSqueeze: 0x31f, Backlog: new(uint64(0))}},
		},
		{
			"Linux 4.18, 11 columns: the lines are the online CPUs",
			"00358fe3 00000000 0000008a 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n" +
				"ffffffff 00000000 0000031f 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n",
			[]Softnet{{CPU: 0, Processed: 0x358fe3, TimeSqueeze: 0x8a}, {CPU: 2, Processed: 0xffffffff, TimeSqueeze: 0x31f}},
		},
		{"nothing", "", nil},
	} {
		got, err := parseSoftnet([]byte(c.in), online)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		same(t, c.what, got, c.want)
	}
	const eleven = "0 0 0 0 0 0 0 0 0 0 0"
	for what, in := range map[string]string{
		"ten columns":                 "0 0 0 0 0 0 0 0 0 0\n",
		"not hexadecimal":             "0 0 x 0 0 0 0 0 0 0 0\n",
		"more lines than online CPUs": eleven + "\n" + eleven + "\n" + eleven + "\n",
		"a CPU out of this world":     eleven + " 0 ffffffff\n",
	} {
		if got, err := parseSoftnet([]byte(in), online); got != nil || !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

func FuzzParseSoftnet(f *testing.F) {
	f.Add([]byte("0 0 0 0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0 0 0 0 0 7\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		stats, err := parseSoftnet(in, cpus(t, "0-2"))
		for _, s := range stats {
			if err != nil || s.CPU < 0 || s.CPU >= maxCPUs {
				t.Fatal(stats, err)
			}
		}
	})
}

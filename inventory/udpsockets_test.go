package inventory

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
)

func TestParseUDPSockets(t *testing.T) {
	const (
		heading  = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            \n"
		heading6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
	)
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		what, in string
		want     []UDPSocket
	}{
		{
			"Linux 6.18: a group, all addresses, one address, a peer",
			heading +
				" 9834: 010109EF:1389 00000000:0000 07 00000000:00034200 00:00000000 00000000  1000        0 9418 2 0000000000000000 408        \n" +
				" 9835: 00000000:138A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9419 2 0000000000000000 0          \n" +
				" 9836: 010200C0:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9420 2 0000000000000000 7          \n" +
				" 9837: 00000000:0044 020200C0:0043 01 00000000:00000000 00:00000000 00000000     0        0 9421 2 0000000000000000 7          \n",
			[]UDPSocket{
				{Local: at("239.9.1.1:5001"), Inode: 9418, UID: 1000, Waiting: 0x34200, Drops: 408},
				{Local: at("0.0.0.0:5002"), Inode: 9419},
			},
		},
		{
			"IPv6: a group, all addresses, an IPv4 group",
			heading6 +
				" 9834: 000015FF000000000000000008000000:1389 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9418 2 0000000000000000 1\n" +
				" 9835: 00000000000000000000000000000000:138A 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9419 2 0000000000000000 0\n" +
				" 9836: 0000000000000000FFFF0000010109EF:138B 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9420 2 0000000000000000 0\n",
			[]UDPSocket{
				{Local: at("[ff15::8]:5001"), Inode: 9418, Drops: 1},
				{Local: at("[::]:5002"), Inode: 9419},
				{Local: at("239.9.1.1:5003"), Inode: 9420},
			},
		},
		{
			"Linux 4.18, which prints more than 31 bits as negative",
			heading + " 834: 010109EF:1389 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 9418 2 0000000000000000 -2\n",
			[]UDPSocket{{Local: at("239.9.1.1:5001"), Inode: 9418, Drops: 1<<32 - 2}},
		},
		{"a heading", heading, nil},
		{"nothing", "", nil},
	} {
		got, err := parseUDPSockets([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		same(t, c.what, got, c.want)
	}
	const line = " 1: 010109EF:1389 00000000:0000 07 00000000:0 00:0 0 0 0 9418 2 0 "
	for what, in := range map[string]string{
		"no drops":        line,
		"a word":          line + "many",
		"too many":        line + "4294967296",
		"half an address": " 1: 0109EF:1389 00000000:0000 07 0:0 0:0 0 0 0 1 2 0 0",
		"no port":         " 1: 010109EF 00000000:0000 07 0:0 0:0 0 0 0 1 2 0 0",
	} {
		if got, err := parseUDPSockets([]byte(heading + in + "\n")); got != nil || !errors.Is(err, kernel.ErrMalformed) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

func FuzzParseUDPSockets(f *testing.F) {
	f.Add([]byte("heading\n 1: 010109EF:1389 00000000:0000 07 00000000:00034200 00:0 0 1000 0 9418 2 0 408\n"))
	f.Add([]byte("\n 1: 000015FF000000000000000008000000:1389 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 1 2 0 -1\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		sockets, err := parseUDPSockets(in)
		for _, s := range sockets {
			if err != nil || !s.Group() && !s.Local.Addr().IsUnspecified() {
				t.Fatal(sockets, err)
			}
		}
	})
}

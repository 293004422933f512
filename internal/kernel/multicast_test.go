package kernel

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestMulticastRefuses(t *testing.T) {
	s, err := openIoctl()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	group := net.HardwareAddr{1, 0, 0x5e, 1, 2, 3}
	for _, test := range []struct {
		device  string
		address net.HardwareAddr
		want    error
	}{
		{"no-such-device", group, syscall.ENODEV},
		{"a-name-longer-than-any", group, syscall.ENODEV},
		{"no-such-device", net.HardwareAddr{2, 0, 0, 0, 0, 1}, syscall.EINVAL},
		{"no-such-device", group[:5], syscall.EINVAL},
	} {
		if err := s.multicast(test.device, test.address, true); !errors.Is(err, test.want) {
			t.Errorf("%s of %s: %v, want %v", test.address, test.device, err, test.want)
		}
	}
}

package inventory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
)

// counters builds IFLA_STATS64 with n counters: first, first+1, ...
func counters(n int, first uint64) kernel.Body {
	var b []byte
	for i := range n {
		b = binary.NativeEndian.AppendUint64(b, first+uint64(i))
	}
	return kernel.Body{}.Bytes(uapi.IFLA_STATS64, b)
}

func TestReadStatistics(t *testing.T) {
	r := linksOf(
		linkMessage(1, uapi.ARPHRD_LOOPBACK, uapi.IFF_LOOPBACK, join(named("lo"), counters(25, 900))),
		linkMessage(3, 1, 0, join(named("eth1"), counters(24, 300))), // before Linux 5.19
		linkMessage(2, 1, 0, join(named("eth0"), counters(27, 200))), // of a kernel to come
		linkMessage(4, 1, 0, named("mute")),
	)
	got, err := ReadStatistics(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Name != "eth0" || got[1].Name != "eth1" || got[2].Name != "mute" {
		t.Fatalf("got %+v", got)
	}
	names := StatisticNames()
	if len(got[0].Values) != len(names) || got[0].Values[24] != 224 || names[24] != "rx_otherhost_dropped" {
		t.Errorf("eth0: %d values of %d names: %v", len(got[0].Values), len(names), got[0].Values)
	}
	if len(got[1].Values) != 24 || got[1].Values[0] != 300 || names[23] != "rx_nohandler" {
		t.Errorf("eth1: a counter that the kernel lacks is not 0: %v", got[1].Values)
	}
	if len(got[2].Values) != 0 {
		t.Errorf("mute: %v", got[2].Values)
	}
	// They share memory; writing behind one's end must not reach another.
	_ = append(got[1].Values, 1, 2, 3)
	if got[0].Values[0] != 200 {
		t.Error("eth0's values were overwritten")
	}
}

// An interrupted dump still gives a sample of each device, the latest.
func TestReadStatisticsInterrupted(t *testing.T) {
	r := &stub{netlink: map[string]answer{getLink: {
		messages: []kernel.Message{
			linkMessage(2, 1, 0, join(named("eth0"), counters(25, 1))),
			linkMessage(3, 1, 0, join(named("gone"), counters(25, 1))),
			linkMessage(2, 1, 0, join(named("eth0"), counters(25, 100))),
		},
		err: fmt.Errorf("dump: %w", kernel.ErrInterrupted),
	}}}
	r.one = map[string]answer{"eth1": {messages: []kernel.Message{linkMessage(4, 1, 0, join(named("eth1"), counters(25, 7)))}}}
	r.links = map[string]string{sysClassNet + "/eth0": "", sysClassNet + "/eth1": ""}
	got, err := ReadStatistics(t.Context(), r)
	if err != nil || len(got) != 3 || got[0].Values[0] != 100 || got[2].Name != "eth1" || got[2].Values[0] != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestReadStatisticsErrors(t *testing.T) {
	if _, err := ReadStatistics(t.Context(), &stub{}); !errors.Is(err, kernel.ErrNotRecorded) {
		t.Errorf("got %v", err)
	}
	bad := kernel.Message{Command: uapi.RTM_NEWLINK, Body: []byte{1}}
	got, err := ReadStatistics(t.Context(), linksOf(bad, linkMessage(2, 1, 0, join(named("eth0"), counters(25, 1)))))
	if !errors.Is(err, kernel.ErrMalformed) || len(got) != 1 {
		t.Errorf("one answer that can't be read must not hide the others, nor be hidden: %+v, %v", got, err)
	}
}

func FuzzDecodeStatistics(f *testing.F) {
	f.Add([]byte{})
	f.Add(linkMessage(2, 1, 0, join(named("eth0"), counters(25, 1))).Body)
	f.Add(linkMessage(2, 1, 0, join(named("eth0"), kernel.Body{}.Bytes(uapi.IFLA_STATS64, make([]byte, 13)))).Body)
	for _, m := range messagesOf(f, linkDump(0))[:6] {
		f.Add(m.Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := []uint64{42}
		s, _, after, err := decodeStatistics(body, before)
		if err != nil {
			if !errors.Is(err, kernel.ErrMalformed) || !reflect.DeepEqual(after, before) {
				t.Errorf("%v, %v", after, err)
			}
			return
		}
		if len(s.Values) > len(statisticNames) || len(after) != 1+len(s.Values) || after[0] != 42 {
			t.Errorf("%d values after %v", len(s.Values), after)
		}
	})
}

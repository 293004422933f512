package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/nstest"
	"github.com/nictune/nictune/tuning"
	"github.com/nictune/nictune/tuning/settings"
)

// stableDevices are there from the first reading to the last, half of them made
// before the devices that come and go and half while they do.
const stableDevices = 50

// Devices come and go all the time while the host is inventoried and scraped:
// nothing crashes, no scrape fails, and the devices that are there throughout
// are in every answer, with all that was known of them when it was quiet.
func TestDevicesThatComeAndGoSpoilNothing(t *testing.T) {
	nstest.Require(t)
	times := churnTimes
	if testing.Short() {
		times = 50
	}
	live, err := kernel.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()

	var quiet strings.Builder
	quiet.WriteString("link set lo up\n") // for the scrapes
	for i := range stableDevices {
		fmt.Fprintf(&quiet, "link add stable%02d mtu %d up type veth peer name other%02d\nlink set other%02d up\n", i, 1400+i, i, i)
		if i == stableDevices/2 {
			// Devices that will go stand in the middle of the list, too.
			for j := range 20 {
				fmt.Fprintf(&quiet, "link add early%02d group 7 type ifb\n", j)
			}
		}
	}
	ipBatch(t.Context(), t, quiet.String(), false)
	want := settled(t, live)

	scrape, rounds := startAgent(t, live)
	var changes atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var churners sync.WaitGroup
	churners.Go(func() { churn(ctx, t, "come", &changes) })
	defer func() { stop(); churners.Wait() }()

	var readers sync.WaitGroup
	readers.Go(func() {
		for i := range times {
			inv, err := inventory.Read(t.Context(), live)
			if err != nil {
				t.Errorf("inventory %d: %v", i, err)
				return
			}
			if !sameInventory(t, want, inv) {
				t.Errorf("in inventory %d", i)
				return
			}
		}
	})
	readers.Go(func() {
		for i := range times {
			page, err := scrape()
			if err != nil {
				t.Errorf("scrape %d: %v", i, err)
				return
			}
			if !completeScrape(t, want, page) {
				t.Errorf("in scrape %d", i)
				return
			}
		}
	})
	readers.Wait()
	stop()
	churners.Wait()
	t.Logf("%d inventories and %d scrapes while %d devices came or went; the agent read the facts %d times", times, times, changes.Load(), rounds())
	if changes.Load() < int64(times)/10 {
		t.Errorf("only %d devices came or went: the test shows nothing", changes.Load())
	}
}

// settled reads the stable devices once their addresses have.
func settled(t *testing.T, r kernel.Reader) map[string]inventory.NIC {
	t.Helper()
	var last map[string]inventory.NIC
	for range 100 {
		inv, err := inventory.Read(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		now := stable(inv)
		if len(now) == stableDevices && reflect.DeepEqual(last, now) {
			return now
		}
		last = now
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%d stable devices after 10 s, want %d that don't change any more", len(last), stableDevices)
	return nil
}

func stable(inv *inventory.Inventory) map[string]inventory.NIC {
	nics := map[string]inventory.NIC{}
	for _, n := range inv.NICs {
		if strings.HasPrefix(n.Name, "stable") {
			nics[n.Name] = n
		}
	}
	return nics
}

func sameInventory(t *testing.T, want map[string]inventory.NIC, inv *inventory.Inventory) bool {
	ok := true
	names := map[string]bool{}
	for _, n := range inv.NICs {
		if names[n.Name] {
			t.Errorf("%s is listed twice", n.Name)
			ok = false
		}
		names[n.Name] = true
	}
	got := stable(inv)
	for name, w := range want {
		g, there := got[name]
		switch {
		case !there:
			t.Errorf("%s is lost", name)
			ok = false
		case !reflect.DeepEqual(w, g):
			a, _ := json.Marshal(w)
			b, _ := json.Marshal(g)
			t.Errorf("%s has changed:\n%s\n%s", name, a, b)
			ok = false
		}
	}
	for _, u := range inv.Unread {
		if u.Reason == kernel.Failed {
			t.Errorf("host: %+v", u)
			ok = false
		}
	}
	return ok
}

// churn makes devices and deletes them, one by one and all at once, and uses
// names again.
func churn(ctx context.Context, t *testing.T, name string, changes *atomic.Int64) {
	const group = 9
	var batch strings.Builder
	for i := range 10 {
		fmt.Fprintf(&batch, "link add %s%d up type veth peer name %sp%d\n", name, i, name, i)
		fmt.Fprintf(&batch, "link add %si%d type ifb\n", name, i)
		fmt.Fprintf(&batch, "link set %si%d group %d\n", name, i, group)
		fmt.Fprintf(&batch, "link set %s%d mtu 1280\n", name, i)
		if i%2 == 0 {
			fmt.Fprintf(&batch, "link del %s%d\n", name, i)
		} else {
			fmt.Fprintf(&batch, "link set %s%d group %d\n", name, i, group)
		}
	}
	fmt.Fprintf(&batch, "link del group %d\n", group)
	for ctx.Err() == nil {
		ipBatch(ctx, t, batch.String(), true)
		changes.Add(2 * (10 + 20))
	}
}

func ipBatch(ctx context.Context, t *testing.T, batch string, mayEnd bool) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil && !(mayEnd && ctx.Err() != nil) {
		t.Errorf("ip -batch: %v: %s", err, out)
	}
}

// startAgent serves the live host as nictune agent does, but reads the facts
// anew as soon as it can, and returns what scrapes it once, and how often it has
// read the facts. Whatever the agent logs fails the test.
func startAgent(t *testing.T, live *kernel.Live) (scrape func() ([]byte, error), rounds func() int64) {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "veth.yaml")
	if err := os.WriteFile(policy, []byte(`apiVersion: nictune/v1
kind: TuningPolicy
name: every-veth
match: {driver: [veth]}
settings:
  features: {generic-receive-offload: off}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	wanted, err := loadPolicies([]string{policy})
	if err != nil {
		t.Fatal(err)
	}
	var logged lockedBuffer
	a := &app{stdout: io.Discard, stderr: &logged, log: slog.New(slog.NewTextHandler(&logged, nil))}
	var readings atomic.Int64
	compare := agent.Comparer(live, settings.All(), wanted, nil, func() ([]tuning.Transaction, error) { return nil, nil })
	ctx, cancel := context.WithCancel(t.Context())
	options := agent.Options{
		Interval: time.Second,
		Pause:    50 * time.Millisecond,
		Timeout:  30 * time.Second,
		Failed:   func(err error) { a.log.Error("reading the host failed", "err", err) },
	}
	options.Compare = func(ctx context.Context, inv *inventory.Inventory) (*agent.Comparison, error) {
		readings.Add(1)
		return compare(ctx, inv)
	}
	if options.Changes, err = agent.Watch(ctx, live); err != nil {
		t.Fatal(err)
	}
	keeper := agent.New(live, options)
	done := make(chan error, 1)
	go func() { done <- keeper.Run(ctx) }()
	handler, err := a.handler(keeper, agentFlags{path: "/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the agent ended: %v", err)
		}
		if s := logged.String(); s != "" {
			t.Errorf("the agent logged:\n%s", s)
		}
	})
	if !comes(keeper.Ready) {
		t.Fatalf("the agent is not ready after %v", patience)
	}
	scrape = func() ([]byte, error) {
		response, err := server.Client().Get(server.URL + "/metrics")
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", response.Status, body)
		}
		return body, nil
	}
	// It is ready with the facts, before it has compared them.
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		page, err := scrape()
		if err != nil {
			t.Fatal(err)
		}
		if samples(page, "nictune_scrape_collector_success", "collector")["policy"] == "1" {
			return scrape, readings.Load
		}
		if time.Since(start) > 30*time.Second {
			t.Fatal("the agent has compared nothing after 30 s")
		}
	}
}

// completeScrape checks that every part of a scrape was read, and that the
// stable devices are in it.
func completeScrape(t *testing.T, want map[string]inventory.NIC, page []byte) bool {
	ok := true
	success := samples(page, "nictune_scrape_collector_success", "collector")
	for _, collector := range []string{"nic", "link", "policy", "statistics"} {
		if success[collector] != "1" {
			t.Errorf("the collector %s failed", collector)
			ok = false
		}
	}
	info := samples(page, "nictune_nic_info", "device")
	mtu := samples(page, "nictune_network_mtu_bytes", "device")
	counters := map[string]map[string]string{}
	for _, name := range []string{"receive_packets", "transmit_packets", "receive_bytes", "transmit_bytes", "receive_dropped"} {
		counters[name] = samples(page, "nictune_network_"+name+"_total", "device")
	}
	for name, w := range want {
		for counter, values := range counters {
			if _, there := values[name]; !there {
				t.Errorf("%s lacks %s", name, counter)
				ok = false
			}
		}
		if info[name] != "1" || mtu[name] != strconv.Itoa(*w.Link.MTU) {
			t.Errorf("%s: info %q and MTU %q, want 1 and %d", name, info[name], mtu[name], *w.Link.MTU)
			ok = false
		}
	}
	return ok
}

// samples are a metric's values by one label.
func samples(page []byte, name, label string) map[string]string {
	values := map[string]string{}
	for line := range bytes.Lines(page) {
		rest, ok := bytes.CutPrefix(line, []byte(name+"{"))
		if !ok {
			continue
		}
		labels, value, _ := bytes.Cut(rest, []byte("} "))
		for one := range bytes.SplitSeq(labels, []byte(",")) {
			if v, ok := bytes.CutPrefix(one, []byte(label+"=")); ok {
				values[strings.Trim(string(v), `"`)] = strings.TrimSpace(string(value))
			}
		}
	}
	return values
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

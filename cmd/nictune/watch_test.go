package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/lab/nstest"
)

// check --watch looks twice at a veth with traffic, and says what went through it:
// in columns without a bar or an escape for a pipe, and in JSON.
func TestCheckWatch(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "cw0", "type veth peer name cw1")
	nstest.IP(t, "addr add 192.0.2.1/24 dev cw0")
	nstest.IP(t, "link set cw0 up")
	nstest.IP(t, "link set cw1 up")
	nstest.IP(t, "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev cw0")
	c, err := (&net.Dialer{}).DialContext(t.Context(), "udp", "192.0.2.2:9")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_, _ = c.Write(make([]byte, 64)) // nobody has to hear it
			time.Sleep(time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		c.Close()
	})
	// What the machine itself does meanwhile may fail a rule.
	judged := func(code int) bool { return code == exitOK || code == exitDifferences }
	check := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"check", "queues"}, args...), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	code, out, errs := check("--watch", "300ms", "cw0", "cw1")
	if !judged(code) || errs != "" || !strings.Contains(out, "QUEUE") || !strings.Contains(out, "cw0 tx ") || !strings.Contains(out, "CPU ") || strings.ContainsAny(out, "#\x1b") {
		t.Errorf("exit %d: %s\n%s", code, errs, out)
	}
	code, out, errs = check("--watch", "300ms", "-o", "json", "cw0")
	var r struct{ Rates *audit.Rates }
	if err := json.Unmarshal([]byte(out), &r); err != nil || !judged(code) || r.Rates == nil || r.Rates.Seconds < 0.3 || len(r.Rates.CPUs) == 0 || len(r.Rates.Queues) == 0 {
		t.Fatalf("exit %d: %v %s\n%s", code, err, errs, out)
	}
	for _, q := range r.Rates.Queues {
		if q.Device != "cw0" || q.Direction == "tx" && q.PacketsPerSecond == 0 {
			t.Errorf("%+v", q)
		}
	}
	if code, out, _ = check("-o", "json"); !judged(code) || strings.Contains(out, `"rates"`) {
		t.Errorf("exit %d, rates of one look: %s", code, out)
	}
	for _, args := range [][]string{{"--watch", "-1s"}, {"--host", "../../inventory/testdata/stacked.txtar", "--watch", "1s"}} {
		if code, out, errs = check(args...); code != exitError || !strings.Contains(errs, "--watch takes an interval") || out != "" {
			t.Errorf("%q: exit %d: %s%s", args, code, errs, out)
		}
	}
}

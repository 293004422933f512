//go:build lab

package settings

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/lab/labtest"
	"github.com/nictune/nictune/tuning"
)

// The environment of a process that is to be killed.
const (
	killAt  = "NICTUNE_TEST_KILL_AT"
	killDir = "NICTUNE_TEST_KILL_DIR"
)

// errand is what that process is to do, and where it finds it.
type errand struct {
	Plan    *tuning.Plan
	NICs    []inventory.NIC
	Request tuning.Request
}

const errandFile = "errand.json"

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// mortalWriter kills its own process before (odd) or after (even) any write.
type mortalWriter struct {
	kernel.Writer
	calls, at int
}

func (w *mortalWriter) around(write func() error) error {
	w.calls++
	if w.calls*2-1 == w.at {
		die()
	}
	err := write()
	if w.calls*2 == w.at {
		die()
	}
	return err
}

func (w *mortalWriter) NetlinkSet(ctx context.Context, req kernel.Request) error {
	if req.Family == kernel.FamilyRoute && req.Command == uapi.RTM_NEWNEIGH { // asks a gateway whether it is there
		return w.Writer.NetlinkSet(ctx, req)
	}
	return w.around(func() error { return w.Writer.NetlinkSet(ctx, req) })
}

func (w *mortalWriter) WriteFile(ctx context.Context, path string, data []byte) error {
	return w.around(func() error { return w.Writer.WriteFile(ctx, path, data) })
}

func (w *mortalWriter) EthtoolSet(ctx context.Context, device string, arg []byte) (out []byte, err error) {
	err = w.around(func() error {
		out, err = w.Writer.EthtoolSet(ctx, device, arg)
		return err
	})
	return out, err
}

// TestToBeKilled is the process that killed starts.
func TestToBeKilled(t *testing.T) {
	labtest.Require(t)
	at, err := strconv.Atoi(os.Getenv(killAt))
	if err != nil {
		return // not started by killed
	}
	dir := os.Getenv(killDir)
	var given errand
	b, err := os.ReadFile(filepath.Join(dir, errandFile))
	if err == nil {
		err = json.Unmarshal(b, &given)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &mortalWriter{Writer: live(t).Writer, at: at}
	if _, err := engine(t, w, dir).Apply(t.Context(), given.Plan, given.NICs, given.Request); err != nil {
		t.Fatal(err)
	}
}

// killed has another process carry out a plan, with the state directory given, and
// kills it -9 at a point: 1 is before the first write, 2 after it. It says whether
// there was that point; else the plan was carried out.
func killed(t *testing.T, dir string, at int, given errand) bool {
	t.Helper()
	b, err := json.Marshal(given)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, errandFile), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestToBeKilled$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", killAt, at), killDir+"="+dir)
	out, err := child.CombinedOutput()
	if err == nil {
		return false
	}
	if child.ProcessState == nil || child.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("point %d: the process ended with %v: %s", at, err, out)
	}
	return true
}

package tuning

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/inventory"
	"github.com/nictune/nictune/policies"
)

// toy is the state of a setting of an imagined device.
type toy struct {
	A *uint32 `json:"a,omitempty" doc:"The first." words:"max"`
	B *uint32 `json:"b,omitempty" doc:"The second." words:"max"`
	C *bool   `json:"c,omitempty" doc:"The third."`
}

// toyKnob is a setting that lives in a file of JSON for each NIC.
func toyKnob(name string, impact Impact) Knob[toy] {
	path := func(nic inventory.NIC) string { return "/toy/" + nic.ID() + "/" + name }
	return Knob[toy]{
		Name: name, Doc: "A toy.",
		Impact: func(inventory.NIC, toy, toy) Impact { return impact },
		Read: func(ctx context.Context, r kernel.Reader, nic inventory.NIC) (current, limit toy, err error) {
			b, err := r.ReadFile(ctx, path(nic))
			if err != nil {
				return current, limit, err
			}
			limit = toy{A: new(uint32(100)), B: new(uint32(1000))}
			return current, limit, json.Unmarshal(b, &current)
		},
		Check: func(_, next toy) error {
			if next.A != nil && *next.A == 13 {
				return fmt.Errorf("thirteen is refused")
			}
			return nil
		},
		Write: func(ctx context.Context, w kernel.Writer, nic inventory.NIC, current, next toy) error {
			b, err := json.Marshal(next)
			if err != nil {
				return err
			}
			return w.WriteFile(ctx, path(nic), b)
		},
	}
}

func toySettings() []Setting {
	return []Setting{toyKnob("first", NICReset), toyKnob("second", LinkFlap), toyKnob("third", Seamless)}
}

// host is a kernel with toys in it.
type host struct {
	kernel.Writer // nothing else is ever asked
	files         map[string]string
	boot          string
	uptime        float64 // seconds
	writes        int
	// fail gives the error of the n-th write, counted from 1.
	fail func(n int, path string) error
	// took says what becomes of a value that is written.
	took func(path, value string) string
	// obey makes the kernel give up when the caller does; hang is a write that
	// does so only then, and works all the same.
	obey bool
	hang int
	// late is called before each question, for values that take their time.
	late func()
	// seen is called around each question and write.
	seen func(state map[string]string)
}

func (h *host) ReadFile(ctx context.Context, path string) ([]byte, error) {
	h.look()
	if h.obey && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	switch path {
	case "/etc/machine-id":
		return []byte("0123456789abcdef\n"), nil
	case "/proc/sys/kernel/random/boot_id":
		return []byte(h.boot + "\n"), nil
	case "/proc/sys/kernel/hostname":
		return []byte("toybox\n"), nil
	case "/proc/uptime":
		return fmt.Appendf(nil, "%.2f 1.00\n", h.uptime), nil
	}
	if h.late != nil {
		h.late()
	}
	s, ok := h.files[path]
	if !ok {
		return nil, &kernel.Error{Op: "read", Object: path, Err: syscall.ENODEV}
	}
	return []byte(s), nil
}

// Netlink and ReadLink: a toybox has no routes, no processes and no links.
func (h *host) Netlink(context.Context, kernel.Request) ([]kernel.Message, error) {
	return nil, &kernel.Error{Op: "netlink", Err: syscall.EOPNOTSUPP}
}

func (h *host) ReadLink(_ context.Context, path string) (string, error) {
	return "", &kernel.Error{Op: "read link", Object: path, Err: syscall.ENOENT}
}

func (h *host) WriteFile(ctx context.Context, path string, data []byte) error {
	h.look()
	defer h.look()
	h.writes++
	if h.fail != nil {
		if err := h.fail(h.writes, path); err != nil {
			return &kernel.Error{Op: "write", Object: path, Err: err, Message: "the toy is stuck"}
		}
	}
	if _, ok := h.files[path]; !ok {
		return &kernel.Error{Op: "write", Object: path, Err: syscall.ENODEV}
	}
	value := string(data)
	if h.took != nil {
		value = h.took(path, value)
	}
	if h.seen != nil {
		// A driver that is interrupted between two of its registers.
		whole := h.files[path]
		var from, to toy
		if json.Unmarshal([]byte(whole), &from) == nil && json.Unmarshal(data, &to) == nil {
			from.A = to.A
			half, _ := json.Marshal(from)
			h.files[path] = string(half)
			h.look()
		}
	}
	h.files[path] = value
	if h.writes == h.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (h *host) look() {
	if h.seen != nil {
		h.seen(maps.Clone(h.files))
	}
}

// newHost has two NICs with three settings each.
func newHost() (*host, []inventory.NIC) {
	h := &host{files: map[string]string{}, boot: "boot-1"}
	nics := []inventory.NIC{nicAt("eth0", "0000:01:00.0", 2), nicAt("eth1", "0000:02:00.0", 3)}
	for _, nic := range nics {
		for _, s := range []string{"first", "second", "third"} {
			h.files["/toy/"+nic.ID()+"/"+s] = `{"a":1,"b":10,"c":false}`
		}
	}
	return h, nics
}

func nicAt(name, address string, index int) inventory.NIC {
	return inventory.NIC{
		Name: name, Index: index, PermanentMAC: "52:54:00:00:00:0" + fmt.Sprint(index),
		Parent: &inventory.Parent{Bus: "pci", Address: address}, PCI: &inventory.PCI{Address: address},
	}
}

// want is "eth1 first a=5 b=max c=on", one line for each setting.
func want(t testing.TB, nics []inventory.NIC, lines ...string) []policies.Want {
	t.Helper()
	var out []policies.Want
	for n, l := range lines {
		words := strings.Fields(l)
		w := policies.Want{Setting: words[1]}
		for i := range nics {
			if nics[i].Name == words[0] {
				w.NIC = &nics[i]
			}
		}
		for i, assignment := range words[2:] {
			name, value, _ := strings.Cut(assignment, "=")
			at := policies.Source{Policy: "edge", File: "edge.yaml", Line: n + 1, Column: i + 1}
			a := policies.Assignment{Field: name, Source: at, Value: policies.WordValue(value, at)}
			if e, err := policies.ParseExpression(value); err == nil {
				a.Value = policies.ExpressionValue(e, at)
			}
			var number uint64
			if _, err := fmt.Sscan(value, &number); err == nil {
				a.Value = policies.NumberValue(number, at)
			}
			if value == "on" || value == "off" {
				a.Value = policies.BoolValue(value == "on", at)
			}
			w.Fields = append(w.Fields, a)
		}
		out = append(out, w)
	}
	return out
}

// everything changes each setting of each NIC.
func everything(t testing.TB, nics []inventory.NIC) []policies.Want {
	return want(t, nics,
		"eth1 third c=on", "eth0 second a=7 b=70", "eth0 first a=5 c=on",
		"eth1 first b=50", "eth0 third a=max b=max c=on", "eth1 second a=3 b=30",
	)
}

func engine(t testing.TB, h *host, dir string) *Engine {
	t.Helper()
	store, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &Engine{Settings: toySettings(), Writer: h, Store: store, Settle: 30 * time.Millisecond}
}

func mustPlan(t testing.TB, h *host, wants []policies.Want) *Plan {
	t.Helper()
	p, err := MakePlan(t.Context(), h, toySettings(), wants, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pendingJournal is the only journal under way, nil if there is none.
func pendingJournal(t testing.TB, dir string) []byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pendingDir, "*"))
	if err != nil || len(paths) > 1 {
		t.Fatal(paths, err)
	}
	if len(paths) == 0 {
		return nil
	}
	b, err := os.ReadFile(paths[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var allowAll = Request{UID: 0, User: "root", Reason: "test", Allow: NICReset}

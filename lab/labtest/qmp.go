package labtest

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// QMP gives a command to the VM's own monitor (QEMU's QMP) and returns the answer's "return"
// member; the test ends when the monitor refuses. Devices have the ids of lab/labrun/profile.go:
//
//	labtest.QMP(t, `{"execute": "set_link", "arguments": {"name": "igb0", "up": false}}`)
func QMP(t testing.TB, command string) json.RawMessage {
	t.Helper()
	r, err := qmp(command)
	if err != nil {
		t.Fatalf("QMP %s: %v", command, err)
	}
	return r
}

// SetLink plugs the cable of a device in, or pulls it out; at the end of the test it is in.
func SetLink(t testing.TB, device string, up bool) {
	t.Helper()
	const command = `{"execute": "set_link", "arguments": {"name": %q, "up": %t}}`
	QMP(t, fmt.Sprintf(command, device, up))
	if !up {
		t.Cleanup(func() { QMP(t, fmt.Sprintf(command, device, true)) })
	}
}

// Unplug pulls a card out of the running machine, the way a hot-plug slot does it: the guest is
// asked first and lets go. It returns when the card is out; the interface went before.
func Unplug(t testing.TB, device string) {
	t.Helper()
	QMP(t, fmt.Sprintf(`{"execute": "device_del", "arguments": {"id": %q}}`, device))
	Unplugged(t, device)
}

// Unplugged waits until a card is out whose slot was told to let go of it.
func Unplugged(t testing.TB, device string) {
	t.Helper()
	Eventually(t, device+" is out of its slot", func() bool {
		var left []struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(QMP(t, `{"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}}`), &left); err != nil {
			t.Fatal(err)
		}
		for _, d := range left {
			if d.Name == device {
				return false
			}
		}
		return true
	})
}

// PowerCut stops the machine at once: nothing is flushed, no process ends, this call does not
// return. The runner exits with 99.
func PowerCut(t testing.TB) {
	t.Helper()
	_, err := qmp(`{"execute": "quit"}`)
	time.Sleep(patience)
	t.Fatalf("the power is still on: %v", err)
}

func qmp(command string) (json.RawMessage, error) {
	f, err := os.OpenFile("/dev/lab.qmp", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The port's file has no deadline: a reader that hangs is left behind, and its result unread.
	type answer struct {
		value json.RawMessage
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		d := json.NewDecoder(f)
		// The monitor stays connected from one test to the next, so that only the first
		// one's greeting is answered; to the others it says that this is done already.
		_, err := ask(f, d, `{"execute": "qmp_capabilities"}`)
		var refused *monitorError
		if err != nil && !errors.As(err, &refused) {
			done <- answer{nil, err}
			return
		}
		v, err := ask(f, d, command)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-time.After(patience):
		return nil, fmt.Errorf("no answer in %v", patience)
	}
}

// monitorError is the monitor's own word.
type monitorError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *monitorError) Error() string { return e.Desc }

// ask sends a command and reads to its answer, over the greeting, events, and what an earlier
// reader left behind.
func ask(f *os.File, d *json.Decoder, command string) (json.RawMessage, error) {
	var c map[string]any
	if err := json.Unmarshal([]byte(command), &c); err != nil {
		return nil, err
	}
	id := rand.Text()
	c["id"] = id
	line, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	for {
		var m struct {
			ID     string          `json:"id"`
			Return json.RawMessage `json:"return"`
			Error  *monitorError   `json:"error"`
		}
		if err := d.Decode(&m); err != nil {
			return nil, err
		}
		switch {
		case m.ID != id:
		case m.Error != nil:
			return nil, m.Error
		default:
			return m.Return, nil
		}
	}
}

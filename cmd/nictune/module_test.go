package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nictune/nictune/inventory/module"
)

const moduleDumps = "../../inventory/module/testdata/"

func TestModuleDecode(t *testing.T) {
	decode := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), append([]string{"module", "decode"}, args...), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	code, out, errs := decode(moduleDumps + "qsfp-40g-sr4-finisar-ftl410qe3c.hex")
	if code != exitOK || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for _, want := range []string{
		"Vendor name                               : FINISAR CORP\n",
		"Rcvr signal avg optical power (Channel 2) : 1.0209 mW / 0.09 dBm\n",
		"Length (OM4 50um)                         : 150m\n",
		"Checksum CC_BASE, page 00h                : ok\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	code, out, errs = decode("-o", "json", moduleDumps+"sfp-10g-sr-finisar-ftlx8571d3bcl-mup0wb0.hex")
	var m module.Module
	if err := json.Unmarshal([]byte(out), &m); err != nil || code != exitOK {
		t.Fatalf("exit %d: %v %s", code, err, errs)
	}
	if lane := m.DOM.Lanes[0]; m.SerialNumber != "MUP0WB0" || lane.RXPower.Light != "unused" || !lane.RXPower.Flags.LowAlarm || m.DOM.Thresholds.RXPower.LowAlarm.Value != 0.01 {
		t.Errorf("%s", out)
	}

	several := filepath.Join(t.TempDir(), "ports.txt")
	port := func(name, byte0 string) string {
		return "EEPROM hexdump for port " + name + "\n  A0h dump\n  00000000 " + byte0 + " 04 07 |...|\n"
	}
	if err := os.WriteFile(several, []byte(port("Ethernet0", "03")+port("Ethernet4", "06")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{several}, "it holds 2 modules: name one with --port: Ethernet0, Ethernet4"},
		{[]string{several, "--port", "Ethernet9"}, "it has no port Ethernet9, but Ethernet0, Ethernet4"},
		{[]string{several, "--port", "Ethernet4"}, "no SFP, QSFP or CMIS module"},
		{[]string{moduleDumps + "SOURCES.md", "-o", "json"}, "is neither a heading nor bytes"},
		{[]string{"no-such-file"}, "no such file"},
		{[]string{several, "-o", "xml"}, "unknown output format"},
	} {
		if code, out, errs := decode(test.args...); code != exitError || out != "" || !strings.Contains(errs, test.want) {
			t.Errorf("%q: exit %d, %q, want %q", test.args, code, errs, test.want)
		}
	}
	if code, out, _ := decode(several, "--port", "Ethernet0"); code != exitOK || !strings.Contains(out, "Connector                                 : 0x07 (LC)") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestModulesOfARecordedHost: a recording made without them says so, and a NIC
// that has none is an error with its name.
func TestModulesOfARecordedHost(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"module", "show", "no-such-nic"}, exitError, "no network device matches"},
		{[]string{"module", "show", "eth*"}, exitError, "not in this recording"},
		{[]string{"inventory", "--modules"}, exitOK, "not in this recording"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), append([]string{"--host", labHost}, test.args...), &stdout, &stderr)
		if code != test.code || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%q: exit %d, %s", test.args, code, stderr.String())
		}
	}
}

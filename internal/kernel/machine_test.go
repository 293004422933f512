package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMachine(t *testing.T) {
	tree := func(files map[string]string) string {
		dir := t.TempDir()
		for name, content := range files {
			name = filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, test := range []struct {
		name   string
		files  map[string]string
		want   Machine
		reason Reason
	}{
		{"SMBIOS", map[string]string{
			"sys/class/dmi/id/sys_vendor": "Dell Inc.\n", "sys/class/dmi/id/product_name": "PowerEdge R640\n",
			"sys/class/dmi/id/bios_version": "2.21.2\n",
		}, Machine{Vendor: "Dell Inc.", Product: "PowerEdge R640", BIOSVersion: "2.21.2"}, ""},
		{"device tree", map[string]string{"sys/firmware/devicetree/base/model": "Raspberry Pi 4 Model B Rev 1.5\x00"},
			Machine{Product: "Raspberry Pi 4 Model B Rev 1.5"}, ""},
		{"neither", nil, Machine{}, Unsupported},
	} {
		got, err := readMachine(tree(test.files))
		if got != test.want || ReasonOf(err) != test.reason {
			t.Errorf("%s: got %+v, %v; want %+v and reason %q", test.name, got, err, test.want, test.reason)
		}
	}
}

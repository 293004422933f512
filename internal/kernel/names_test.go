package kernel

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// somePCIIDs has the form of pci.ids, with names of its own.
const somePCIIDs = `#	comment
8086  Maker
	10c9  Card
		8086 a03c  Board
		103c a03c  Another maker's board
	10fb  Faster card
1af4  Virtual maker
	1000  Virtual card
C 02  Network controller
	00  Ethernet controller
	80  Other
C 03  Display controller
	00  VGA
`

const igbModalias = "pci:v00008086d000010C9sv00008086sd0000A03Cbc02sc00i00"

func writePCIIDs(t testing.TB, root, name, text string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if strings.HasSuffix(name, ".gz") {
		z := gzip.NewWriter(f)
		_, err = z.Write([]byte(text))
		if err == nil {
			err = z.Close()
		}
	} else {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPCINames(t *testing.T) {
	root := t.TempDir()
	p := &pciNames{root: root}
	if _, err := p.lookUp(igbModalias); ReasonOf(err) != Unsupported || !strings.Contains(err.Error(), "install your distribution's package") {
		t.Fatalf("without the file: %v (%s)", err, ReasonOf(err))
	}
	writePCIIDs(t, root, "usr/share/misc/pci.ids.gz", somePCIIDs)
	for _, test := range []struct {
		modalias string
		want     PCINames
	}{
		{igbModalias, PCINames{"Maker", "Card", "Board", "Ethernet controller"}},
		{igbModalias + "\n", PCINames{"Maker", "Card", "Board", "Ethernet controller"}},
		{"pci:v00008086d000010C9sv0000103Csd0000A03Cbc02sc80i00", PCINames{"Maker", "Card", "Another maker's board", "Other"}},
		{"pci:v00008086d000010C9sv00001028sd0000A03Cbc02sc99i00", PCINames{"Maker", "Card", "", "Network controller"}},
		{"pci:v00008086d0000FFFFsv00000000sd00000000bc99sc00i00", PCINames{Vendor: "Maker"}},
		{"pci:v00001AF4d00001000sv00000000sd00000000bc02sc00i00", PCINames{"Virtual maker", "Virtual card", "", "Ethernet controller"}},
		{"pci:v0000FFFEd00001000sv00000000sd00000000bc99sc00i00", PCINames{}},
	} {
		if got, err := p.lookUp(test.modalias); got != test.want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", test.modalias, got, err, test.want)
		}
	}
	for _, bad := range []string{"", "pci:", "virtio:d00000001v00001AF4", "pci:v8086d10C9", igbModalias[:45], strings.Replace(igbModalias, "10C9", "10G9", 1)} {
		if got, err := p.lookUp(bad); ReasonOf(err) != Failed || got != (PCINames{}) || !strings.Contains(err.Error(), "not the modalias of a PCI function") {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

func TestDamagedPCIIDs(t *testing.T) {
	for _, text := range []string{"8086", "\t10c9  Card without a maker\n", "C", "8086  Maker\n\t1\n"} {
		p := &pciNames{root: t.TempDir()}
		writePCIIDs(t, p.root, "usr/share/hwdata/pci.ids", text)
		_, err := p.lookUp(igbModalias)
		if ReasonOf(err) != Failed || !strings.Contains(err.Error(), "malformed answer: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPCINamesOfThisHost uses the file that a user's host has.
func TestPCINamesOfThisHost(t *testing.T) {
	l := open(t)
	names, err := l.PCINames(t.Context(), igbModalias)
	if ReasonOf(err) == Unsupported && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil || !strings.Contains(names.Vendor, "Intel") || !strings.HasPrefix(names.Device, "82576") || names.Class != "Ethernet controller" {
		t.Errorf("%+v, %v", names, err)
	}
}

func BenchmarkPCINamesFirst(b *testing.B) {
	for b.Loop() {
		if _, err := new(pciNames).lookUp(igbModalias); err != nil {
			b.Skip(err)
		}
	}
}

func BenchmarkPCINames(b *testing.B) {
	var p pciNames
	for b.Loop() {
		if _, err := p.lookUp(igbModalias); err != nil {
			b.Skip(err)
		}
	}
}

func FuzzParseModalias(f *testing.F) {
	f.Add(igbModalias)
	f.Add("pci:")
	f.Add("pci:v00008086d000010C9sv")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := parseModalias(s)
		if ok && (len(id.vendor) != 4 || len(id.subDevice) != 4 || len(id.subclass) != 2) {
			t.Errorf("%q: %+v", s, id)
		}
	})
}

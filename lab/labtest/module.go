package labtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ModulePage is what a page of a pluggable module's memory is called: two-wire address,
// bank, number, and whether it is an upper one.
type ModulePage struct {
	Address, Bank, Number uint8
	Upper                 bool
}

// ModuleMemory is the memory of a pluggable module: 128 bytes of each page that it has.
type ModuleMemory map[ModulePage][]byte

// ModuleDump reads a dump of sections ([a0], [lower], [bank 1 page 11], ...).
func ModuleDump(t testing.TB, path string) ModuleMemory {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	memory := ModuleMemory{}
	var at ModulePage
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			at = ModulePage{Address: 0x50}
			words := strings.Fields(strings.Trim(line, "[]"))
			for i := 0; i+1 < len(words); i += 2 {
				n, err := strconv.ParseUint(words[i+1], 16, 8)
				if err != nil {
					t.Fatalf("%s: %s: %v", path, line, err)
				}
				if at.Upper = true; words[i] == "bank" {
					at.Bank = uint8(n)
				} else {
					at.Number = uint8(n)
				}
			}
			if words[0] == "a2" {
				at.Address = 0x51
			}
		default:
			row, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
			if err != nil {
				t.Fatalf("%s: %s: %v", path, line, err)
			}
			if len(memory[at]) == 128 { // an SFP's other half
				at.Upper = true
			}
			memory[at] = append(memory[at], row...)
		}
	}
	return memory
}

// Clone copies a memory, to be changed.
func (m ModuleMemory) Clone() ModuleMemory {
	out := ModuleMemory{}
	for p, data := range m {
		out[p] = slices.Clone(data)
	}
	return out
}

// Dump is the memory as [ModuleDump] reads it.
func (m ModuleMemory) Dump() []byte {
	var b bytes.Buffer
	for p, data := range m {
		switch {
		case !p.Upper && p.Address == 0x51:
			b.WriteString("[a2]\n")
		case !p.Upper:
			b.WriteString("[lower]\n")
		default:
			fmt.Fprintf(&b, "[bank %x page %02x]\n", p.Bank, p.Number)
		}
		for row := range slices.Chunk(data, 16) {
			fmt.Fprintf(&b, "% x\n", row)
		}
	}
	return b.Bytes()
}

// Plug puts a module into a cage of netdevsim. Its flags clear when they are read, and
// are raised again where what they tell of goes on.
func Plug(t testing.TB, ifname string, memory ModuleMemory, goesOn bool) {
	t.Helper()
	var image []byte
	for p, data := range memory {
		upper := byte(0)
		if p.Upper {
			upper = 1
		}
		if goesOn {
			upper |= 2
		}
		image = append(append(image, p.Address, p.Bank, p.Number, upper), append(data, make([]byte, 128-len(data))...)...)
	}
	if err := os.WriteFile(debugFile(t, ifname, "ethtool/module"), image, 0); err != nil {
		t.Fatal(err)
	}
}

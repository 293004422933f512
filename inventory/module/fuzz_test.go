package module

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var images = flag.Int("images", 5000, "how many random images to decode")

// corpus are the dumps of testdata, as images, and two modules that measure what none
// of those does.
func corpus(t testing.TB) []*Image {
	paths, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(paths) == 0 {
		t.Fatal("no dumps: ", err)
	}
	var out []*Image
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		dumps, err := ParseDump(data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &dumps[0].Image)
	}
	return append(out, &cooledSFP(t).sfpSums().image, &adaptiveQSFP(t).qsfpSums().image)
}

// clone copies an image with another content of the bytes that were not read.
func clone(image *Image, unread func() byte) *Image {
	out := &Image{pages: map[Page]*memory{}}
	for p, m := range image.pages {
		c := *m
		for i := range c.bytes {
			if !c.known[i] {
				c.bytes[i] = unread()
			}
		}
		out.pages[p] = &c
	}
	return out
}

// check decodes an image and holds what must be true of any.
func check(t testing.TB, image *Image, random func() byte) {
	m, err := Decode(image)
	if err != nil {
		if m != nil {
			t.Fatal("a module beside an error")
		}
		return
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatalf("no JSON: %v", err) // NaN, for one
	}
	again, err := Decode(clone(image, random))
	if err != nil || !reflect.DeepEqual(m, again) {
		t.Fatalf("decoded something that was not read (%v):\n%s", err, text)
	}
	// What a page alone can tell is absent without it.
	for absent, told := range map[Page]bool{
		Lower():                            m.State != nil || len(m.Applications) != 0 || m.Standard == SFF8472 && (m.Vendor != "" || m.Connector != nil),
		Upper(0):                           m.Standard != SFF8472 && (m.Vendor != "" || m.Connector != nil || m.SerialNumber != "" || m.Power != nil),
		{Address: AddressA2, Lower: true}:  m.Standard == SFF8472 && (m.DOM != nil || m.Observables != nil),
		{Address: AddressA0, Number: 1}:    m.Standard == CMIS && m.Wavelength != nil,
		{Address: AddressA0, Number: 2}:    m.Standard == CMIS && m.DOM != nil && m.DOM.Thresholds != Thresholds{},
		{Address: AddressA0, Number: 3}:    m.Standard == SFF8636 && m.DOM != nil && m.DOM.Thresholds != Thresholds{},
		{Address: AddressA0, Number: 0x11}: m.Standard == CMIS && m.DOM != nil && len(m.DOM.Lanes) > 0 && m.DOM.Lanes[0].Number == 1,
	} {
		if told && image.page(absent) == nil {
			t.Fatalf("%s was not read, but there is something of it:\n%s", absent, text)
		}
	}
	for _, o := range m.Observables {
		if o.Verdict != "" && (len(m.Doubts) > 0 || o.Thresholds == nil) {
			t.Fatalf("judged %+v, doubts %q", o, m.Doubts)
		}
	}
	if len(m.Doubts) > 0 && m.DOM != nil {
		for _, l := range m.DOM.Lanes {
			for _, v := range []*Monitor{l.Bias, l.TXPower, l.RXPower} {
				if v != nil && v.Verdict != "" {
					t.Fatalf("judged in spite of doubts %q", m.Doubts)
				}
			}
		}
	}
}

// mutate makes one image of a seed: a dump with pages and bytes missing and some
// changed, or pages of nothing but random bytes.
func mutate(seed *Image, r *rand.Rand) *Image {
	out := clone(seed, func() byte { return 0 })
	if r.IntN(4) == 0 {
		out = new(Image)
		identifiers := []byte{0x03, 0x0b, 0x0c, 0x0d, 0x11, 0x18, 0x19, 0x1e, byte(r.Uint32())}
		pages := []Page{Lower(), Upper(0), {Address: AddressA2, Lower: true}, Upper(1), Upper(2), Upper(3), Upper(0x11), Upper(0x13), Upper(0x14), Upper(0x20), Upper(0x24), Upper(0x28), Upper(0x2c)}
		for _, p := range pages[:1+r.IntN(len(pages))] {
			p.Bank = uint8(r.IntN(8) / 5)
			data := make([]byte, pageSize)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			if p.Lower && p.Address == AddressA0 {
				data[0] = identifiers[r.IntN(len(identifiers))]
			}
			first := pageSize
			if p.Lower {
				first = 0
			}
			_ = out.Set(p, first, data) // the whole page
		}
	}
	pages := out.Pages()
	for range r.IntN(12) {
		m := out.pages[pages[r.IntN(len(pages))]]
		m.bytes[r.IntN(pageSize)] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 {
		delete(out.pages, pages[r.IntN(len(pages))])
	}
	if pages = out.Pages(); len(pages) > 0 && r.IntN(3) == 0 {
		m := out.pages[pages[r.IntN(len(pages))]]
		from := r.IntN(pageSize)
		for i := range m.known[from:min(pageSize, from+1+r.IntN(40))] {
			m.known[from+i] = false
		}
	}
	return out
}

// TestRandomImages decodes many images that are like modules and are none. A
// million: go test ./inventory/module -run RandomImages -v -args -images 1000000
func TestRandomImages(t *testing.T) {
	seeds := corpus(t)
	r := rand.New(rand.NewPCG(8472, 8636)) //nolint:gosec // the same images each time
	decoded := 0
	for range *images {
		image := mutate(seeds[r.IntN(len(seeds))], r)
		check(t, image, func() byte { return byte(r.Uint32()) })
		if _, err := Decode(image); err == nil {
			decoded++
		}
	}
	t.Logf("%d images, %d of them decoded", *images, decoded)
	if decoded < *images/2 {
		t.Error("too few were modules to say anything")
	}
}

// FuzzImage takes raw bytes as pages: which they are is in the first bytes.
func FuzzImage(f *testing.F) {
	for _, image := range corpus(f) {
		var raw []byte
		for _, p := range image.Pages() {
			kind := byte(0)
			if p.Lower {
				kind |= 1
			}
			if p.Address == AddressA2 {
				kind |= 2
			}
			raw = append(raw, kind, p.Bank, p.Number)
			raw = append(raw, image.pages[p].bytes[:]...)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		image := new(Image)
		for len(raw) > 3 {
			p := Page{Address: AddressA0, Lower: raw[0]&1 != 0, Bank: raw[1] & 3, Number: raw[2]}
			if raw[0]&2 != 0 {
				p.Address = AddressA2
			}
			data := raw[3:min(len(raw), 3+pageSize)]
			first := pageSize
			if p.Lower {
				first = 0
			}
			if err := image.Set(p, first, data); err != nil {
				t.Fatal(err)
			}
			raw = raw[3+len(data):]
		}
		check(t, image, func() byte { return 0xa5 })
	})
}

// FuzzDump: any file is a dump or an error, and a dump can be decoded or not.
func FuzzDump(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(paths) == 0 {
		f.Fatal("no dumps: ", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(sonicDump))
	f.Add([]byte("Offset\t\tValues\n------\t\t------\n0x0000:\t\t11 07 02 00\n"))
	f.Add([]byte{0x03, 0x04, 0x07, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		dumps, err := ParseDump(data)
		if err == nil && len(dumps) == 0 {
			t.Fatal("neither a dump nor an error")
		}
		for i := range dumps {
			check(t, &dumps[i].Image, func() byte { return 0x5a })
		}
	})
}

package metrics

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
)

// small is a small piece of so many lines that are like no others.
func small(lines int, random *rand.Rand) piece {
	var b strings.Builder
	for range lines {
		fmt.Fprintf(&b, "nictune_network_%d{device=\"eth%d\"} %d\n", random.IntN(5), random.IntN(9), random.Uint32())
	}
	return piece{bytes: []byte(b.String()), lines: lines}
}

// Whatever changes, comes and goes, a page says what its pieces do.
func TestPackedPiecesSayTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var e encoder
	large := func() (p piece, text string) {
		text = string(small(100, random).bytes)
		e.plain = append(e.plain[:0], text...)
		p, err := e.form(gzip, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		return p, text
	}
	type part struct {
		piece piece
		text  string
	}
	one := func() part {
		if random.IntN(6) == 0 {
			p, text := large()
			return part{p, text}
		}
		p := small(1+random.IntN(40), random)
		return part{p, string(p.bytes)}
	}
	parts := make([]part, 50)
	for i := range parts {
		parts[i] = one()
	}
	var bundles []bundle
	for round := range 300 {
		busy := random.IntN(10)
		var page []piece
		var want strings.Builder
		for i := range parts {
			parts[i].piece.fresh = round == 0
			if random.IntN(12) < busy && i%3 == 0 {
				parts[i] = one()
				parts[i].piece.fresh = true
			}
			if round%7 == 3 && i%5 == round%5 {
				continue // this scrape doesn't ask for it
			}
			page = append(page, parts[i].piece)
			want.WriteString(parts[i].text)
		}
		packed, made, err := e.pack(page, gzip, bundles)
		if err != nil {
			t.Fatal(err)
		}
		bundles = made
		var body bytes.Buffer
		if err := assemble(packed, gzip).send(&body, nil); err != nil {
			t.Fatal(err)
		}
		z, err := stdgzip.NewReader(&body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || string(got) != want.String() {
			t.Fatalf("round %d: %v, %d bytes, want %d", round, err, len(got), want.Len())
		}
	}
}

// What stays the same is compressed once, however much changes beside it.
func TestOnlyWhatChangedIsCompressed(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var e encoder
	pieces := make([]piece, 40)
	for i := range pieces {
		pieces[i] = small(8, random)
	}
	var bundles []bundle
	pack := func(changed ...int) (made []bundle) {
		t.Helper()
		page := append([]piece{}, pieces...)
		for _, i := range changed {
			pieces[i] = small(8, random)
			page[i] = pieces[i]
			page[i].fresh = true
		}
		_, made, err := e.pack(page, gzip, bundles)
		if err != nil {
			t.Fatal(err)
		}
		bundles = made
		return made
	}
	kept := func(before, now []bundle) (n int) {
		for _, b := range now {
			for _, c := range before {
				if &b.whole.bytes[0] == &c.whole.bytes[0] {
					n += len(b.texts)
				}
			}
		}
		return n
	}
	first := pack()
	if again := pack(); kept(first, again) != len(pieces) {
		t.Errorf("nothing changed, and %d of %d are kept", kept(first, again), len(pieces))
	}
	counters := []int{10, 11, 13, 14} // the 12th is too little to stand apart
	before := pack(counters...)
	now := pack(counters...)
	if got, want := kept(before, now), len(pieces)-5; got != want {
		t.Errorf("%d are kept while 5 stand with what changes, want %d", got, want)
	}
	if still := pack(); kept(now, still) != len(pieces) {
		t.Errorf("nothing changed, and %d of %d are kept", kept(now, still), len(pieces))
	}
	if got := kept(now, pack(10)); got < len(pieces)-5 {
		t.Errorf("one changed, and %d are kept", got)
	}
}

// A page of few devices is hardly longer than if all of it were compressed together.
func TestPageOfFewDevicesIsSmall(t *testing.T) {
	h := handler(t, exporter(t, example))
	r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("Accept-Encoding", "gzip")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	_, _, text := served(t, h, "", asText, "identity")
	var whole bytes.Buffer
	z, err := flate.NewWriter(&whole, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	_, err = z.Write([]byte(text))
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	if got, most := w.Body.Len(), whole.Len()*3/2; got > most {
		t.Errorf("%d bytes, %d compressed together: more than %d", got, whole.Len(), most)
	} else {
		t.Logf("%d bytes of text, %d compressed, %d compressed together", len(text), got, whole.Len())
	}
}

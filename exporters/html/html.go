// Package html renders reports as pages for people: one file each, that needs nothing
// else. It can be mailed, printed, opened from a disk and read in ten years.
//
// A report is full of what hosts, drivers and modules say of themselves, and some of
// them lie. Three things stand between that and the reader's browser: html/template
// escapes every value for the place where it stands; values go into text and a few
// harmless attributes and never into a script or a style; and the page's own
// Content-Security-Policy runs the one script and takes the one style whose hashes it
// names, and loads nothing from anywhere.
//
// Everything is readable without the script, which only filters, searches and sorts.
//
// The room renders what it is given. It asks no host and judges nothing.
package html

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

//go:embed page
var files embed.FS

// look is what all pages share.
type look struct {
	Style  template.CSS
	Script template.JS
	// Policy is what the browser may do with the page.
	Policy string
}

// page is one parsed page.
type page struct {
	*template.Template
	look look
}

// pages parses the templates when the first page is written, and not in every command.
var pages = sync.OnceValues(func() (map[string]page, error) {
	style, err := files.ReadFile("page/page.css")
	if err != nil {
		return nil, err
	}
	script, err := files.ReadFile("page/page.js")
	if err != nil {
		return nil, err
	}
	shared := look{
		Style: template.CSS(style), Script: template.JS(script),
		// Trusted types: the script can't make markup from text even if it wanted to.
		Policy: fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
			hash(script), hash(style)),
	}
	all := map[string]page{}
	for _, name := range []string{"host", "fleet"} {
		t, err := template.New("page.html").Funcs(words).ParseFS(files, "page/page.html", "page/"+name+".html")
		if err != nil {
			return nil, err
		}
		all[name] = page{t, shared}
	}
	return all, nil
})

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// write renders the page called name.
func write(w io.Writer, name, title string, content any) error {
	all, err := pages()
	if err != nil {
		return err
	}
	p := all[name]
	var out bytes.Buffer
	if err := p.Execute(&out, struct {
		look
		Title string
		Page  any
	}{p.look, title, content}); err != nil {
		return err
	}
	_, err = w.Write(printable(out.Bytes()))
	return err
}

// printable is the page without what no browser should be asked to make sense of:
// bytes that are no UTF-8, control characters, and those that turn the direction of
// writing around, with which "fail" can be made to look like something else. The
// page's own text has none of them.
func printable(out []byte) []byte {
	if !bytes.ContainsFunc(out, unprintable) {
		return out
	}
	return bytes.Map(func(r rune) rune {
		if unprintable(r) {
			return utf8.RuneError
		}
		return r
	}, out)
}

func unprintable(r rune) bool {
	switch r {
	case '\n', '\t':
		return false
	case utf8.RuneError:
		return true // a byte that is no UTF-8, or what stands for one already
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// short cuts what is drawn, and can't be wrapped, to so many characters.
func short(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

// count says "1 NIC", "2 NICs".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// listed joins names as people do, and says how many more there are than most.
func listed(names []string, most int) string {
	more := len(names) - most
	if more == 1 {
		more, most = 0, most+1
	}
	switch {
	case more > 0:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	case len(names) > 1:
		return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	}
	return strings.Join(names, "")
}

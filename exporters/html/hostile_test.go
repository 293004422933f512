package html

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile are what hosts may call their devices. Each tries to be markup, script, style
// or an address somewhere.
var hostile = []string{
	"\"'><script>hacked=1</script><img src=x onerror=hacked=2></title></style></textarea></script></svg>--><svg onload=hacked=3><a href=javascript:hacked=4>\r\n\t\x00\xff\xfe\u202e\u2028{{.Title}}${hacked=5}`",
	"javascript:hacked=6",
	"https://example.com/\" onmouseover=\"hacked=7",
	"https://example.com/' style='background:url(https://example.com/x)'<!--",
	"unseen count hacked",
	"",
}

// fill puts a text into every string below v: fields, elements, keys of maps. Named
// types such as a status keep what they have unless all is set.
func fill(v reflect.Value, text string, all bool) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			fill(v.Elem(), text, all)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, all)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), text, all)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			fill(value, text, all)
			if key.Kind() == reflect.String {
				v.SetMapIndex(key, reflect.Value{})
				renamed := reflect.New(key.Type()).Elem()
				renamed.Set(key)
				fill(renamed, text, all)
				key = renamed
			}
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		if all || v.Type() == reflect.TypeFor[string]() {
			v.SetString(text)
		}
	}
}

// kinds are the names of all elements and attributes of the page.
const kinds = `[...new Set(Array.from(document.querySelectorAll("*")).flatMap((e) => [e.tagName.toLowerCase(), ...Array.from(e.attributes, (a) => "@" + a.name.toLowerCase())]))].sort()`

// TestHostileHost fills each string of a report with what tries to break out, and looks
// at what the browser made of it.
func TestHostileHost(t *testing.T) {
	b := newBrowser(t)
	b.open(hostBytes(t, exampleReport(4, 8)))
	b.until("the script ran", `!document.querySelector("form.filters").hidden`)
	var usual []string
	b.run(kinds, &usual)
	for _, all := range []bool{false, true} {
		for i, text := range hostile {
			r := exampleReport(4, 8)
			fill(reflect.ValueOf(r), text, all)
			b.harmless(fmt.Sprintf("text %d, all %t", i, all), hostBytes(t, r), text, usual)
		}
	}
}

// harmless opens a page full of a text and fails where that is anything but text.
func (b *browser) harmless(what string, page []byte, text string, usual []string) {
	b.t.Helper()
	if !utf8.Valid(page) || bytes.ContainsAny(page, "\x00\u202e\u2028") {
		b.t.Errorf("%s: the page has bytes that it should not", what)
	}
	address := b.open(page)
	b.until("the script ran", `document.querySelector("form.filters") === null || !document.querySelector("form.filters").hidden`)
	var is []string
	b.run(kinds, &is)
	for _, kind := range is {
		// A source that is an address becomes a link, which the example has none of.
		if !slices.Contains(usual, kind) && kind != "@rel" {
			b.t.Errorf("%s: the page has %q", what, kind)
		}
	}
	var faults []string
	b.run(`(() => {
  const faults = [];
  if (typeof hacked !== "undefined") faults.push("it ran: hacked is " + hacked);
  for (const [tag, n] of [["script", 1], ["style", 1], ["title", null], ["meta", 5], ["link", 1], ["base", 0], ["iframe", 0], ["img", 0]]) {
    const is = document.getElementsByTagName(tag).length;
    if (n !== null && is !== n) faults.push(is + " of " + tag);
  }
  for (const e of document.querySelectorAll("[href]")) {
    const to = e.getAttribute("href");
    if (!to.startsWith("#") && !to.startsWith("https://example.com/") && to !== "data:,") faults.push("a link to " + to);
  }
  for (const e of document.querySelectorAll("[class~=hacked], [id~=hacked]")) faults.push("a class or an id from the report: " + e.outerHTML.slice(0, 80));
  return faults;
})()`, &faults)
	for _, f := range faults {
		b.t.Errorf("%s: %s", what, f)
	}
	if strings.Contains(text, "<script>") {
		var shown bool
		b.run(`document.body.textContent.includes("<script>hacked=1</script>")`, &shown)
		if !shown {
			b.t.Errorf("%s: the text is not shown as it is", what)
		}
	}
	// Filters and sorting handle it, too.
	b.run(`(() => {
  for (const e of document.querySelectorAll("button")) e.click();
  for (const e of document.querySelectorAll("select, input")) { e.value = e.tagName === "SELECT" ? e.options[e.options.length - 1].value : "hacked"; e.dispatchEvent(new Event("input", { bubbles: true })); }
  for (const e of document.querySelectorAll("[data-show-nic]")) e.click();
})()`, nil)
	b.quiet(address)
}

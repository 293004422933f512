package html

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nictune/nictune/audit"
)

func hostBytes(t *testing.T, r *audit.HostReport) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Host(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// visible counts what matches a selector and is shown.
func visible(selector string) string {
	return fmt.Sprintf(`Array.from(document.querySelectorAll(%q)).filter((e) => e.checkVisibility({contentVisibilityAuto: true})).length`, selector)
}

// shown counts findings that the filters leave.
const shown = `document.querySelectorAll("details.rule tbody tr[data-status]:not([hidden])").length`

func TestHostPageByKeyboard(t *testing.T) {
	b := newBrowser(t)
	report := exampleReport(8, 64)
	address := b.open(hostBytes(t, report))
	b.until("the script ran", `!document.querySelector("form.filters").hidden`)
	count := func(expression string) int {
		t.Helper()
		var n int
		b.run(expression, &n)
		return n
	}
	if n := count(shown); n != len(report.Findings) {
		t.Errorf("%d findings, want %d", n, len(report.Findings))
	}

	// The first Tab leads to the link that skips what every page begins with.
	b.press("Tab")
	var focus string
	b.run(`document.activeElement.className`, &focus)
	if focus != "skip" {
		t.Errorf("the first Tab leads to %q", focus)
	}
	b.press("Enter")
	b.until("the main part has the focus", `document.activeElement.id === "main"`)

	// A tile filters, and lets go again.
	critical := 0
	for _, f := range report.Findings {
		if f.Status == "fail" && f.Severity == "critical" {
			critical++
		}
	}
	if critical == 0 || critical == len(report.Findings) {
		t.Fatal("the example has nothing to filter")
	}
	b.tabTo("button.tile.critical")
	var ring string
	b.run(`getComputedStyle(document.activeElement).outlineStyle + " " + getComputedStyle(document.activeElement).outlineWidth`, &ring)
	if ring != "solid 3px" {
		t.Errorf("the focus is shown as %q", ring)
	}
	b.press(" ")
	b.until("critical failures", fmt.Sprintf(`%s === %d && document.activeElement.getAttribute("aria-pressed") === "true"`, shown, critical))
	b.until("the count is said", fmt.Sprintf(`document.getElementById("count").textContent.startsWith("%d of %d findings")`, critical, len(report.Findings)))
	b.press("Enter")
	b.until("all findings", fmt.Sprintf(`%s === %d && document.activeElement.getAttribute("aria-pressed") === "false"`, shown, len(report.Findings)))

	// What passes is folded until it is asked for, and again when it isn't any more.
	passing := visible(`details.part[data-standing="pass"] details.rule > summary`)
	if n := count(passing); n != 0 {
		t.Errorf("%d rules that pass stand open", n)
	}
	b.tabTo("button.tile.pass")
	b.press("Enter")
	b.until("what passes", passing+` > 0 && `+visible(`details.rule[open] .rest tbody tr[data-status="pass"]`)+` > 0`)
	b.press("Enter")
	b.until("it is folded again", passing+` === 0 && `+visible(`.rest tbody tr`)+` === 0`)

	// Search by what a finding says, by two words that stand in different places.
	b.tabTo("#f-text")
	b.tapType("Ops-412 ens1f0")
	b.until("the waived one", shown+` === 1`)
	var text string
	b.run(`document.querySelector("details.rule tbody tr[data-status]:not([hidden])").textContent`, &text)
	if !strings.Contains(text, "the riser is on order") {
		t.Errorf("the search found %q", text)
	}
	// A rule that no finding is left of is not there, nor the heading over nothing.
	if rules, parts := count(visible("details.rule[data-group] > summary")), count(visible("[data-standing] h3")); rules != 1 || parts != 1 {
		t.Errorf("%d rules and %d headings are shown, want 1 and 1", rules, parts)
	}
	// A list is chosen from with the arrow keys.
	b.tabTo("#f-status")
	for range 3 {
		b.press("ArrowDown")
	}
	b.until("errors only", `document.getElementById("f-status").value === "error" && `+shown+` === 0`)
	b.tabTo(`button[type="reset"]`)
	b.press("Enter")
	b.until("all findings again", fmt.Sprintf(`%s === %d && document.getElementById("f-text").value === ""`, shown, len(report.Findings)))

	// A rule unfolds.
	b.tabTo("details.rule:not([open]) > summary")
	b.press("Enter")
	b.until("the rule is open", `document.activeElement.parentElement.open`)
	b.run(`document.getElementById("unfold").focus()`, nil)
	b.press(" ")
	b.until("all rules are open", `document.querySelectorAll("#f-text, details.rule[data-group]:not([open])").length === 1`)

	// Columns sort both ways, and say so.
	b.tabTo("details[open] table.sortable thead th:nth-child(4) button")
	lost := `Array.from(document.activeElement.closest("table").tBodies[0].rows, (r) => Number(r.cells[3].dataset.sort))`
	for _, want := range []struct {
		order   string
		compare func(a, b int) int
	}{{"ascending", func(a, b int) int { return a - b }}, {"descending", func(a, b int) int { return b - a }}} {
		b.press("Enter")
		b.until("sorted", fmt.Sprintf(`document.activeElement.closest("th").getAttribute("aria-sort") === %q`, want.order))
		var order []int
		b.run(lost, &order)
		if len(order) != 8 || !slices.IsSortedFunc(order, want.compare) {
			t.Errorf("%s: %v", want.order, order)
		}
	}

	// From a NIC's row to its findings.
	b.tabTo(`[data-show-nic]`)
	of := 0
	var name string
	b.run(`document.activeElement.closest("tr").querySelector("bdi").textContent`, &name)
	b.press("Enter")
	for _, f := range report.Findings {
		if f.Subject.Name == name {
			of++
		}
	}
	b.until("that NIC's findings", fmt.Sprintf(`%s === %d && document.getElementById("f-nic").selectedOptions[0].textContent === %q`, shown, of, name))

	b.quiet(address)
}

func TestHostPageLooks(t *testing.T) {
	b := newBrowser(t)
	for name, r := range map[string]*audit.HostReport{"small": exampleReport(2, 0), "big": exampleReport(8, 64)} {
		page := hostBytes(t, r)
		address := b.open(page)
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int{1280, 400} {
				if name == "big" && scheme+strconv.Itoa(width) == "dark400" {
					continue // nothing in it that the others don't have
				}
				b.media("screen", scheme)
				b.size(width, 1000)
				b.run(`for (const d of document.querySelectorAll("details")) d.open = true`, nil)
				what := fmt.Sprintf("%s-%s-%d", name, scheme, width)
				b.fits(what)
				b.readable(what)
				b.run(`for (const d of document.querySelectorAll("details")) d.open = d.hasAttribute("data-was")`, nil)
				b.picture("host-"+what, true)
			}
		}
		b.size(1280, 1000)
		b.media("", "light")
		b.named(name)
		if name == "small" {
			if pdf := b.paper("host-" + name); !bytes.HasPrefix(pdf, []byte("%PDF-")) {
				t.Errorf("%s: not printed", name)
			}
		}
		b.quiet(address)
	}
}

// fits fails where the page is wider than its window: what is wide scrolls in itself.
func (b *browser) fits(what string) {
	b.t.Helper()
	var wide []int
	b.run(`[document.documentElement.scrollWidth, document.documentElement.clientWidth]`, &wide)
	if wide[0] > wide[1] {
		var culprits []string
		b.run(`Array.from(document.querySelectorAll("body *")).filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".wide, .picture")).slice(0, 5).map((e) => e.tagName + "." + e.className + " " + e.textContent.slice(0, 40))`, &culprits)
		b.t.Errorf("%s: the page is %d wide, its window %d: %q", what, wide[0], wide[1], culprits)
	}
}

// readable fails where a text has less contrast to what is behind it than WCAG 2.2,
// 1.4.3 asks for.
func (b *browser) readable(what string) {
	b.t.Helper()
	var pale []string
	b.run(`(() => {
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { r: m[0], g: m[1], b: m[2], a: m.length > 3 ? m[3] : 1 }; };
  const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = (c) => 0.2126 * part(c.r) + 0.7152 * part(c.g) + 0.0722 * part(c.b);
  const behind = (e) => {
    for (let up = e; up; up = up.parentElement) {
      if (up instanceof SVGElement) {
        for (let s = e.previousElementSibling; s; s = s.previousElementSibling) if (s.tagName === "rect") return parse(getComputedStyle(s).fill);
      }
      const c = parse(getComputedStyle(up).backgroundColor);
      if (c.a === 1) return c;
    }
    return { r: 255, g: 255, b: 255, a: 1 };
  };
  const bad = new Set();
  let looked = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.textContent.trim() || ["SCRIPT", "STYLE", "OPTION", "title"].includes(e.tagName) || !e.checkVisibility()) continue;
    looked++;
    const style = getComputedStyle(e);
    const text = parse(e instanceof SVGElement ? style.fill : style.color);
    const a = light(text), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.add(e.tagName + "." + (e.getAttribute("class") ?? "") + " " + ratio.toFixed(2) + " " + n.textContent.trim().slice(0, 30));
  }
  if (looked < 200) bad.add("only " + looked + " texts were looked at");
  return Array.from(bad).slice(0, 10);
})()`, &pale)
	for _, p := range pale {
		b.t.Errorf("%s: too pale: %s", what, p)
	}
}

// named fails where something that a reader uses has no name, or a table no headers,
// or an id is there twice, or headings skip a level, as the browser's own tree of what
// is accessible has it.
func (b *browser) named(what string) {
	b.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored bool
			Role    struct{ Value string }
			Name    struct{ Value string }
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	seen, regions := map[string]int{}, map[string]bool{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		seen[n.Role.Value]++
		if n.Role.Value == "region" {
			if regions[n.Name.Value] {
				b.t.Errorf("%s: two regions are called %q", what, n.Name.Value)
			}
			regions[n.Name.Value] = true
		}
		switch n.Role.Value {
		case "button", "link", "textbox", "searchbox", "combobox", "checkbox", "region", "form", "search", "navigation", "heading", "columnheader", "rowheader", "DisclosureTriangle", "group":
			if strings.TrimSpace(n.Name.Value) == "" && n.Role.Value != "group" {
				b.t.Errorf("%s: a %s has no name", what, n.Role.Value)
			}
		}
	}
	for _, role := range []string{"main", "banner", "navigation", "heading", "button", "link", "columnheader", "rowheader", "DisclosureTriangle"} {
		if seen[role] == 0 {
			b.t.Errorf("%s: nothing has the role %s: %v", what, role, seen)
		}
	}
	var faults []string
	b.run(`(() => {
  const faults = [];
  const ids = new Set();
  for (const e of document.querySelectorAll("[id]")) { if (ids.has(e.id)) faults.push("the id " + e.id + " is there twice"); ids.add(e.id); }
  for (const e of document.querySelectorAll("[aria-labelledby], [for]")) for (const id of (e.getAttribute("aria-labelledby") ?? e.getAttribute("for")).split(" ")) if (!ids.has(id)) faults.push("no " + id);
  for (const e of document.querySelectorAll('a[href^="#"]')) if (!ids.has(e.getAttribute("href").slice(1))) faults.push("a link to " + e.getAttribute("href") + " leads nowhere");
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) { const n = Number(h.tagName[1]); if (n > level + 1) faults.push("after h" + level + " comes " + h.tagName + " " + h.textContent); level = n; }
  for (const t of document.querySelectorAll("table")) { if (t.querySelector("thead th:not([scope=col]), tbody th:not([scope=row])") || !t.querySelector("thead th")) faults.push("a table without scopes: " + t.textContent.slice(0, 60)); }
  for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) faults.push("an order of its own for Tab");
  if (!document.documentElement.lang || !document.title) faults.push("no language or no title");
  if (document.querySelectorAll("[style], [onclick]").length) faults.push("a style or a handler in an attribute");
  return faults;
})()`, &faults)
	for _, f := range faults {
		b.t.Errorf("%s: %s", what, f)
	}
}

// TestWithoutScript has a browser that runs none: all is there, and nothing that would
// do nothing.
func TestWithoutScript(t *testing.T) {
	b := newBrowser(t)
	report := exampleReport(4, 8)
	b.scripts(false)
	address := b.open(hostBytes(t, report))
	for selector, want := range map[string]int{"form.filters": 0, "button": 0, "main": 1, "h2": 10, "a.tile": len(tiles(report.Findings))} {
		// What is shown follows from what is drawn, which takes a busy machine its time.
		b.until(fmt.Sprintf("%d of %s shown", want, selector), fmt.Sprintf("%s === %d", visible(selector), want))
	}
	var n int
	b.run(shown, &n)
	if n != len(report.Findings) {
		t.Errorf("%d findings, want %d", n, len(report.Findings))
	}
	var astray []string
	b.run(`Array.from(document.querySelectorAll('a[href^="#"]'), (e) => e.getAttribute("href")).filter((to) => !document.getElementById(to.slice(1)))`, &astray)
	if len(astray) > 0 {
		t.Errorf("links that lead nowhere: %q", astray)
	}
	b.quiet(address)
}

// TestPrint looks at the page as it is printed, with filters on and all folded: paper
// shows everything, and nothing to press.
func TestPrint(t *testing.T) {
	b := newBrowser(t)
	report := exampleReport(8, 1)
	address := b.open(hostBytes(t, report))
	b.until("the script ran", `!document.querySelector("form.filters").hidden`)
	b.run(`document.querySelector("button.tile.critical").click(); for (const d of document.querySelectorAll("details")) d.open = false`, nil)
	b.media("print", "dark")
	for selector, want := range map[string]int{"form.filters": 0, "nav": 0, "#unfold": 0, "details.rule tbody tr[data-status]": len(report.Findings), ".calm .advice": 0, "#vfs ~ details tbody tr": 8} {
		// What is shown follows from what is drawn, which takes a busy machine its time.
		b.until(fmt.Sprintf("%d of %s printed", want, selector), fmt.Sprintf("%s === %d", visible(selector), want))
	}
	// A line for each device that passes would be most of the paper.
	var lines string
	b.run(`Array.from(new Set(Array.from(document.querySelectorAll(".calm tbody tr, .rest tbody tr"), (e) => getComputedStyle(e).display))).join()`, &lines)
	if lines != "inline" {
		t.Errorf("what passes is printed as %q", lines)
	}
	var background string
	b.run(`getComputedStyle(document.body).backgroundColor`, &background)
	if background != "rgb(255, 255, 255)" {
		t.Errorf("printed on %s", background)
	}
	b.readable("print")
	b.quiet(address)
}

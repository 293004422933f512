// What the page can do beyond being read: filter, search, sort, say how old it is. Without it everything is there.
// It takes nothing but the page's own elements and makes no markup from text.
"use strict";

const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

// How long ago the report was made, which nobody knew when it was written.
for (const place of all("[data-age]")) {
  const seconds = (Date.now() - Date.parse(place.dataset.age)) / 1000;
  if (Number.isNaN(seconds)) continue;
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const far = Math.abs(seconds);
  const [unit, size] = steps.find(([, size]) => far >= size) || steps[3];
  const count = Math.floor(far / size);
  const words = `${count} ${unit}${count === 1 ? "" : "s"}`;
  place.textContent = seconds < -60 ? `${words} ahead of this machine's clock` : `${words} ago`;
}

// Findings.
const form = document.querySelector("form.filters");
if (form) {
  const attention = new Set(["fail", "error", "unknown", "waived"]);
  const rules = all("details.rule[data-group]").map((element) => ({
    element,
    group: element.dataset.group,
    about: (element.querySelector("summary").textContent + " " + (element.querySelector(".advice")?.textContent ?? "")).toLowerCase(),
    rows: all("tbody tr", element).map((row) => ({ row, text: null })),
  }));
  const standings = all("[data-standing]");
  // What nobody has to look at is folded, until somebody asks for it.
  const folds = all("details.fold").map((element) => ({ element, rows: all("tbody tr", element) }));
  let asked = false;
  const count = document.getElementById("count");
  const tiles = [];
  const field = (name) => form.elements.namedItem(name);

  const apply = () => {
    const status = field("status").value;
    const severity = field("severity").value;
    const group = field("group").value;
    const nic = field("nic").value;
    const words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let total = 0;
    let left = 0;
    for (const rule of rules) {
      const out = group !== "" && rule.group !== group;
      const rest = words.filter((word) => !rule.about.includes(word));
      let any = false;
      for (const entry of rule.rows) {
        const data = entry.row.dataset;
        total++;
        let fits = !out && (status === "" || data.status === status || (status === "attention" && attention.has(data.status)));
        fits &&= (severity === "" || data.severity === severity) && (nic === "" || data.nic === nic);
        if (fits && rest.length > 0) {
          entry.text ??= (entry.row.textContent + " " + all("[title]", entry.row).map((e) => e.title).join(" ")).toLowerCase();
          fits = rest.every((word) => entry.text.includes(word));
        }
        entry.row.hidden = !fits;
        if (fits) shown++;
        any ||= fits;
      }
      rule.element.hidden = !any;
      if (any) left++;
    }
    const asks = shown !== total;
    for (const fold of folds) {
      fold.element.hidden = !fold.rows.some((row) => !row.hidden);
      if (asks !== asked) fold.element.open = asks;
    }
    asked = asks;
    for (const standing of standings) standing.hidden = !rules.some((rule) => !rule.element.hidden && standing.contains(rule.element));
    count.textContent = shown === total ? `All ${total} findings of ${rules.length} rules` : `${shown} of ${total} findings, of ${left} ${left === 1 ? "rule" : "rules"}`;
    for (const tile of tiles) {
      const wants = tile.dataset;
      tile.setAttribute("aria-pressed", String((wants.status ?? "") === status && (wants.severity ?? "") === severity));
    }
  };

  // A tile is a link to its part of the page; here it becomes a switch.
  for (const link of all("a.tile")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = link.className;
    Object.assign(button.dataset, link.dataset);
    button.append(...link.childNodes);
    link.replaceWith(button);
    tiles.push(button);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      field("status").value = on ? (button.dataset.status ?? "") : "";
      field("severity").value = on ? (button.dataset.severity ?? "") : "";
      apply();
    });
  }
  for (const link of all("[data-show-nic]")) {
    link.addEventListener("click", () => {
      form.reset();
      field("nic").value = link.dataset.showNic;
      apply();
    });
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  document.getElementById("unfold").addEventListener("click", (event) => {
    const open = event.currentTarget.getAttribute("aria-expanded") !== "true";
    event.currentTarget.setAttribute("aria-expanded", String(open));
    event.currentTarget.textContent = open ? "Fold all" : "Unfold all";
    for (const { element } of [...rules, ...folds]) element.open = open;
  });
  form.hidden = false;
  apply();
}

// Tables that can be sorted: by the number in data-sort where a cell has one, else by its text, numbers within it by value.
const collator = new Intl.Collator("en", { numeric: true });
for (const table of all("table.sortable")) {
  const headers = all("thead th", table);
  const body = table.tBodies[0];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending";
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const rows = Array.from(body.rows, (row) => {
        const cell = row.cells[column];
        const text = cell ? cell.textContent.trim() : "";
        const key = cell?.dataset.sort;
        return { row, text, number: key === undefined || key === "" ? NaN : Number(key), empty: key === "" || text === "" };
      });
      rows.sort((a, b) => {
        if (a.empty !== b.empty) return a.empty ? 1 : -1; // what isn't known comes last either way
        if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
        return sign * collator.compare(a.text, b.text);
      });
      body.append(...rows.map((entry) => entry.row));
    });
  });
}

// Lists with a search of their own.
for (const input of all("input[data-narrows]")) {
  const rows = all("tbody tr", document.getElementById(input.dataset.narrows)).map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const said = document.getElementById(input.dataset.narrows + "-count");
  const narrow = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of rows) {
      entry.row.hidden = !words.every((word) => entry.text.includes(word));
      if (!entry.row.hidden) shown++;
    }
    if (said) said.textContent = `${shown} of ${rows.length}`;
  };
  input.addEventListener("input", narrow);
  narrow();
}
for (const element of all(".controls")) element.hidden = false;

// A link to something folded opens what it is in.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let up = target; up; up = up.parentElement) if (up instanceof HTMLDetailsElement) up.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();

// Paper shows all, in browsers too that don't know the style for it.
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details:not([open])");
  for (const element of folded) element.open = true;
});
addEventListener("afterprint", () => {
  for (const element of folded) element.open = false;
});

"use strict";
(() => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const each = (selector, work, within = document) => within.querySelectorAll(selector).forEach(work);
  // Search ignores accents and case.
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

  // --- theme: the system's, unless the reader chooses another one, which is stored if the browser allows it for files
  const theme = document.getElementById("theme");
  const withStorage = (work) => { try { return work(window.localStorage); } catch { return null; } };
  const show = (scheme) => { document.documentElement.style.colorScheme = scheme === "light dark" ? "" : scheme; };
  theme.value = withStorage((store) => store.getItem("lakehouse-theme")) || "light dark";
  if (!theme.value) theme.value = "light dark";
  show(theme.value);
  theme.addEventListener("change", () => { show(theme.value); withStorage((store) => store.setItem("lakehouse-theme", theme.value)); });

  // --- contents: in the frame of a notebook a fragment is resolved against the notebook's address, and would leave the page
  each('a[href^="#"]', (link) => link.addEventListener("click", (event) => {
    if (window.location.protocol !== "about:") return;
    event.preventDefault();
    document.getElementById(link.hash.slice(1)).scrollIntoView();
  }));

  // --- tables: sorted by a heading, filtered by a text
  const { compare } = new Intl.Collator(settings.locale, { numeric: true });
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const orders = {
    number: (a, b) => a - b,
    age: (a, b) => a - b,
    time: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  };

  function sort(table, column) {
    const heading = table.tHead.rows[0].cells[column];
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const order = orders[heading.dataset.kind] || compare;
    each("th", (other) => other.removeAttribute("aria-sort"), table);
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
    // Empty values come last in both directions.
    rows.sort(([a], [b]) => (a === "") - (b === "") || sign * order(a, b));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  each(".sheet", (sheet) => {
    const table = sheet.querySelector("table");
    each("th button", (button, column) => button.addEventListener("click", () => sort(table, column)), table);
    const input = sheet.querySelector("input");
    if (!input) return;
    const texts = new Map([...table.tBodies[0].rows].map((row) => [row, plain(row.textContent)]));
    input.addEventListener("input", () => {
      const wanted = plain(input.value.trim());
      let shown = 0;
      for (const [row, text] of texts) {
        row.hidden = !text.includes(wanted);
        shown += !row.hidden;
      }
      const count = settings.shown.replace("{shown}", shown).replace("{of}", texts.size);
      sheet.querySelector("output").textContent = wanted ? count : "";
    });
  });

  // --- charts: their colours are CSS variables of the page, so that a change of theme needs no new drawing
  const axis = {
    labelColor: "var(--muted)", titleColor: "var(--muted)", gridColor: "var(--line)", domainColor: "var(--strong-line)",
    tickColor: "var(--strong-line)", labelFontSize: 11, labelFontWeight: 400,
  };
  const config = {
    background: "transparent", font: "system-ui, sans-serif", axis, view: { stroke: null },
    legend: { labelColor: "var(--ink)", labelFontSize: 11, rowPadding: 4, columnPadding: 14, offset: 8 },
    locale: { number: settings.format, time: settings.timeFormat },
  };
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, config, defaultStyle: false,
    formatLocale: settings.format, timeFormatLocale: settings.timeFormat, tooltip: { disableDefaultStyle: true },
  };
  const drawn = [...document.querySelectorAll(".chart")].map(async (element) => {
    try {
      const bind = element.parentElement.querySelector(".choice"); // not inside: screen readers skip the content of an image
      await vegaEmbed(element, JSON.parse(element.nextElementSibling.textContent), { ...options, bind });
    } catch (error) {
      element.textContent = settings.failed;
      console.error(error);
    }
  });
  Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = drawn.length; });

  // --- lineage: from a column to its source columns, and to the columns computed from it
  each(".lineage", (lineage) => {
    const columns = new Map([...lineage.querySelectorAll(".relation button")].map((button) => [button.id, button]));
    const from = new Map([...columns].map(([id, b]) => [id, b.dataset.from.split(" ").filter(Boolean).map((n) => `column-${n}`)]));
    const to = new Map([...columns.keys()].map((id) => [id, []]));
    for (const [id, origins] of from) for (const origin of origins) to.get(origin).push(id);
    const details = lineage.querySelector(".chosen-column");
    const clear = lineage.querySelector(".clear");
    const find = lineage.querySelector("input");

    function reachable(start, edges) {
      const visited = new Set();
      const pending = [...edges.get(start)];
      while (pending.length) {
        const id = pending.pop();
        if (!visited.has(id)) { visited.add(id); pending.push(...edges.get(id)); }
      }
      return visited;
    }

    function choose(id) {
      const up = id ? reachable(id, from) : new Set();
      const down = id ? reachable(id, to) : new Set();
      for (const [other, button] of columns) {
        button.classList.toggle("chosen", other === id);
        button.classList.toggle("up", up.has(other));
        button.classList.toggle("down", down.has(other));
        button.setAttribute("aria-pressed", String(other === id));
      }
      lineage.classList.toggle("tracing", Boolean(id));
      details.hidden = clear.hidden = !id;
      if (id) describe(columns.get(id), from.get(id));
    }

    function describe(button, origins) {
      const text = document.createElement("code");
      text.textContent = button.dataset.text;
      const names = origins.map((origin) => columns.get(origin).dataset.name).join(", ");
      details.replaceChildren(`${button.dataset.name}${names ? ` ← ${names}` : ""}`, ...(button.dataset.text ? [text] : []));
    }

    for (const [id, button] of columns) {
      button.addEventListener("click", () => choose(button.classList.contains("chosen") ? null : id));
    }
    clear.addEventListener("click", () => choose(null));
    find.addEventListener("input", () => {
      const wanted = plain(find.value.trim());
      for (const button of columns.values()) button.hidden = !plain(button.dataset.name).includes(wanted);
      each(".relation", (relation) => { relation.hidden = !relation.querySelector("button:not([hidden])"); }, lineage);
    });
  });

  // --- print: the folded table of columns is printed, because the chart of columns above it is not
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => { each.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));
})();

"use strict";
(() => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const each = (selector, work, within = document) => within.querySelectorAll(selector).forEach(work);
  // Without accents and case, as one looks for a word.
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

  // --- theme: what the system has, unless somebody says otherwise; kept where the browser lets a file keep something
  const theme = document.getElementById("theme");
  const kept = (work) => { try { return work(window.localStorage); } catch { return null; } };
  const show = (scheme) => { document.documentElement.style.colorScheme = scheme === "light dark" ? "" : scheme; };
  theme.value = kept((store) => store.getItem("lakehouse-theme")) || "light dark";
  if (!theme.value) theme.value = "light dark";
  show(theme.value);
  theme.addEventListener("change", () => { show(theme.value); kept((store) => store.setItem("lakehouse-theme", theme.value)); });

  // --- tables: sorted by a heading, narrowed by what is typed
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
    // What is not there comes last, whichever way.
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
      const told = settings.shown.replace("{shown}", shown).replace("{of}", texts.size);
      sheet.querySelector("output").textContent = wanted ? told : "";
    });
  });

  // --- charts: their colours are the page's, so that nothing is drawn anew when the theme changes
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
  const drawn = [...document.querySelectorAll(".chart")].map(async (place) => {
    try {
      const bind = place.parentElement.querySelector(".choice"); // not inside: what is in a picture is read to nobody
      await vegaEmbed(place, JSON.parse(place.nextElementSibling.textContent), { ...options, bind });
    } catch (error) {
      place.textContent = settings.failed;
      console.error(error);
    }
  });
  Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = drawn.length; });

  // --- lineage: from a column to what it comes from, and to what comes from it
  each(".lineage", (lineage) => {
    const columns = new Map([...lineage.querySelectorAll(".relation button")].map((button) => [button.id, button]));
    const from = new Map([...columns].map(([id, b]) => [id, b.dataset.from.split(" ").filter(Boolean).map((n) => `column-${n}`)]));
    const to = new Map([...columns.keys()].map((id) => [id, []]));
    for (const [id, origins] of from) for (const origin of origins) to.get(origin).push(id);
    const told = lineage.querySelector(".told");
    const clear = lineage.querySelector(".clear");
    const find = lineage.querySelector("input");

    function reached(start, ways) {
      const found = new Set();
      const left = [...ways.get(start)];
      while (left.length) {
        const id = left.pop();
        if (!found.has(id)) { found.add(id); left.push(...ways.get(id)); }
      }
      return found;
    }

    function choose(id) {
      const up = id ? reached(id, from) : new Set();
      const down = id ? reached(id, to) : new Set();
      for (const [other, button] of columns) {
        button.classList.toggle("chosen", other === id);
        button.classList.toggle("up", up.has(other));
        button.classList.toggle("down", down.has(other));
        button.setAttribute("aria-pressed", String(other === id));
      }
      lineage.classList.toggle("tracing", Boolean(id));
      told.hidden = clear.hidden = !id;
      if (id) tell(columns.get(id), from.get(id));
    }

    function tell(button, origins) {
      const text = document.createElement("code");
      text.textContent = button.dataset.text;
      const names = origins.map((origin) => columns.get(origin).dataset.name).join(", ");
      told.replaceChildren(`${button.dataset.name}${names ? ` ← ${names}` : ""}`, ...(button.dataset.text ? [text] : []));
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

  // --- paper: what is folded away on the screen is printed, since the columns above it are not
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => { each.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));
})();

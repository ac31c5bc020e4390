(() => {
  "use strict";
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const names = Object.keys(charts);
  const place = (name) => document.getElementById("chart-" + name);
  const webgl = (() => {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl"));
    } catch {
      return false;
    }
  })();

  // Colours are named in the data and looked up here, so that one page serves light and dark.
  const resolve = (value, style) => {
    if (typeof value === "string") {
      return value.startsWith("var(--") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, style));
    if (value === null || typeof value !== "object" || "bdata" in value) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, style)]));
  };

  const dress = (layout, style) => {
    const tone = (name) => style.getPropertyValue("--" + name).trim();
    const font = { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: tone("muted") };
    const axis = { gridcolor: tone("grid"), zerolinecolor: tone("line"), linecolor: tone("line"), automargin: true };
    const hoverlabel = { bgcolor: tone("surface"), bordercolor: tone("line"), align: "left", font: { ...font, color: tone("ink") } };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 62, r: 14, t: 28, b: 36 },
      separators: ".,",
      autosize: true,
      font,
      hoverlabel,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: tone("faint"), activecolor: tone("accent") },
    };
    const axes = Object.keys(layout).filter((key) => /^[xy]axis/.test(key));
    const titled = (own) => (own.title ? { ...own, title: { ...own.title, font, standoff: 12 } } : own);
    return { ...base, ...layout, ...Object.fromEntries(axes.map((key) => [key, { ...axis, ...titled(layout[key]) }])) };
  };

  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "toImage"] };
  const draw = (name) => {
    const style = getComputedStyle(root);
    const { data, layout } = resolve(charts[name], style);
    if (!webgl) data.forEach((trace) => { if (trace.type === "scattergl") trace.type = "scatter"; });
    // The library forgets a chart's height when the window changes; its place remembers it.
    place(name).style.height = layout.height + "px";
    return Plotly.react(place(name), data, dress(layout, style), config);
  };

  // Charts over time zoom together.
  const linked = names.filter((name) => charts[name].link === "time");
  let following = false;
  const follow = (source, event) => {
    const range = [event["xaxis.range[0]"], event["xaxis.range[1]"]];
    const change = event["xaxis.autorange"] ? { "xaxis.autorange": true } : { "xaxis.range": range };
    if (following || (!event["xaxis.autorange"] && range[0] === undefined)) return;
    following = true;
    const others = linked.filter((name) => name !== source);
    Promise.all(others.map((name) => Plotly.relayout(place(name), change))).finally(() => { following = false; });
  };

  const drawAll = () =>
    Promise.all(names.map(draw)).then(
      () => { root.dataset.charts = "drawn"; },
      (error) => { root.dataset.charts = "failed: " + error; throw error; },
    );
  drawAll().then(() => linked.forEach((name) => place(name).on("plotly_relayout", (event) => follow(name, event))));

  const wear = (theme) => { root.dataset.theme = theme; drawAll(); };
  document.getElementById("theme").addEventListener("click", () => wear(root.dataset.theme === "dark" ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => wear(event.matches ? "dark" : "light"));

  const key = (row, column) => row.cells[column].dataset.key;
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sortBy = (table, column) => {
    const head = table.tHead.rows[0].cells;
    const first = table.tBodies[0].rows[0];
    const wordy = first && Number.isNaN(Number(key(first, column)));
    const now = head[column].getAttribute("aria-sort");
    const up = now ? now === "descending" : wordy;
    for (const cell of head) cell.removeAttribute("aria-sort");
    head[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    // What is undefined goes last either way.
    const blank = (row) => key(row, column) === "–";
    rows.sort((a, b) => blank(a) - blank(b) || (up ? 1 : -1) * compare(key(a, column), key(b, column)));
    table.tBodies[0].append(...rows);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.querySelectorAll("th button")) {
      button.addEventListener("click", () => sortBy(table, button.closest("th").cellIndex));
    }
  }
})();

"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, text, kind) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const draw = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const keep = (name, value) => {
    try {
      if (value !== undefined) localStorage.setItem(name, value);
      return localStorage.getItem(name);
    } catch { return null; } // a file may have no storage
  };

  // Light and dark: the system's choice until the reader makes one.
  const root = document.documentElement, theme = one("#theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const show = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  if (keep("featcache-theme")) root.dataset.theme = keep("featcache-theme");
  theme.hidden = false;
  theme.setAttribute("aria-label", "Switch between light and dark");
  theme.onclick = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    keep("featcache-theme", root.dataset.theme);
    show();
  };
  dark.addEventListener("change", show);
  show();

  // The leaderboard: sorting within each side of the line, and filtering.
  const board = one("#board"), headings = all("thead th", board);
  const valueOf = (row, i) => {
    const text = row.cells[i].dataset.v ?? row.cells[i].textContent;
    const number = Number(text);
    return text.trim() === "" || Number.isNaN(number) ? text : number;
  };
  const sort = (i, up) => {
    for (const body of board.tBodies) {
      const rows = all("tr:not(.line)", body);
      rows.sort((a, b) => {
        const x = valueOf(a, i), y = valueOf(b, i);
        const order = typeof x === "number" && typeof y === "number"
          ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true });
        return up ? order : -order;
      });
      body.append(...rows);
    }
    headings.forEach((heading, j) => {
      if (j === i) heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    });
  };
  headings.forEach((heading, i) => {
    const button = one("button", heading);
    if (button) button.onclick = () => {
      const was = heading.getAttribute("aria-sort");
      const first = heading.classList.contains("number") && i > 0 ? "descending" : "ascending";
      sort(i, was ? was !== "ascending" : first === "ascending");
    };
  });
  const filter = () => {
    const text = one("#filter").value.trim().toLowerCase();
    const rows = all("tbody tr:not(.line)", board);
    for (const row of rows) {
      row.hidden = !row.dataset.text.includes(text)
        || all("select[data-filter]").some((s) => s.value && row.dataset[s.dataset.filter] !== s.value);
    }
    const shown = rows.filter((row) => !row.hidden).length;
    one("#count").textContent = `${shown} of ${rows.length} runs`;
  };
  one("#leaderboard .tools").hidden = false;
  one("#filter").oninput = filter;
  all("select[data-filter]").forEach((select) => { select.onchange = filter; });
  filter();

  // Sections of runs: a link opens its section; print opens all.
  const runs = all("details.run"), openAll = one("#all");
  const follow = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#run-"]');
    if (link) document.getElementById(link.hash.slice(1)).open = true;
  });
  follow();
  openAll.hidden = runs.length < 2;
  openAll.onclick = () => {
    const open = runs.some((run) => !run.open);
    runs.forEach((run) => { run.open = open; });
    openAll.textContent = open ? "Close all" : "Open all";
  };
  let closed = [];
  const spread = (printing) => {
    if (printing && !closed.length) {
      closed = all("details:not([open]):not(.list)");
      closed.forEach((part) => { part.open = true; });
    } else if (!printing) {
      closed.forEach((part) => { part.open = false; });
      closed = [];
    }
  };
  addEventListener("beforeprint", () => spread(true));
  addEventListener("afterprint", () => spread(false));
  matchMedia("print").addEventListener("change", (event) => spread(event.matches));

  // The map.
  const source = one("#points");
  if (!source) return;
  const data = JSON.parse(source.textContent), count = data.paths.length;
  const plot = one("#plot"), card = one("#card"), stage = one("#stage");
  const styles = data.marks.length, size = 2;
  const hidden = new Set();
  let layout = data.layouts.length - 1, colour = 0, current = -1;
  const place = (i) => {
    const xy = data.layouts[layout].xy;
    return [xy[2 * i] / 10, 1000 - xy[2 * i + 1] / 10];
  };
  const points = data.paths.map(() => draw("path", {}));
  const titles = [draw("text", { x: 500, y: 1038, "text-anchor": "middle" }),
    draw("text", { transform: "translate(-26 500) rotate(-90)", "text-anchor": "middle" })];
  plot.append(...titles, ...points);

  const thumb = (i, name) => {
    const tile = data.tiles[i];
    const sheet = Math.floor(tile / data.on_sheet), at = tile % data.on_sheet;
    const node = make("span", tile < 0 ? "no image" : "", tile < 0 ? "thumb none" : `thumb sheet-${sheet}`);
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", name);
    node.style.setProperty("--i", at % data.columns);
    node.style.setProperty("--j", Math.floor(at / data.columns));
    return node;
  };
  const told = (i) => data.colours.map((one) => [one.name, one.values[one.codes[i]]]);

  const arrange = () => {
    const found = data.layouts[layout];
    points.forEach((point, i) => {
      const [x, y] = place(i);
      point.style.transform = `translate(${x}px, ${y}px) scale(${size})`;
    });
    titles[0].textContent = found.x;
    titles[1].textContent = found.y;
    one("#map-note").textContent = found.note;
  };
  const paint = () => {
    const { codes, values } = data.colours[colour];
    points.forEach((point, i) => {
      const code = codes[i];
      point.setAttribute("class", `p s${code % styles}${hidden.has(code) ? " off" : ""}${i === current ? " on" : ""}`);
      point.setAttribute("d", data.marks[code % styles]);
    });
    one("#map-legend").replaceChildren(...values.map((value, code) => {
      const button = make("button");
      const sample = draw("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
      sample.append(draw("path", { class: `s${code % styles}`, d: data.marks[code % styles] }));
      const n = codes.filter((c) => c === code).length;
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(code)));
      button.append(sample, make("span", value), make("span", n, "n"));
      button.onclick = () => {
        if (!hidden.delete(code)) hidden.add(code);
        paint();
        all("button", one("#map-legend"))[code].focus();
      };
      return button;
    }));
  };
  const visible = (i) => !hidden.has(data.colours[colour].codes[i]);

  const choose = (i) => {
    if (current >= 0) points[current].classList.remove("on");
    current = i;
    card.hidden = i < 0;
    if (i < 0) return;
    points[i].classList.add("on");
    plot.append(points[i]);
    const lines = told(i).map(([name, value]) => make("p", `${name}: ${value}`));
    lines.push(make("p", `probability of the truth: ${(data.chances[i] / 1000).toFixed(3)}`));
    card.replaceChildren(thumb(i, data.paths[i]), make("p", data.paths[i], "path"), ...lines);
    const [x, y] = place(i), wide = stage.clientWidth, scale = wide / 1070;
    const left = (x + 50) * scale, top = (y + 20) * scale;
    const width = card.offsetWidth, height = card.offsetHeight;
    const beside = left > wide / 2 ? left - width - 14 : left + 14;
    card.style.left = `${Math.max(0, Math.min(beside, wide - width))}px`;
    card.style.top = `${Math.max(0, Math.min(top - height / 2, stage.clientHeight - height))}px`;
  };
  const say = (i) => {
    one("#said").textContent = i < 0 ? "" : `${data.paths[i]}. ${told(i).map((t) => t.join(" ")).join(", ")}.`;
  };
  const nearest = (x, y, most) => {
    let best = -1, least = most * most;
    for (let i = 0; i < count; i++) {
      if (!visible(i)) continue;
      const [a, b] = place(i), d = (a - x) ** 2 + (b - y) ** 2;
      if (d < least) { best = i; least = d; }
    }
    return best;
  };
  const under = (event) => {
    const box = plot.getBoundingClientRect(), scale = 1070 / box.width;
    const reach = (event.pointerType === "touch" ? 24 : 12) * scale;
    return nearest((event.clientX - box.left) * scale - 50, (event.clientY - box.top) * scale - 20, reach);
  };
  plot.addEventListener("pointermove", (event) => choose(under(event)));
  plot.addEventListener("pointerdown", (event) => choose(under(event)));
  plot.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") choose(-1); });
  plot.addEventListener("focus", () => {
    if (!plot.matches(":focus-visible")) return;
    const start = current < 0 ? nearest(500, 500, 2000) : current;
    choose(start); say(start);
  });
  plot.addEventListener("blur", () => choose(-1));

  // The nearest image in a quarter of the plane: up, down, left or right.
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const step = ([dx, dy]) => {
    const [x, y] = place(current);
    let best = current, least = Infinity;
    for (let i = 0; i < count; i++) {
      if (i === current || !visible(i)) continue;
      const [a, b] = place(i), along = (a - x) * dx + (b - y) * dy;
      const across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (along > 0 && across <= along && along + across < least) { best = i; least = along + across; }
    }
    return best;
  };
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { choose(-1); return; }
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = current < 0 ? nearest(500, 500, 2000) : step(steps[event.key]);
    choose(next); say(next);
  });
  all('input[name="layout"]').forEach((input) => {
    input.onchange = () => { layout = Number(input.value); choose(-1); arrange(); };
  });
  one("#colour").onchange = (event) => {
    colour = Number(event.target.value); hidden.clear(); choose(-1); paint();
  };
  one("#map-tools").hidden = false;
  arrange();
  paint();

  // The list: built when it is first opened.
  const list = one("#list"), body = one("#list-table tbody");
  const build = () => {
    const head = make("tr");
    for (const name of ["image", "path", ...data.colours.map((c) => c.name), "probability of the truth"]) {
      const cell = make("th", name);
      cell.scope = "col";
      head.append(cell);
    }
    one("#list-table thead").replaceChildren(head);
    const order = data.paths.map((_, i) => i).sort((a, b) => data.chances[a] - data.chances[b]);
    body.replaceChildren(...order.map((i) => {
      const row = make("tr"), picture = make("td"), path = make("th", data.paths[i], "path");
      path.scope = "row";
      picture.append(thumb(i, data.paths[i]));
      row.append(picture, path, ...told(i).map(([, value]) => make("td", value)),
        make("td", (data.chances[i] / 1000).toFixed(3), "number"));
      return row;
    }));
    narrow();
  };
  const narrow = () => {
    const text = one("#list-filter").value.trim().toLowerCase(), rows = [...body.rows];
    rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(text); });
    one("#list-count").textContent = `${rows.filter((row) => !row.hidden).length} of ${count} images`;
  };
  list.addEventListener("toggle", () => { if (list.open && !body.rows.length) build(); });
  one("#list-filter").oninput = narrow;
})();

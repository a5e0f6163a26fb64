"use strict";
// The page's own script: what it draws and sorts is the JSON that the report wrote; d3 and Plot stand before it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  root.classList.add("js");
  const at = (id) => document.getElementById(id);
  const REACH = 26; // pixels from a point within which a pointer means it
  const WORDS = { b: "better", w: "worse", i: "indistinguishable", "-": "" };
  const QUANTITIES = [
    ["p50", "p50, ms"], ["p90", "p90, ms"], ["p99", "p99, ms"],
    ["relative", "relative to the reference"], ["images_per_second", "images a second"],
  ];

  // --- small helpers -------------------------------------------------------------------------------------------
  const SVG = "http://www.w3.org/2000/svg";
  function make(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function drawing(name, attributes = {}, ...children) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  function short(value) { // as benchmarks.statistics.short
    const size = Math.abs(value);
    if (size >= 1000) {
      const digits = String(Math.trunc(size)).length - 3;
      return (Math.round(value / 10 ** digits) * 10 ** digits).toLocaleString("en-US");
    }
    return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.095 ? 2 : 3);
  }
  const shown = (value, share) => (share ? `${(100 * value).toFixed(1)} %` : short(value));
  const interval = (found, share) => share
    ? `${(100 * found[1]).toFixed(1)} to ${(100 * found[2]).toFixed(1)}`
    : `${short(found[1])} to ${short(found[2])}`;
  const words = (found, share) => (found ? `${shown(found[0], share)} (${interval(found, share)})` : "not measured");
  const listed = (found) => [found.slice(0, -1).join(", "), found.at(-1)].filter(Boolean).join(" and ");
  const path = (mark, size) => `M${mark.map(([x, y]) => `${x * size},${y * size}`).join("L")}Z`;
  function icon(family) {
    return drawing("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" },
      drawing("path", { class: `mark ${family.id}`, d: path(family.mark, 8.5) }));
  }

  // --- what is shown -------------------------------------------------------------------------------------------
  const state = {
    section: 0, runtime: "", scenario: "", quantity: "p50", precision: "", measure: "", beaten: "every",
    reference: null, hidden: new Set(), search: "", chosen: null, sort: ["latency", 1],
  };
  let section, family;
  function enter(index) {
    section = data.sections[index];
    family = Object.fromEntries(section.families.map((each) => [each.name, each]));
    section.rows.forEach((row, place) => { row.number = place + 1; row.place = place; });
    Object.assign(state, {
      section: index, runtime: section.runtime ?? "", scenario: section.scenarios[0] ?? "", quantity: "p50",
      precision: "", measure: section.measures[0]?.key ?? "", beaten: "every", reference: section.reference,
      hidden: new Set(), search: "", chosen: null, sort: ["latency", 1],
    });
  }
  const measure = () => section.measures.find((each) => each.key === state.measure);
  const timing = (row) => row.timing[`${state.runtime}|${state.scenario}`];
  const latency = (row) => timing(row)?.[state.quantity] ?? null;
  const value = (row) => row.metrics[state.measure] ?? null;
  const faster = (a, b) => (state.quantity === "images_per_second" ? a[0] >= b[0] : a[0] <= b[0]);
  const kin = () => section.measures.filter((each) => each.kind === measure()?.kind && section.opinions.includes(each.net));
  const judging = () => {
    const found = state.beaten === "every" ? kin() : [];
    return found.length ? found : [measure()].filter(Boolean);
  };
  const verdict = (row, other, key) => WORDS[row.verdicts[key]?.[other.place] ?? "-"];
  const kept = () => section.rows.filter((row) =>
    !state.hidden.has(row.family) && (!state.precision || row.precision === state.precision)
    && row.title.toLowerCase().includes(state.search.toLowerCase()));
  const plotted = (rows) => rows.filter((row) => latency(row)?.[0] > 0 && value(row));
  function beaten(rows, by) { // by one that is as fast, and better in all that judges, beyond chance
    return new Set(rows.filter((row) => rows.some((other) => other !== row && faster(latency(other), latency(row))
      && by.every((each) => verdict(other, row, each.key) === "better"))));
  }
  function stairs(rows) { // no other is as fast and as good, by the values that are drawn
    const lower = measure().lower;
    const good = (a, b) => (lower ? value(a)[0] <= value(b)[0] : value(a)[0] >= value(b)[0]);
    return rows.filter((row) => !rows.some((other) => other !== row && faster(latency(other), latency(row)) && good(other, row)
      && (latency(other)[0] !== latency(row)[0] || value(other)[0] !== value(row)[0])))
      .sort((a, b) => latency(a)[0] - latency(b)[0]);
  }
  function disputes(one, other) { // whether opinions put two rows in opposite order
    const said = new Set(kin().map((each) => verdict(one, other, each.key)));
    return said.has("better") && said.has("worse");
  }
  function opinion(row, other) { // as benchmarks.report.summary.opinion
    if (!other || row === other) return "";
    const said = kin().map((each) => [each.net, verdict(row, other, each.key)]).filter(([, word]) => word);
    const all = new Set(said.map(([, word]) => word));
    if (all.size <= 1) return said[0]?.[1] ?? "";
    if (all.has("better") && all.has("worse")) return "disputed";
    const word = all.has("better") ? "better" : "worse";
    return `${word}, says the ${listed(said.filter(([, each]) => each === word).map(([net]) => net))}`;
  }
  const reference = () => (state.reference === null ? null : section.rows[state.reference]);
  const flagWords = (flag) => (flag === "invalid" ? "INVALID" : flag.replaceAll("-", " "));
  const verdictNode = (text) => make("span", { class: `verdict ${text.split(",")[0]}` }, text);
  function flagNodes(row) {
    const flags = timing(row)?.flags ?? [];
    return flags.flatMap((flag, index) => [index ? ", " : "", make("span", { class: `flag ${flag}`, title: data.flags[flag] ?? flag }, flagWords(flag))]);
  }

  // --- controls ------------------------------------------------------------------------------------------------
  function choice(label, name, options, chosen, changed) {
    const select = make("select", { id: `choose-${name}`, onchange: (event) => { changed(event.target.value); update(); } },
      ...options.map(([key, text]) => make("option", { value: key, selected: String(key) === String(chosen) }, text)));
    return make("label", {}, label, select);
  }
  function controls() {
    const form = at("controls");
    const parts = [];
    if (data.sections.length > 1) {
      parts.push(choice("Data, machine", "section", data.sections.map((each, index) => [index, each.title]), state.section,
        (index) => { enter(Number(index)); controls(); families(); }));
    }
    const set = (name) => (chosen) => { state[name] = chosen; };
    if (section.measures.length) parts.push(choice("Metric, by whom", "measure", section.measures.map((each) => [each.key, each.words]), state.measure, set("measure")));
    if (section.opinions.length > 1) parts.push(choice("Grey is beaten", "beaten", [["every", "under every opinion"], ["one", "in this metric alone"]], state.beaten, set("beaten")));
    if (section.runtimes.length) parts.push(choice("Runtime", "runtime", section.runtimes.map((each) => [each, each]), state.runtime, set("runtime")));
    if (section.scenarios.length > 1) parts.push(choice("Scenario", "scenario", section.scenarios.map((each) => [each, each]), state.scenario, set("scenario")));
    const has = (key) => section.rows.some((row) => Object.values(row.timing).some((each) => each[key]));
    parts.push(choice("Latency", "quantity", QUANTITIES.filter(([key]) => has(key)), state.quantity, set("quantity")));
    const precisions = [...new Set(section.rows.map((row) => row.precision))];
    if (precisions.length > 1) parts.push(choice("Precision", "precision", [["", "all"], ...precisions.map((each) => [each, each])], state.precision, set("precision")));
    parts.push(choice("Compare with", "reference", [["", "nothing"], ...section.rows.map((row) => [row.place, row.title])], state.reference ?? "",
      (place) => { state.reference = place === "" ? null : Number(place); }));
    parts.push(make("label", {}, "Name contains", make("input", { type: "search", id: "search", size: 12, value: state.search, oninput: (event) => { state.search = event.target.value; update(); } })));
    form.replaceChildren(...parts);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  function families() {
    const box = at("families"), legend = box.querySelector("legend");
    box.replaceChildren(legend, ...section.families.map((each) => make("button", {
      type: "button", "aria-pressed": String(!state.hidden.has(each.name)),
      onclick: (event) => {
        if (state.hidden.has(each.name)) state.hidden.delete(each.name); else state.hidden.add(each.name);
        event.currentTarget.setAttribute("aria-pressed", String(!state.hidden.has(each.name)));
        update();
      },
    }, icon(each), each.words)));
  }

  // --- the front -----------------------------------------------------------------------------------------------
  let points = []; // what is drawn, by rising latency: {row, x, y, node}
  function front() {
    const host = at("plot"), rows = plotted(kept()), one = measure();
    points = [];
    at("shown").textContent = `${rows.length} of ${section.rows.length} systems are on the plot.`;
    if (!rows.length) {
      host.replaceChildren(make("p", {}, "Nothing that is chosen was both timed and judged."));
      return;
    }
    const dark = beaten(rows, judging()), edge = stairs(rows);
    const argued = new Set([...beaten(rows, [one])].filter((row) => !dark.has(row)));
    const width = Math.max(host.clientWidth, 260), phone = width < 560, height = phone ? 400 : 480;
    const quantity = QUANTITIES.find(([key]) => key === state.quantity)[1];
    const ordered = [...rows].sort((a, b) => latency(a)[0] - latency(b)[0]);
    const linear = one.share || rows.some((row) => value(row)[0] <= 0); // unbiased distances fall below zero by chance
    const low = (found) => (linear ? found[1] : Math.max(found[1], found[0] / 20, 1e-6));
    const floor = one.floor && (linear || one.floor[0] > 0) ? one.floor : null;
    const ys = rows.flatMap((row) => [low(value(row)), value(row)[2]]).concat(floor ? [floor[0]] : []);
    const xs = rows.flatMap((row) => latency(row));
    const across = ticks(xs, phone ? 5 : 10), up = linear ? d3.ticks(...d3.extent(ys), 6) : ticks(ys, 9);
    const axes = [
      Plot.gridX(across), Plot.gridY(up),
      Plot.axisX(across, { text: tick, tickSize: 0, label: `${quantity}, ${state.runtime}, ${state.scenario} →` }),
      Plot.axisY(up, { text: one.share ? (each) => `${Math.round(100 * each)} %` : tick, tickSize: 0, label: `${one.lower ? "↓" : "↑"} ${one.words}` }),
    ];
    const symbol = (row) => ({ draw(context, size) { const scale = Math.sqrt(size); family[row.family].mark.forEach(([u, v], index) => context[index ? "lineTo" : "moveTo"](u * scale, v * scale)); context.closePath(); } });
    const chart = Plot.plot({
      width, height, marginLeft: 46, marginRight: 14, marginTop: 26, marginBottom: 40, style: { fontSize: "12px", background: "transparent" },
      x: { type: "log", insetLeft: 8, insetRight: 8 }, y: { type: linear ? "linear" : "log" },
      marks: [
        ...axes,
        floor ? Plot.ruleY([floor[0]], { stroke: "currentColor", strokeOpacity: 0.55, strokeDasharray: "6 4" }) : null,
        floor ? Plot.text([floor[0]], { y: (each) => each, text: () => "real images", frameAnchor: "right", dy: -7, fill: "currentColor" }) : null,
        Plot.line(edge, { x: (row) => latency(row)[0], y: (row) => value(row)[0], curve: state.quantity === "images_per_second" ? "step-before" : "step-after", stroke: "currentColor", strokeDasharray: "2 4", strokeWidth: 1.4 }),
        Plot.ruleX(ordered, { x: (row) => latency(row)[0], y1: (row) => low(value(row)), y2: (row) => value(row)[2], strokeOpacity: 0.55, strokeWidth: 1.4, className: "interval" }),
        Plot.ruleY(ordered, { y: (row) => value(row)[0], x1: (row) => latency(row)[1], x2: (row) => latency(row)[2], strokeOpacity: 0.55, strokeWidth: 1.4 }),
        Plot.dot(ordered, { x: (row) => latency(row)[0], y: (row) => value(row)[0], symbol: (row) => symbol(row), r: phone ? 5 : 5.8, ariaLabel: "title" }),
      ],
    });
    const svg = chart.tagName === "svg" ? chart : chart.querySelector("svg");
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `${one.words} against ${quantity}, ${ordered.length} systems`);
    for (const group of [...svg.querySelectorAll('g[aria-label="rule"]')].slice(-2)) [...group.children].forEach((line, index) => line.classList.add(family[ordered[index].family].id));
    const group = svg.querySelector('g[aria-label="dot"]');
    unnamed(svg);
    group.setAttribute("role", "listbox");
    group.setAttribute("aria-label", "Systems by latency: arrow keys go from one to the next");
    const [sx, sy] = [chart.scale("x").apply, chart.scale("y").apply];
    points = ordered.map((row, index) => ({ row, node: group.children[index], x: sx(latency(row)[0]), y: sy(value(row)[0]) }));
    const ring = drawing("g", { visibility: "hidden" }, drawing("circle", { class: "ring", r: 11 }));
    points.forEach((point, index) => {
      const { row, node } = point;
      node.setAttribute("class", `mark ${family[row.family].id}${dark.has(row) ? " grey" : ""}`);
      node.setAttribute("role", "option");
      node.setAttribute("tabindex", "-1");
      node.setAttribute("aria-selected", "false");
      node.setAttribute("aria-label", spoken(row, dark.has(row)));
      node.addEventListener("focus", () => { choose(row); tip(point); });
      node.addEventListener("blur", () => tip(null));
      node.addEventListener("keydown", (event) => walk(event, index));
      if (argued.has(row)) svg.append(drawing("circle", { class: "divided", cx: point.x, cy: point.y, r: 9.5 }));
    });
    svg.insertBefore(ring, group);
    label(svg, width, height, new Set(edge), dark);
    svg.addEventListener("pointermove", (event) => tip(nearest(event)));
    svg.addEventListener("pointerleave", () => tip(null));
    svg.addEventListener("click", (event) => { const found = nearest(event); if (found) { choose(found.row); tip(found); } });
    host.replaceChildren(chart);
    host.ring = ring;
    mark();
  }
  const tick = (each) => each.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  function ticks(values, most) { // round numbers within the values: as many of a decade as there is room for
    const [least, greatest] = [Math.min(...values), Math.max(...values)];
    const decades = d3.range(Math.floor(Math.log10(least)), Math.ceil(Math.log10(greatest)) + 1);
    const of = (steps) => decades.flatMap((decade) => steps.map((step) => Number(`${step}e${decade}`))).filter((each) => each >= least && each <= greatest);
    return [[1, 1.5, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]].map(of).find((found) => found.length <= most) ?? of([1]);
  }
  function spoken(row, grey) {
    const one = measure(), flags = (timing(row)?.flags ?? []).map(flagWords);
    const other = reference(), said = opinion(row, other);
    return [`${row.title}, ${family[row.family].words}`, `${state.quantity.replaceAll("_", " ")} ${words(latency(row))}`,
      `${one.words} ${words(value(row), one.share)}`, grey ? "beaten" : "on the front",
      said ? `${said} against ${other.title}` : "", ...flags].filter(Boolean).join("; ");
  }
  function nearest(event) {
    const box = event.currentTarget.getBoundingClientRect(), scale = event.currentTarget.viewBox.baseVal.width / box.width || 1;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const away = (point) => Math.hypot(point.x - x, point.y - y);
    const found = points.length ? points.reduce((a, b) => (away(b) < away(a) ? b : a)) : null;
    return found && away(found) <= REACH ? found : null;
  }
  function unnamed(svg) { // Plot names its groups, which have no role that could bear a name
    for (const group of svg.querySelectorAll("g[aria-label]")) group.removeAttribute("aria-label");
    for (const text of svg.querySelectorAll("g text")) text.classList.add("dim");
  }
  function tip(point) {
    const box = at("tip");
    box.hidden = !point;
    if (!point) return;
    const one = measure(), { row } = point;
    box.replaceChildren(make("strong", {}, row.title), make("br"), `${words(latency(row))} ${state.quantity === "images_per_second" ? "images/s" : state.quantity === "relative" ? "× the reference" : "ms"}`,
      make("br"), `${words(value(row), one.share)} ${one.words}`);
    const [host, frame] = [at("plot"), at("plot").parentElement];
    const scale = host.clientWidth / Math.max(host.clientWidth, 260);
    const left = Math.min(host.offsetLeft + point.x * scale + 14, frame.clientWidth - box.offsetWidth - 6);
    const top = host.offsetTop + point.y * scale - box.offsetHeight - 12;
    box.style.left = `${Math.max(4, left)}px`;
    box.style.top = `${top < 0 ? host.offsetTop + point.y * scale + 14 : top}px`;
  }
  function walk(event, index) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const to = step ? index + step : event.key === "Home" ? 0 : event.key === "End" ? points.length - 1 : null;
    if (event.key === "Escape") { tip(null); return; }
    if (to === null) return;
    event.preventDefault();
    points[Math.min(Math.max(to, 0), points.length - 1)].node.focus();
  }
  function label(svg, width, height, edge, dark) { // a title where it meets nothing, else the row's number
    const half = 6, taken = points.map(({ x, y }) => [x - half, y - half, x + half, y + half]);
    const probe = document.createElement("canvas").getContext("2d");
    probe.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const order = [...points].sort((a, b) => (edge.has(b.row) - edge.has(a.row)) || (dark.has(a.row) - dark.has(b.row)));
    const done = new Set();
    for (const long of [true, false]) {
      for (const { row, x, y } of order) {
        if (done.has(row)) continue;
        const text = long ? row.title : String(row.number), wide = probe.measureText(text).width + 2;
        const near = [[12, 4], [9, -8], [9, 16], [12, -20], [12, 27]];
        const spots = [...near.map(([dx, dy]) => [x + dx, y + dy]), ...near.map(([dx, dy]) => [x - dx - wide, y + dy])];
        if (!long) for (let r = 18; r < 70; r += 8) for (let turn = 0; turn < 12; turn += 1) spots.push([x + r * Math.cos(turn * Math.PI / 6) - wide / 2, y + r * Math.sin(turn * Math.PI / 6) + 4]);
        const spot = spots.find(([left, base]) => {
          const box = [left, base - 11, left + wide, base + 3];
          return left > 48 && box[2] < width - 4 && box[1] > 12 && box[3] < height - 40
            && !taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]);
        });
        if (!spot) continue;
        done.add(row);
        taken.push([spot[0], spot[1] - 11, spot[0] + wide, spot[1] + 3]);
        const far = Math.hypot(spot[0] + wide / 2 - x, spot[1] - 4 - y);
        if (!long && far > 24) svg.append(drawing("line", { class: "leader", x1: x, y1: y, x2: spot[0] + wide / 2, y2: spot[1] - 4 }));
        svg.append(drawing("text", { class: `name${dark.has(row) ? " dim" : ""}`, x: spot[0], y: spot[1], "font-size": 12, "text-anchor": "start", "aria-hidden": "true", "pointer-events": "none" }, text));
      }
    }
  }
  function mark() { // what is chosen, on the plot and in the table
    const tabbed = points.find((point) => point.row === state.chosen) ?? points[0];
    for (const point of points) {
      point.node.setAttribute("aria-selected", String(point.row === state.chosen));
      point.node.setAttribute("tabindex", point === tabbed ? "0" : "-1");
    }
    const found = points.find((point) => point.row === state.chosen), ring = at("plot").ring;
    if (ring) {
      ring.setAttribute("visibility", found ? "visible" : "hidden");
      if (found) {
        const pulled = points.filter((point) => disputes(point.row, found.row));
        ring.setAttribute("transform", `translate(${found.x},${found.y})`);
        ring.replaceChildren(...pulled.map((point) => drawing("line", { class: "dispute", x2: point.x - found.x, y2: point.y - found.y })), ring.lastChild);
      }
    }
    for (const line of at("rows").querySelectorAll("tbody tr")) line.classList.toggle("chosen", Number(line.dataset.place) === state.chosen?.place);
  }

  // --- the chosen system ---------------------------------------------------------------------------------------
  function choose(row) {
    if (state.chosen === row) return;
    state.chosen = row;
    mark();
    detail();
    distribution();
  }
  function picture(row) {
    if (!row.picture) return null;
    const { id, width, height } = row.picture;
    return make("figure", {}, drawing("svg", { class: "grid-picture", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Samples of ${row.title}` },
      drawing("use", { href: `#${id}` })), make("figcaption", {}, `${row.title}, seeds 0 to 39`));
  }
  function detail() {
    const row = state.chosen, box = at("detail"), other = reference();
    const argued = row ? section.rows.filter((each) => each !== row && disputes(row, each)) : [];
    if (!row) { box.replaceChildren(make("p", {}, "Choose a point or a name in the table: its numbers and its images are shown here.")); return; }
    const list = make("dl");
    const line = (name, found, share, note) => list.append(make("dt", {}, name), make("dd", {}, shown(found[0], share), note ? ` ${note}` : "", make("small", {}, interval(found, share))));
    for (const [key, each] of Object.entries(row.timing)) {
      const [runtime, scenario] = key.split("|");
      if (scenario === state.scenario && each.p50) line(`p50, ${runtime}`, each.p50, false, "ms");
      if (scenario === state.scenario && runtime === state.runtime && each.p99) line(`p99, ${runtime}`, each.p99, false, "ms");
      if (scenario === state.scenario && runtime === state.runtime && each.relative) line(`relative to ${each.reference?.split(" on ")[0] ?? "the reference"}`, each.relative, false, "×");
    }
    for (const each of [...kin(), ...section.measures.filter((one) => one.key === state.measure && !kin().includes(one))]) {
      if (row.metrics[each.key]) line(each.words, row.metrics[each.key], each.share);
      const said = other && row !== other ? verdict(row, other, each.key) : "";
      if (said) list.lastChild.append(make("small", {}, verdictNode(said), ` against ${other.title}`));
    }
    const flags = Object.entries(row.timing).flatMap(([key, each]) => each.flags.map((flag) => make("li", {}, make("span", { class: `flag ${flag}` }, key.replace("|", ", ")), `: ${data.flags[flag] ?? flag}${flag === "invalid" && each.why.length ? ` (${each.why.join("; ")})` : ""}`)));
    box.replaceChildren(...[
      make("h3", {}, make("span", { class: "name" }, icon(family[row.family])), row.title),
      make("div", { class: "soft" }, `${family[row.family].words}, ${row.nfe.toLocaleString("en-US")} network call${row.nfe > 1 ? "s" : ""}, ${row.precision}`),
      list,
      flags.length ? make("ul", {}, ...flags) : null,
      argued.length ? make("p", { class: "soft" }, `The opinions dispute whether it is better or worse than ${argued.map((each) => each.title).join(", ")}: thin lines lead there.`) : null,
      picture(row),
      other && other !== row ? picture(other) : null,
      row.student && at(row.student) ? make("p", {}, make("a", { href: `#${row.student}`, onclick: () => { at(row.student).open = true; } }, "Beside its teacher")) : null,
    ].filter(Boolean));
  }

  // --- the table -----------------------------------------------------------------------------------------------
  function columns() {
    const one = measure(), found = [
      { key: "number", text: "#", of: (row) => row.number },
      { key: "title", text: "system", left: true, of: (row) => row.title },
      { key: "nfe", text: "calls", of: (row) => row.nfe },
      { key: "latency", text: QUANTITIES.find(([key]) => key === state.quantity)[1], of: (row) => latency(row)?.[0], cell: (row) => latency(row) },
    ];
    if (state.quantity !== "relative" && section.rows.some((row) => timing(row)?.relative)) found.push({ key: "relative", text: "relative", of: (row) => timing(row)?.relative?.[0], cell: (row) => timing(row)?.relative });
    if (state.quantity !== "images_per_second") found.push({ key: "rate", text: "images/s", of: (row) => rate(row)?.[0], cell: rate });
    if (data.price) found.push({ key: "price", text: "price of 1,000", of: (row) => price(row)?.[0], node: (row) => priced(price(row)) });
    const shownMeasures = kin().some((each) => each === one) ? kin() : [...kin(), one].filter(Boolean);
    for (const each of shownMeasures) found.push({ key: each.key, text: each.words, of: (row) => row.metrics[each.key]?.[0], cell: (row) => row.metrics[each.key], share: each.share });
    const accuracy = section.measures.find((each) => each.kind === "accuracy");
    if (accuracy && !shownMeasures.includes(accuracy)) found.push({ key: accuracy.key, text: "accuracy", of: (row) => row.metrics[accuracy.key]?.[0], cell: (row) => row.metrics[accuracy.key], share: true });
    if (reference()) found.push({ key: "verdict", text: `against ${reference().title}`, left: true, of: (row) => opinion(row, reference()), node: (row) => verdictNode(opinion(row, reference())) });
    found.push({ key: "flags", text: "flags", left: true, of: (row) => (timing(row)?.flags ?? []).join(), node: (row) => flagNodes(row) });
    return found;
  }
  function rate(row) {
    const own = timing(row)?.images_per_second, offline = row.timing[`${state.runtime}|offline`]?.images_per_second;
    return offline ?? own ?? null;
  }
  function price(row) { // of 1,000 images on a machine that is kept busy, as benchmarks.measure.costs.price_per_thousand
    const found = rate(row);
    return found ? [found[0], found[2], found[1]].map((each) => data.price / 3.6 / each) : null;
  }
  const priced = (found) => (found ? [tick(found[0]), make("small", {}, `${tick(found[1])} to ${tick(found[2])}`)] : []); // small sums keep their digits
  function table() {
    const host = at("rows"), list = columns(), rows = kept();
    if (!list.some((each) => each.key === state.sort[0])) state.sort = ["latency", 1];
    const by = list.find((each) => each.key === state.sort[0]);
    const empty = (found) => found === undefined || found === null || found === "";
    rows.sort((a, b) => {
      const [one, two] = [by.of(a), by.of(b)];
      if (empty(one) || empty(two)) return empty(one) - empty(two);
      return state.sort[1] * (typeof one === "string" ? one.localeCompare(two, "en", { numeric: true }) : one - two);
    });
    const focused = document.activeElement?.dataset?.sort;
    const head = make("tr", {}, ...list.map((each) => make("th", {
      scope: "col", class: each.left ? "words" : null,
      "aria-sort": each.key === state.sort[0] ? (state.sort[1] > 0 ? "ascending" : "descending") : null,
    }, make("button", { type: "button", "data-sort": each.key, onclick: () => { state.sort = [each.key, each.key === state.sort[0] ? -state.sort[1] : 1]; table(); mark(); } }, each.text))));
    const lines = rows.map((row) => make("tr", { "data-place": row.place }, ...list.map((each) => {
      if (each.key === "title") return make("th", { scope: "row" }, make("button", { class: "name", type: "button", onclick: () => { choose(row); } }, icon(family[row.family]), row.title));
      if (each.node) return make("td", { class: each.left ? "words" : null }, ...[each.node(row)].flat());
      if (!each.cell) return make("td", {}, each.of(row).toLocaleString("en-US"));
      const found = each.cell(row);
      return found ? make("td", {}, shown(found[0], each.share), make("small", {}, interval(found, each.share))) : make("td");
    })));
    const caption = make("caption", {}, make("span", {}, `${rows.length} systems on ${state.runtime || "no runtime"}, ${state.scenario}; sorted by ${by.text}. A name shows its images beside the plot.`));
    host.replaceChildren(caption, make("thead", {}, head), make("tbody", {}, ...lines));
    if (focused) host.querySelector(`[data-sort="${CSS.escape(focused)}"]`)?.focus();
  }

  // --- the distribution ----------------------------------------------------------------------------------------
  function distribution() {
    const host = at("distribution"), rows = kept().filter((row) => timing(row)?.quantiles.length);
    const told = at("distribution-words");
    if (!rows.length) { host.replaceChildren(make("p", {}, "Nothing that is chosen was timed.")); told.textContent = ""; return; }
    const chosen = rows.includes(state.chosen) ? state.chosen : null, other = reference();
    const bold = [...new Set([chosen, rows.includes(other) ? other : null].filter(Boolean))];
    const width = Math.max(host.clientWidth, 260), steps = (row) => timing(row).quantiles.map((each, index, all) => ({ row, ms: each, share: index / (all.length - 1) }));
    const across = ticks(rows.flatMap((row) => d3.extent(timing(row).quantiles)), width < 560 ? 5 : 10);
    const chart = Plot.plot({
      width, height: width < 560 ? 260 : 320, marginLeft: 46, marginBottom: 40, marginTop: 22, style: { fontSize: "12px", background: "transparent" },
      x: { type: "log" },
      y: { grid: true, domain: [0, 1], label: "↑ share of requests", tickFormat: (each) => `${Math.round(100 * each)} %`, ticks: 5 },
      marks: [
        Plot.gridX(across), Plot.axisX(across, { text: tick, tickSize: 0, label: `ms, ${state.runtime}, ${state.scenario} →` }),
        ...rows.filter((row) => !bold.includes(row)).map((row) => Plot.line(steps(row), { x: "ms", y: "share", curve: "step-after", stroke: "currentColor", strokeOpacity: 0.22 })),
        ...bold.map((row) => Plot.line(steps(row), { x: "ms", y: "share", curve: "step-after", stroke: "currentColor", strokeWidth: row === chosen ? 2.6 : 1.8, strokeDasharray: row === chosen ? null : "5 3" })),
        ...bold.map((row) => Plot.ruleX(timing(row).runs, { x: (each) => each, y1: 0, y2: 0.08, stroke: "currentColor", strokeWidth: 2 })),
        ...bold.map((row) => Plot.text([steps(row)[Math.floor(0.75 * timing(row).quantiles.length)]], { x: "ms", y: "share", text: () => row.title, textAnchor: "start", dx: 7, dy: 4, fill: "currentColor", fontWeight: row === chosen ? 700 : 400 })),
      ],
    });
    unnamed(chart);
    chart.setAttribute("role", "img");
    const sentence = (row) => `${row.title}: ${timing(row).queries.toLocaleString("en-US")} requests in ${timing(row).runs.length} runs, medians of runs ${timing(row).runs.map(short).join(", ")} ms; p50 ${words(timing(row).p50)}, p90 ${words(timing(row).p90)}${timing(row).p99 ? `, p99 ${words(timing(row).p99)}` : "; too few requests for a p99"}`;
    const text = bold.length ? `${bold.map(sentence).join(". ")}.` : "Choose a system to see its line among the others'.";
    chart.setAttribute("aria-label", `Latencies of ${rows.length} systems. ${text}`);
    told.textContent = text;
    host.replaceChildren(chart);
  }

  // --- theme, and all together ---------------------------------------------------------------------------------
  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  function theme(name) {
    if (name) root.dataset.theme = name; else delete root.dataset.theme;
    at("theme").textContent = `Theme: ${THEMES[name]}`;
  }
  function update() { front(); table(); mark(); detail(); distribution(); }
  at("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    theme(names[(names.indexOf(root.dataset.theme ?? "") + 1) % names.length]);
  });
  const unfold = () => { const found = location.hash && at(decodeURIComponent(location.hash.slice(1))); if (found?.tagName === "DETAILS") found.open = true; };
  window.addEventListener("hashchange", unfold);
  at("filters").open = window.innerWidth > 640;
  enter(0);
  controls();
  families();
  state.chosen = reference();
  update();
  unfold();
  let drawn = at("plot").clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(at("plot").clientWidth - drawn) > 4) { drawn = at("plot").clientWidth; front(); distribution(); }
  }).observe(at("plot"));
})();

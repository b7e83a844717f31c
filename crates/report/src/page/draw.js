"use strict";
// Draws the report that stands in #data. All text enters the page as text, never as markup.
(() => {
  // Okabe & Ito's palette, safe for color-blind readers; dashes tell the same apart without color.
  const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f"];
  const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
  const SVG = "http://www.w3.org/2000/svg";
  let data = JSON.parse(document.getElementById("data").textContent);
  const state = { epoch: null, run: 0, timer: null };

  const html = (name, props = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(props)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const svg = (name, props = {}, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const number = (value, digits = 4) => (typeof value === "number" ? value.toFixed(digits) : "–");
  const grouped = (value) => (typeof value === "number" ? value.toLocaleString("en-US") : "–");
  const color = (i) => COLORS[i % COLORS.length];

  // ---- line charts -------------------------------------------------------------------------------------------------

  const ticks = (low, high) => {
    const raw = (high - low) / 4 || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) || raw;
    const list = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) list.push(v);
    return list;
  };

  /** series: [{name, points: [[x, y]...], color, dash, thin}], band: {points: [[x, low, high]...], color}; with `log`, y
      is a decimal logarithm. */
  const chart = (title, series, band, log) => {
    const said = (v) => (log ? (10 ** v).toPrecision(3) : number(v));
    const drawn = series.filter((one) => one.points.length > 0);
    if (drawn.length === 0) return null;
    const width = 460, height = 240, left = 46, right = 10, top = 8, bottom = 26;
    const xs = drawn.flatMap((one) => one.points.map((p) => p[0]));
    const ys = drawn.flatMap((one) => one.points.map((p) => p[1])).concat(band ? band.points.flatMap((p) => [p[1], p[2]]) : []);
    let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    if (x0 === x1) x1 = x0 + 1;
    if (y0 === y1) { y0 -= 0.5 * Math.abs(y0) || 0.5; y1 += 0.5 * Math.abs(y1) || 0.5; }
    const pad = (y1 - y0) * 0.05; y0 -= pad; y1 += pad;
    const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
    const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - top - bottom);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const last = drawn.map((one) => `${one.name} ${said(one.points[one.points.length - 1][1])}`).join(", ");
    picture.append(svg("title", {}, `${title}; at the end: ${last}`));
    for (const v of log && y1 - y0 > 1 ? ticks(y0, y1).filter(Number.isInteger) : ticks(y0, y1)) {
      picture.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
      picture.append(svg("text", { class: "tick", x: left - 5, y: y(v) + 4, "text-anchor": "end" }, log ? (+(10 ** v).toPrecision(2)).toExponential(0) : String(+v.toPrecision(4))));
    }
    for (const v of ticks(x0, x1).filter(Number.isInteger)) {
      picture.append(svg("text", { class: "tick", x: x(v), y: height - 8, "text-anchor": "middle" }, v));
    }
    if (band && band.points.length > 1) {
      const upper = band.points.map((p) => `${x(p[0])},${y(p[2])}`);
      const lower = band.points.map((p) => `${x(p[0])},${y(p[1])}`).reverse();
      picture.append(svg("polygon", { points: upper.concat(lower).join(" "), fill: band.color, opacity: 0.18 }));
    }
    for (const one of drawn) {
      const points = one.points.map((p) => `${x(p[0])},${y(p[1])}`).join(" ");
      const style = { fill: "none", stroke: one.color, "stroke-width": one.thin ? 1 : 2, opacity: one.thin ? 0.6 : 1, "stroke-dasharray": one.dash || "none" };
      if (one.points.length === 1) picture.append(svg("circle", { cx: x(one.points[0][0]), cy: y(one.points[0][1]), r: 3, fill: one.color }));
      else picture.append(svg("polyline", { points, ...style }));
    }
    const cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom, stroke: "currentColor", "stroke-dasharray": "2 2", opacity: 0 });
    picture.append(cursor);
    const legend = html("div", { class: "legend" });
    for (const one of drawn.filter((one) => !one.silent)) {
      const key = svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" });
      key.append(svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: one.color, "stroke-width": one.thin ? 1 : 3, "stroke-dasharray": one.dash || "none" }));
      legend.append(html("span", {}, key, ` ${one.name} ${said(one.points[one.points.length - 1][1])}`));
    }
    const figure = html("figure", {}, html("figcaption", {}, title), picture, legend);
    figure.point = (epoch) => {
      const at = epoch + 1;
      const shown = at >= x0 && at <= x1;
      cursor.setAttribute("opacity", shown ? 0.7 : 0);
      if (shown) { cursor.setAttribute("x1", x(at)); cursor.setAttribute("x2", x(at)); }
    };
    return figure;
  };

  /** One measure of every run: thin lines, and where runs are several their mean and standard deviation. */
  const overlay = (title, measures, list, log) => {
    const value = (y) => (!log ? y : y > 0 ? Math.log10(y) : null);
    const several = data.runs.length > 1;
    const series = [];
    let band = null;
    measures.forEach(({ name, of }, m) => {
      const lines = data.runs.map((run) => list(run).map((line) => [line.epoch + 1, value(of(line))]).filter((p) => typeof p[1] === "number"));
      if (!several) { series.push({ name, points: lines[0], color: color(m), dash: DASHES[m % DASHES.length] }); return; }
      lines.forEach((points, r) => series.push({ name: data.runs[r].name, points, color: color(r + 1), dash: DASHES[m % DASHES.length], thin: true, silent: m > 0 }));
      const byEpoch = new Map();
      lines.flat().forEach(([x, y]) => byEpoch.set(x, (byEpoch.get(x) || []).concat(y)));
      const stats = [...byEpoch].sort((a, b) => a[0] - b[0]).filter(([, v]) => v.length === data.runs.length).map(([x, v]) => {
        const mean = v.reduce((a, b) => a + b, 0) / v.length;
        const sd = Math.sqrt(v.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, v.length - 1));
        return [x, mean, sd];
      });
      series.push({ name: `${name}, mean ± deviation`, points: stats.map(([x, mean]) => [x, mean]), color: color(0), dash: DASHES[m % DASHES.length] });
      if (m === 0) band = { points: stats.map(([x, mean, sd]) => [x, mean - sd, mean + sd]), color: color(0) };
    });
    return chart(title, series, band, log);
  };

  // ---- choices -----------------------------------------------------------------------------------------------------

  const softmax = (row) => {
    const most = Math.max(...row);
    const weights = row.map((v) => Math.exp(v - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    return weights.map((v) => v / sum);
  };

  /** The genotype's line: "normal: 2 = sep_conv_3x3(0) + skip_connect(1); output 2, 3". */
  const parseGenotype = (text) => text.split("\n").map((line) => {
    const [head, ...rest] = line.split(":");
    const edges = [];
    for (const part of rest.join(":").split(";")) {
      const match = part.match(/^\s*(\d+) = (.*)$/);
      if (!match) continue;
      for (const term of match[2].split(" + ")) {
        const [, op, from] = term.match(/^(.*)\((\d+)\)$/) || [];
        if (op !== undefined) edges.push({ from: +from, to: +match[1], op });
      }
    }
    const [kind, cell] = head.split("@");
    return { kind, cell: cell === undefined ? null : +cell, edges };
  });

  const lineOf = (epoch, group, index) => epoch.groups.find((g) => g.name === group.name) || epoch.groups[index];

  const probability = (run, epoch, cell, edge) => {
    const index = run.groups.findIndex((g) => g.kind === cell.kind && (g.cell === null || g.cell === cell.cell)
      && g.edges.some(([a, b]) => a === edge.from && b === edge.to) && g.candidates.includes(edge.op));
    if (index < 0) return null;
    const group = run.groups[index];
    const row = group.edges.findIndex(([a, b]) => a === edge.from && b === edge.to);
    const line = lineOf(epoch, group, index);
    return softmax(line.logits[row])[group.candidates.indexOf(edge.op)];
  };

  /** Nodes on a line, edges as arcs: the higher, the longer; width and label say how sure the choice is. */
  const drawCell = (run, epoch, cell) => {
    const nodes = Math.max(...cell.edges.map((e) => e.to), 0) + 1;
    const gap = Math.max(90, Math.min(170, 900 / nodes)), left = 40;
    const width = left * 2 + gap * (nodes - 1);
    const reach = (e) => 34 + (e.to - e.from - 1) * 48;
    const above = Math.max(0, ...cell.edges.filter((e) => e.op !== "none").map(reach)) + 26;
    const height = above + 46;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "cell" });
    picture.style.maxWidth = `${width}px`;
    picture.append(svg("title", {}, `${cell.kind}: ${cell.edges.map((e) => `${e.op} from ${e.from} to ${e.to}`).join(", ")}`));
    const x = (node) => left + gap * node;
    const families = run.families;
    for (const edge of cell.edges) {
      if (edge.op === "none") continue;
      const p = probability(run, epoch, cell, edge);
      const sure = p === null ? 0.5 : p;
      const up = reach(edge), y = above + 6;
      const tint = color(families.indexOf(edge.op));
      picture.append(svg("path", {
        d: `M ${x(edge.from)} ${y} C ${x(edge.from) + gap * 0.3} ${y - up * 1.3}, ${x(edge.to) - gap * 0.3} ${y - up * 1.3}, ${x(edge.to)} ${y}`,
        fill: "none", stroke: tint, "stroke-width": (1 + 6 * sure).toFixed(2), opacity: (0.35 + 0.65 * sure).toFixed(3),
      }));
      const label = svg("text", { x: (x(edge.from) + x(edge.to)) / 2, y: y - up * 0.98 - 4, "text-anchor": "middle" }, `${edge.op}${p === null ? "" : ` ${(p * 100).toFixed(0)} %`}`);
      label.setAttribute("style", "paint-order:stroke;stroke:var(--soft);stroke-width:4px");
      picture.append(label);
    }
    for (let node = 0; node < nodes; node++) {
      picture.append(svg("circle", { cx: x(node), cy: above + 10, r: 13, fill: "var(--bg)", stroke: "var(--fg)" }));
      picture.append(svg("text", { x: x(node), y: above + 14, "text-anchor": "middle" }, node));
    }
    return html("figure", {}, html("figcaption", {}, cell.cell === null ? cell.kind : `${cell.kind}, cell ${cell.cell}`), html("div", { class: "scroll" }, picture));
  };

  /** A network that is a chain of cells of one choice each: a box a layer, in the color of its operation, the bolder the surer. */
  const drawChain = (run, epoch, cells) => {
    const boxes = cells.map((cell, at) => {
      const edge = cell.edges[0];
      if (!edge || edge.op === "none") return html("li", { class: "skipped" }, html("b", {}, String(at + 1)), " skipped");
      const p = probability(run, epoch, cell, edge);
      const box = html("li", {}, html("b", {}, String(at + 1)), ` ${edge.op}${p === null ? "" : ` ${(p * 100).toFixed(0)} %`}`);
      const sure = p === null ? 0.5 : p;
      box.style.borderColor = color(run.families.indexOf(edge.op));
      box.style.borderWidth = `${(1 + 4 * sure).toFixed(1)}px`;
      return box;
    });
    return html("figure", {}, html("figcaption", {}, "layer after layer; the bolder its frame, the surer a choice"), html("ol", { class: "chain" }, ...boxes));
  };

  /** Every edge over all epochs: a strip a candidate, the darker the likelier. `--at` marks the epoch that is shown. */
  const strips = (run, group, index) => {
    const lines = run.epochs.map((epoch) => lineOf(epoch, group, index));
    const percent = (t) => `${((100 * t) / lines.length).toFixed(2)}%`;
    const block = ([from, to], row) => {
      const p = lines.map((line) => softmax(line.logits[row]));
      const strip = (name, k) => {
        const stops = p.map((one, t) => `rgba(var(--heat),${(0.05 + 0.95 * one[k]).toFixed(2)}) ${percent(t)} ${percent(t + 1)}`);
        const bar = html("div", { class: "strip", role: "img", "aria-label": `${name}: from ${p[0][k].toFixed(2)} to ${p[p.length - 1][k].toFixed(2)}` });
        bar.style.background = `linear-gradient(to right,${stops.join(",")})`;
        return [html("span", {}, name), bar];
      };
      return html("div", { class: "edge" }, html("b", {}, `${from} → ${to}`), html("span"), ...group.candidates.flatMap(strip));
    };
    return html("div", {}, html("p", { class: "dim" }, group.name), html("div", { class: "strips" }, ...group.edges.map(block)));
  };

  const heatMap = (group, line, noise) => {
    const measured = noise ? ["‖mean gradient‖", "variance", "noise to signal"] : [];
    const head = html("tr", {}, ...["edge", ...group.candidates, "entropy", ...measured].map((text) => html("th", { scope: "col" }, text)));
    const rows = group.edges.map(([from, to], row) => {
      const p = softmax(line.logits[row]);
      const best = p.indexOf(Math.max(...p));
      const cells = p.map((value, k) => {
        const cell = html("td", k === best ? { class: "chosen" } : {}, value.toFixed(2));
        cell.style.background = `rgba(var(--heat),${(0.75 * value).toFixed(3)})`;
        return cell;
      });
      const numbers = noise ? [noise.norm[row].toExponential(1), noise.variance[row].toExponential(1), (Math.sqrt(noise.variance[row]) / noise.norm[row]).toFixed(2)] : [];
      return html("tr", {}, html("th", { scope: "row" }, `${from} → ${to}`), ...cells, html("td", {}, number(line.entropy[row], 2)), ...numbers.map((text) => html("td", {}, text)));
    });
    return html("div", { class: "scroll" }, html("table", {}, html("caption", { class: "dim" }, `${group.name}: softmax(α), the likeliest framed`), html("thead", {}, head), html("tbody", {}, ...rows)));
  };

  // ---- tables ------------------------------------------------------------------------------------------------------

  const table = (head, rows) => html("div", { class: "scroll" }, html("table", {},
    html("thead", {}, html("tr", {}, ...head.map((h) => html("th", { scope: "col" }, h)))),
    html("tbody", {}, ...rows.map((row) => html("tr", {}, html("th", { scope: "row" }, row[0]), ...row.slice(1).map((v) => html("td", {}, v)))))));

  const confusion = (result) => {
    if (!Array.isArray(result.confusion)) return null;
    const names = result.classes || result.confusion.map((_, i) => String(i));
    const most = Math.max(1, ...result.confusion.map((row) => row.reduce((a, b) => a + b, 0)));
    const rows = result.confusion.map((row, i) => html("tr", {}, html("th", { scope: "row" }, names[i]), ...row.map((n, j) => {
      const cell = html("td", i === j ? { class: "chosen" } : {}, n);
      cell.style.background = `rgba(var(--heat),${(0.75 * n / most).toFixed(3)})`;
      return cell;
    })));
    return html("div", { class: "scroll" }, html("table", {}, html("caption", { class: "dim" }, "test examples by class (rows) and answer (columns)"),
      html("thead", {}, html("tr", {}, html("th", {}, ""), ...names.map((n) => html("th", { scope: "col" }, n)))), html("tbody", {}, ...rows)));
  };

  // ---- the page ----------------------------------------------------------------------------------------------------

  const render = () => {
    const main = document.getElementById("main");
    const open = new Set([...main.querySelectorAll("details[open]")].map((d) => d.dataset.key));
    main.replaceChildren();
    const { runs } = data;
    document.getElementById("title").textContent = runs.length === 1 ? `strait: ${runs[0].name}` : `strait: ${runs.length} runs`;
    const first = runs[0];
    const n = first.epochs.length;
    document.getElementById("state").textContent = data.live ? `live: ${n} of ${first.planned} epochs` : "";
    document.title = document.getElementById("title").textContent;
    for (const run of runs) {
      run.families = [...new Set(run.groups.flatMap((g) => g.candidates))].filter((c) => c !== "none");
      main.append(html("p", { class: "lead" }, runs.length > 1 ? html("strong", {}, `${run.name}: `) : null, run.verdict));
      for (const warning of run.warnings) main.append(html("p", { class: "warn" }, warning));
    }
    const section = (title, ...children) => {
      const inside = children.flat().filter(Boolean);
      if (inside.length) main.append(html("section", {}, html("h2", {}, title), ...inside));
    };
    const epochs = (run) => run.epochs;
    const charts = [
      overlay("Accuracy while searching", [{ name: "weights", of: (e) => e.weights.accuracy }, { name: "architecture", of: (e) => e.architecture && e.architecture.accuracy }], epochs),
      overlay("Loss while searching (nats)", [{ name: "weights", of: (e) => e.weights.loss }, { name: "architecture", of: (e) => e.architecture && e.architecture.loss }], epochs),
      overlay("Mean entropy of the choices (nats)", [{ name: "entropy", of: (e) => e.entropy }], epochs),
      overlay("Temperature τ", [{ name: "τ", of: (e) => e.tau }], epochs),
      overlay("What discreteness costs: accuracy", ["mixture", "sampled", "argmax", "derived"].map((way) => ({ name: way, of: (e) => e.gap && e.gap[way].accuracy })), epochs),
      overlay("Share of edges whose likeliest candidate has no weights", [{ name: "share", of: (e) => e.parameter_free }], epochs),
    ].filter(Boolean);
    section("Search", charts.length ? html("div", { class: "charts" }, ...charts) : null);
    const kinds = (name) => (e) => e.collapse && e.collapse.kinds.reduce((sum, kind) => sum + kind[name], 0);
    const watched = [
      overlay("Noise to signal of the architecture's gradient", [{ name: "√variance / ‖mean‖", of: (e) => e.noise && e.noise.noise_to_signal }], epochs),
      overlay("Variance of the architecture's gradient", [{ name: "Σ variance", of: (e) => e.noise && e.noise.variance }, { name: "‖mean‖²", of: (e) => e.noise && e.noise.norm ** 2 }], epochs, true),
      overlay("Cosine to the reference gradient", [{ name: "cosine", of: (e) => e.noise && e.noise.cosine }], epochs),
      overlay("Signs of collapse: edges", [{ name: "skip connections", of: kinds("skips") }, { name: "none", of: kinds("nones") }], epochs),
      overlay("Sharpness: largest eigenvalue of the curvature in α", [{ name: "eigenvalue", of: (e) => e.collapse && e.collapse.sharpness }], epochs),
    ].filter(Boolean);
    section("The architecture's gradient", watched.length ? html("div", { class: "charts" }, ...watched) : null);
    charts.push(...watched);

    if (runs.some((run) => run.epochs.length)) {
      const chosen = html("div", { id: "choices" });
      const history = html("div", { id: "history" });
      const slider = html("input", { type: "range", min: 1, step: 1, id: "epoch", "aria-label": "epoch" });
      const said = html("output", { for: "epoch" });
      const play = html("button", { type: "button", id: "play" }, "play");
      const picker = html("select", { "aria-label": "run" }, ...runs.map((run, i) => html("option", { value: i }, run.name)));
      const show = () => {
        const run = runs[state.run], last = run.epochs.length;
        slider.max = Math.max(1, last);
        const at = Math.min(state.epoch === null ? last : state.epoch, last);
        slider.value = at;
        const line = run.epochs[at - 1];
        chosen.replaceChildren();
        if (!line) return;
        said.textContent = `epoch ${at} of ${last}, τ ${number(line.tau, 3)}${line.warmup ? ", warm-up" : ""}`;
        slider.setAttribute("aria-valuetext", said.textContent);
        charts.forEach((figure) => figure.point(line.epoch));
        const cells = parseGenotype(line.genotype);
        const isChain = cells.length > 2 && cells.every((cell) => cell.edges.length < 2);
        chosen.append(html("h3", {}, isChain ? "The network that would be derived" : "The cell that would be derived"));
        chosen.append(...(isChain ? [drawChain(run, line, cells)] : cells.map((cell) => drawCell(run, line, cell))));
        chosen.append(html("h3", {}, "Probability of every candidate"));
        const noise = (group) => line.noise && line.noise.groups.find((g) => g.name === group.name);
        chosen.append(...run.groups.map((group, i) => heatMap(group, lineOf(line, group, i), noise(group))));
        if (history.dataset.run !== String(state.run)) {
          history.dataset.run = state.run;
          history.replaceChildren(html("h3", {}, "Probability of every candidate, over all epochs"), ...run.groups.map((group, i) => strips(run, group, i)));
        }
        history.style.setProperty("--at", `${(100 * (at - 0.5)) / last}%`);
      };
      const stop = () => { clearInterval(state.timer); state.timer = null; play.textContent = "play"; };
      slider.addEventListener("input", () => { state.epoch = +slider.value === runs[state.run].epochs.length ? null : +slider.value; show(); });
      picker.addEventListener("change", () => { state.run = +picker.value; state.epoch = null; show(); });
      play.addEventListener("click", () => {
        if (state.timer) { stop(); return; }
        play.textContent = "pause";
        state.epoch = state.epoch === null ? 1 : state.epoch;
        show();
        state.timer = setInterval(() => {
          if (state.epoch === null || state.epoch >= runs[state.run].epochs.length) { state.epoch = null; stop(); } else { state.epoch += 1; }
          show();
        }, 300);
      });
      if (state.timer) play.textContent = "pause";
      picker.value = state.run;
      section("Choices, epoch by epoch", html("div", { class: "controls" }, runs.length > 1 ? picker : null, play, slider, said), chosen, history);
      show();
    }

    const trained = [
      overlay("Accuracy of the child on its training part", [{ name: "accuracy", of: (e) => e.score.accuracy }], (run) => run.training),
      overlay("Loss of the child (nats)", [{ name: "loss", of: (e) => e.score.loss }], (run) => run.training),
      overlay("Learning rate", [{ name: "learning rate", of: (e) => e.lr }], (run) => run.training),
    ].filter(Boolean);
    section("Training from scratch", trained.length ? html("div", { class: "charts" }, ...trained) : null);

    const results = runs.filter((run) => run.result && typeof run.result === "object");
    section("Results and costs", results.length ? table(
      ["run", "test accuracy", "top-5", "derived, shared weights", "parameters", "MACs", "seed", "seconds", "memory", "threads"],
      results.map(({ name, result, machine }) => [name, number(result.test_accuracy), number(result.test_top5), number(result.derived_accuracy),
        grouped(result.params), grouped(result.macs), result.seed === undefined ? "–" : String(result.seed), machine && machine.seconds ? number(machine.seconds, 0) : "–", machine && machine.peak_bytes ? `${number(machine.peak_bytes / 1e6, 0)} MB` : "–", machine && machine.threads ? String(machine.threads) : "–"])) : null,
      ...results.map((run) => confusion(run.result)));

    for (const run of runs) {
      const details = (title, text, key) => text ? html("details", { "data-key": `${run.name}/${key}`, ...(open.has(`${run.name}/${key}`) ? { open: "" } : {}) }, html("summary", {}, title), html("pre", {}, text)) : null;
      section(runs.length > 1 ? `To repeat: ${run.name}` : "To repeat", html("pre", {}, run.repeat),
        details("Settings of the search", run.config, "config"), details("Settings of the training", run.train, "train"),
        details("Genotype", run.genotype, "genotype"), details("Machine and versions", run.machine ? JSON.stringify(run.machine, null, 2) : "", "machine"));
    }
  };

  render();
  if (data.live) {
    const ask = async () => {
      try {
        const answer = await fetch("data.json", { cache: "no-store" });
        const next = await answer.json();
        if (JSON.stringify(next.runs) !== JSON.stringify(data.runs.map(({ families, ...run }) => run))) { data = next; render(); }
      } catch (gone) {
        document.getElementById("state").textContent = "the search has ended or was stopped; this is its last state";
        return;
      }
      setTimeout(ask, 1000);
    };
    setTimeout(ask, 1000);
  }
})();

// Each question of a study as a card.

const axisLabel = (label, unit) => (unit ? `${label}, ${unit}` : label);
const WHOLE = new Set(["Hz", "bit", "bit/s", "m"]); // nobody puts a milli before them
const MOST_FOREST = 60;
const PREFIXED = new Set(["Hz", "bit", "bit/s", "J", "W", "s", "m"]);

// By what to divide the numbers of a factor, and their unit then.
function scaleOf(largest, unit) {
  if (!PREFIXED.has(unit) || !(largest > 0)) return [1, unit];
  const [scale, prefix] = PREFIXES.find(([one]) => largest >= one && !(unit === "s" ? one > 1 : one < 1 && WHOLE.has(unit))) || [1, ""];
  return [scale, prefix + unit];
}

function card(title, ...parts) {
  return element("figure", { className: "card" }, element("h2", {}, ...[title].flat().filter(Boolean)), ...parts.flat());
}

const note = (text) => element("p", { className: "note" }, text);

class Panels {
  constructor(content) {
    this.content = content;
    this.level = `${Number((100 * content.confidence).toPrecision(4))} %`;
    this.heatAt = 0;
    this.frontAt = 0;
    this.curves = new Set(content.convergence.shown);
  }

  capital(text) { return text[0].toUpperCase() + text.slice(1); }

  shown(measure, value) { return value === null ? null : value / measure.scale; }

  told(measure, value, digits = 4) { return value === null ? "–" : `${number(value / measure.scale, digits)} ${measure.shownUnit}`.trim(); }

  interval(measure, low, high) {
    return low === null ? "one replication, no interval" : `${this.level}: ${this.told(measure, low)} to ${this.told(measure, high)}`;
  }

  xScale(factor, cases = null) {
    if (!factor.numeric) return { scale: new Names(factor.levels), at: (level) => level, label: factor.label };
    const [by, unit] = scaleOf(Math.max(...factor.values.map(Math.abs)), factor.unit);
    const values = factor.values.map((one) => one / by);
    return { scale: factor.log ? new Logarithmic(values) : new Linear(values), at: (level) => values[level], label: axisLabel(factor.label, unit) };
  }

  // Lines over a factor, one for each level of another.
  lines(measure, factor, lines, labels, by, size = {}) {
    const x = this.xScale(factor);
    const ends = lines.flatMap((line) => [...line.low, ...line.high, ...line.mean]).filter((one) => one !== null).map((one) => one / measure.scale);
    const plot = new Plot({ x: x.scale, y: new Linear(ends), xLabel: x.label, yLabel: axisLabel(measure.label, measure.shownUnit), ...size });
    lines.forEach((line, row) => {
      const nudge = (row - (lines.length - 1) / 2) * 5;
      if (factor.numeric) plot.line(line.mean.map((mean, level) => [x.at(level), mean / measure.scale]), { stroke: colourOf(row), "stroke-dasharray": DASHES[row % DASHES.length] });
      line.mean.forEach((mean, level) => {
        plot.bar(this.shown(measure, line.low[level]), this.shown(measure, line.high[level]), x.at(level), colourOf(row), true, nudge);
        const told = [[labels[row], factor.levels[level]].filter(Boolean).join(", "), `${measure.label} ${this.told(measure, mean)}`, this.interval(measure, line.low[level], line.high[level])];
        plot.mark(x.at(level), mean / measure.scale, { colour: colourOf(row), shape: MARKS[row % MARKS.length], told, nudge });
      });
    });
    const legend = by ? element("div", { className: "legend" }, `${by.label}: `, ...labels.map((label, row) => key(row, label))) : null;
    return [plot.root, legend].filter(Boolean);
  }

  response(measure) {
    const { factors } = this.content;
    const { across, by, lines, over } = measure.response;
    const other = by === null ? null : factors[by];
    return card(
      this.capital(`${measure.label} over ${factors[across].label}`),
      this.lines(measure, factors[across], lines, other ? other.levels : [""], other),
      note(`Mean and ${this.level} interval over replications${over ? `, averaged over ${over} other factor(s)` : ""}. The intervals of lines overlap more than their differences: those are paired, see there.`));
  }

  effects(measure) {
    const { factors } = this.content;
    const parts = measure.effects.map((effect) => element("div", {}, ...this.lines(measure, factors[effect.factor], [effect], [""], null, { width: 300, height: 215, left: 50 })));
    return card("Effect of each factor", element("div", { className: "small pair" }, ...parts), note(`Mean at each level over all levels of the other factors, ${this.level} interval over replications.`));
  }

  points(measure) {
    const { factors, cases } = this.content;
    const parts = factors.flatMap((factor, at) => {
      const x = this.xScale(factor);
      const rows = measure.cases.map((row, index) => [row, cases[index]]).filter(([row]) => row.mean !== null);
      const plot = new Plot({ x: x.scale, y: new Linear(rows.flatMap(([row]) => [row.low ?? row.mean, row.high ?? row.mean, row.mean]).map((one) => one / measure.scale)), xLabel: x.label, yLabel: axisLabel(measure.label, measure.shownUnit), width: 420, height: 260 });
      rows.forEach(([row]) => {
        const place = x.at(cases[measure.cases.indexOf(row)].levels[at]);
        plot.bar(this.shown(measure, row.low), this.shown(measure, row.high), place, "var(--line)");
      });
      rows.forEach(([row, one]) => plot.mark(x.at(one.levels[at]), row.mean / measure.scale, { colour: colourOf(at), size: 2.6, told: [one.label, ...factors.map((each, which) => `${each.label} ${each.levels[one.levels[which]]}`), this.told(measure, row.mean)] }));
      return [element("div", {}, plot.root)];
    });
    const made = card("Every case over each factor", element("div", { className: "small" }, ...parts), note("A trend in one picture is over all values of the other factors."));
    made.classList.add("whole");
    return made;
  }

  heat(measure) {
    const { factors } = this.content;
    const pair = measure.heat[Math.min(this.heatAt, measure.heat.length - 1)];
    let [rows, columns] = pair.factors.map((at) => factors[at]);
    let { mean, interaction } = pair;
    if (mean.length > mean[0].length) {
      [rows, columns] = [columns, rows];
      [mean, interaction] = [mean, interaction].map((table) => table[0].map((_, at) => table.map((row) => row[at])));
    }
    const flat = mean.flat();
    const [low, high] = [Math.min(...flat), Math.max(...flat)];
    const left = 16 + 6.4 * Math.max(...rows.levels.map((one) => one.length));
    const width = 520;
    const cell = [(width - left - 10) / columns.levels.length, Math.min(46, 260 / rows.levels.length)];
    const height = cell[1] * rows.levels.length + 44;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${measure.label} by ${rows.label} and ${columns.label}` });
    mean.forEach((line, row) => {
      root.append(svg("text", { x: left - 6, y: (row + 0.5) * cell[1] + 4, "text-anchor": "end" }, rows.levels[row]));
      line.forEach((value, column) => {
        const share = high > low ? (value - low) / (high - low) : 0.5;
        const told = [`${rows.levels[row]}, ${columns.levels[column]}`, `${measure.label} ${this.told(measure, value)}`, `${number(interaction[row][column] / measure.scale)} ${measure.shownUnit} from what row and column add up to`];
        root.append(svg("rect", { x: left + column * cell[0], y: row * cell[1], width: cell[0] - 1, height: cell[1] - 1, fill: `rgb(${shade(share).join(",")})`, "data-told": told.join("\n") }));
        if (cell[0] > 34 && cell[1] > 13) root.append(svg("text", { x: left + (column + 0.5) * cell[0], y: (row + 0.5) * cell[1] + 4, "text-anchor": "middle", style: `fill:${share > 0.55 ? "#000" : "#fff"};pointer-events:none` }, number(value / measure.scale)));
      });
    });
    const every = Math.ceil(columns.levels.reduce((sum, one) => sum + one.length * 6 + 10, 0) / (width - left));
    columns.levels.forEach((label, column) => { if (column % every === 0) root.append(svg("text", { x: left + (column + 0.5) * cell[0], y: height - 28, "text-anchor": "middle" }, label)); });
    root.append(svg("text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle", class: "faint" }, `${columns.label}; rows: ${rows.label}`));
    const choose = measure.heat.length > 1 ? this.select(measure.heat.map((one) => one.factors.map((at) => factors[at].label).join(" × ")), this.heatAt, (at) => { this.heatAt = at; }) : null;
    const strongest = Math.max(...interaction.flat().map(Math.abs));
    const largest = high - low;
    return card(["Interaction", choose], root, note(`Means, ${measure.shownUnit || "no unit"}. The strongest departure from adding up is ${number(strongest / measure.scale)} ${measure.shownUnit}, ${largest > 0 ? percent(strongest / largest) : "0 %"} of the range.`));
  }

  compared(measure) {
    return this.content.cases.map((one, at) => [one, measure.cases[at]]).filter(([one, row]) => one.baseline !== null && row.difference !== null);
  }

  forest(measure) {
    const all = this.compared(measure);
    if (!all.length) return null;
    const reach = (row) => -Math.abs(row.difference);
    const kept = new Set(all.length > MOST_FOREST ? all.map(([, row]) => row).sort((one, other) => reach(one) - reach(other)).slice(0, MOST_FOREST) : all.map(([, row]) => row));
    const rows = all.filter(([, row]) => kept.has(row));
    const ends = rows.flatMap(([, row]) => [row.difference, row.difference_low, row.difference_high]).filter((one) => one !== null).map((one) => one / measure.scale);
    const labels = rows.map(([one]) => one.label);
    const left = Math.min(250, 20 + 6.2 * Math.max(...labels.map((one) => one.length)));
    const height = 24 * rows.length + 54;
    const plot = new Plot({ x: new Linear(ends, { zero: true }), y: new Names([...labels].reverse()), xLabel: axisLabel(`${measure.label} less that of ${this.content.against}`, measure.shownUnit), yLabel: "", left, height, told: `paired differences of ${measure.label}` });
    plot.root.append(svg("line", { x1: plot.px(0), x2: plot.px(0), y1: plot.top, y2: plot.height - plot.bottom, stroke: "var(--ink)" }));
    rows.forEach(([one, row], index) => {
      const at = rows.length - 1 - index;
      const found = row.detectable === "yes";
      const colour = !found ? "var(--faint)" : row.difference < 0 ? COLOURS[0] : COLOURS[1];
      plot.bar(this.shown(measure, row.difference_low), this.shown(measure, row.difference_high), at, colour, false);
      plot.mark(row.difference / measure.scale, at, { colour, hollow: !found, shape: row.detectable === "censored" ? "cross" : "circle", told: this.difference(measure, one, row) });
    });
    return card("Paired differences", plot.root, note(`Each case less ${this.content.against}, replication by replication, with ${this.level} intervals. Hollow: no detectable difference. Crossed: some replications missed the target, those are left out.${all.length > rows.length ? ` The ${rows.length} largest of ${all.length}.` : ""}`));
  }

  difference(measure, one, row) {
    const against = this.content.cases[one.baseline].label;
    const share = row.relative_difference === null ? "" : ` (${row.relative_difference > 0 ? "+" : ""}${number(100 * row.relative_difference)} %)`;
    const worth = row.variance_reduction === null ? [] : [`pairs were worth ${number(row.variance_reduction)} times as many runs`];
    const verdict = { yes: "detectable", no: "no detectable difference", censored: `${row.pairs} pairs; some missed the target` }[row.detectable] || "one replication says nothing of chance";
    return [`${one.label} less ${against}`, `${row.difference > 0 ? "+" : ""}${this.told(measure, row.difference)}${share}`, this.interval(measure, row.difference_low, row.difference_high), verdict, ...worth];
  }

  front() {
    const { fronts, measures, cases, factors } = this.content;
    if (!fronts.length) return null;
    const front = fronts[Math.min(this.frontAt, fronts.length - 1)];
    const [across, up] = [measures[front.x], measures[front.y]];
    const by = across.response ? across.response.by : null;
    const rows = cases.map((one, at) => [one, across.cases[at], up.cases[at]]).filter(([, x, y]) => x.mean !== null && y.mean !== null);
    const ends = (measure, which) => new Linear(rows.flatMap((row) => [row[which].low ?? row[which].mean, row[which].high ?? row[which].mean]).map((one) => one / measure.scale));
    const plot = new Plot({ x: ends(across, 1), y: ends(up, 2), xLabel: axisLabel(across.label, across.shownUnit), yLabel: axisLabel(up.label, up.shownUnit), height: 330 });
    rows.forEach(([, x, y]) => {
      plot.bar(this.shown(across, x.low), this.shown(across, x.high), y.mean / up.scale, "var(--line)", false);
      plot.bar(this.shown(up, y.low), this.shown(up, y.high), x.mean / across.scale, "var(--line)");
    });
    plot.stairs(front.cases.map((at) => [across.cases[at].mean / across.scale, up.cases[at].mean / up.scale]), { stroke: "var(--ink)", "stroke-width": 1.2 });
    rows.forEach(([one, x, y]) => {
      const group = by === null ? 0 : one.levels[by];
      const on = front.cases.includes(cases.indexOf(one));
      if (on) plot.root.append(svg("circle", { cx: plot.px(x.mean / across.scale), cy: plot.py(y.mean / up.scale), r: 8, fill: "none", stroke: "var(--ink)" }));
      plot.mark(x.mean / across.scale, y.mean / up.scale, { colour: colourOf(group), shape: MARKS[group % MARKS.length], label: one.label, told: [one.label, `${across.label} ${this.told(across, x.mean)}`, `${up.label} ${this.told(up, y.mean)}`, on ? "no case beats it in both" : ""].filter(Boolean) });
    });
    const choose = fronts.length > 1 ? this.select(fronts.map((one) => `${measures[one.x].label} against ${measures[one.y].label}`), this.frontAt, (at) => { this.frontAt = at; }) : null;
    const legend = by === null ? null : element("div", { className: "legend" }, ...factors[by].levels.map((label, row) => key(row, label, { line: false })));
    return card(["Pareto front", choose], plot.root, legend, note("Ringed: no other case is as good in both and better in one, by the means."));
  }

  convergence() {
    const { cases, convergence } = this.content;
    if (!convergence.cases.length) return null;
    const labelOf = (one) => cases[one.case].label + (one.task ? ` of ${one.task}` : "");
    const on = convergence.cases.map((one, at) => [one, at]).filter(([, at]) => this.curves.has(at));
    const numbers = new Map(convergence.cases.map((_, at) => [at, convergence.shown.indexOf(at) >= 0 ? convergence.shown.indexOf(at) : at]));
    const losses = (on.length ? on : convergence.cases.map((one, at) => [one, at])).flatMap(([one]) => [...one.mean, ...one.low, ...one.high]).filter((one) => one !== null);
    const longest = Math.max(...(on.length ? on : [[convergence.cases[0]]]).map(([one]) => one.endS));
    const [by, unit] = scaleOf(longest, "s");
    const plot = new Plot({ x: new Linear([0, longest / by], { margin: 0.02 }), y: new Linear(losses), xLabel: axisLabel("simulated time", unit), yLabel: "held-out loss, nats", height: 330 });
    for (const [one, at] of on) plot.band(one.time.map((time, row) => [time / by, one.low[row], one.high[row]]), colourOf(numbers.get(at)));
    for (const [one, at] of on) {
      plot.line(one.time.map((time, row) => [time / by, one.mean[row]]), { stroke: colourOf(numbers.get(at)), "stroke-dasharray": DASHES[numbers.get(at) % DASHES.length], "data-told": `${labelOf(one)}\nlast loss ${number(one.mean.at(-1), 4)} at ${number(one.endS, 4)} s\n${one.n} replications` });
    }
    const legend = element("div", { className: "legend" }, ...convergence.cases.map((one, at) => {
      const button = element("button", { type: "button", "aria-pressed": String(this.curves.has(at)), onclick: () => { this.curves.has(at) ? this.curves.delete(at) : this.curves.add(at); this.onChange(); } });
      button.append(...key(numbers.get(at), labelOf(one)).childNodes);
      return button;
    }));
    return card("Convergence", plot.root, legend, note(`Mean held-out loss and ${this.level} band over replications; straight between evaluations, and a run that has ended keeps its last loss. Click a case to show or hide it.${convergence.of > convergence.cases.length ? ` ${convergence.cases.length} of ${convergence.of} cases, from the quickest to the slowest.` : ""}`));
  }

  sensitivity(measure) {
    const { factors } = this.content;
    if (!measure.indices) return card("Sensitivity", note(measure.noIndices));
    const { first, total, told, explained } = measure.indices;
    const left = Math.min(230, 20 + 6.4 * Math.max(...factors.map((one) => one.label.length)));
    const height = 52 * factors.length + 50;
    const plot = new Plot({ x: new Linear([0, 1], { margin: 0 }), y: new Names(factors.map((one) => one.label).reverse()), xLabel: "share of the variance", yLabel: "", left, height, right: 24, told: `Sobol indices of ${measure.label}` });
    const thick = 15;
    factors.forEach((factor, at) => [[first, "alone", 1, -thick - 1], [total, "with others", 0.45, 1]].forEach(([index, name, opacity, nudge]) => {
      const y = plot.py(factors.length - 1 - at) + nudge;
      const value = Math.max(index.value[at], 0);
      const lines = [`${factor.label}, ${name}`, percent(value), index.low[at] === null ? "" : `${this.level}: ${percent(Math.max(index.low[at], 0))} to ${percent(Math.max(index.high[at], 0))}`].filter(Boolean);
      plot.root.append(svg("rect", { x: plot.left, y, height: thick, width: Math.max(plot.px(Math.min(value, 1)) - plot.left, 0.5), fill: COLOURS[0], opacity, "data-told": lines.join("\n") }));
      if (index.low[at] !== null) plot.bar(Math.min(Math.max(index.low[at], 0), 1), Math.min(Math.max(index.high[at], 0), 1), factors.length - 1 - at, "var(--ink)", false, nudge + thick / 2);
    }));
    const fit = explained === null ? "" : ` The fit foretells ${percent(explained)} of the variance of cases it has not seen${explained < 0.9 ? ": too little, take the indices as a sketch" : ""}.`;
    return card("Sensitivity", plot.root, note(`Sobol indices of ${measure.label}: dark, the share a factor makes alone; light, with others; ${told}.${fit}`));
  }

  select(labels, chosen, choose) {
    const made = element("select", { onchange: (event) => { choose(Number(event.target.value)); this.onChange(); } },
      ...labels.map((label, at) => element("option", { value: String(at), selected: at === chosen }, label)));
    return element("label", {}, "of ", made);
  }
}

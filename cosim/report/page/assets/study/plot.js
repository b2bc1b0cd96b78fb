// Axes, lines, bars and marks as SVG, so that a picture can be printed at any size.

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "var(--ink)", "#7F7F7F"];
const DASHES = ["", "7 3", "2 2.5", "9 3 2 3", "5 2", "8 2 2 2 2 2"];
const MARKS = ["circle", "square", "up", "diamond", "down", "cross"];

const MOST_LETTERS = 24; // of a label that is set askew

const colourOf = (number) => COLOURS[number % COLOURS.length];

function svg(tag, settings = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(settings)) if (value !== null && value !== undefined) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A label with its middle left out where it has more letters than there is room for.
function fitted(label, most) {
  if (label.length <= most) return label;
  const tail = Math.floor((most - 1) / 2);
  return `${label.slice(0, most - 1 - tail)}…${label.slice(label.length - tail)}`;
}

// Steps of 1, 2 or 5 times a power of ten between two numbers.
function steps(from, to, most = 6) {
  const rough = (to - from) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(from / step - 1e-9); at * step <= to + 1e-9 * step; at++) found.push(at * step);
  return found;
}

const number = (value, digits = 3) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(digits))).replace("-", "−"));

class Linear {
  constructor(values, { zero = false, margin = 0.06 } = {}) {
    const known = values.filter((one) => Number.isFinite(one));
    let low = Math.min(...known, ...(zero ? [0] : []));
    let high = Math.max(...known, ...(zero ? [0] : []));
    if (!known.length) [low, high] = [0, 1];
    const room = margin * (high - low) || (margin && (Math.abs(high) * 0.05 || 0.5));
    this.from = low - room;
    this.to = high + room;
  }

  share(value) { return (value - this.from) / (this.to - this.from); }

  ticks(most) { return steps(this.from, this.to, most).map((at) => [at, number(at, 6)]); }
}

class Logarithmic {
  constructor(values) {
    const room = (Math.max(...values) / Math.min(...values)) ** 0.06;
    this.from = Math.min(...values) / room;
    this.to = Math.max(...values) * room;
    this.values = values;
  }

  share(value) { return Math.log(value / this.from) / Math.log(this.to / this.from); }

  ticks(most) {
    const some = [...new Set(this.values)].sort((a, b) => a - b);
    if (some.length > 12) {
      const decades = steps(Math.floor(Math.log10(this.from)), Math.ceil(Math.log10(this.to)), 40).filter(Number.isInteger);
      const found = decades.flatMap((power) => [1, 2, 5].map((one) => one * 10 ** power)).filter((one) => one >= this.from && one <= this.to);
      const kept = found.length > most ? found.filter((one) => Math.abs(Math.log10(one) % 1) < 1e-9) : found;
      return kept.map((at) => [at, number(at)]);
    }
    const every = Math.ceil(some.length / most);
    return some.filter((_, at) => at % every === 0).map((at) => [at, number(at)]);
  }
}

class Names {
  constructor(labels) { this.labels = labels; }

  share(value) { return (value + 0.5) / this.labels.length; }

  ticks(most) {
    const every = Math.ceil(this.labels.length / (most * 2.5));
    return this.labels.map((label, at) => [at, label]).filter(([at]) => at % every === 0);
  }
}

class Plot {
  constructor({ x, y, xLabel, yLabel, width = 520, height = 300, left = 58, bottom = 44, right = 14, top = 10, told = "" }) {
    const across = x.ticks(Math.max(3, Math.floor((width - right - left) / 75)));
    const letters = across.map(([, label]) => label.length);
    this.crowded = letters.reduce((sum, one) => sum + one * 6 + 8, 0) > width - right - left;
    const room = this.crowded ? 3 * Math.min(Math.max(...letters), MOST_LETTERS) : 0; // for labels askew
    Object.assign(this, { x, y, width, height: height + room, left, bottom: bottom + room, right, top });
    this.root = svg("svg", { viewBox: `0 0 ${width} ${this.height}`, role: "img", "aria-label": told || `${yLabel} over ${xLabel}` });
    this.axes(xLabel, yLabel);
  }

  px(value) { return this.left + this.x.share(value) * (this.width - this.left - this.right); }

  py(value) { return this.height - this.bottom - this.y.share(value) * (this.height - this.bottom - this.top); }

  axes(xLabel, yLabel) {
    const floor = this.height - this.bottom;
    const end = this.width - this.right;
    const across = this.x.ticks(Math.max(3, Math.floor((end - this.left) / 75)));
    for (const [at, label] of across) {
      const x = this.px(at);
      if (!(this.x instanceof Names)) this.root.append(svg("line", { class: "grid", x1: x, x2: x, y1: this.top, y2: floor }));
      const place = this.crowded ? { transform: `translate(${x + 3} ${floor + 12}) rotate(-28)`, "text-anchor": "end" } : { x, y: floor + 15, "text-anchor": "middle" };
      this.root.append(svg("text", place, this.crowded ? fitted(label, MOST_LETTERS) : label));
    }
    for (const [at, label] of this.y.ticks(Math.max(3, Math.floor((floor - this.top) / 38)))) {
      const y = this.py(at);
      if (!(this.y instanceof Names)) this.root.append(svg("line", { class: "grid", x1: this.left, x2: end, y1: y, y2: y }));
      this.root.append(svg("text", { x: this.left - 6, y: y + 4, "text-anchor": "end" }, this.y instanceof Names ? fitted(label, Math.floor((this.left - 10) / 6)) : label));
    }
    this.root.append(svg("line", { class: "axis", x1: this.left, x2: end, y1: floor, y2: floor }));
    this.root.append(svg("line", { class: "axis", x1: this.left, x2: this.left, y1: this.top, y2: floor }));
    this.root.append(svg("text", { x: (this.left + end) / 2, y: this.height - 5, "text-anchor": "middle", class: "faint" }, xLabel));
    if (yLabel) this.root.append(svg("text", { transform: `translate(13 ${(this.top + floor) / 2}) rotate(-90)`, "text-anchor": "middle", class: "faint" }, yLabel));
  }

  line(points, settings) {
    const path = points.map(([x, y], at) => `${at ? "L" : "M"}${this.px(x).toFixed(2)} ${this.py(y).toFixed(2)}`).join("");
    this.root.append(svg("path", { d: path, fill: "none", "stroke-width": 1.6, ...settings }));
  }

  stairs(points, settings) {
    this.line(points.flatMap(([x, y], at) => (at ? [[x, points[at - 1][1]], [x, y]] : [[x, y]])), settings);
  }

  band(points, colour) {
    const known = points.filter(([, low, high]) => low !== null && high !== null);
    if (known.length < 2) return;
    const up = known.map(([x, , high]) => `${this.px(x).toFixed(2)} ${this.py(high).toFixed(2)}`);
    const down = known.map(([x, low]) => `${this.px(x).toFixed(2)} ${this.py(low).toFixed(2)}`).reverse();
    this.root.append(svg("path", { d: `M${[...up, ...down].join("L")}Z`, fill: colour, opacity: 0.14 }));
  }

  // An interval along one axis: a bar with ends.
  bar(from, to, at, colour, upright = true, nudge = 0) {
    if (from === null || to === null || from === undefined) return;
    const along = upright ? [this.py(from), this.py(to)] : [this.px(from), this.px(to)];
    const across = (upright ? this.px(at) : this.py(at)) + nudge;
    const d = upright
      ? `M${across} ${along[0]}V${along[1]}M${across - 3} ${along[0]}h6M${across - 3} ${along[1]}h6`
      : `M${along[0]} ${across}H${along[1]}M${along[0]} ${across - 3}v6M${along[1]} ${across - 3}v6`;
    this.root.append(svg("path", { d, stroke: colour, "stroke-width": 1.2, fill: "none" }));
  }

  // A mark that says what it is to a pointer, and to the keyboard.
  mark(x, y, { colour, shape = "circle", hollow = false, size = 4.2, told = [], nudge = 0, nudgeY = 0, label = "" }) {
    const [left, top] = [this.px(x) + nudge, this.py(y) + nudgeY];
    if (!label) {
      this.root.append(mark(left, top, { colour, shape, hollow, size, told }));
      return;
    }
    // What is named when pointed at: a wide circle around the mark is enough to point at.
    const isRight = left > (this.left + this.width - this.right) / 2;
    const near = svg("g", { class: "named", "data-told": told.join("\n"), tabindex: "0", role: "img", "aria-label": told.join(", ") },
      svg("circle", { class: "near", cx: left, cy: top, r: 9 }), mark(left, top, { colour, shape, hollow, size }),
      svg("text", { x: left + (isRight ? -10 : 10), y: top - 8, "text-anchor": isRight ? "end" : "start" }, label));
    this.root.append(near);
  }
}

function mark(x, y, { colour, shape = "circle", hollow = false, size = 4.2, told = [] }) {
  const r = size;
  const paths = {
    circle: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
    square: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}Z`,
    up: `M${x} ${y - r * 1.2}L${x + r * 1.1} ${y + r}H${x - r * 1.1}Z`,
    down: `M${x} ${y + r * 1.2}L${x + r * 1.1} ${y - r}H${x - r * 1.1}Z`,
    diamond: `M${x} ${y - r * 1.3}L${x + r * 1.3} ${y}L${x} ${y + r * 1.3}L${x - r * 1.3} ${y}Z`,
    cross: `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}`,
  };
  return svg("path", {
    d: paths[shape], stroke: colour, "stroke-width": 1.5, fill: hollow ? "var(--ground)" : colour,
    ...(told.length ? { "data-told": told.join("\n"), tabindex: "0", "aria-label": told.join(", ") } : {}),
  });
}

function key(numberOf, label, { line = true } = {}) {
  const picture = svg("svg", { width: 30, height: 12, viewBox: "0 0 30 12", "aria-hidden": "true", style: "width:30px;height:12px" });
  if (line) picture.append(svg("path", { d: "M0 6H30", stroke: colourOf(numberOf), "stroke-width": 1.8, "stroke-dasharray": DASHES[numberOf % DASHES.length] }));
  picture.append(mark(15, 6, { colour: colourOf(numberOf), shape: MARKS[numberOf % MARKS.length], size: 3.6 }));
  return element("span", {}, picture, label);
}
